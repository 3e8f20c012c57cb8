"""Fixtures shared by the tests."""

import functools
import io
import os

import numpy as np
import pytest
import tables
import torch
import toy_sample
from ctapipe.core import provenance
from ctapipe.instrument import TelescopeDescription
from device import DEVICE

from ctapipe_gammaphysnet.model.card import (
    InputCard,
    MemberCard,
    ModelCard,
    NetworkCard,
)
from ctapipe_gammaphysnet.model.file import Model, write_model
from ctapipe_gammaphysnet.model.telescope import describe_telescope
from ctapipe_gammaphysnet.network import NetworkConfig
from ctapipe_gammaphysnet.network.gammaphysnet import GammaPhysNet
from ctapipe_gammaphysnet.network.lattice import CameraLattice

# Tests run in as many processes as there are cores, and so do their own processes.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
if DEVICE != "cpu":
    # By default, convolutions would round float32.
    torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(scope="session", autouse=True)
def _list_packages_once():
    """At its start, each ctapipe tool lists all that is installed, for 0.2 s."""
    with pytest.MonkeyPatch.context() as patch:
        listed = functools.cache(provenance._get_python_packages)
        patch.setattr(provenance, "_get_python_packages", listed)
        yield


#: Geomagnetic field of networks that know it: to the north, to the west and up, in µT.
FIELD_UT = (30.0, 3.0, -20.0)


def random_weights(network_card, seed):
    """Weights of one member: random, with outputs about as large as real ones."""
    camera = network_card.telescope.camera
    lattice = CameraLattice.from_positions(camera.pix_x_m, camera.pix_y_m)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = GammaPhysNet(network_card.network, lattice)
    rng = np.random.default_rng(seed)
    weights = {k: v.numpy().copy() for k, v in network.state_dict().items()}
    for name, values in weights.items():
        if name.endswith("running_mean"):
            values[...] = rng.normal(size=values.shape)
        elif name.endswith("running_var"):
            values[...] = rng.uniform(0.5, 2, size=values.shape)
        elif name.startswith("heads") and name.endswith("weight"):
            values *= 0.1
        elif name.startswith("scales") and not values.any():
            values[...] = rng.normal(scale=0.1, size=values.shape)
    return weights


@pytest.fixture(scope="session")
def make_model():
    """Make a `Model` with small networks that have random weights.

    ``make_model(telescopes, n_members=1, seed=0, image="raw", **network_config)``:
    telescopes is a TelescopeDescription or a sequence of different ones. The members'
    seeds count from ``seed``; the same arguments give the same weights.
    """

    def make(telescopes, n_members=1, seed=0, image="raw", **network_config):
        if isinstance(telescopes, TelescopeDescription):
            telescopes = [telescopes]
        config = {"blocks": 1, "channels": (4, 8), "hidden": 8} | network_config
        network = NetworkConfig(**config)
        seeds = range(seed, seed + n_members)
        cards = tuple(
            NetworkCard(
                telescope=describe_telescope(telescope),
                network=network,
                input=InputCard(image=image),
                geomagnetic_field_ut=FIELD_UT if network.needs_field else None,
                members=tuple(MemberCard(seed=member) for member in seeds),
            )
            for telescope in telescopes
        )
        card = ModelCard(
            note="Random weights, for tests.",
            created="2024-01-01T00:00:00+00:00",
            software={},
            networks=cards,
        )
        weights = tuple(tuple(random_weights(n, s) for s in seeds) for n in cards)
        return Model(card=card, weights=weights)

    return make


def small_cameras():
    """Four telescopes of two types: two cameras of different size and rotation."""
    return [
        *toy_sample.small_array(4, "ToyCam", positions=toy_sample.LST_POSITIONS[:2]),
        *toy_sample.small_array(
            3, "OtherCam", rotation=20.0, positions=toy_sample.LST_POSITIONS[2:]
        ),
    ]


def enlarge_mirror(path, tel_ids, factor=1.03):
    """Give some telescopes of a file a larger mirror, under the same name."""
    with tables.open_file(path, "r+") as file:
        instrument = file.root.configuration.instrument
        optics = instrument.telescope.optics
        larger = optics[:1]
        larger["mirror_area"] *= factor
        optics.append(larger)
        layout = instrument.subarray.layout[:]
        layout["optics_index"][np.isin(layout["tel_id"], tel_ids)] = len(optics) - 1
        instrument.subarray.layout[:] = layout
    return path


@pytest.fixture(scope="session")
def toy_subarray():
    """The telescopes of the toy files, as a SubarrayDescription."""
    return toy_sample.ToyCard(array=small_cameras()).subarray()


@pytest.fixture(scope="session")
def toy_file(tmp_path_factory):
    """DL1 file with images and parameters of 16 toy showers, gammas and protons."""
    path = tmp_path_factory.mktemp("toy") / "toy.dl1.h5"
    return toy_sample.write_toy_file(path, "mixed", 16, array=small_cameras())


@pytest.fixture(scope="session")
def toy_model(make_model, toy_subarray, tmp_path_factory):
    """Model file with random weights, two members, for the telescopes of toy_file."""
    path = tmp_path_factory.mktemp("model") / "toy.safetensors"
    write_model(path, make_model(toy_subarray.telescope_types, n_members=2))
    return path


@pytest.fixture
def quick_figures(monkeypatch):
    """Have figures written as coarse PNG files alone.

    To draw takes longer than all the rest of what tests do with few events.
    """

    def render(figure):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=30)
        return {"png": buffer.getvalue()}

    monkeypatch.setattr("ctapipe_gammaphysnet.figures.drawing._render", render)


@pytest.fixture
def no_curves(monkeypatch):
    """Have trainings draw no curves, for the same reason."""
    name = "ctapipe_gammaphysnet.training.run.plot_histories"
    monkeypatch.setattr(name, lambda histories, path: None)
