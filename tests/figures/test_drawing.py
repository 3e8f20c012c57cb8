"""Figures look the same whatever the settings of the user, and are tried first."""

import os
import subprocess
import sys

import matplotlib
import pytest
from matplotlib.figure import Figure

from ctapipe_gammaphysnet.figures import drawing
from ctapipe_gammaphysnet.figures.drawing import (
    check_drawing,
    figure_style,
    write_figures,
)

#: As for a paper, on a machine without LaTeX and without the paper's fonts.
OF_A_USER = {
    "text.usetex": True,
    "font.family": "A font that nobody has",
    "savefig.bbox": "tight",
    "savefig.facecolor": "black",
    "axes.grid": True,
    "xtick.direction": "in",
    "lines.linewidth": 7.0,
    "figure.constrained_layout.use": True,
    "interactive": True,
}


@figure_style()
def draw():
    figure = Figure(figsize=(4, 3), layout="constrained")
    axis = figure.subplots()
    axis.plot([1, 2], [1, 2], label="γ")
    axis.set_title("γ 1")
    axis.legend()
    return figure


def test_figures_do_not_depend_on_the_settings_of_the_user(tmp_path):
    content = []
    for number, settings in enumerate([{}, OF_A_USER]):
        folder = tmp_path / str(number)
        folder.mkdir()
        with matplotlib.rc_context(settings):
            before = dict(matplotlib.rcParams)
            paths = write_figures({"a": draw()}, folder)
            assert dict(matplotlib.rcParams) == before
        assert [path.name for path in paths] == ["a.png", "a.pdf"]
        content.append(paths[0].read_bytes())
    assert content[0] == content[1]
    assert content[0].startswith(b"\x89PNG")


def test_settings_that_cannot_be_read_are_left_out(tmp_path):
    """matplotlib cannot even be imported with these."""
    (tmp_path / "stylelib").mkdir()
    for name in ("matplotlibrc", "stylelib/mine.mplstyle"):
        (tmp_path / name).write_bytes(b"font.family: caf\xe9\n")
    code = (
        "import os\n"
        "from ctapipe_gammaphysnet.figures.drawing import check_drawing\n"
        "check_drawing()\n"
        "from matplotlib.figure import Figure\n"
        "print(os.environ['MPLBACKEND'], 'MATPLOTLIBRC' in os.environ, os.getcwd())\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "MATPLOTLIBRC"}
    environment |= {"MPLCONFIGDIR": str(tmp_path), "MPLBACKEND": "nonsense"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    # The settings themselves stay.
    assert found.stdout.split() == ["nonsense", "False", str(tmp_path)]


def test_what_cannot_be_drawn_is_said_before_anything_is_computed(monkeypatch):
    def fail():
        raise RuntimeError("no font\nat all")

    check_drawing()
    monkeypatch.setattr(drawing, "_draw_trial", fail)
    with pytest.raises(drawing.ToolConfigurationError, match="RuntimeError: no font"):
        check_drawing()


class Broken(Figure):
    """A figure that cannot be written."""

    def savefig(self, *args, **kwargs):
        raise ValueError("cannot be\ndrawn")


def test_a_figure_that_fails_costs_no_other(tmp_path):
    plots, failures = {"bad": Broken(), "good": draw()}, []
    paths = write_figures(plots, tmp_path, failures)
    assert {path.name for path in tmp_path.iterdir()} == {"good.png", "good.pdf"}
    assert [path.name for path in paths] == ["good.png", "good.pdf"]
    assert failures == ["bad: ValueError: cannot be"]
    with pytest.raises(ValueError, match="cannot be"):
        write_figures(plots, tmp_path)


def test_a_figure_may_be_larger_than_matplotlib_draws(tmp_path):
    figure = Figure(figsize=(0.1, 600))
    (path, _) = write_figures({"large": figure}, tmp_path)
    height, _, _ = matplotlib.image.imread(path).shape
    assert 60_000 < height < 2**16
