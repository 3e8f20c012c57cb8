"""Training with conditions: what files must say, and what reaches the network."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tables
import toy_sample
from ctapipe.core import ToolConfigurationError, run_tool
from numpy.testing import assert_allclose, assert_array_equal

from ctapipe_gammaphysnet.events.opening import open_events
from ctapipe_gammaphysnet.events.quality import ImageQualityQuery
from ctapipe_gammaphysnet.events.site import read_fields
from ctapipe_gammaphysnet.files.input_file import DL1FileError
from ctapipe_gammaphysnet.model.card import MemberCard, NetworkCard
from ctapipe_gammaphysnet.model.card_text import format_card
from ctapipe_gammaphysnet.model.file import read_model
from ctapipe_gammaphysnet.model.telescope import describe_telescope
from ctapipe_gammaphysnet.network import CameraLattice, NetworkConfig
from ctapipe_gammaphysnet.simulation.instruments import SITES
from ctapipe_gammaphysnet.tasks.conditions import as_columns, conditions_of
from ctapipe_gammaphysnet.tools.train import TrainGammaPhysNet
from ctapipe_gammaphysnet.training.augmentation import Augmentation
from ctapipe_gammaphysnet.training.fit import TrainingSet, _make_streams
from ctapipe_gammaphysnet.training.index import (
    EventIndex,
    TrainingDataError,
    read_index,
)
from ctapipe_gammaphysnet.training.recipe import Recipe
from ctapipe_gammaphysnet.training.sample import common_field

SAMPLE = Path(__file__).parents[2] / "examples/data/sample_gamma.dl1.h5"
ARRAY = toy_sample.small_array(3, positions=[(0.0, 0.0, 0.0), (60.0, 40.0, 10.0)])
TYPE = "LST_LST_ToyCam"
#: Total in µT, declination and inclination in deg.
LA_PALMA = 38.73, -4.34, 37.18
PARANAL = 22.58, -4.59, -23.0
RUNS = "/configuration/simulation/run"
CONDITIONS = ("geomagnetic_field", "zenith")


def components(total, declination, inclination):
    """To the north, to the west and up."""
    d, i = np.deg2rad([declination, inclination])
    return total * np.array([np.cos(i) * np.cos(d), -np.cos(i) * np.sin(d), -np.sin(i)])


def plant_field(path, total, declination, inclination):
    """Let a file say in which field its showers are."""
    with tables.open_file(path, "r+") as file:
        runs = file.root[RUNS][:]
        runs["prod_site_B_total"] = total
        runs["prod_site_B_declination"] = np.deg2rad(declination)
        runs["prod_site_B_inclination"] = np.deg2rad(inclination)
        file.root[RUNS][:] = runs
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Gammas and protons at two pointings, in the field of La Palma."""
    folder = tmp_path_factory.mktemp("files")
    return [
        plant_field(
            toy_sample.write_toy_file(
                *(folder / f"{particle}.dl1.h5", particle, 20, number),
                **{"array": ARRAY, "altitude": altitude, "azimuth": azimuth},
            ),
            *LA_PALMA,
        )
        for number, (particle, altitude, azimuth) in enumerate(
            (("gamma", 70.0, 180.0), ("proton", 50.0, 30.0))
        )
    ]


@pytest.fixture
def copies(files, tmp_path):
    paths = [tmp_path / path.name for path in files]
    for path, source in zip(paths, files, strict=True):
        path.write_bytes(source.read_bytes())
    return paths


def fields_of(path):
    with open_events(path, "EQUIVALENT") as reader:
        return read_fields(reader)


def test_the_field_of_a_file(files):
    (field,) = fields_of(files[0])
    assert_allclose(field, components(*LA_PALMA))
    # To the north and down, and a little to the west.
    assert field[0] > 30
    assert 2 < field[1] < 3
    assert field[2] < -20
    assert common_field(files) == pytest.approx(components(*LA_PALMA))


def test_simulated_showers_know_their_field():
    """What was simulated, by other code than what reads it."""
    expected = SITES["la_palma"].magnetic_field_ut
    assert_allclose(fields_of(SAMPLE), [expected], rtol=1e-6)


@pytest.mark.parametrize("number", [0, 1])
def test_a_file_that_does_not_say_its_field(copies, number):
    plant_field(copies[number], np.nan, *LA_PALMA[1:])
    assert fields_of(copies[number]) is None
    message = f"{re.escape(str(copies[number]))} does not say.*leave the condition"
    with pytest.raises(TrainingDataError, match=message):
        common_field(copies)


