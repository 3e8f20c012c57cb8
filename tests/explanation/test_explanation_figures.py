"""Figures show what there is, and say what there is not."""

import warnings

import numpy as np
import pytest
import toy_sample
from astropy.coordinates import AltAz, SkyCoord
from astropy.table import Table
from ctapipe.coordinates import CameraFrame, MissingFrameAttributeWarning
from test_map_statistics import make_batch, planted_statistics, point, predictions_of

from ctapipe_gammaphysnet.explanation.event_figure import draw_event
from ctapipe_gammaphysnet.explanation.explainer import Maps
from ctapipe_gammaphysnet.explanation.robustness import DISTURBANCES
from ctapipe_gammaphysnet.explanation.robustness_figures import draw_robustness
from ctapipe_gammaphysnet.explanation.statistics import STATISTICS, summarise
from ctapipe_gammaphysnet.explanation.statistics_figures import draw_statistics
from ctapipe_gammaphysnet.figures.drawing import write_figures
from ctapipe_gammaphysnet.tasks import TASKS


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
        assert len(figure.axes) == len(DISTURBANCES)
        (line,) = figure.axes[0].get_lines()
        assert line.get_xdata().tolist() == list(DISTURBANCES["night_sky"][1])


def image_panel(figure):
    return next(axis for axis in figure.axes if axis.get_title() == "Charge")


def marked(figure):
    """Where directions are marked, by their labels."""
    lines = image_panel(figure).get_lines()
    return {line.get_label(): line.get_xydata()[0] for line in lines}


def test_directions_are_marked_on_the_pixels_that_see_them():
    """As ctapipe's frames say: a star's light falls onto the pixel under its mark."""
    batch, maps = one_event(2)
    event = batch.events[0]
    camera = toy_sample.toy_telescope(toy_sample.hexagonal_camera(4)).camera.geometry
    pixel = 7
    pointing = AltAz(alt=event["pointing_alt"], az=event["pointing_az"])
    frame = CameraFrame(
        telescope_pointing=pointing,
        focal_length=camera.frame.focal_length,
        rotation=camera.frame.rotation,
    )
    star = SkyCoord(camera.pix_x[pixel], camera.pix_y[pixel], frame=frame)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingFrameAttributeWarning)
        star = star.transform_to(AltAz())
    batch.events["true_alt"], batch.events["true_az"] = [star.alt], [star.az]
    maps.predictions["direction"][:, 0] = [[0.1, 0.5], [0.3, 0.7]]
    batch.image[0] = np.arange(batch.image.shape[1])
    figure = draw_event(batch, {"DA": maps})
    directions = marked(figure)
    (pixels,) = [
        c for c in image_panel(figure).collections if c.get_array() is not None
    ]
    position = directions["True direction"]
    under = [path.contains_point(position) for path in pixels.get_paths()]
    assert np.flatnonzero(under).tolist() == [pixel]
    assert pixels.get_array()[pixel] == pixel
    # fov_lon to the right, fov_lat up.
    np.testing.assert_allclose(directions["DA: predicted"], [0.2, 0.6])


def test_directions_outside_the_camera_are_said_to_be():
    batch, maps = one_event(1, attention=False)
    maps.predictions["direction"][:] = [50.0, 0.0]
    figure = draw_event(batch, {"m": maps})
    assert "m: predicted, outside the camera" in marked(figure)
    low, high = image_panel(figure).get_xlim()
    assert -10 < low < high < 10
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["True direction", "m: predicted, outside the camera"]


def test_directions_of_a_network_that_predicts_errors_are_marked():
    batch, maps = one_event(2, attention=False)
    directions, scales = [[[0.1, 0.5]], [[0.3, 0.7]]], np.ones((2, 1, 3))
    output = np.concatenate([directions, scales], axis=2)
    maps.predictions["direction"] = output
    position = marked(draw_event(batch, {"m": maps}))["m: predicted"]
    np.testing.assert_allclose(position, [0.2, 0.6])


def test_without_truth_only_predictions_are_marked():
    batch, maps = one_event(1, attention=False, label=-1)
    assert list(marked(draw_event(batch, {"m": maps}))) == ["m: predicted"]


def said(figure):
    """What is said in each panel, by its title or else the label of its axis."""
    found = {}
    for axis in figure.axes:
        # CameraDisplay has one for the pixel that is picked: not shown.
        texts = [text for text in axis.texts if text.get_visible()]
        texts = [" ".join(text.get_text().split()) for text in texts]
        found.setdefault(axis.get_title() or axis.get_ylabel(), []).append(texts)
    return found


EMPTY = "empty: no pixel raises this output"


