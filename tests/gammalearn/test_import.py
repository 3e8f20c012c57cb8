"""Networks of gammalearn predict the same as models of this package."""

import json
import os
import pickle
import re
import time
import tracemalloc
import zipfile

import astropy.units as u
import numpy as np
import pytest
import tables
import torch
from astropy.table import Table
from ctapipe.core import ToolConfigurationError, run_tool
from ctapipe.instrument import CameraGeometry, SubarrayDescription
from ctapipe.io import read_table
from gammalearn_network import Network, axial_coordinates, positions
from official_files import DATA, needs
from toy_sample import toy_telescope
from with_units import telescope_columns

from ctapipe_gammaphysnet.events.quality import ImageQualityQuery
from ctapipe_gammaphysnet.gammalearn.checkpoint import read_checkpoint
from ctapipe_gammaphysnet.gammalearn.errors import ImportedModelError
from ctapipe_gammaphysnet.gammalearn.model import import_model
from ctapipe_gammaphysnet.gammalearn.settings import Settings, read_settings
from ctapipe_gammaphysnet.gammalearn.weights import convert_weights, describe_network
from ctapipe_gammaphysnet.model.card_text import format_card
from ctapipe_gammaphysnet.model.file import read_model
from ctapipe_gammaphysnet.model.predictor import Predictor
from ctapipe_gammaphysnet.model.telescope import describe_telescope
from ctapipe_gammaphysnet.network import CameraLattice, GammaPhysNet
from ctapipe_gammaphysnet.tools.import_model import ImportGammaPhysNet

OFFICIAL = DATA / "gammalearn"
official = needs("gammalearn")
ORDER = np.random.default_rng(3).permutation(len(axial_coordinates()))
#: The camera of the training lists its pixels in a random order.
COORDINATES = axial_coordinates()[ORDER]
TRAINING = positions(COORDINATES) * 0.05
TWO = Settings(("gamma", "proton"), {"program": "gammalearn"}, [])


def telescope(x, y):
    geometry = CameraGeometry(
        name="HexCam",
        pix_id=np.arange(len(x)),
        pix_x=x * u.m,
        pix_y=y * u.m,
        pix_area=np.full(len(x), 2e-3) * u.m**2,
        pix_type="hexagon",
    )
    return toy_telescope(geometry)


def make(seed=0, **options):
    options = {"blocks": 2, "channels": (4, 6), "hidden": 5} | options
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(COORDINATES, **options).eval()


def save(path, network, **entries):
    state = {f"net.{name}": value for name, value in network.state_dict().items()}
    state["loss_balancing.log_vars"] = torch.zeros(4)
    torch.save({"epoch": 3, "state_dict": state | entries}, path)
    return path


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(np.random.default_rng(8).gamma(2, 2, (5, 2, len(ORDER))))


def predictions(weights, config, lattice, images, engine):
    network = GammaPhysNet(config, lattice, engine)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    with torch.no_grad():
        return network.eval().double()(images)


@pytest.mark.parametrize("engine", ["lattice", "indexed"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ratio": 2},
        {"blocks": 1, "channels": (4,), "hidden": 3},
        {"blocks": 3, "channels": (4, 8, 8), "ratio": 4},
    ],
)
def test_random_networks_predict_the_same(tmp_path, images, options, engine):
    network = make(**options)
    weights, record = read_checkpoint(save(tmp_path / "a.ckpt", network))
    assert record == {"epoch": 3}
    model = import_model(weights, record, TWO, describe_telescope(telescope(*TRAINING)))
    config = model.card.networks[0].network
    assert config.attention == ("ratio" in options)
    found = predictions(
        model.weights[0][0],
        config,
        CameraLattice.from_positions(*TRAINING),
        images,
        engine,
    )
    with torch.no_grad():
        expected = network.double()(images)
    for task in ("energy", "direction", "impact", "class"):
        np.testing.assert_allclose(found[task], expected[task], rtol=0, atol=1e-10)


