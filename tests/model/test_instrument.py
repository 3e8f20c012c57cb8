"""A telescope passes as the one of the training, and any other does not."""

import copy

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from ctapipe.coordinates import CameraFrame, TelescopeFrame
from ctapipe.instrument import CameraGeometry
from toy_sample import (
    LST_EFFECTIVE_FOCAL_LENGTH,
    LSTCAM,
    hexagonal_camera,
    toy_subarray,
    toy_telescope,
)

from ctapipe_gammaphysnet.model.card import TelescopeCard, geometry_sha256
from ctapipe_gammaphysnet.model.telescope import (
    TelescopeMismatchError,
    check_alike,
    check_telescope,
    check_telescopes,
    describe_telescope,
)

PITCH_M = 0.05


def lst():
    return toy_telescope(
        CameraGeometry.from_table(Table.read(LSTCAM)),
        effective_focal_length=LST_EFFECTIVE_FOCAL_LENGTH,
    )


def toy():
    # Large enough that a rotation by 1° moves the outer pixels.
    return toy_telescope(
        hexagonal_camera(n_rings=12, pitch=PITCH_M * u.m),
        effective_focal_length=29 * u.m,
    )


def squares():
    x, y = np.mgrid[-4:5, -4:5].reshape(2, -1) * PITCH_M * u.m
    geometry = CameraGeometry(
        name="SquareCam",
        pix_id=np.arange(len(x)),
        pix_x=x,
        pix_y=y,
        pix_area=np.full(len(x), PITCH_M**2) * u.m**2,
        pix_type="square",
        pix_rotation=0 * u.deg,
        cam_rotation=0 * u.deg,
    )
    return toy_telescope(geometry)


TELESCOPES = pytest.mark.parametrize("make", [lst, toy, squares])


def with_camera(telescope, **changes):
    """The same telescope with other attributes of its camera geometry."""
    telescope = copy.deepcopy(telescope)
    for name, value in changes.items():
        setattr(telescope.camera.geometry, name, value)
    return telescope


def with_optics(telescope, **changes):
    telescope = copy.deepcopy(telescope)
    for name, value in changes.items():
        setattr(telescope.optics, name, value)
    return telescope


def with_positions(telescope, change):
    """The same telescope with pixels at change(x + iy), in m."""
    geometry = telescope.camera.geometry
    xy = change(geometry.pix_x.to_value(u.m) + 1j * geometry.pix_y.to_value(u.m))
    return with_camera(telescope, pix_x=xy.real * u.m, pix_y=xy.imag * u.m)


def mismatch(telescope, trained):
    with pytest.raises(TelescopeMismatchError) as info:
        check_telescope(telescope, describe_telescope(trained))
    return str(info.value)


@TELESCOPES
def test_a_telescope_passes_its_own_description(make):
    check_telescope(make(), describe_telescope(make()))


@TELESCOPES
def test_a_telescope_passes_its_description_read_back_from_json(make):
    card = TelescopeCard.model_validate_json(
        describe_telescope(make()).model_dump_json()
    )
    check_telescope(make(), card)


def test_a_description_has_the_numbers_of_the_telescope():
    card = describe_telescope(lst())
    geometry = lst().camera.geometry
    assert card.type == "LST_LST_LSTCam"
    assert card.camera.name == "LSTCam"
    np.testing.assert_array_equal(card.camera.pix_x_m, geometry.pix_x.to_value(u.m))
    np.testing.assert_array_equal(card.camera.pix_y_m, geometry.pix_y.to_value(u.m))
    np.testing.assert_allclose(
        card.camera.pix_area_m2, geometry.pix_area.to_value(u.m**2)
    )
    assert card.camera.pix_type == "hexagon"
    assert card.camera.pix_rotation_deg == geometry.pix_rotation.to_value(u.deg)
    assert card.camera.geometry_sha256 == geometry_sha256(
        card.camera.pix_x_m, card.camera.pix_y_m
    )
    assert card.optics.name == "LST"
    assert card.optics.equivalent_focal_length_m == 28
    assert card.optics.effective_focal_length_m == pytest.approx(29.30565)
    assert card.optics.mirror_area_m2 == 386
    assert card.optics.n_mirrors == 1


