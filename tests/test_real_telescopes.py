"""Real files name the LST in their own ways, and list its pixels in several orders."""

import numpy as np
import pytest
from ctapipe.instrument import SubarrayDescription
from ctapipe.io import EventSource
from official_files import DATA, needs

from ctapipe_gammaphysnet.model.file import read_model
from ctapipe_gammaphysnet.model.matching import match_telescopes
from ctapipe_gammaphysnet.model.pixels import match_pixels

LSTCHAIN = ("lstchain_dl1_gamma.h5", "lstchain_dl1_lst1_observation.h5")
NAMES = "gamma_prod6_lst_names.simtel.zst"
GAMMALEARN = "gammalearn/network_da_3blocks.npz"

pytestmark = needs(*LSTCHAIN, NAMES, GAMMALEARN)


@pytest.fixture(scope="module")
def card(pytestconfig):
    path = pytestconfig.rootpath / "examples/data/lst_demonstration.safetensors"
    (network,) = read_model(path).card.networks
    return network.telescope


def assert_fits(subarray, card, tel_ids):
    names = {str(subarray.tel[tel_id]) for tel_id in tel_ids}
    matches, missing = match_telescopes({None: subarray}, [card], names)
    assert missing == []
    assert list(matches[None]) == tel_ids
    assert {match.type for match in matches[None].values()} == {"LST_LST_LSTCam"}


@pytest.mark.parametrize("focal_length", ["EQUIVALENT", "EFFECTIVE"])
@pytest.mark.parametrize("name", LSTCHAIN)
def test_the_telescopes_of_lstchain_fit(name, focal_length, card):
    """One has its pixels rotated by 60 degrees, each about itself."""
    subarray = SubarrayDescription.from_hdf(DATA / name, focal_length)
    assert_fits(subarray, card, [1])


def test_the_telescopes_of_a_newer_production_fit(card):
    with EventSource(DATA / NAMES, focal_length_choice="EQUIVALENT") as source:
        subarray = source.subarray
    assert str(subarray.tel[1]) == "LST_LST_LSTcam"
    assert_fits(subarray, card, [1, 2, 3, 4])


def test_pixels_of_gammalearn_are_in_another_order(card):
    with np.load(DATA / GAMMALEARN) as file:
        here = file["pix_x"] + 1j * file["pix_y"]
    there = np.array(card.camera.pix_x_m) + 1j * np.array(card.camera.pix_y_m)
    order, distance = match_pixels(here, there)
    assert distance.max() < 1e-4
    assert len(set(order.tolist())) == len(there) == 1855
    assert np.count_nonzero(order != np.arange(1855)) > 1000
