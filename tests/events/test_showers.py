"""Which shower an image shows, and the split that never divides one."""

import json
import shutil

import astropy.units as u
import numpy as np
import pytest
import tables
import toy_sample
from astropy.table import QTable
from conftest import small_cameras

from ctapipe_gammaphysnet.events import showers
from ctapipe_gammaphysnet.events.quality import ImageQualityQuery
from ctapipe_gammaphysnet.events.showers import (
    count_seen,
    describe_showers,
    is_among,
    is_for_validation,
    merge_descriptions,
    shower_numbers,
)
from ctapipe_gammaphysnet.training.index import EventIndex, read_index

TYPE = "LST_LST_ToyCam"


def draw_truth(n, seed=0, obs_id=1):
    """Table of ``n`` different showers of one run, in float32."""
    rng = np.random.default_rng(seed)
    table = {
        "obs_id": np.full(n, obs_id),
        "true_shower_primary_id": np.zeros(n, int),
        "true_energy": (10 ** rng.uniform(-2, 2, n)).astype("f4") * u.TeV,
        "true_alt": rng.uniform(1.1, 1.3, n).astype("f4") * u.rad,
        "true_h_first_int": rng.uniform(1e4, 4e4, n).astype("f4") * u.m,
    }
    return QTable(table)


@pytest.fixture(scope="module")
def many():
    """Numbers of 100,000 different showers."""
    return shower_numbers(draw_truth(100_000))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two files: each uses ten showers twice, and four showers are in both."""
    folder = tmp_path_factory.mktemp("reused")
    path = toy_sample.write_toy_file(
        folder / "first.dl1.h5", "gamma", 20, array=small_cameras()
    )
    other = toy_sample.write_toy_file(
        folder / "second.dl1.h5", "gamma", 20, seed=5, array=small_cameras()
    )
    reuse_showers(path)
    reuse_showers(other, showers_of(path)[:4])
    return [path, other]


def showers_of(path):
    with tables.open_file(path) as file:
        return file.root.simulation.event.subarray.shower.read()


def reuse_showers(path, first=()):
    """Give each second event the shower of the one before, at its own impact point."""
    with tables.open_file(path, "r+") as file:
        table = file.root.simulation.event.subarray.shower
        rows = table.read()
        columns = [f"true_{x}" for x in ("energy", "alt", "az", "h_first_int")]
        for column in columns:
            for row, shower in enumerate(first):
                rows[column][row] = shower[column]
            rows[column][1::2] = rows[column][::2]
        table.modify_rows(start=0, rows=rows)


def read_all(path, number=0):
    query = ImageQualityQuery(quality_criteria=[])
    return read_index(path, number, TYPE, 0, query)


def test_images_of_one_shower_share_its_number(files):
    """Those of several telescopes, at several impact points, in several files."""
    index = EventIndex.concatenate([read_all(f, n) for n, f in enumerate(files)])
    shower_of = {}
    for energy, number in zip(index.energy[:, 0], index.shower, strict=True):
        shower_of.setdefault(energy, set()).add(number)
    assert all(len(numbers) == 1 for numbers in shower_of.values())
    assert len(set.union(*shower_of.values())) == len(shower_of)
    # Ten showers in each file, of which two are in both.
    assert len(shower_of) == 18
    assert len(set(read_all(files[0]).shower) & set(read_all(files[1]).shower)) == 2
    n_impacts = [
        len(np.unique(index.targets["impact"][index.shower == number], axis=0))
        for number in set(index.shower)
    ]
    # Two telescopes, at two impact points, and again in the other file.
    assert max(n_impacts) > 4


def test_a_split_never_divides_a_shower(files):
    index = EventIndex.concatenate([read_all(f, n) for n, f in enumerate(files)])
    for fraction in (0.2, 0.5, 0.8):
        kept = is_for_validation(index.shower, fraction)
        assert 0 < kept.sum() < len(index)
        validation, training = index.select(kept), index.select(~kept)
        assert not set(validation.shower) & set(training.shower)
        assert not set(validation.energy[:, 0]) & set(training.energy[:, 0])


def test_adding_files_moves_no_shower(files, tmp_path):
    alone = read_all(files[1])
    joint = EventIndex.concatenate([read_all(files[0]), read_all(files[1], 1)])
    np.testing.assert_array_equal(joint.select(joint.file == 1).shower, alone.shower)
    # Nor does giving the file another name, or another place among the others.
    copy = shutil.copy(files[1], tmp_path / "copy.dl1.h5")
    np.testing.assert_array_equal(read_all(copy, 7).shower, alone.shower)


def test_a_number_depends_on_the_shower_alone():
    """Not on the precision in which a version of ctapipe has written it."""
    truth = draw_truth(50)
    numbers = shower_numbers(truth)
    assert len(set(numbers)) == 50
    np.testing.assert_array_equal(shower_numbers(truth[::-1])[::-1], numbers)
    # Angles are written in degrees.
    for name, unit in (("energy", u.TeV), ("alt", u.deg), ("h_first_int", u.m)):
        truth[f"true_{name}"] = truth[f"true_{name}"].astype(float).to(unit)
    np.testing.assert_array_equal(shower_numbers(truth), numbers)
    assert shower_numbers(truth[:0]).shape == (0,)


@pytest.mark.parametrize("column", draw_truth(0).colnames)
def test_a_number_depends_on_all_of_the_truth(column):
    truth = draw_truth(50)
    numbers = shower_numbers(truth)
    unit = truth[column].unit
    truth[column] = truth[column] + (1 if unit is None else 0.01 * unit)
    assert not np.isin(shower_numbers(truth), numbers).any()


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_the_fraction_is_right(many, fraction):
    n = is_for_validation(many, fraction).sum()
    spread = np.sqrt(len(many) * fraction * (1 - fraction))
    assert abs(n - len(many) * fraction) <= 4 * spread


def test_the_split_does_not_choose_by_energy(many):
    energy = np.log10(draw_truth(100_000)["true_energy"].value)
    kept = is_for_validation(many, 0.1)
    # The spread of a uniform distribution of width 4.
    spread = 4 / np.sqrt(12 * kept.sum())
    assert abs(energy[kept].mean() - energy.mean()) < 4 * spread


def test_showers_are_recognised_by_their_description(many):
    kept = is_for_validation(many, 0.1)
    # Several images of each.
    description = describe_showers(np.repeat(many[~kept], 2))
    description = json.loads(json.dumps(description))
    assert description["showers"] == (~kept).sum()
    assert is_among(many[~kept], description).all()
    # By chance, 90,000 in 2^32 of the others.
    assert is_among(many[kept], description).sum() <= 3
    others = shower_numbers(draw_truth(10_000, obs_id=2))
    assert is_among(others, description).sum() <= 3


def test_of_very_many_showers_some_are_recognised(many, monkeypatch):
    monkeypatch.setattr(showers, "MAX_DESCRIBED", 5000)
    kept = is_for_validation(many, 0.1)
    training = many[~kept]
    description = describe_showers(training)
    assert description["showers"] == len(training)
    assert len(description["smallest numbers"]) < 4 * 5000 * 1.4
    is_known = is_among(training, description)
    assert is_known.sum() == 5000
    assert not is_among(many[kept], description).any()
    # Every file with enough showers has some of them, be it one that was split off.
    for part in np.split(training[: 500 * (len(training) // 500)], 500)[:100]:
        assert is_among(part, description).any()


def test_descriptions_are_merged(many):
    """Showers of both are recognised, and counted once if all are described."""
    first, second, third = many[:300], many[200:500], many[500:700]
    merged = merge_descriptions([describe_showers(first), describe_showers(second)])
    assert merged == describe_showers(many[:500])
    assert count_seen(third, merged) == 0
    alone = describe_showers(first)
    assert merge_descriptions([alone]) == alone
    nothing = describe_showers(many[:0])
    assert merge_descriptions([nothing, alone]) == alone


def test_merged_descriptions_of_very_many_showers_are_as_long(many, monkeypatch):
    monkeypatch.setattr(showers, "MAX_DESCRIBED", 5000)
    parts = many[:30_000], many[30_000:]
    merged = merge_descriptions([describe_showers(part) for part in parts])
    assert len(merged["smallest numbers"]) < 4 * 5000 * 1.4
    # What they share is not known: there are at least as many as in the larger one.
    assert merged["showers"] == len(parts[1])
    for part in parts:
        assert 0 < count_seen(part, merged) < 5000
    assert merged["smallest numbers"] == describe_showers(many)["smallest numbers"]


def test_few_matches_by_chance_are_none(many):
    description = describe_showers(many[:50_000])
    assert count_seen(np.repeat(many[:20], 3), description) == 20
    assert count_seen(many[50_000:], description) == 0
    assert count_seen(many[:0], description) == 0


def test_an_empty_description_knows_no_shower(many):
    assert not is_among(many, describe_showers(many[:0])).any()