def test_a_description_is_in_metres_whatever_the_units_of_the_telescope():
    telescope = with_camera(
        toy(),
        pix_x=toy().camera.geometry.pix_x.to(u.mm),
        pix_y=toy().camera.geometry.pix_y.to(u.mm),
    )
    telescope = with_optics(telescope, equivalent_focal_length=2800 * u.cm)
    card = describe_telescope(telescope)
    np.testing.assert_allclose(
        card.camera.pix_x_m, describe_telescope(toy()).camera.pix_x_m
    )
    assert card.optics.equivalent_focal_length_m == pytest.approx(28)
    check_telescope(telescope, describe_telescope(toy()))


def test_another_number_of_pixels_is_refused():
    message = mismatch(toy_telescope(hexagonal_camera(11, PITCH_M * u.m)), toy())
    assert "camera ToyCam has 397 pixels instead of 469" in message


@TELESCOPES
def test_permuted_pixels_are_refused(make):
    order = np.random.default_rng(0).permutation(make().camera.geometry.n_pixels)
    moved = np.count_nonzero(order != np.arange(len(order)))
    message = mismatch(with_positions(make(), lambda xy: xy[order]), make())
    assert f"lists {moved} of its pixels in another order" in message


def test_two_swapped_pixels_are_refused():
    def swap(xy):
        xy[[3, 200]] = xy[[200, 3]]
        return xy

    assert "lists 2 of its pixels in another order" in mismatch(
        with_positions(toy(), swap), toy()
    )


@pytest.mark.parametrize("make", [lst, toy])
@pytest.mark.parametrize("angle", [1.0, -1.0, 17.0])
def test_a_rotated_camera_is_refused_with_the_angle(make, angle):
    rotated = with_positions(make(), lambda xy: xy * np.exp(1j * np.deg2rad(angle)))
    assert f"is rotated by {angle:.2f}°" in mismatch(rotated, make())


@pytest.mark.parametrize("angle", [60, 120, 180])
def test_a_rotation_that_takes_pixels_to_pixels_is_another_order(angle):
    rotated = with_positions(toy(), lambda xy: xy * np.exp(1j * np.deg2rad(angle)))
    # Only the central one of the 469 pixels stays.
    assert "lists 468 of its pixels in another order" in mismatch(rotated, toy())


def test_a_mirrored_camera_is_refused():
    assert "in another order" in mismatch(with_positions(toy(), np.conj), toy())


def test_a_rotation_that_hardly_moves_the_pixels_of_a_small_camera_is_refused():
    def telescope(rotation):
        camera = hexagonal_camera(3, rotation=rotation * u.deg)
        return toy_telescope(camera)

    assert "is rotated by 1.00°, more than" in mismatch(telescope(1), telescope(0))
    check_telescope(telescope(0.1), describe_telescope(telescope(0)))


def test_an_additional_rotation_of_the_camera_is_refused():
    rotated = with_camera(toy(), cam_rotation=1 * u.deg)
    assert "is rotated by 1.00°, more than" in mismatch(rotated, toy())
    assert "is rotated by -1.00°, more than" in mismatch(toy(), rotated)


def test_an_additional_rotation_of_the_frame_is_refused():
    frame = CameraFrame(focal_length=29 * u.m, rotation=-60 * u.deg)
    rotated = with_camera(toy(), frame=frame)
    assert "is rotated by -60.00°" in mismatch(rotated, toy())


def test_a_full_turn_is_no_rotation():
    trained = describe_telescope(with_camera(toy(), cam_rotation=-179.95 * u.deg))
    check_telescope(with_camera(toy(), cam_rotation=180 * u.deg), trained)
    check_telescope(
        with_camera(toy(), cam_rotation=360 * u.deg), describe_telescope(toy())
    )