def test_a_file_without_its_runs(copies):
    with tables.open_file(copies[0], "r+") as file:
        file.remove_node(RUNS)
    assert fields_of(copies[0]) is None


def test_files_of_different_sites(copies):
    plant_field(copies[1], *PARANAL)
    first, second = map(re.escape, map(str, copies))
    message = (
        f"{first} and {second} are in different geomagnetic fields: "
        "30.8 µT to the north, 2.3 to the west, -23.4 up, and "
        "20.7 µT to the north, 1.7 to the west, 8.8 up"
    )
    with pytest.raises(TrainingDataError, match=message):
        common_field(copies)


def test_fields_of_one_site_in_other_years(copies):
    plant_field(copies[1], 38.77, -4.32, 37.14)
    assert common_field(copies) == pytest.approx(components(*LA_PALMA))


def test_a_field_that_is_impossible(copies):
    plant_field(copies[0], 38730.0, *LA_PALMA[1:])
    with pytest.raises(DL1FileError, match="prod_site_B_total is 3.87e"):
        fields_of(copies[0])


def test_a_field_that_has_lost_its_unit(copies):
    with tables.open_file(copies[0], "r+") as file:
        runs = file.root[RUNS]
        number = runs.colnames.index("prod_site_B_total")
        del runs.attrs[f"CTAFIELD_{number}_UNIT"]
    with pytest.raises(DL1FileError, match="prod_site_B_total.*no unit of uT"):
        fields_of(copies[0])


def make_data(files, conditions, **augmentation):
    with open_events(files[0], "EQUIVALENT") as reader:
        telescope = reader.subarray.tel[1]
    geometry = telescope.camera.geometry
    index = EventIndex.concatenate(
        [
            read_index(path, label, TYPE, label, ImageQualityQuery())
            for label, path in enumerate(files)
        ]
    )
    network = NetworkConfig(blocks=1, channels=(4,), hidden=4, conditions=conditions)
    card = NetworkCard(
        telescope=describe_telescope(telescope),
        network=network,
        geomagnetic_field_ut=common_field(files) if network.needs_field else None,
        members=(MemberCard(seed=0),),
    )
    lattice = CameraLattice.from_geometry(geometry)
    augmentation = Augmentation(geometry=geometry, **augmentation)
    return TrainingSet(files, index, index, card, lattice, augmentation)


def batches_of(data):
    """The first batch for training, and the last one for validation."""
    recipe = Recipe(batch_size=16, shuffle_images=16)
    training, validation = _make_streams(data, recipe, 0, 0, 1)
    batch = next(iter(training))
    training.close()
    *_, last = validation
    return batch, last


def test_each_image_has_the_conditions_of_its_pointing(files):
    data = make_data(files, CONDITIONS)
    field = components(*LA_PALMA)
    first, last = batches_of(data)
    for batch in (first, last):
        # By its label: the files have one pointing each.
        for label, (altitude, azimuth) in enumerate(((70, 180), (50, 30))):
            alt, az = np.deg2rad([[altitude], [azimuth]])
            expected = as_columns(conditions_of(CONDITIONS, alt, az, field), 1)
            found = batch["conditions"][batch["class"] == label].numpy()
            # The last images are protons.
            assert len(found) > 3 or (label == 0 and batch is last)
            assert_allclose(found, np.repeat(expected, len(found), axis=0), atol=1e-5)
        assert not {*batch} & {*CONDITIONS}


def test_the_field_turns_with_the_image(files):
    """As the direction of the shower does; the zenith angle stays."""
    data = make_data(files, CONDITIONS)
    turning = make_data(files, CONDITIONS, rotate=True)
    before, _ = batches_of(data)
    after, of_validation = batches_of(turning)
    assert_array_equal(after["row"], before["row"])
    old, new = (b["conditions"].numpy().astype(float) for b in (before, after))
    assert_array_equal(new[:, 2], old[:, 2])

    def angles(vectors):
        return np.rad2deg(np.arctan2(vectors[:, 1], vectors[:, 0]))

    turned = angles(new[:, :2]) - angles(old[:, :2])
    directions = (b["direction"].numpy() for b in (after, before))
    expected = np.subtract(*map(angles, directions))
    assert_allclose((turned - expected + 180) % 360, 180, atol=1e-2)
    assert len(np.unique(np.rint(turned / 60) % 6)) > 3
    lengths = (np.linalg.norm(vectors[:, :2], axis=1) for vectors in (new, old))
    assert_allclose(*lengths, atol=1e-6)
    _, unturned = batches_of(data)
    assert_array_equal(of_validation["conditions"], unturned["conditions"])


