"""The network of a telescope is found by what the telescope is."""

import copy
import re

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from ctapipe.instrument import CameraGeometry
from toy_sample import LSTCAM, hexagonal_camera, toy_subarray, toy_telescope

from ctapipe_gammaphysnet.model.matching import match_telescopes
from ctapipe_gammaphysnet.model.pixels import describe_move
from ctapipe_gammaphysnet.model.telescope import (
    TelescopeMismatchError,
    describe_telescope,
)

PITCH = 0.05 * u.m


def telescope(name="ToyCam", n_rings=12, order=None, turn=1, **optics):
    """A telescope of some name, with pixels in some order, or turned."""
    camera = hexagonal_camera(n_rings, PITCH, name)
    found = copy.deepcopy(toy_telescope(camera))
    order = np.arange(camera.n_pixels) if order is None else order
    xy = (camera.pix_x + 1j * camera.pix_y)[order] * turn
    found.camera.geometry.pix_x, found.camera.geometry.pix_y = xy.real, xy.imag
    for attribute, value in optics.items():
        setattr(found.optics, attribute, value)
    return found


def match(telescopes, trained, names=None, path="night.dl1.h5"):
    """Match telescopes 1, 2 and so on with networks for other ones."""
    positions = [(50.0 * number, 0.0, 0.0) for number in range(len(telescopes))]
    array = toy_subarray(list(zip(telescopes, positions, strict=True)))
    names = names or set(map(str, telescopes))
    cards = [describe_telescope(t) for t in trained]
    matches, missing = match_telescopes({path: array}, cards, names)
    return matches[path], missing


@pytest.mark.parametrize("name", ["ToyCam", "RealToyCam", "toycam"])
def test_the_name_does_not_matter(name):
    found, missing = match([telescope(name)], [telescope()])
    assert found[1].type == "LST_LST_ToyCam"
    assert found[1].order == slice(None)
    assert missing == []


def test_each_telescope_gets_its_own_network():
    trained = [telescope("A"), telescope("B", 11)]
    found, missing = match([telescope("X", 11), telescope("Y", 12)], trained)
    assert (found[1].type, found[2].type) == ("LST_LST_B", "LST_LST_A")
    assert missing == []


def test_a_name_of_another_network_does_not_matter():
    trained = [telescope("A"), telescope("B", 11)]
    found, _ = match([telescope("A", 11)], trained)
    assert found[1].type == "LST_LST_B"


def test_the_same_camera_on_two_mirrors_has_two_networks():
    """As LSTCam and NectarCam, whose pixels have the same places."""
    mirrors = [
        {"equivalent_focal_length": f * u.m, "effective_focal_length": f * u.m}
        for f in (28, 16)
    ]
    trained = [telescope(n, **m) for n, m in zip("AB", mirrors, strict=True)]
    found, _ = match([telescope(n, **mirrors[1]) for n in "AX"], trained)
    assert [found[tel_id].type for tel_id in (1, 2)] == ["LST_LST_B"] * 2


def test_pixels_are_found_in_their_order():
    order = np.random.default_rng(1).permutation(469)
    telescopes = [telescope(), telescope(order=order), telescope("Z", order=order)]
    found, _ = match(telescopes, [telescope()])
    np.testing.assert_array_equal(order[found[2].order], np.arange(469))
    # What is alike is one thing, whatever the telescopes' names.
    assert found[3] is found[2]
    assert found[1] is not found[2]


def test_two_swapped_pixels_are_found():
    order = np.arange(469)
    order[[3, 200]] = order[[200, 3]]
    found, _ = match([telescope(order=order)], [telescope()])
    np.testing.assert_array_equal(found[1].order, order)


def test_pixels_of_lstcam_are_found_in_any_order():
    lst = toy_telescope(CameraGeometry.from_table(Table.read(LSTCAM)))
    card = describe_telescope(lst)
    order = np.random.default_rng(1).permutation(1855)
    geometry = copy.deepcopy(lst.camera.geometry)
    geometry.pix_x, geometry.pix_y = geometry.pix_x[order], geometry.pix_y[order]
    found, _ = match([toy_telescope(geometry)], [lst])
    x = geometry.pix_x.to_value(u.m)[found[1].order]
    np.testing.assert_array_equal(x, card.camera.pix_x_m)