@TELESCOPES
@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_a_camera_of_another_size_is_refused(make, factor):
    scaled = with_positions(make(), lambda xy: xy * factor)
    geometry = make().camera.geometry
    radius = np.hypot(geometry.pix_x, geometry.pix_y).max().to_value(u.mm)
    message = mismatch(scaled, make())
    assert f"lie up to {0.05 * radius:.1f} mm from" in message
    assert "0.1 pixel pitches" in message


@TELESCOPES
def test_a_shifted_camera_is_refused(make):
    shifted = with_positions(make(), lambda xy: xy + 0.02j)
    assert "lie up to 20.0 mm from" in mismatch(shifted, make())


def test_one_moved_pixel_is_refused():
    def move(xy):
        xy[7] += 0.3 * PITCH_M
        return xy

    assert "lie up to 15.0 mm from" in mismatch(with_positions(toy(), move), toy())


def test_another_shape_of_pixels_is_refused():
    pix_type = squares().camera.geometry.pix_type
    assert "its pixels are a square, not a hexagon" in mismatch(
        with_camera(toy(), pix_type=pix_type), toy()
    )


@pytest.mark.parametrize("factor", [0.95, 1.05])
@pytest.mark.parametrize(
    ("name", "text", "trained"),
    [
        ("equivalent_focal_length", "equivalent focal length", "28 m"),
        ("effective_focal_length", "effective focal length", "29 m"),
        ("mirror_area", "mirror area", "386 m²"),
    ],
)
def test_other_optics_are_refused(name, text, trained, factor):
    value = getattr(toy().optics, name) * factor
    message = mismatch(with_optics(toy(), **{name: value}), toy())
    assert f"its {text} is {value.value:.4g} " in message
    assert f"instead of {trained}" in message


@pytest.mark.parametrize("value", [np.nan, 0, -1, np.inf])
@pytest.mark.parametrize(
    ("name", "unit"), [("equivalent_focal_length", u.m), ("mirror_area", u.m**2)]
)
def test_optics_that_cannot_be_are_refused(name, unit, value):
    message = mismatch(with_optics(toy(), **{name: value * unit}), toy())
    assert f"is {value:.4g} " in message


def test_a_negative_effective_focal_length_is_refused():
    telescope = with_optics(toy(), effective_focal_length=-29 * u.m)
    assert "its effective focal length is -29 m" in mismatch(telescope, toy())


def test_pixels_without_position_are_refused():
    pix_x = toy().camera.geometry.pix_x.copy()
    pix_x[[3, 5]] = np.nan
    message = mismatch(with_camera(toy(), pix_x=pix_x), toy())
    assert (
        "the positions of 2 of its pixels are not finite, such as that of pixel 3"
        in (message)
    )


def test_another_number_of_mirrors_is_refused():
    message = mismatch(with_optics(toy(), n_mirrors=2), toy())
    assert "it has 2 mirrors instead of 1" in message


def test_all_that_differs_is_listed_with_what_to_do():
    telescope = with_optics(
        with_camera(toy(), cam_rotation=5 * u.deg),
        n_mirrors=2,
        mirror_area=100 * u.m**2,
    )
    message = mismatch(telescope, lst())
    assert message.startswith(
        "telescope type LST_LST_ToyCam differs from the LST_LST_LSTCam that the model "
        "was trained for: "
    )
    assert "has 469 pixels instead of 1855; " in message
    assert "mirror area is 100 m² instead of 386 m²; " in message
    assert "2 mirrors instead of 1" in message
    assert "Use a model trained for this telescope." in message


@TELESCOPES
def test_positions_known_to_a_twentieth_of_a_pixel_pass(make):
    rng = np.random.default_rng(1)

    def jitter(xy):
        return xy + 0.05 * PITCH_M * np.exp(2j * np.pi * rng.random(len(xy)))

    check_telescope(with_positions(make(), jitter), describe_telescope(make()))


def test_optics_known_to_a_thousandth_pass():
    telescope = with_optics(
        toy(),
        equivalent_focal_length=28.028 * u.m,
        effective_focal_length=28.971 * u.m,
        mirror_area=386.3 * u.m**2,
    )
    check_telescope(telescope, describe_telescope(toy()))


