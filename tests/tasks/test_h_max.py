"""The height of the shower maximum: from the depth to DL2, metrics and the array."""

import shutil

import astropy.units as u
import numpy as np
import pytest
import tables
import toy_sample
from astropy.table import QTable, Table
from ctapipe.core import ToolConfigurationError, run_tool
from ctapipe.io import read_table, write_table
from ctapipe.io.hdf5dataformat import ATMOSPHERE_DENSITY_PROFILE_TABLE
from with_units import telescope_columns

from ctapipe_gammaphysnet.events.opening import open_events, read_atmosphere
from ctapipe_gammaphysnet.events.quality import ImageQualityQuery
from ctapipe_gammaphysnet.events.telescope_events import altitudes_of
from ctapipe_gammaphysnet.explanation.images import read_batches
from ctapipe_gammaphysnet.explanation.statistics import errors_of
from ctapipe_gammaphysnet.files.input_file import DL1FileError
from ctapipe_gammaphysnet.model.predictor import Predictor
from ctapipe_gammaphysnet.simulation.atmosphere import density_profile
from ctapipe_gammaphysnet.tasks.h_max import H_MAX
from ctapipe_gammaphysnet.tasks.metric import CONTAINMENT
from ctapipe_gammaphysnet.tools.apply import ApplyGammaPhysNet
from ctapipe_gammaphysnet.tools.evaluate import EvaluateGammaPhysNet
from ctapipe_gammaphysnet.tools.explain import ExplainGammaPhysNet
from ctapipe_gammaphysnet.tools.train import TrainGammaPhysNet
from ctapipe_gammaphysnet.training.index import TrainingDataError, read_index

pytestmark = pytest.mark.usefixtures("quick_figures")

POSITIONS = [(0.0, 0.0, 0.0), (60.0, 40.0, 10.0)]
ARRAY = toy_sample.small_array(3, positions=POSITIONS)
#: Altitude of the telescopes in m.
ALTITUDES = toy_sample.LA_PALMA.geodetic.height.to_value("m") + np.array([0, 0, 10])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("h_max")


@pytest.fixture(scope="module")
def gammas(folder):
    path = folder / "gamma.dl1.h5"
    return toy_sample.write_toy_file(path, "gamma", 30, seed=3, array=ARRAY)


@pytest.fixture(scope="module")
def with_atmosphere(gammas, folder):
    """The same file, which has an atmosphere, too."""
    path = folder / "atmosphere.dl1.h5"
    shutil.copy(gammas, path)
    write_table(
        density_profile("la_palma").table, path, ATMOSPHERE_DENSITY_PROFILE_TABLE
    )
    return path


def true_heights(path):
    """In m above sea level, by the numbers of the events."""
    showers = read_table(path, "/simulation/event/subarray/shower", table_cls=QTable)
    height = density_profile("la_palma").height_from_overburden(showers["true_x_max"])
    assert (height > 5 * u.km).all()
    assert (height < 15 * u.km).all()
    events = showers["event_id"].tolist()
    return dict(zip(events, height.to_value(u.m).tolist(), strict=True))


def read_targets(path, **kwargs):
    (telescope,) = toy_sample.ToyCard(array=ARRAY).subarray().telescope_types
    query = ImageQualityQuery()
    return read_index(path, 0, str(telescope), 0, query, tasks=["h_max"], **kwargs)


def test_the_target_is_the_height_above_the_telescope(gammas, with_atmosphere):
    true = true_heights(gammas)
    index = read_targets(with_atmosphere)
    expected = [true[e] for e in index.event_id.tolist()] - ALTITUDES[index.tel_id]
    assert len(index) > 20
    np.testing.assert_allclose(index.targets["h_max"][:, 0], expected / 1000, rtol=1e-5)
    assert index.targets.keys() == {"h_max"}


def test_the_atmosphere_can_be_that_of_another_file(gammas, with_atmosphere):
    index = read_targets(gammas, atmosphere=read_atmosphere(with_atmosphere))
    expected = read_targets(with_atmosphere).targets["h_max"]
    np.testing.assert_array_equal(index.targets["h_max"], expected)


def test_without_an_atmosphere_it_cannot_be_learnt(gammas):
    with pytest.raises(TrainingDataError, match="true_h_max .* --atmosphere"):
        read_targets(gammas)
    with pytest.raises(DL1FileError, match="before it was merged"):
        read_atmosphere(gammas)