def test_the_telescope_can_list_pixels_in_another_order(tmp_path, images):
    network = make(ratio=2)
    weights, record = read_checkpoint(save(tmp_path / "a.ckpt", network))
    new = np.random.default_rng(4).permutation(len(ORDER))
    x, y = TRAINING[:, new]
    other = describe_telescope(telescope(x, y))
    with pytest.raises(ImportedModelError, match="--camera"):
        import_model(weights, record, TWO, other)
    model = import_model(weights, record, TWO, other, tuple(TRAINING))
    config = model.card.networks[0].network
    lattice = CameraLattice.from_positions(x, y)
    found = predictions(
        model.weights[0][0], config, lattice, images[..., new], "lattice"
    )
    with torch.no_grad():
        expected = network.double()(images)
    np.testing.assert_allclose(
        found["direction"], expected["direction"], rtol=0, atol=1e-10
    )


def test_the_camera_must_have_the_pixels_of_the_telescope(tmp_path):
    weights, record = read_checkpoint(save(tmp_path / "a.ckpt", make()))
    own = describe_telescope(telescope(*TRAINING))
    with pytest.raises(ImportedModelError, match="10.0 mm"):
        import_model(weights, record, TWO, own, (TRAINING[0] + 0.01, TRAINING[1]))
    with pytest.raises(ImportedModelError, match="126 pixels instead of 127"):
        import_model(weights, record, TWO, own, tuple(TRAINING[:, 1:]))


def test_another_camera_is_refused(tmp_path):
    weights, record = read_checkpoint(save(tmp_path / "a.ckpt", make()))
    keep = np.hypot(*TRAINING) < 0.2
    small = describe_telescope(telescope(*TRAINING[:, keep]))
    with pytest.raises(ImportedModelError, match="trained for another camera"):
        import_model(weights, record, TWO, small)


def test_classes_get_the_gamma_first(tmp_path, images):
    network = make(classes=3)
    weights, record = read_checkpoint(save(tmp_path / "a.ckpt", network))
    three = Settings(("proton", "electron", "gamma"), {}, [])
    own = describe_telescope(telescope(*TRAINING))
    model = import_model(weights, record, three, own)
    config = model.card.networks[0].network
    assert config.classes == ("gamma", "proton", "electron")
    lattice = CameraLattice.from_positions(*TRAINING)
    found = predictions(model.weights[0][0], config, lattice, images, "lattice")
    with torch.no_grad():
        expected = network.double()(images)["class"][:, [2, 0, 1]]
    np.testing.assert_allclose(found["class"], expected, rtol=0, atol=1e-10)
    with pytest.raises(ImportedModelError, match="3 classes, but its settings name 2"):
        import_model(weights, record, TWO, own)


def spoil(change):
    weights = {k: v.numpy() for k, v in make(ratio=2).state_dict().items()}
    change(weights)
    return weights


CONV = "feature.feature.block1_layer1.conv_block.cv1"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("unknown.weight", np.zeros(3), "'unknown.weight' is unknown"),
        ("main_task_model.a", np.zeros(3), "ConditionalGammaPhysNet"),
        ("feature.feature.cv0.weight", None, "not a GammaPhysNet"),
        ("feature.feature.cv0.weight", np.zeros((4, 2, 3, 3)), "resampled"),
        ("feature.feature.cv0.weight", np.zeros((4, 3, 7)), "peak time"),
        ("feature.feature.cv0.indices_", np.full((7, 127), 500), "do not exist"),
        ("feature.feature.cv0.indices_", np.zeros((7, 127), int), "each pixel once"),
        (f"{CONV}.weight", np.zeros((0, 4, 7)), "channels cannot be used"),
        (f"{CONV}.bias", np.zeros(7), "has the shape"),
        (f"{CONV}.bias", None, f"no '{CONV}.bias'"),
        (f"{CONV}.indices_", None, "indices_"),
        (f"{CONV}.mask_", np.zeros((7, 37)), "."),
        ("energy.en_layer1.weight", np.zeros(()), "."),
        ("fusion.weight", np.zeros((5, 7)), "shape"),
        ("classifier.weight", np.zeros((2, 3, 4, 5)), "shape"),
        (f"{CONV[:-3]}BatchNorm1d2.running_var", None, "no '"),
    ],
)
def test_wrong_entries_are_refused(name, value, message):
    def change(weights):
        weights.pop(name, None)
        if value is not None:
            weights[name] = value

    with pytest.raises(ImportedModelError, match=message):
        import_model(spoil(change), {}, TWO, describe_telescope(telescope(*TRAINING)))


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save_it", [torch.save, pickle.dump])
def test_code_in_a_checkpoint_does_not_run(tmp_path, save_it):
    mark, path = tmp_path / "ran", tmp_path / "a.ckpt"
    with open(path, "wb") as file:
        save_it({"state_dict": {}, "hyper_parameters": Malicious(mark)}, file)
    with pytest.raises(ImportedModelError, match="mkdir|zip archive"):
        read_checkpoint(path)
    assert not mark.exists()