def test_a_rotation_by_a_tenth_of_a_degree_passes():
    telescope = with_camera(toy(), cam_rotation=0.1 * u.deg)
    check_telescope(telescope, describe_telescope(toy()))


@pytest.mark.parametrize("value", [np.nan, 0])
def test_an_unknown_effective_focal_length_is_not_compared(value):
    # ctapipe gives NaN with focal_length_choice=EQUIVALENT.
    unknown = with_optics(toy(), effective_focal_length=value * u.m)
    assert describe_telescope(unknown).optics.effective_focal_length_m is None
    check_telescope(unknown, describe_telescope(toy()))
    check_telescope(toy(), describe_telescope(unknown))
    check_telescope(unknown, describe_telescope(unknown))


def test_a_geometry_in_the_telescope_frame_is_refused():
    telescope = toy()
    geometry = telescope.camera.geometry.transform_to(TelescopeFrame())
    telescope.camera.geometry = geometry
    message = "ToyCam is in the TelescopeFrame, it must be in the CameraFrame"
    with pytest.raises(TelescopeMismatchError, match=message):
        describe_telescope(telescope)
    assert message in mismatch(telescope, toy())


def array_of(*telescopes):
    """An array in which they are telescopes 1, 2 and so on."""
    positions = [(50.0 * number, 0.0, 0.0) for number in range(len(telescopes))]
    return toy_subarray(list(zip(telescopes, positions, strict=True)))


def twins():
    """Telescopes that are called alike, and how the second differs from the first."""
    return [
        (with_optics(toy(), mirror_area=400 * u.m**2), "mirror area is 400 m² instead"),
        # These two are equal to ctapipe, which compares pixels only.
        (with_camera(toy(), cam_rotation=5 * u.deg), "is rotated by 5.00°"),
    ]


@pytest.mark.parametrize(("twin", "difference"), twins())
@pytest.mark.parametrize("number", [1, 3])
def test_each_of_the_telescopes_of_a_name_is_compared(twin, difference, number):
    telescopes = [toy() for _ in range(3)]
    telescopes[number - 1] = twin
    array = array_of(*telescopes)
    with pytest.raises(TelescopeMismatchError) as info:
        check_telescopes(array, describe_telescope(toy()), "night.dl1.h5")
    assert str(info.value).startswith(f"night.dl1.h5, telescope {number}: ")
    assert difference in str(info.value)
    check_telescopes(array_of(toy(), toy()), describe_telescope(toy()))
    # Telescopes of other names do not matter.
    check_telescopes(array, describe_telescope(lst()))


@pytest.mark.parametrize(("twin", "difference"), twins())
def test_telescopes_that_are_called_alike_must_be_alike(twin, difference):
    name = str(toy())
    within = {"a.dl1.h5": array_of(toy(), twin)}
    between = {"a.dl1.h5": array_of(lst(), toy()), "b.dl1.h5": array_of(lst(), twin)}
    for arrays, former, latter in (
        (within, "a.dl1.h5, telescope 2", "a.dl1.h5, telescope 1"),
        (between, "b.dl1.h5, telescope 2", "a.dl1.h5, telescope 2"),
    ):
        with pytest.raises(TelescopeMismatchError) as info:
            check_alike(arrays, name)
        assert str(info.value).startswith(f"{former}, and {latter}, are all called")
        assert difference in str(info.value)
        assert "allowed_tels" in str(info.value)
    both = {"a.dl1.h5": array_of(twin, lst(), toy(), toy())}
    assert check_alike({"a.dl1.h5": array_of(lst(), toy(), toy())}, name) == toy()
    # Telescopes of other names do not matter.
    assert check_alike(both, str(lst())) == lst()


def test_telescopes_that_are_known_to_a_thousandth_are_alike():
    other = with_optics(toy(), mirror_area=386.3 * u.m**2)
    assert check_alike({"a.dl1.h5": array_of(other, toy())}, str(toy())) == other