def test_the_noise_is_that_of_the_augmented_images(files):
    """Twice the gain is twice the noise. A covered camera does not show it, as 0."""
    names = ("noise", *CONDITIONS)
    before, of_validation = batches_of(make_data(files, names))
    louder, unchanged = batches_of(make_data(files, names, gain=(2, 2), rotate=True))
    found = before["conditions"][:, 0].numpy()
    is_known = found != 0
    assert 5 < is_known.sum() < len(found)
    # The toys' noise, from few pixels.
    found = found[is_known]
    expected = 3 * np.log(toy_sample.NOISE_PE / 1.5)
    assert_allclose(found.mean(), expected, atol=4 * found.std() / len(found) ** 0.5)
    assert 0.1 < found.std() < 3
    gained = louder["conditions"][:, 0].numpy()
    assert_array_equal(gained != 0, is_known)
    assert_allclose(gained[is_known] - found, 3 * np.log(2), atol=1e-3)
    assert_array_equal(unchanged["conditions"], of_validation["conditions"])
    others, _ = batches_of(make_data(files, CONDITIONS))
    assert_array_equal(before["conditions"][:, 1:], others["conditions"])
    assert_array_equal(before["inputs"], others["inputs"])


def test_without_conditions_batches_are_as_before(files):
    """Same images, targets and turns, whatever the conditions."""
    with_them, without = (
        batches_of(make_data(files, names, rotate=True)) for names in (CONDITIONS, ())
    )
    for one, other in zip(with_them, without, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"conditions"}:
            assert_array_equal(one[name], other[name])
        assert other["conditions"].shape == (len(other["row"]), 0)


def train(files, folder, *options):
    config = folder / "selection.json"
    criteria = {"quality_criteria": [["signal", "morphology_n_pixels > 0"]]}
    config.write_text(json.dumps({"TrainingQualityQuery": criteria}))
    output = folder / "model.safetensors"
    argv = [
        *(f"--signal={files[0]}", f"--background={files[1]}", f"--output={output}"),
        *("--blocks=1", "--channels", "4", "--hidden=8", "--seeds", "0"),
        *("--epochs=1", "--batch-size=8", "--device=cpu", f"--config={config}"),
        *(f"--provenance-log={folder / 'log'}", "--no-progress", *options),
    ]
    run_tool(TrainGammaPhysNet(), argv=argv, cwd=folder, raises=True)
    return output


def test_the_tool_trains_with_conditions(files, tmp_path):
    path = train(files, tmp_path, "--conditions", *CONDITIONS)
    content = read_model(path)
    (card,), ((weights,),) = content.card.networks, content.weights
    assert card.network.conditions == CONDITIONS
    assert card.geomagnetic_field_ut == pytest.approx(components(*LA_PALMA))
    for name in ("heads.energy.0.weight", "geometry.0.weight", "heads.class.weight"):
        # They start at 0.
        assert (weights[name][:, -3:] != 0).any(axis=0).all(), name
    text = format_card(content.card)
    assert "conditions: geomagnetic_field, zenith\n" in text
    assert re.search(
        r"geomagnetic field / µT \(north, west, up\): 30.769\d*, 2.335", text
    )


def test_the_tool_trains_with_the_noise(files, tmp_path):
    content = read_model(train(files, tmp_path, "--conditions", "noise"))
    (card,), ((weights,),) = content.card.networks, content.weights
    assert card.network.conditions == ("noise",)
    assert (weights["heads.energy.0.weight"][:, -1] != 0).any()
    assert "conditions: noise\n" in format_card(content.card)


def test_the_zenith_needs_no_field(copies, tmp_path):
    for path in copies:
        plant_field(path, np.nan, np.nan, np.nan)
    card = read_model(train(copies, tmp_path, "--conditions", "zenith")).card
    assert card.networks[0].geomagnetic_field_ut is None
    assert "geomagnetic" not in format_card(card)
    with pytest.raises(ToolConfigurationError, match="does not say the geomagnetic"):
        train(copies, tmp_path, "--overwrite", "--conditions", *CONDITIONS)