def test_huge_and_odd_tensors_are_refused(tmp_path):
    path = tmp_path / "a.ckpt"
    for value, message in (
        (torch.zeros(1).expand(10**12), "more than the file"),
        (torch.full((3,), torch.nan), "not finite"),
        (torch.zeros(3, dtype=torch.float64), "float64"),
        (torch.zeros(3).to_sparse(), "_rebuild_sparse_tensor"),
        (torch.zeros(3).bool(), "type bool"),
    ):
        torch.save({"net.a": value}, path)
        with pytest.raises(ImportedModelError, match=message):
            read_checkpoint(path)
    for content in ({"state_dict": [1]}, [], {"net.a": 1}):
        torch.save(content, path)
        with pytest.raises(ImportedModelError, match="no state dict"):
            read_checkpoint(path)
    torch.save({"net.a": torch.zeros(1), "other.b": torch.zeros(1)}, path)
    with pytest.raises(ImportedModelError, match="'other.b' is unknown"):
        read_checkpoint(path)


def write_pickle(path, content):
    """A checkpoint with a pickle, and four numbers in its storage 0."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("a/data/0", np.arange(4, dtype="<f4").tobytes())
    return path


def tensor(shape=b"K\x04\x85", strides=b"K\x01\x85", offset=b"K\x00"):
    """Instructions that make a tensor of storage 0."""
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tQ"
    storage = re.sub(rb"U(.)", rb"X\1\0\0\0", storage)
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + offset
        + shape
        + strides
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def state(value):
    """The pickle of a dictionary whose entry net.a is made by instructions."""
    return b"\x80\x02}X\x05\x00\x00\x00net.a" + value + b"s."


def test_a_plain_pickle_is_read(tmp_path):
    path = write_pickle(tmp_path / "a.ckpt", state(tensor()))
    np.testing.assert_array_equal(read_checkpoint(path)[0]["a"], [0, 1, 2, 3])
    every_other = tensor(b"K\x02\x85", b"K\x02\x85", b"K\x01")
    path = write_pickle(path, state(every_other))
    np.testing.assert_array_equal(read_checkpoint(path)[0]["a"], [1, 3])


#: A hundred pairs, each of the one before, twice: 2^100 values if written out.
NESTED = b")q\x00" + b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(100))
HUGE = b"\x8a\x05" + (10**11).to_bytes(5, "little")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cbuiltins\nbytearray\n\x8a\x05\x00\x94\x35\x77\x00\x85R", "bytearray"),
        (b"c__builtin__\nset\n]K\x01a\x85R", "__builtin__.set"),
        (b"cnumpy\nzeros\n" + HUGE + b"\x85R", "numpy.zeros"),
        (b"cposix\nsystem\nX\x04\x00\x00\x00exit\x85R", "posix.system"),
        (b"(X\x04\x00\x00\x00exitiposix\nsystem\n", "instruction INST"),
        (b"\x8c\x05posix\x8c\x06system\x93", "SHORT_BINUNICODE"),
        (b"ccollections\nOrderedDict\n)\x81", "instruction NEWOBJ"),
        (b"\x96" + (2**40).to_bytes(8, "little"), "damaged"),
        (b"\x8d" + (2**40).to_bytes(8, "little"), "damaged"),
        (b"I" + b"9" * 10000 + b"\n", "damaged"),
        (NESTED, "no state dict"),
        (b"}" + NESTED + b"K\x01s", "keys"),
        (b"ccollections\nOrderedDict\n" + NESTED + b"\x85R", "arguments"),
        (b"K\x01K\x01a", "not a list"),
        (b"}K\x01(s", "damaged"),
        (b"tttt", "damaged"),
        (b"h\x07", "damaged"),
        (b"K\x01Q", "storage"),
        (b"}" * 2**21, "bytes"),
        (tensor(HUGE + b"\x85"), "more than the file"),
        (tensor(HUGE + b"\x85", b"K\x00\x85"), "more than the file"),
        (tensor(b"K\x05\x85"), "more than the file holds for it"),
        (tensor(b"K\x02\x85", HUGE + b"\x85"), "more than the file holds for it"),
        (tensor(offset=b"K\x01"), "more than the file holds for it"),
        (tensor(offset=b"J\xff\xff\xff\xff"), "more than the file holds for it"),
        (tensor(strides=b"J\xff\xff\xff\xff\x85"), "arguments"),
        (tensor(b"K\x02K\x02\x86"), "arguments"),
        (tensor(b"K\x02\x85", b"}\x85"), "arguments"),
        (tensor().replace(b"X\x01\0\0\x000", b"X\x01\0\0\x001"), "are missing"),
    ],
)
def test_hostile_pickles_are_refused_at_once(tmp_path, content, message):
    path = write_pickle(tmp_path / "a.ckpt", state(content))
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(ImportedModelError, match=message):
        read_checkpoint(path)
    assert time.perf_counter() - start < 5
    assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    tracemalloc.stop()


def test_archives_that_are_not_of_pytorch_are_refused(tmp_path):
    path = write_pickle(tmp_path / "a.ckpt", state(tensor()))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/byteorder", b"big")
    with pytest.raises(ImportedModelError, match="little-endian"):
        read_checkpoint(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("b/data.pkl", state(tensor()))
    with pytest.raises(ImportedModelError, match="2 entries data.pkl"):
        read_checkpoint(path)


def test_compressed_and_damaged_archives_are_refused(tmp_path):
    path = tmp_path / "a.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"0" * 10**6)
    with pytest.raises(ImportedModelError, match="compressed"):
        read_checkpoint(path)
    whole = save(path, make()).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImportedModelError):
        read_checkpoint(path)
    with pytest.raises(ImportedModelError, match="check the path"):
        read_checkpoint(tmp_path / "none.ckpt")


@official
def test_the_reference_network_predicts_the_same():
    with np.load(OFFICIAL / "network_da_3blocks.npz") as file:
        content = dict(file)
    weights = {k[2:]: v for k, v in content.items() if k.startswith("w.")}
    config = describe_network(weights, ("gamma", "proton"))
    own = content["pix_x"], content["pix_y"]
    lattice = CameraLattice.from_positions(*own)
    camera = describe_telescope(telescope(*own)).camera
    converted = convert_weights(weights, config, lattice, camera, [0, 1])
    images = torch.from_numpy(content["x"]).double()
    found = predictions(converted, config, lattice, images, "lattice")
    for task, output in found.items():
        expected = content[f"out64.{task}"]
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-10)


@official
@pytest.mark.parametrize(
    ("dl1", "dl2"),
    [
        ("lstchain_dl1_gamma.h5", "dl2_gamma_example.h5"),
        ("lstchain_dl1_lst1_observation.h5", "dl2_realdata_example.h5"),
    ],
)
def test_dl2_is_that_of_gammalearn(tmp_path, dl1, dl2):
    with np.load(OFFICIAL / "network_da_3blocks.npz") as file:
        x, y = file["pix_x"], file["pix_y"]
    camera = telescope(x, y).camera.geometry
    camera.to_table().write(tmp_path / "camera.fits")
    argv = [
        f"--checkpoint={OFFICIAL / 'checkpoint.ckpt'}",
        f"--settings={OFFICIAL / 'settings.json'}",
        f"--telescope={DATA / dl1}",
        "--camera=camera.fits",
        "--output=model.safetensors",
    ]
    run_tool(ImportGammaPhysNet(), argv, cwd=tmp_path, raises=True)
    model = read_model(tmp_path / "model.safetensors")
    (card,) = model.card.networks
    predictor = Predictor(card, model.weights[0])
    subarray = SubarrayDescription.from_hdf(DATA / dl1)
    images = read_table(DATA / dl1, "/dl1/event/telescope/image/LST_LSTCam")
    with tables.open_file(OFFICIAL / dl2) as file:
        expected = Table(file.root.dl2.event.telescope.parameters.LST_LSTCam[:])
    np.testing.assert_array_equal(images["event_id"], expected["event_id"])
    inputs, _ = predictor.prepare(images["image"], images["peak_time"])
    outputs = predictor(inputs)
    position = subarray.tel_coords.cartesian.xyz.to(u.m).T
    columns = telescope_columns(
        outputs,
        expected["alt_tel"].astype(float) * u.rad,
        expected["az_tel"].astype(float) * u.rad,
        np.tile(position, (len(images), 1)),
        targets=card.targets,
    )
    geometry = columns["geometry"]
    found = {
        "reco_energy": columns["energy"]["energy"].to_value(u.TeV),
        "gammaness": outputs["class"][0, :, 0],
        "reco_alt": geometry["alt"].to_value(u.rad),
    }
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, err_msg=name)
    for name in ("core_x", "core_y"):
        # gammalearn adds positions in float32.
        values = geometry[name].to_value(u.m)
        np.testing.assert_allclose(values, expected[f"reco_{name}"], atol=1e-3, rtol=0)
    turn = geometry["az"].to_value(u.rad) - expected["reco_az"]
    np.testing.assert_allclose(np.sin(turn / 2), 0, atol=1e-6)


def write_settings(path, **changes):
    """Settings as gammalearn writes them, with other values."""
    parameters = {
        "backbone": "{model: gammalearn.nets.ResNetAttentionIndexed, parameters: {n",
        "non_linearity": "(torch.nn.modules.activation.ReLU, {})",
    }
    data = {
        "group_by": "image",
        "use_time": True,
        "particle_dict": {"0": 0, "101": 1},
        "targets": ["energy", "impact", "direction", "class"],
    }
    for values in (parameters, data):
        values.update({k: v for k, v in changes.items() if k in values})
    others = {*parameters, "model", "filters"}
    data |= {k: v for k, v in changes.items() if k not in others}
    model = changes.get("model", "gammalearn.nets.gammaphysnet.GammaPhysNet")
    content = {"network": {model: parameters}, "dataset_parameters": data}
    content |= changes.get("filters", {})
    path.write_text(json.dumps(content))
    return path


def test_the_tool_imports_and_overwrites_only_if_asked(tmp_path, images):
    network = make(ratio=2)
    save(tmp_path / "a.ckpt", network)
    write_settings(tmp_path / "settings.json")
    own = telescope(*TRAINING)
    SubarrayDescription(
        "One",
        tel_positions={1: [0, 0, 0] * u.m},
        tel_descriptions={1: own},
        reference_location=None,
    ).to_hdf(tmp_path / "telescope.h5")
    argv = [
        *("--checkpoint", "a.ckpt", "--settings", "settings.json"),
        *("--telescope", "telescope.h5", "--output", "model.safetensors"),
    ]
    os.chdir(tmp_path)
    run_tool(ImportGammaPhysNet(), argv, cwd=tmp_path, raises=True)
    model = read_model(tmp_path / "model.safetensors")
    (card,) = model.card.networks
    assert card.targets["impact"] == "core - telescope / km, GroundFrame"
    assert card.input.missing_pixels == "separate"
    doubts = read_settings(tmp_path / "settings.json").doubts
    assert card.training["warnings of the import"] == doubts != []
    shown = format_card(model.card)
    assert "a missing charge is 0, a missing peak time -20 ns" in shown
    assert all(doubt in shown for doubt in doubts)
    inputs = images.numpy().astype(np.float32)
    found = Predictor(card, model.weights[0])(inputs)
    with torch.no_grad():
        expected = network(torch.from_numpy(inputs))
    np.testing.assert_allclose(found["impact"][0], expected["impact"], atol=1e-4)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(ToolConfigurationError, match="exists"):
        run_tool(ImportGammaPhysNet(), argv, cwd=tmp_path, raises=True)
    save(tmp_path / "a.ckpt", make(seed=1))
    assert (tmp_path / "model.safetensors").read_bytes() == before
    run_tool(ImportGammaPhysNet(), [*argv, "--overwrite"], cwd=tmp_path, raises=True)
    assert (tmp_path / "model.safetensors").read_bytes() != before
    other = [*argv, "--overwrite", "--camera", "settings.json"]
    with pytest.raises(ToolConfigurationError, match="not a camera geometry"):
        run_tool(ImportGammaPhysNet(), other, cwd=tmp_path, raises=True)
    other = ["settings.json" if part == "telescope.h5" else part for part in argv]
    other.append("--overwrite")
    with pytest.raises(ToolConfigurationError, match="no telescope that ctapipe"):
        run_tool(ImportGammaPhysNet(), other, cwd=tmp_path, raises=True)
    with pytest.raises(ToolConfigurationError, match="give a file: --settings"):
        run_tool(ImportGammaPhysNet(), argv[:2], cwd=tmp_path, raises=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "nets.GammaPhysNetPrime"}, "only GammaPhysNet"),
        ({"non_linearity": "(torch.nn.GELU, {})"}, "only ReLU"),
        ({"non_linearity": "(torch.nn.LeakyReLU, {})"}, "only ReLU"),
        ({"backbone": "{model: nets.ResNetAttention, parameters: {"}, "only ResNet"),
        (
            {
                "backbone": "{model: a.ResNetAttentionIndexed, parameters: "
                "{non_linearity: (torch.nn.GELU, {}), "
            },
            "backbone has non_linearity",
        ),
        ({"backbone": "non_linearity: (a, {" * 10000}, "200000 characters"),
        ({"group_by": "event_all_tels"}, "group_by"),
        ({"use_time": False}, "use_time"),
        ({"transform": "CleanImages()"}, "transform is CleanImages"),
        ({"mask_method": "precomputed_lstchain"}, "mask_method"),
        ({"surprise": 1}, "surprise of the data is unknown"),
        ({"targets": ["energy", "xmax"]}, "xmax"),
        ({"particle_dict": {"0": 0, "1": 0}}, "class of their own"),
        ({"particle_dict": {"0": 0, "101": 2}}, "count from 0"),
        ({"particle_dict": "?"}, "not the settings|not numbers"),
    ],
)
def test_settings_of_other_networks_are_refused(tmp_path, changes, message):
    with pytest.raises(ImportedModelError, match=message):
        read_settings(write_settings(tmp_path / "settings.json", **changes))


def test_particles_name_the_classes(tmp_path):
    found = read_settings(
        write_settings(
            tmp_path / "s.json", particle_dict={"101": 0, "0": 1, "1": 2, "402": 0}
        )
    )
    assert found.classes == ("proton or helium", "gamma", "electron")
    activation, filters = found.doubts
    assert "ReLU" in activation
    assert "do not say whether the training left out images" in filters


PYTHON = """
import torch
from pathlib import Path
Path("{mark}").mkdir()
particle_dict = {{PROTON_ID: 0, constants.GAMMA_ID: 1}}
act = (torch.nn.{activation}, {{}})
net_parameters_dic = {{
    'model': nets.GammaPhysNet,
    'parameters': {{
        'backbone': {{
            'model': nets.ResNetAttentionIndexed,
            'parameters': {{
                'num_layers': 3,
                'normalization': (torch.nn.BatchNorm1d, {norm}),
                'num_channels': 2,
                'non_linearity': act,
            }},
        }},
        'non_linearity': (torch.nn.ReLU, {{}}),
    }},
}}
dataset_parameters = {{
    'group_by': 'image', 'use_time': True, 'particle_dict': particle_dict,
}}
data_module_train = {{{train}}}
data_module_test = {{'transform': {transform}, 'paths': [Path(__file__).parent]}}
{end}
"""


def python_settings(tmp_path, **values):
    defaults = {"activation": "ReLU", "norm": "{}", "transform": "None", "end": ""}
    defaults["train"] = "'paths': []"
    text = PYTHON.format(mark=tmp_path / "ran", **(defaults | values))
    (tmp_path / "s.py").write_text(text)
    return tmp_path / "s.py"


def test_settings_in_python_are_read_but_not_run(tmp_path):
    found = read_settings(python_settings(tmp_path))
    assert found.classes == ("proton", "gamma")
    assert found.doubts == []
    assert not (tmp_path / "ran").exists()
    json.dumps(found.record)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"activation": "GELU"}, "backbone has non_linearity"),
        ({"norm": "{'eps': 1e-3}"}, "backbone has normalization"),
        ({"transform": "CleanImages(new_channel=True)"}, "transform"),
        ({"end": "dataset_parameters['use_time'] = False"}, "may change dataset_par"),
        ({"end": "particle_dict = {0: 0, 101: 1}"}, "assigns particle_dict twice"),
        ({"end": "targets = {**particle_dict}"}, "write them out"),
        ({"end": "def f(:"}, "not Python"),
        ({"end": "x = " + "(" * 5000}, "not Python"),
        (
            {
                "end": "a0 = [1, 1]\n"
                + "\n".join(f"a{i + 1} = [a{i}, a{i}]" for i in range(60))
                + "\ntest_dataset_parameters = {'paths': a60}"
            },
            "more than 10000 values",
        ),
    ],
)
def test_settings_in_python_that_cannot_be_followed(tmp_path, values, message):
    with pytest.raises(ImportedModelError, match=message):
        read_settings(python_settings(tmp_path, **values))


IMAGES = """
    utils.intensity_filter: {'intensity': [50, np.inf], 'dl1': True},
    utils.leakage_filter: {'leakage2_cut': 0.2, 'picture_thresh': 6},
    utils.cleaning_filter: {'picture_thresh': 6},
    utils.shower_position_filter: {'max_distance': 1},
