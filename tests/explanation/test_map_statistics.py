"""Statistics of maps whose shares, centroids and dispersion were planted."""

import numpy as np
import pytest
import toy_sample
from astropy import units as u
from astropy.table import QTable, Table
from ctapipe.coordinates import TelescopeFrame

from ctapipe_gammaphysnet.explanation.explainer import Maps
from ctapipe_gammaphysnet.explanation.images import Batch
from ctapipe_gammaphysnet.explanation.statistics import (
    agreement,
    centroid,
    describe_events,
    describe_maps,
    errors_of,
    share,
    summarise,
)

N_PIXELS = 61


def make_batch(n=2, true_image=True, label=0):
    """Showers of two pixels around the camera's centre, half a pixel apart."""
    telescope = toy_sample.toy_telescope(toy_sample.hexagonal_camera(4))
    geometry = telescope.camera.geometry.transform_to(TelescopeFrame())
    center = int(np.argmin(np.hypot(geometry.pix_x, geometry.pix_y)))
    mask = np.zeros((n, N_PIXELS), bool)
    mask[:, [center, center + 1]] = True
    known = 1.0 if label >= 0 else np.nan
    events = QTable(
        {
            "file": np.zeros(n, int),
            "obs_id": np.ones(n, int),
            "event_id": np.arange(n),
            "tel_id": np.ones(n, int),
            "label": np.full(n, label),
            "true_energy": np.full(n, known) * u.TeV,
            "true_alt": np.full(n, known * 70) * u.deg,
            "true_az": np.full(n, known * 180) * u.deg,
            "true_core_x": np.full(n, known * 100) * u.m,
            "true_core_y": np.zeros(n) * known * u.m,
            "pointing_alt": np.full(n, 70) * u.deg,
            "pointing_az": np.full(n, 180) * u.deg,
            "position": np.zeros((n, 3)) * u.m,
            "intensity": np.full(n, 100.0),
            "leakage": np.zeros(n),
            "cog_x": np.full(n, geometry.pix_x[center].to_value(u.deg)),
            "cog_y": np.full(n, geometry.pix_y[center].to_value(u.deg)),
            "length": np.full(n, 0.2),
        }
    )
    true = mask.astype(int) * 5
    true[:, center + 1] = 0
    image = np.ones((n, N_PIXELS), np.float32)
    true = true if true_image else None
    return Batch("LST", events, image, image.copy(), mask, true, geometry), center


def point(*pixels):
    values = np.zeros(N_PIXELS, np.float32)
    values[list(pixels)] = 1
    return values


def test_shares():
    maps = np.array([[1.0, 1, 2, 0], [0, 0, 0, 0]])
    pixels = np.array([True, False, True, True])
    np.testing.assert_array_equal(share(maps, pixels), [0.75, np.nan])


def test_centroids():
    maps = np.array([[1.0, 3], [0, 0]])
    positions = np.array([[0.0, 1], [4, 1]])
    np.testing.assert_array_equal(centroid(maps, positions), [[3, 1], [np.nan, np.nan]])


def test_agreement_is_one_for_the_same_map_and_zero_for_disjoint_ones():
    one, other = np.array([1.0, 2, 0, 0]), np.array([0, 0, 1.0, 1])
    assert agreement(np.array([one, 5 * one])) == pytest.approx(1)
    assert agreement(np.array([one, other])) == 0
    # Of three pairs one is alike.
    assert agreement(np.array([one, one, other])) == pytest.approx(1 / 3)
    assert np.isnan(agreement(one[np.newaxis]))


def test_a_map_that_is_the_same_everywhere_has_the_shares_of_the_area():
    batch, _ = make_batch()
    everywhere = np.ones((1, 2, N_PIXELS), np.float32)
    table = describe_maps(batch, Maps(predictions_of(1), {"energy": everywhere}, {}))
    events = describe_events(batch)
    for name, area in (("true", 1 / 61), ("cleaned", 2 / 61), ("edge", 42 / 61)):
        np.testing.assert_allclose(table[f"energy_share_{name}"], area, rtol=1e-6)
        np.testing.assert_allclose(events[f"area_{name}"], area, rtol=1e-6)
    # The camera's centre is the shower's.
    np.testing.assert_allclose(table["energy_distance"], 0, atol=1e-5)
    assert np.isnan(table["energy_agreement"]).all()


def predictions_of(n_members, n=2, energy=1.0):
    """Energies of the members, and the true direction and impact point."""
    energies = np.log10(energy * (1 + np.arange(n_members)))
    return {
        "energy": np.tile(energies[:, None, None], (1, n, 1)),
        "direction": np.zeros((n_members, n, 2)),
        "impact": np.zeros((n_members, n, 2)),
        "class": np.tile([0.75, 0.25], (n_members, n, 1)),
    }


