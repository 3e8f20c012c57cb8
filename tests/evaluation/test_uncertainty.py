"""Planted uncertainties come back: coverage, pulls, and what they are worth."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import offset_by
from predictions import (
    TWO_DIMENSIONAL,
    make_algorithm,
    make_events,
    make_sample,
    make_settings,
    plant,
)
from scipy.optimize import brentq
from scipy.stats import norm
from with_units import direction_from_target, impact_from_target

from ctapipe_gammaphysnet.evaluation.gaps import describe_unjudged
from ctapipe_gammaphysnet.evaluation.networks import to_quantities
from ctapipe_gammaphysnet.evaluation.plots import draw_all
from ctapipe_gammaphysnet.evaluation.predictions import (
    compare_to_truth,
    compare_uncertainties,
    predicted_columns,
)
from ctapipe_gammaphysnet.evaluation.report import write_report
from ctapipe_gammaphysnet.evaluation.results import evaluate
from ctapipe_gammaphysnet.evaluation.sample import Algorithm, count_valid
from ctapipe_gammaphysnet.evaluation.uncertainty import (
    SHARES,
    kept_weights,
    summarise_uncertainties,
)
from ctapipe_gammaphysnet.tasks.metric import CONTAINMENT

#: Errors of half of the events are so many times as large.
RATIO = 3.0
#: Number of gammas.
N = 3000
PLANTED = ("direction", "impact", "energy")


def ellipses(scale, rng):
    """Offsets drawn from ellipses twice as long as wide; half widths, correlation."""
    angle = rng.uniform(0, np.pi, len(scale))
    axes = scale[:, np.newaxis] * [2, 1]
    turn = np.moveaxis(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], 2, 0
    )
    offset = np.einsum("nij,nj->ni", turn, axes * rng.normal(size=axes.shape))
    xx, yy, xy = (
        np.einsum("nk,nk,nk->n", turn[:, i], axes**2, turn[:, j])
        for i, j in ((0, 0), (1, 1), (0, 1))
    )
    return offset, np.sqrt(xx), np.sqrt(yy), xy / np.sqrt(xx * yy)


def planted(factor=1.0, bias=0.0, n_gammas=N):
    """Events, and predictions whose uncertainties are too small by a factor.

    The truth is drawn from the regions around the predictions, near the zenith.
    """
    # Too few background events to compare the classes, which takes time.
    events = make_events(n_gammas, 10)
    n, rng = len(events), np.random.default_rng(0)
    scale = np.where(rng.permutation(n) < n // 2, 1.0, RATIO)
    offset, x, y, correlation = ellipses(scale * 0.1, rng)
    alt, az = 89 + rng.uniform(-0.5, 0.5, n), rng.uniform(0, 360, n)
    moved = offset_by(
        *np.deg2rad([az, alt]),
        np.arctan2(*offset.T),
        np.deg2rad(np.linalg.norm(offset, axis=1)),
    )
    events["true_az"], events["true_alt"] = (a.to_value("deg") for a in moved)
    columns = {
        "alt": alt,
        "az": az,
        "alt_uncert": y / factor,
        "az_uncert": x / np.cos(np.deg2rad(alt)) / factor,
        "alt_az_correlation": correlation,
        "ang_distance_uncert": np.hypot(x, y),
    }
    offset, x, y, correlation = ellipses(scale * 20, rng)
    for i, name in enumerate("xy"):
        columns[f"core_{name}"] = rng.uniform(-100, 100, n)
        events[f"true_core_{name}"] = columns[f"core_{name}"] + offset[:, i]
    columns["core_uncert_x"], columns["core_uncert_y"] = x / factor, y / factor
    columns["core_correlation"] = correlation
    width = 0.05 * scale
    deviation = width * (rng.normal(size=n) + bias)
    columns["energy"] = np.asarray(events["true_energy"]) * 10**deviation
    columns["energy_uncert"] = columns["energy"] * np.sinh(width / factor * np.log(10))
    columns["gammaness"] = rng.uniform(size=n)
    unknown = {name: np.full(n, np.nan) for name in predicted_columns()}
    return events, {name: v[np.newaxis] for name, v in (unknown | columns).items()}


def judged(events, columns):
    return Algorithm(
        "one",
        (),
        compare_to_truth(columns, events),
        *compare_uncertainties(columns, events),
    )


def evaluated(events, columns, **settings):
    sample = make_sample(events, judged(events, columns))
    return evaluate(sample, make_settings(**settings))


@pytest.fixture(scope="module")
def results():
    return evaluated(*planted())


def within(row, name, expected, n_errors=4):
    assert 0 < row[f"{name}_error"] < 0.1
    return abs(row[name] - expected) < n_errors * row[f"{name}_error"]


@pytest.mark.parametrize("task", PLANTED)
def test_right_uncertainties_cover_what_they_say_in_each_bin(results, task):
    tables = [results[f"uncertainty_{n}"] for n in ("overall", "energy", "intensity")]
    assert [len(table) for table in tables] == [1, 2, 2]
    for row in (row for table in tables for row in table):
        assert within(row, f"{task}_coverage", CONTAINMENT)
        assert within(row, f"{task}_pull_width", 1)
    (row,) = tables[0]
    assert row[f"{task}_known"] == row["n_gammas"] == N
    # As for a share of independent events.
    expected = np.sqrt(CONTAINMENT * (1 - CONTAINMENT) / N)
    assert row[f"{task}_coverage_error"] == pytest.approx(expected, rel=0.6)


@pytest.mark.parametrize(("alt", "az"), [(89.0, 0.1), (60.0, 359.9)])
def test_ellipses_of_a_network_hold_what_they_were_drawn_with(alt, az):
    """From the camera to the ellipse on the sky and on the ground, and back."""
    rng = np.random.default_rng(3)
    outputs, truth = {}, {}
    for task, size in (("direction", 0.1), ("impact", 0.03)):
        offset, x, y, correlation = ellipses(size * rng.uniform(1, 3, N), rng)
        values = size * rng.uniform(-15, 15, (N, 2))
        errors = np.column_stack([x**2, y**2, correlation * x * y])
        outputs[task] = np.column_stack([values, errors])[np.newaxis]
        truth[task] = values + offset
    pointing = np.full(N, alt) * u.deg, np.full(N, az) * u.deg
    position = np.tile([50.0, -20.0, 0.0], (N, 1)) * u.m
    events = make_events(N, 0)
    events["true_alt"], events["true_az"] = (
        angle.to_value("deg")
        for angle in direction_from_target(truth["direction"], *pointing)
    )
    core, _ = impact_from_target(truth["impact"], position, *pointing)
    events["true_core_x"], events["true_core_y"] = core.to_value("m").T
    results = evaluated(events, to_quantities(outputs, *pointing, position))
    (row,) = results["uncertainty_overall"]
    for task in truth:
        assert within(row, f"{task}_coverage", CONTAINMENT)
        assert within(row, f"{task}_pull_width", 1)
        assert row[f"{task}_pull_width_error"] < 0.03


def test_uncertainties_that_are_half_too_small_are_seen():
    results = evaluated(*planted(factor=2))
    in_plane = 1 - (1 - CONTAINMENT) ** 0.25
    in_line = norm.cdf(0.5) - norm.cdf(-0.5)
    expected = {"direction": in_plane, "impact": in_plane, "energy": in_line}
    for row in results["uncertainty_energy"]:
        for task, coverage in expected.items():
            assert within(row, f"{task}_coverage", coverage)
            assert within(row, f"{task}_pull_width", 2)


def test_a_bias_is_the_median_of_the_pulls_and_not_in_their_width():
    results = evaluated(*planted(bias=1.5))
    for row in results["uncertainty_intensity"]:
        assert within(row, "energy_pull_median", 1.5)
        assert within(row, "energy_pull_width", 1)
        assert within(row, "energy_coverage", norm.cdf(-0.5) - norm.cdf(-2.5))


def test_dropping_what_is_predicted_to_be_bad_leaves_the_known_resolution(results):
    """Half of the impact points are off by one size, half by three times that."""
    kept = results["kept"]
    np.testing.assert_allclose(kept["share"], SHARES)
    (overall,) = results["overall"]
    for name in ("angular_resolution", "energy_resolution", "impact_resolution"):
        assert kept[name][-1] == overall[name]
        assert kept[f"{name}_error"][-1] == overall[f"{name}_error"]

    def excess(limit):
        inside = [2 * norm.cdf(limit / scale / 0.05) - 1 for scale in (1, RATIO)]
        return np.mean(inside) - CONTAINMENT

    def energy_resolution(width):
        return np.log(10) * width

    best = energy_resolution(0.05)
    # The half of the smallest errors, whatever part of it is kept.
    for row in kept[:5]:
        assert row["energy_resolution"] == pytest.approx(best, rel=0.15)
        assert row["angular_resolution"] == pytest.approx(0.1 * 2.4, rel=0.1)
        assert row["impact_resolution"] == pytest.approx(20 * 2.4, rel=0.1)
    everything = energy_resolution(brentq(excess, 0, 1))
    assert kept["energy_resolution"][-1] == pytest.approx(everything, rel=0.1)
    (row,) = results["uncertainty_overall"]
    assert row["energy_best_half"] == (
        kept["energy_resolution"][4] / kept["energy_resolution"][-1]
    )
    assert within(row, "energy_best_half", best / everything, 5)


def test_impact_points_of_the_best_half_have_the_known_ratio():
    """Circles of two sizes."""
    events, columns = planted()
    rng = np.random.default_rng(2)
    scale = np.where(rng.permutation(len(events)) < len(events) // 2, 1.0, RATIO)
    for name in ("x", "y"):
        true = np.asarray(events[f"true_core_{name}"])
        columns[f"core_{name}"][0] = true + 20 * scale * rng.normal(size=len(events))
        columns[f"core_uncert_{name}"][0] = 20 * scale
    columns["core_correlation"][:] = 0

    def excess(limit):
        outside = np.exp(-((limit / np.array([1, RATIO])) ** 2) / 2)
        return 1 - CONTAINMENT - outside.mean()

    results = evaluated(events, columns)
    (row,) = results["uncertainty_overall"]
    expected = TWO_DIMENSIONAL / brentq(excess, 0.1, 10)
    assert within(row, "impact_best_half", expected)


def test_the_same_size_for_all_chooses_nothing():
    """However the events are ordered."""
    events, columns = planted()
    order = np.argsort(compare_to_truth(columns, events)["separation"][0])
    columns = {name: values[:, order] for name, values in columns.items()}
    columns["ang_distance_uncert"][:] = 0.2
    results = evaluated(events[order], columns, n_resamples=3)
    (row,) = results["uncertainty_overall"]
    assert row["direction_best_half"] == 1
    assert row["direction_best_half_error"] == 0
    assert len(set(results["kept"]["angular_resolution"])) == 1


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 1.0])
def test_kept_weights_are_a_share_of_the_lowest_ranks(share):
    rng = np.random.default_rng(0)
    rank, weights = rng.integers(0, 7, 200), rng.uniform(0, 2, 200)
    kept = kept_weights(rank, weights, share)
    assert kept.sum() == pytest.approx(share * weights.sum())
    part = np.array(
        [kept[rank == r].sum() / weights[rank == r].sum() for r in range(7)]
    )
    np.testing.assert_array_equal(part, np.sort(part)[::-1])
    assert ((part > 1e-9) & (part < 1 - 1e-9)).sum() <= 1
    for r in range(7):
        np.testing.assert_allclose(kept[rank == r], part[r] * weights[rank == r])


def test_unknown_uncertainties_are_counted_and_do_not_rank():
    events, columns = planted()
    unknown = np.arange(len(events)) % 4 == 0
    # Events without uncertainty are far off.
    columns["energy"][0, unknown] *= 100
    columns["energy_uncert"][0, unknown] = np.nan
    results = evaluated(events, columns)
    (row,) = results["uncertainty_overall"]
    assert row["energy_known"] == 3 * N // 4
    assert row["direction_known"] == row["n_gammas"] == N
    assert within(row, "energy_coverage", CONTAINMENT)
    assert results["kept"]["energy_resolution"][-1] < 0.5
    summary = summarise_uncertainties(results["uncertainty_overall"])
    assert summary["Property"].tolist() == ["energy", "direction", "impact"]
    assert summary["Gammas"].tolist() == [str(3 * N // 4), str(N), str(N)]
    assert summary["Without"].tolist() == [str(N // 4), "0", "0"]
    assert summary["Median pull"].tolist()[1:] == ["–", "–"]


def test_weights_act_like_more_events():
    events, columns = planted()
    rng = np.random.default_rng(0)
    weights = rng.integers(1, 4, len(events))
    rows = np.repeat(np.arange(len(events)), weights)
    several = {name: values[:, rows] for name, values in columns.items()}
    settings = make_settings(n_resamples=0)
    weighted, repeated = (
        evaluate(make_sample(e, judged(e, c), weights=w), settings)
        for e, c, w in (
            (events, columns, weights.astype(float)),
            (events[rows], several, None),
        )
    )
    for table, names in (
        ("kept", ("energy_resolution", "impact_resolution")),
        ("uncertainty_energy", ("energy_coverage", "direction_pull_width")),
        ("uncertainty_overall", ("direction_best_half", "energy_pull_median")),
    ):
        for name in names:
            np.testing.assert_allclose(weighted[table][name], repeated[table][name])


def test_small_shares_of_few_events_stay_empty():
    kept = evaluated(*planted(n_gammas=100), minimum=20)["kept"]
    assert np.isfinite(kept["energy_resolution"]).tolist() == [False] + [True] * 9


def test_without_uncertainties_this_is_all_that_changes(tmp_path):
    """Tables without rows, no figure, and a line that says why."""
    events, columns = planted()
    with_them = evaluated(events, columns, n_resamples=3)
    for name in predicted_columns():
        if "uncert" in name:
            columns[name] = np.full_like(columns[name], np.nan)
    results = evaluated(events, columns, n_resamples=3)
    for name, table in results.items():
        if "uncertainty" in name or "kept" in name:
            assert len(table) == 0
        else:
            assert table.pformat() == with_them[name].pformat()
    assert len(summarise_uncertainties(results["uncertainty_overall"])) == 0
    (why,) = describe_unjudged(results)
    assert "no uncertainties in these predictions" in why
    assert describe_unjudged(with_them) == []
    assert not {"kept", "uncertainty_energy"} & set(draw_all(results, 0.5))
    counts = count_valid(events, [judged(events, columns)])
    texts = []
    for its in (results, with_them):
        write_report(tmp_path / "report.html", {}, its, counts, [])
        texts.append((tmp_path / "report.html").read_text())
    assert "Predicted uncertainties" not in texts[0]
    start, end = (texts[1].index(t) for t in ("<h2>Pred", "<h2>In bins"))
    assert texts[0] == texts[1][:start] + texts[1][end:]


def test_an_algorithm_without_them_beside_one_that_has_them():
    events, columns = planted()
    plain = make_algorithm("plain", [plant(events)])
    sample = make_sample(events, plain, judged(events, columns))
    results = evaluate(sample, make_settings(n_resamples=2))
    overall = results["uncertainty_overall"]
    assert overall["algorithm"].tolist() == ["plain", "one"]
    assert overall["direction_known"].tolist() == [0, N]
    assert np.isnan(overall["direction_coverage"]).tolist() == [True, False]
    summary = summarise_uncertainties(overall)
    assert set(summary["Algorithm"]) == {"one"}
    figures = draw_all(results, 0.5)
    assert len(figures["kept"].axes) == 2 * len(PLANTED)


def test_figures_show_what_right_uncertainties_have(results):
    figures = draw_all(results, 0.5)
    for binning in ("energy", "intensity"):
        axes = figures[f"uncertainty_{binning}"].axes
        # The median of the pulls, of the energy alone.
        assert len(axes) == 2 * len(PLANTED) + 1
        lines = [axis.lines[-1].get_ydata()[0] for axis in axes]
        assert lines == [CONTAINMENT] * 3 + [1] * 3 + [0]
    curve = figures["kept"].axes[0].containers[0].lines[0]
    np.testing.assert_array_equal(curve.get_xdata(), SHARES)
    curve = figures["kept"].axes[3].containers[0].lines[0]
    ratio = results["uncertainty_energy"]["energy_best_half"]
    np.testing.assert_array_equal(curve.get_ydata(), ratio)