def test_depths_that_are_not_known(with_atmosphere, folder):
    """Background without a maximum is not learnt from; a gamma must have one."""
    events = QTable(
        {
            "true_h_max": [9000, np.nan] * u.m,
            "altitude": [2000, 2000] * u.m,
            "label": [0, 1],
        }
    )
    np.testing.assert_allclose(H_MAX.to_target(events), [[7], [0]])
    broken = folder / "broken.dl1.h5"
    shutil.copy(with_atmosphere, broken)
    with tables.open_file(broken, "r+") as file:
        showers = file.root.simulation.event.subarray.shower
        values = showers[:]
        values["true_x_max"] = np.nan
        showers[:] = values
    with pytest.raises(TrainingDataError, match="the h_max of event .* is not known"):
        read_targets(broken)


def test_dl2_is_above_sea_level():
    outputs = {
        "direction": np.zeros((2, 3, 2)),
        "h_max": np.array([[[6.0], [8.0], [7.0]], [[7.0], [8.0], [9.0]]]),
    }
    pointing = np.full(3, 70) * u.deg
    altitude = [2000, 2100, 2200] * u.m
    where = pointing, pointing, np.zeros((3, 3)) * u.m
    geometry = telescope_columns(outputs, *where, altitude)["geometry"]
    assert u.allclose(geometry["h_max"], [8500, 10100, 10200] * u.m)
    assert u.allclose(geometry["h_max_uncert"], np.sqrt([0.5, 0, 2]) * u.km)
    assert geometry["is_valid"].all()
    # As the impact point, it belongs to a direction.
    assert telescope_columns({"h_max": outputs["h_max"]}, *where, altitude) == {}


def test_an_array_without_a_place_has_no_heights(monkeypatch):
    """The directions of its telescopes are as they are anywhere."""
    array = toy_sample.ToyCard(array=ARRAY).subarray()
    assert u.allclose(altitudes_of(array), ALTITUDES[1:] * u.m)
    monkeypatch.setattr(array, "reference_location", None)
    unknown = altitudes_of(array)
    assert np.isnan(unknown).all()
    outputs = {"direction": np.zeros((1, 2, 2)), "h_max": np.ones((1, 2, 1))}
    where = *([70, 70] * u.deg,) * 2, np.zeros((2, 3)) * u.m
    geometry = telescope_columns(outputs, *where, unknown)["geometry"]
    assert geometry["is_valid"].all()
    assert "h_max" not in geometry


def test_an_atmosphere_is_read_for_heights_alone(with_atmosphere, folder):
    path = folder / "other.dl1.h5"
    shutil.copy(with_atmosphere, path)
    with tables.open_file(path, "r+") as file:
        file.root[ATMOSPHERE_DENSITY_PROFILE_TABLE].attrs["TAB_VER"] = "later"
    with open_events(path) as reader:
        name = str(reader.subarray.tel[1])
    index = read_index(path, 0, name, 0, ImageQualityQuery(quality_criteria=[]))
    assert len(index) > 10
    with pytest.raises(DL1FileError, match="not supported: 'later'"):
        read_index(
            path, 0, name, 0, ImageQualityQuery(quality_criteria=[]), tasks=["h_max"]
        )
    arguments = path, [name], ImageQualityQuery(quality_criteria=[]), 10
    assert sum(map(len, read_batches(*arguments))) == len(index)
    with pytest.raises(DL1FileError, match="not supported: 'later'"):
        list(read_batches(*arguments, truth=H_MAX.truth))


def test_the_resolution_is_about_the_median():
    rng = np.random.default_rng(0)
    deviation = rng.normal(600, 300, 20_000)
    ones = np.ones(len(deviation))
    resolution, bias = (
        metric.compute(deviation, ones, ones > 0, ones, 0.5)
        for metric in H_MAX.metrics.values()
    )
    assert resolution == pytest.approx(300, rel=0.03)
    assert bias == pytest.approx(600, rel=0.03)
    predicted, true = 7 + deviation[:, None] / 1000, np.full((len(deviation), 1), 7.0)
    found = [compute(predicted, true) for compute in H_MAX.validation_metrics.values()]
    np.testing.assert_allclose(found, [resolution, bias], rtol=0.01)


def run(tool, folder, *argv):
    log = f"--provenance-log={folder / 'provenance.log'}"
    argv = [*map(str, argv), log, "--no-progress"]
    run_tool(tool, argv=argv, cwd=folder, raises=True)


def ranked_images(path, model, atmosphere, folder, criteria):
    """Beginnings of the names of the figures of the best and the worst image."""
    output = folder / "explanation"
    arguments = (
        *(f"--input={path}", f"--model=net={model}", f"--output-dir={output}"),
        *(*criteria, "--rank-by=h_max", "--best=1", "--worst=1", "--random=0"),
    )
    with pytest.raises(ToolConfigurationError, match="--atmosphere.*--rank-by "):
        run(ExplainGammaPhysNet(), folder, *arguments)
    run(ExplainGammaPhysNet(), folder, *arguments, atmosphere)
    return sorted(path.stem for path in output.glob("*.png"))