def test_planted_maps_are_found_where_they_are():
    batch, center = make_batch()
    beside = center + 1
    pitch = np.linalg.norm(batch.pixels[beside] - batch.pixels[center])
    # Two events, two members: on the shower, beside it; at the edge, nowhere.
    maps = np.array(
        [[point(center), point(0)], [point(beside), np.zeros(N_PIXELS, np.float32)]]
    )
    table = describe_maps(batch, Maps(predictions_of(2), {"class": maps}, {}))
    nan = np.nan
    expected = {
        "share_true": [[1, 0], [0, nan]],
        "share_cleaned": [[1, 1], [0, nan]],
        "share_edge": [[0, 0], [1, nan]],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(table[f"class_{name}"], values)
    distance = np.linalg.norm(batch.pixels[0] - batch.pixels[center]) / 0.2
    np.testing.assert_allclose(
        table["class_distance"], [[0, pitch / 0.2], [distance, nan]], atol=1e-5
    )
    np.testing.assert_array_equal(table["class_agreement"], [0, nan])


def test_errors_are_those_of_the_mean_and_of_the_members():
    batch, _ = make_batch()
    errors = errors_of(batch, predictions_of(2))
    # Energies of 1 and 2 TeV; their mean is that of the logarithms.
    np.testing.assert_allclose(errors["energy"][:, 0], [2**0.5 - 1, 0, 1], atol=1e-12)
    np.testing.assert_allclose(errors["separation"], 0, atol=1e-5)
    # The telescope is where the predicted impact point is.
    np.testing.assert_allclose(errors["impact"], 100, rtol=1e-6)
    np.testing.assert_allclose(errors["class"], 0.25)
    # Of background only the class is learnt.
    background, _ = make_batch(label=1)
    errors = errors_of(background, predictions_of(1))
    np.testing.assert_allclose(errors["class"], 0.75)
    assert np.isnan(errors["energy"]).all()


def test_without_truth_there_are_no_errors_nor_true_shares():
    batch, center = make_batch(true_image=False, label=-1)
    maps = {"class": np.tile(point(center), (1, 2, 1))}
    table = describe_maps(batch, Maps(predictions_of(1), maps, {}))
    for name in ("energy", "separation", "impact", "class"):
        assert np.isnan(table[f"error_{name}"]).all()
    assert np.isnan(table["class_share_true"]).all()
    np.testing.assert_array_equal(table["class_share_cleaned"], 1)
    summary = summarise(describe_events(batch), {"m": table})
    # The leakage is the same everywhere: there are no bins of it.
    assert set(summary) == {"overall"}
    assert "share_true" not in summary["overall"]["statistic"]


def planted_statistics(n=100):
    """Members whose shares differ by 0.1, which rise with the energy."""
    rng = np.random.default_rng(0)
    energy = rng.permutation(np.geomspace(0.1, 10, n))
    rising = (np.argsort(np.argsort(energy)) // (n // 5)) / 10
    events = Table(
        {
            "true_energy": energy,
            "leakage": np.zeros(n),
            "area_true": np.full(n, np.nan),
            "area_cleaned": np.full(n, 0.02),
            "area_edge": np.full(n, 0.2),
        }
    )
    shares = rising[:, np.newaxis] + [0.1, 0.2, 0.3]
    table = Table({"error_energy": energy})
    for name in ("share_true", "share_cleaned", "share_edge", "distance"):
        table[f"energy_{name}"] = shares
    # A member whose map is nowhere does not count.
    table["energy_share_edge"][:10, 0] = np.nan
    table["energy_agreement"] = np.full(n, 0.5)
    return events, table


def test_summaries_find_what_was_planted():
    events, table = planted_statistics()
    summary = summarise(events, {"m": table})

    def rows(name, statistic):
        return summary[name][summary[name]["statistic"] == statistic]

    (overall,) = rows("overall", "share_cleaned")
    assert overall["mean"] == pytest.approx(0.4)
    assert overall["members_std"] == pytest.approx(0.1)
    assert overall["event_std"] == pytest.approx(0.1)
    assert overall["area"] == pytest.approx(0.02)
    assert overall["n_events"] == 100
    assert overall["empty"] == 0
    (edge,) = rows("overall", "share_edge")
    assert edge["empty"] == pytest.approx(10 / 300)
    for name in ("energy", "error"):
        binned = rows(name, "share_cleaned")
        np.testing.assert_allclose(binned["mean"], [0.2, 0.3, 0.4, 0.5, 0.6])
        np.testing.assert_allclose(binned["members_std"], 0.1)
        assert binned["n_events"].tolist() == [20] * 5
        np.testing.assert_allclose(binned["low"][1:], binned["high"][:-1])
    # All leakages are the same: there are no bins.
    assert "leakage" not in summary
    (agrees,) = rows("overall", "agreement")
    assert agrees["mean"] == pytest.approx(0.5)
    assert np.isnan(agrees["members_std"])


def test_empty_maps_are_counted_and_other_unknowns_are_not():
    """A shower without length has no distance in units of it: no map is empty."""
    batch, center = make_batch(4)
    batch.events["length"][0] = 0.0
    maps = np.tile(point(center), (2, 4, 1))
    maps[0, 1] = 0
    nothing = np.zeros_like(maps)
    table = describe_maps(
        batch, Maps(predictions_of(2, 4), {"class": maps, "energy": nothing}, {})
    )
    overall = summarise(describe_events(batch), {"m": table})["overall"]
    empty = {(row["output"], row["statistic"]): row["empty"] for row in overall}
    mean = {(row["output"], row["statistic"]): row["mean"] for row in overall}
    assert empty["class", "share_edge"] == empty["class", "distance"] == 1 / 8
    assert empty["class", "agreement"] == 1 / 4
    assert mean["class", "share_cleaned"] == 1
    for statistic in ("share_true", "share_cleaned", "share_edge", "distance"):
        assert empty["energy", statistic] == 1
        assert np.isnan(mean["energy", statistic])
    assert empty["energy", "agreement"] == 1


def test_a_single_member_has_no_agreement_even_if_it_is_empty():
    batch, _ = make_batch(true_image=False)
    nothing = np.zeros((1, 2, N_PIXELS), np.float32)
    table = describe_maps(batch, Maps(predictions_of(1), {"class": nothing}, {}))
    overall = summarise(describe_events(batch), {"m": table})["overall"]
    # Nor are there shares in true signal that is not known.
    assert set(overall["statistic"]) == {"share_cleaned", "share_edge", "distance"}