def test_empty_heatmaps_are_labelled_so(tmp_path):
    batch, maps = one_event(2, attention=False)
    maps.heatmaps["class"] = np.zeros_like(maps.heatmaps["energy"])
    maps.heatmaps["impact_x"] = maps.heatmaps["energy"].copy()
    maps.heatmaps["impact_x"][0] = 0
    figure = draw_event(batch, {"m": maps})
    write_figures({"event": figure}, tmp_path)
    found = said(figure)
    assert found["Class (gamma)"] == [[EMPTY], [EMPTY]]
    assert found["Energy"] == [[], []]
    assert found["Impact x"] == [["empty: 1 of 2 members"]] * 2
    # What is said below a map is above the title of the next.
    above, below = (a for a in figure.axes if a.get_title() == "Impact x")
    (text,) = (t for t in above.texts if t.get_visible())
    assert text.get_window_extent().y0 > below.title.get_window_extent().y1
    # There is nothing that a bar could say of an empty map.
    titles = {
        axis.get_title(): axis.collections[0].colorbar
        for axis in figure.axes
        if axis.get_title() and axis.collections
    }
    assert titles["Class (gamma)"] is None
    assert titles["Energy"] is not None


def test_an_image_without_cleaned_pixels_says_so():
    batch, maps = one_event(1, attention=False)
    batch.image_mask[:] = False
    found = said(draw_event(batch, {"m": maps}))
    assert found["Peak time, cleaned"] == [["empty: no pixel survived the cleaning"]]


def test_empty_outputs_stay_in_statistics():
    events, table = planted_statistics()
    nothing = table.copy()
    for name in nothing.colnames:
        if name.startswith("energy_"):
            nothing[name] = np.nan
    plots = draw_statistics(summarise(events, {"full": table, "none": nothing}))
    axis = plots["statistics_overall"].axes[1]
    assert [text.get_text() for text in axis.texts] == ["empty"]
    plots = draw_statistics(summarise(events, {"none": nothing}))
    assert said(plots["statistics_energy"])["Energy"] == [[EMPTY]]


def test_empty_panels_have_the_axis_of_the_others():
    events, table = planted_statistics()
    summary = summarise(events, {"m": table})["energy"]
    last = summary["statistic"] == summary["statistic"][len(STATISTICS) - 1]
    summary["mean"][last] = np.nan
    axes = draw_statistics({"energy": summary})["statistics_energy"].axes
    assert [len(a.texts) for a in axes] == [0] * (len(axes) - 1) + [1]
    assert axes[-1].get_xlim() == axes[0].get_xlim()


def test_a_task_has_one_colour():
    batch, maps = one_event(1, attention=False)
    events, table = planted_statistics()
    summary = summarise(events, {"m": table})
    statistics = draw_statistics(summary)
    titles = [
        *draw_event(batch, {"m": maps}).axes,
        *statistics["statistics_energy"].axes,
    ]
    colours = {a.title.get_color() for a in titles if a.get_title() == "Energy"}
    (label,) = statistics["statistics_overall"].axes[0].get_xticklabels()
    assert colours == {label.get_color()} == {TASKS["energy"].colour}


@pytest.mark.parametrize("n_models", [1, 6])
def test_facts_of_many_models_do_not_reach_the_maps(n_models, tmp_path):
    batch, maps = one_event(1, attention=False)
    figure = draw_event(batch, {f"$m_{n} " * 9: maps for n in range(n_models)})
    write_figures({"event": figure}, tmp_path)
    columns = [a.texts[0] for a in figure.axes if a.texts and "Event" in texts_of(a)]
    columns += [a.texts[0] for a in figure.axes if "gammaness" in texts_of(a)]
    lowest = min(text.get_window_extent().y0 for text in columns)
    titles = [a.title for a in figure.axes if a.get_title() == "Energy"]
    assert lowest > max(title.get_window_extent().y1 for title in titles)


def texts_of(axis):
    return " ".join(text.get_text() for text in axis.texts)


def test_empty_movements_are_labelled_so():
    rows = [
        {
            "model": "m",
            "disturbance": disturbance,
            "value": value,
            "quantity": quantity,
            "mean": np.nan if quantity == "heatmap_energy" else 0.1,
            "members_std": np.nan,
        }
        for disturbance, (_, values) in DISTURBANCES.items()
        for value in values
        for quantity in ("impact", "heatmap_energy")
    ]
    plots = draw_robustness(Table(rows))
    found = said(plots["robustness_heatmaps"])
    assert found["Energy"] == [[EMPTY]]
    (first, *_) = plots["robustness_predictions"].axes
    assert first.yaxis.label.get_color() == TASKS["impact"].colour
    assert not first.texts