def test_it_goes_through_the_tools(gammas, with_atmosphere, folder):
    model, dl2 = folder / "model.safetensors", folder / "gamma.dl2.h5"
    criteria = "--config", folder / "selection.yaml"
    criteria[1].write_text(
        "TrainingQualityQuery:\n  quality_criteria:\n"
        '    - ["signal after cleaning", "morphology_n_pixels > 0"]\n'
    )
    run(
        TrainGammaPhysNet(),
        folder,
        *(f"--signal={gammas}", f"--output={model}", *criteria),
        *("--tasks", "energy", "direction", "h_max"),
        f"--atmosphere={with_atmosphere}",
        *("--blocks=1", "--channels", 4, "--hidden=8", "--epochs=1"),
        *("--batch-size=8", "--device=cpu"),
    )
    inputs = f"--input={gammas}", f"--model={model}", "--dl1-images"
    run(ApplyGammaPhysNet(), folder, *inputs, f"--output={dl2}")
    evaluation = (
        *(f"--signal={dl2}", "--reference=GammaPhysNet", f"--model=net={model}"),
        *("--allow-training-showers", "--min-events=1", *criteria),
        *(f"--output-dir={folder / 'report'}", "--EvaluateGammaPhysNet.n_bootstrap=2"),
    )
    with pytest.raises(ToolConfigurationError, match="--atmosphere"):
        run(EvaluateGammaPhysNet(), folder, *evaluation)
    atmosphere = f"--atmosphere={with_atmosphere}"
    run(EvaluateGammaPhysNet(), folder, *evaluation, atmosphere)
    best, worst = ranked_images(dl2, model, atmosphere, folder, criteria)

    true, deviations, telescopes = true_heights(gammas), [], {}
    names = []
    with tables.open_file(dl2) as file:
        group = "GammaPhysNetGeometry"
        for node in file.root.dl2.event.telescope.geometry[group]:
            for row in node[:]:
                height = row[f"{group}_tel_h_max"]
                telescopes.setdefault(row["event_id"], []).append(height)
                deviations.append(height - true[row["event_id"]])
                names.append(f"event{row['event_id']}_tel{row['tel_id']}")
        array = file.root.dl2.event.subarray.geometry[group][:]
    assert best.endswith(names[np.nanargmin(np.abs(deviations))])
    assert worst.endswith(names[np.nanargmax(np.abs(deviations))])
    deviations = np.array(deviations)[np.isfinite(deviations)]
    about = np.abs(deviations - np.quantile(deviations, 0.5, method="inverted_cdf"))
    expected = np.quantile(about, CONTAINMENT, method="inverted_cdf")
    overall = Table.read(folder / "report" / "overall.ecsv")
    for row in overall:
        assert row["h_max_resolution"] == pytest.approx(expected, rel=1e-3)
    assert (folder / "report" / "bias_impact.png").exists()
    n_between = 0
    for row in array:
        heights = np.array(telescopes[row["event_id"]])
        heights = heights[np.isfinite(heights)]
        if row[f"{group}_is_valid"]:
            low, high = heights.min() - 1, heights.max() + 1
            assert low <= row[f"{group}_h_max"] <= high
            n_between += len(heights) > 1
            assert np.isfinite(row[f"{group}_h_max_uncert"]) == (len(heights) > 1)
    assert n_between > 3


def test_maps_do_not_need_its_truth(gammas, with_atmosphere, make_model, folder):
    """Its error is known with an atmosphere, and only of models that predict it."""
    telescope, *_ = toy_sample.ToyCard(array=ARRAY).subarray().telescope_types
    for tasks, path, is_known in (
        (("direction", "h_max"), with_atmosphere, True),
        (("direction", "h_max"), gammas, False),
        (("direction",), with_atmosphere, None),
    ):
        content = make_model(telescope, tasks=tasks)
        (card,), (weights,) = content.card.networks, content.weights
        predictor = Predictor(card, weights)
        query = ImageQualityQuery()
        truth = H_MAX.truth if "h_max" in tasks else ()
        batch = next(read_batches(path, [str(telescope)], query, 9, truth=truth))
        inputs, _ = predictor.prepare(batch.image, batch.peak_time, batch.image_mask)
        predictions = predictor(inputs)
        errors = errors_of(batch, predictions)
        assert ("h_max" in errors) == (is_known is not None)
        if is_known is not None:
            assert np.isfinite(errors["h_max"]).all() == is_known
            assert "km above" in H_MAX.fact(predictions["h_max"][:, 0], np.nan)
        if is_known:
            true = np.array([true_heights(path)[e] for e in batch.events["event_id"]])
            altitude = batch.events["altitude"].to_value(u.m)
            height = 1000 * predictions["h_max"][0, :, 0] + altitude
            np.testing.assert_allclose(errors["h_max"][0], np.abs(height - true))
