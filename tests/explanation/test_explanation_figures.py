"""Figures show what there is, and say what there is not."""

import numpy as np
import pytest
from astropy.table import Table
from test_map_statistics import make_batch, planted_statistics, point, predictions_of

from ctapipe_gammaphysnet.explanation.explainer import Maps
from ctapipe_gammaphysnet.explanation.figures import (
    draw_event,
    draw_robustness,
    draw_statistics,
)
from ctapipe_gammaphysnet.explanation.robustness import DISTURBANCES
from ctapipe_gammaphysnet.explanation.statistics import summarise


def one_event(n_members, attention=True, label=0):
    batch, center = make_batch(1, label=label)
    values = np.tile(point(center, 0), (n_members, 1, 1))
    values *= 1 + np.arange(n_members)[:, None, None]
    stages = {"stage_1": 1 + values / 10, "product": 1 + values / 10}
    return batch, Maps(
        predictions_of(n_members, 1), {"energy": values}, stages if attention else {}
    )


def panels(figure):
    """Map, and label of the colour bar, of each panel by its title."""
    found = {}
    for axis in figure.axes:
        if axis.get_title() and axis.collections:
            bar = axis.collections[0].colorbar
            found.setdefault(axis.get_title(), []).append(
                (axis.collections[0].get_array(), bar.ax.get_ylabel())
            )
    return found


def texts(figure):
    labels = [axis.get_ylabel() for axis in figure.axes]
    return "\n".join(labels + [t.get_text() for a in figure.axes for t in a.texts])


def test_rows_are_mean_and_deviation_and_the_outline_is_over_each_map(tmp_path):
    batch, maps = one_event(3)
    figure = draw_event(batch, {"DA": maps})
    figure.savefig(tmp_path / "event.png")
    shown = panels(figure)
    (mean, unit), (deviation, _) = shown["Energy"]
    np.testing.assert_allclose(mean, maps.heatmaps["energy"][:, 0].mean(axis=0))
    np.testing.assert_allclose(deviation, mean / 2)
    assert unit == "log10(E / TeV)"
    assert len(shown["Stage 1"]) == len(shown["Product of all"]) == 2
    assert shown["Charge"][0][1] == "p.e."
    for label in ("DA\nGrad-CAM, mean", "DA\nGrad-CAM, std", "DA\nattention, std"):
        assert label in texts(figure)
    for axis in figure.axes:
        if axis.get_title():
            *_, white, red = axis.collections
            # Two pixels beside each other: ten edges are not between them.
            assert len(white.get_segments()) == len(red.get_segments()) == 10


def test_a_single_member_without_attention_has_one_row():
    batch, maps = one_event(1, attention=False)
    figure = draw_event(batch, {"vanilla": maps})
    assert len(panels(figure)["Energy"]) == 1
    assert "Grad-CAM, one member" in texts(figure)
    assert "attention" not in texts(figure)


@pytest.mark.parametrize(
    ("label", "said"),
    [(0, "Simulated: gamma, 1 TeV"), (1, "background"), (-1, "Truth is not known")],
)
def test_what_is_true_is_said(label, said):
    batch, maps = one_event(1, label=label)
    assert said in texts(draw_event(batch, {"m": maps}))


def test_models_are_side_by_side_in_curves(tmp_path):
    events, table = planted_statistics()
    plots = draw_statistics(summarise(events, {"vanilla": table, "DA": table}))
    assert set(plots) == {
        "statistics_overall",
        "statistics_energy",
        "statistics_error",
    }
    plots["statistics_overall"].savefig(tmp_path / "overall.png")
    (_, cleaned, *_) = plots["statistics_overall"].axes
    assert cleaned.get_title() == "Share in the cleaned image"
    heights = [bars.lines[0].get_ydata() for bars in cleaned.containers]
    np.testing.assert_allclose(heights, 0.4)
    figure = plots["statistics_energy"]
    figure.savefig(tmp_path / "statistics.png")
    axis = figure.axes[0]
    lines = {line.get_label(): line for line in axis.get_lines()}
    np.testing.assert_allclose(lines["DA"].get_ydata(), [0.2, 0.3, 0.4, 0.5, 0.6])
    assert "vanilla" in lines
    # A band for the members of each.
    assert len(axis.collections) == 2


def test_no_column_is_higher_than_its_row():
    events, table = planted_statistics()
    for name in table.colnames:
        # Twice as high as the energy's, in a column to the right of it.
        table[name.replace("energy", "impact_x")] = 2 * table[name]
    table["error_impact"] = table["error_energy"]
    summary = summarise(events, {"m": table})
    figure = draw_statistics(summary)["statistics_energy"]
    assert len(figure.axes) == 2 * len(dict.fromkeys(summary["energy"]["statistic"]))
    for axis in figure.axes:
        low, high = axis.get_ylim()
        values = np.concatenate([line.get_ydata() for line in axis.get_lines()])
        assert low == 0
        assert np.nanmax(values) <= high


def test_movements_are_drawn_against_the_disturbance(tmp_path):
    rows = [
        {
            "model": "m",
            "disturbance": disturbance,
            "value": value,
            "quantity": quantity,
            "mean": 0.5,
            "members_std": np.nan,
        }
        for disturbance, (_, values) in DISTURBANCES.items()
        for value in values
        for quantity in ("energy", "heatmap_energy")
    ]
    plots = draw_robustness(Table(rows))
    assert set(plots) == {"robustness_predictions", "robustness_heatmaps"}
    for figure in plots.values():
        figure.savefig(tmp_path / "robustness.png")
        assert len(figure.axes) == 4
        (line,) = figure.axes[0].get_lines()
        assert line.get_xdata().tolist() == list(DISTURBANCES["night_sky"][1])