def test_of_two_networks_that_fit_the_name_decides():
    # Each is within 1 % of the telescope.
    trained = [
        telescope(n, mirror_area=a * u.m**2) for n, a in (("A", 384), ("B", 388))
    ]
    for name in ("A", "B"):
        found, _ = match([telescope(name)], trained)
        assert found[1].type == f"LST_LST_{name}"
    with pytest.raises(TelescopeMismatchError) as info:
        match([telescope(), telescope("C")], trained, ["LST_LST_C"])
    assert str(info.value) == (
        "night.dl1.h5, telescope 2: the networks for LST_LST_A and LST_LST_B all fit "
        "telescope type LST_LST_C, but none has its name. Use a model with only one of "
        "them"
    )


def test_a_telescope_without_network_is_named_with_what_differs():
    trained = [telescope(), telescope("Small", 3)]
    other = telescope("Other", turn=np.exp(0.1j))
    found, missing = match([telescope(), other, other], trained)
    assert list(found) == [1]
    assert missing == [
        "LST_LST_Other (night.dl1.h5, telescope 2 differs from LST_LST_ToyCam: "
        "its camera Other is rotated by 5.73°)"
    ]
    assert match([telescope("Large", 13)], trained)[1] == ["LST_LST_Large"]


def test_only_named_telescopes_are_matched():
    found, missing = match([telescope("A", 11), telescope()], [telescope()], ["no"])
    assert found == {}
    assert missing == []


def twins():
    """Telescopes of the network's name, and how they differ."""
    return [
        (telescope(mirror_area=400 * u.m**2), "mirror area is 400 m² instead of 386"),
        # These two are equal to ctapipe, which compares pixels only.
        (telescope(turn=np.exp(0.1j)), "is rotated by 5.73°"),
    ]


@pytest.mark.parametrize(("twin", "difference"), twins())
@pytest.mark.parametrize("number", [1, 3])
def test_each_of_the_telescopes_of_a_name_is_compared(twin, difference, number):
    telescopes = [telescope() for _ in range(3)]
    telescopes[number - 1] = twin
    with pytest.raises(TelescopeMismatchError) as info:
        match(telescopes, [telescope("Small", 3), telescope()])
    message = str(info.value)
    assert message.startswith(
        f"night.dl1.h5, telescope {number}: telescope type LST_LST_ToyCam differs from "
        "the LST_LST_ToyCam that the model was trained for: "
    )
    assert difference in message
    assert message.endswith("Use a model trained for this telescope.")


def symmetric():
    camera = hexagonal_camera(6, PITCH)
    return (camera.pix_x + 1j * camera.pix_y).to_value(u.m)


def chiral():
    return symmetric()[2:]


def turn(xy):
    return xy * np.exp(0.3j)  # 17.19°


def mirror(xy):
    return xy.conj() * np.exp(0.3j)


@pytest.mark.parametrize(
    ("camera", "change", "what", "angle"),
    [
        (symmetric, turn, "rotated by", 17.19),
        (symmetric, mirror, "rotated by", 17.19),
        (chiral, turn, "rotated by", 17.19),
        (chiral, mirror, "mirrored about the axis at", 8.59),
    ],
)
def test_a_move_is_found_in_any_order_and_with_imprecise_places(
    camera, change, what, angle
):
    """The smallest rotation, and a reflection only if there is no rotation."""
    rng = np.random.default_rng(3)
    here = rng.permutation(change(camera()))
    here += 1e-3 * np.exp(2j * np.pi * rng.random(len(here)))
    found = re.match(f"{what} ([0-9.]+)°", describe_move(here, camera(), 0.005))
    assert float(found[1]) == pytest.approx(angle, abs=0.1)


@pytest.mark.parametrize("change", [lambda xy: xy + 0.02, lambda xy: 1.1 * xy])
def test_what_is_no_move_is_not_described_as_one(change):
    assert describe_move(change(chiral()), chiral(), 0.005) is None