"""
EVENTS = "utils.energyband_filter: {'energy': [0.02, 2]}"
MODULE = f"'image_filter': {{{IMAGES}}}, 'event_filter': {{{EVENTS}}}"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"train": MODULE}, "image_filter"),
        ({"train": f"'source': {{{MODULE}}}, 'target': {{}}"}, "image_filter source"),
        (
            {"end": f"image_filter = {{{IMAGES}}}\nevent_filter = {{{EVENTS}}}"},
            "image_filter",
        ),
    ],
)
def test_filters_of_the_training_are_named(tmp_path, values, kind):
    found = read_settings(python_settings(tmp_path, **values))
    (doubt,) = found.doubts
    assert f"{kind}: utils.intensity_filter {{'intensity': [50, 'np.inf']" in doubt
    assert "utils.energyband_filter {'energy': [0.02, 2]}" in doubt
    for criterion in (
        '["minimum intensity", "hillas_intensity > 50"]',
        '["leakage2", "leakage_intensity_width_2 < 0.2"]',
        '["signal after cleaning", "morphology_n_pixels > 0"]',
    ):
        assert criterion in doubt
    assert "same as utils.shower_position_filter, utils.energyband_filter" in doubt
    assert "0.02" in json.dumps(found.record)


def test_the_criteria_of_a_warning_can_be_used(tmp_path):
    found = read_settings(python_settings(tmp_path, train=MODULE))
    text = re.search(r"quality_criteria: (\[.*\])\. They", found.doubts[0])[1]
    query = ImageQualityQuery(quality_criteria=json.loads(text))
    images = {
        "hillas_intensity": [60, 40, 60, 60],
        "leakage_intensity_width_2": [0.1, 0.1, 0.3, 0.1],
        "morphology_n_pixels": [3, 3, 3, 0],
    }
    assert query.mask(Table(images)).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    "train",
    [
        "'image_filter': {utils.intensity_filter: {'intensity': [50, np.inf]}}",
        "'image_filter': {intensity_filter: {'intensity': [limit, 9], 'dl1': True}}",
        "'image_filter': {intensity_filter: {'intensity': 50, 'dl1': True}}",
        "'image_filter': {intensity_filter: some}",
        "'image_filter': some(intensity_filter)",
        "'event_filter': {leakage_filter: {'leakage2_cut': None}}",
    ],
)
def test_filters_without_a_criterion_are_named(tmp_path, train):
    (doubt,) = read_settings(python_settings(tmp_path, train=train)).doubts
    assert re.search(r"No criterion .*(intensity|leakage)_filter", doubt)
    assert "quality_criteria" not in doubt


def test_filters_in_json_are_named(tmp_path):
    limits = {"intensity": [50, float("inf")], "dl1": True}
    path = write_settings(
        tmp_path / "s.json",
        filters={"image filters source": {"intensity_filter": limits}},
    )
    found = read_settings(path)
    assert "image filters source: intensity_filter" in found.doubts[1]
    assert '[["minimum intensity", "hillas_intensity > 50"]]' in found.doubts[1]
    json.dumps(found.record, allow_nan=False)


def test_settings_without_data_do_not_show_filters(tmp_path):
    path = python_settings(tmp_path)
    path.write_text(path.read_text().replace("data_module_train", "another"))
    (doubt,) = read_settings(path).doubts
    assert "do not say" in doubt
