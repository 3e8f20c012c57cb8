"""Draw and write figures with our own settings, after a trial.

Users have their own settings of matplotlib, for papers or for their screens. These
neither change figures here nor make them fail (no LaTeX, unknown fonts): everything
that draws or writes a figure does so in `figure_style`.
"""

import contextlib
import importlib
import io
import os
import sys
import tempfile
import warnings

from ctapipe.core import ToolConfigurationError

from ..files.output import write_whole

__all__ = ["check_drawing", "collect_failures", "figure_style", "write_figures"]

_DPI = 150
#: Most pixels along a side that matplotlib can draw.
_MOST_PIXELS = 2**16 - 1


@contextlib.contextmanager
def figure_style():
    """Draw with our own settings, whatever the user's are.

    Figures must be drawn and written in this context: matplotlib reads some settings
    when it makes parts of a figure, others when it writes it. Also a decorator.

    Yields
    ------
    None
        Nothing.
    """
    import matplotlib

    # Ours are matplotlib's defaults, but for the backend, which may need a screen.
    settings = {k: v for k, v in matplotlib.rcParamsDefault.items() if k != "backend"}
    with contextlib.ExitStack() as stack:
        with warnings.catch_warnings():
            # About deprecated settings; they have their defaults.
            warnings.simplefilter("ignore", matplotlib.MatplotlibDeprecationWarning)
            stack.enter_context(matplotlib.rc_context(settings))
        yield


def check_drawing():
    """Check that figures can be drawn, before hours are spent on their content.

    Raises
    ------
    ToolConfigurationError
        If matplotlib does not work.
    """
    try:
        _import_matplotlib()
        _draw_trial()
    except Exception as error:
        raise ToolConfigurationError(
            f"figures cannot be drawn: {_message(error)}. Check the installation of "
            "matplotlib, and that MPLCONFIGDIR or TMPDIR is a writable folder"
        ) from error


def _import_matplotlib():
    """Import matplotlib, without the user's settings if they prevent it.

    matplotlib reads them when it is imported, and fails on a file that is not text, and
    on an unknown backend or locale.
    """
    try:
        importlib.import_module("matplotlib.pyplot")
    except Exception:
        for name in [n for n in sys.modules if n.partition(".")[0] == "matplotlib"]:
            del sys.modules[name]
        with _no_settings():
            importlib.import_module("matplotlib.pyplot")


@contextlib.contextmanager
def _no_settings():
    """Hide the user's settings from matplotlib, wherever it looks for them."""
    names = ("MPLCONFIGDIR", "MATPLOTLIBRC", "MPLBACKEND")
    before = {name: os.environ[name] for name in names if name in os.environ}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ |= dict(zip(names, (folder, folder, "agg"), strict=True))
        try:
            yield
        finally:
            for name in names:
                del os.environ[name]
            os.environ |= before


@figure_style()
def _draw_trial():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.text(0, 0, "γ")
    for suffix in ("png", "pdf"):
        figure.savefig(io.BytesIO(), format=suffix)


def _message(error):
    """An error in one line."""
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0]}"


@contextlib.contextmanager
def collect_failures(failures, what):
    """Continue if something cannot be drawn: what was computed is worth more.

    Parameters
    ----------
    failures : list of str
        Failures and their reasons are added here.
    what : str
        What is drawn.

    Yields
    ------
    None
        Nothing.
    """
    try:
        yield
    except Exception as error:
        failures.append(f"{what}: {_message(error)}")


@figure_style()
def write_figures(plots, folder, failures=None):
    """Write plots as PNG and PDF.

    Parameters
    ----------
    plots : dict of str to matplotlib.figure.Figure
        The plots by name.
    folder : pathlib.Path
        Where to write them.
    failures : list of str, optional
        Plots that cannot be drawn are added here, with the reason. Without it, one is
        an error.

    Returns
    -------
    list of pathlib.Path
        The written files.
    """
    paths = []
    for name, figure in plots.items():
        if failures is None:
            content = _render(figure)
        else:
            content = {}
            with collect_failures(failures, name):
                content = _render(figure)
        for suffix, data in content.items():
            paths.append(folder / f"{name}.{suffix}")
            write_whole(paths[-1], data)
    return paths


def _render(figure):
    """Content of the files of a figure, by their suffix."""
    # Very large figures get a lower resolution: their pixels are limited.
    dpi = min(_DPI, int(_MOST_PIXELS / max(figure.get_size_inches())))
    content = {}
    for suffix in ("png", "pdf"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, dpi=dpi)
        content[suffix] = buffer.getvalue()
    return content
