"""A telescope fits the one of the training, and any other does not."""

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
    describe_telescope,
    differences,
    pixel_order,
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
    problems = differences(telescope, describe_telescope(trained))
    assert problems
    return "; ".join(problems)


def check_telescope(telescope, card):
    assert differences(telescope, card) == []
    return pixel_order(telescope, card)


def chiral():
    """A telescope whose camera is not its own mirror image."""
    camera = hexagonal_camera(n_rings=12, pitch=PITCH_M * u.m)
    kept = np.setdiff1d(np.arange(camera.n_pixels), [0, 2])
    sliced = camera[kept]
    sliced.name = camera.name
    return toy_telescope(sliced, effective_focal_length=29 * u.m)


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
def test_permuted_pixels_are_found_by_their_places(make):
    order = np.random.default_rng(0).permutation(make().camera.geometry.n_pixels)
    permuted = with_positions(make(), lambda xy: xy[order])
    found = check_telescope(permuted, describe_telescope(make()))
    np.testing.assert_array_equal(order[found], np.arange(len(order)))


@pytest.mark.parametrize("make", [lst, chiral])
@pytest.mark.parametrize("permute", [False, True])
@pytest.mark.parametrize("angle", [1.0, -1.0, 17.0])
def test_a_rotated_camera_is_refused_with_the_angle(make, angle, permute):
    """Whatever the order of its pixels."""
    order = np.arange(make().camera.geometry.n_pixels)
    if permute:
        order = np.random.default_rng(0).permutation(order)
    turn = np.exp(1j * np.deg2rad(angle))
    rotated = with_positions(make(), lambda xy: xy[order] * turn)
    assert f"is rotated by {angle:.2f}°" in mismatch(rotated, make())


@pytest.mark.parametrize("angle", [60, 120, 180])
def test_a_rotation_that_takes_pixels_to_pixels_is_another_order(angle):
    rotated = with_positions(toy(), lambda xy: xy * np.exp(1j * np.deg2rad(angle)))
    order = check_telescope(rotated, describe_telescope(toy()))
    # Only the central one of the 469 pixels stays.
    assert np.count_nonzero(order != np.arange(469)) == 468
    with pytest.raises(TelescopeMismatchError, match="lists 468 of its pixels"):
        check_alike({"a.dl1.h5": array_of(toy(), rotated)}, str(toy()))


def test_a_rotation_is_seen_if_some_pixels_have_no_counterpart():
    rotated = with_positions(chiral(), lambda xy: xy * np.exp(1j * np.pi / 3))
    assert "is rotated by 60.00°" in mismatch(rotated, chiral())


@pytest.mark.parametrize(
    ("change", "axis"),
    [
        (np.conj, "0.00°"),
        (lambda xy: -xy.conj(), "90.00°"),
        (lambda xy: 1j * xy.conj(), "45.00°"),  # x and y exchanged
    ],
)
def test_a_mirrored_camera_is_refused_with_the_axis(change, axis):
    mirrored = with_positions(chiral(), change)
    assert f"is mirrored about the axis at {axis} from" in mismatch(mirrored, chiral())


def test_a_symmetric_camera_is_its_own_mirror_image():
    mirrored = with_positions(toy(), np.conj)
    order = check_telescope(mirrored, describe_telescope(toy()))
    x, y = describe_telescope(toy()).camera.pix_x_m, mirrored.camera.geometry.pix_y
    np.testing.assert_allclose(mirrored.camera.geometry.pix_x[order].value, x)
    np.testing.assert_allclose(
        y[order].value, describe_telescope(toy()).camera.pix_y_m, atol=1e-12
    )


def test_a_rotation_that_hardly_moves_the_pixels_of_a_small_camera_is_refused():
    def telescope(rotation):
        camera = hexagonal_camera(3, rotation=rotation * u.deg)
        return toy_telescope(camera)

    assert "is rotated by 1.00°, more than" in mismatch(telescope(1), telescope(0))
    check_telescope(telescope(0.1), describe_telescope(telescope(0)))


def test_an_additional_rotation_of_the_camera_is_refused():
    rotated = with_camera(chiral(), cam_rotation=1 * u.deg)
    assert "is rotated by -1.00°" in mismatch(rotated, chiral())
    assert "is rotated by 1.00°" in mismatch(chiral(), rotated)


def test_an_additional_rotation_of_the_frame_is_refused():
    frame = CameraFrame(focal_length=29 * u.m, rotation=-60 * u.deg)
    rotated = with_camera(chiral(), frame=frame)
    assert "is rotated by -60.00°" in mismatch(rotated, chiral())


def rotated_camera(angle):
    """Pixels are listed as rotated by an angle, which the geometry undoes."""
    turned = with_positions(chiral(), lambda xy: xy * np.exp(1j * angle))
    return with_camera(turned, cam_rotation=angle * u.rad)


def rotated_frame(angle):
    """Pixels are listed as rotated by an angle, which the frame undoes."""
    turned = with_positions(chiral(), lambda xy: xy * np.exp(1j * angle))
    frame = CameraFrame(focal_length=29 * u.m, rotation=-angle * u.rad)
    return with_camera(turned, frame=frame)


@pytest.mark.parametrize("rotate", [rotated_camera, rotated_frame])
def test_pixels_stand_where_ctapipe_has_them(rotate):
    """Their places on the sky are the same, and the telescopes fit."""
    telescope, sky = rotate(0.3), TelescopeFrame()
    found = telescope.camera.geometry.transform_to(sky)
    expected = chiral().camera.geometry.transform_to(sky)
    for name in ("pix_x", "pix_y"):
        there = getattr(expected, name).to_value(u.deg)
        np.testing.assert_allclose(
            getattr(found, name).to_value(u.deg), there, atol=1e-9
        )
    for one, other in ((telescope, chiral()), (chiral(), telescope)):
        order = check_telescope(one, describe_telescope(other))
        np.testing.assert_array_equal(order, np.arange(len(order)))


def test_the_rotation_of_single_pixels_is_not_compared():
    turned = with_camera(toy(), pix_rotation=60 * u.deg)
    check_telescope(turned, describe_telescope(toy()))


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
    here, there = (
        np.column_stack([camera.pix_x.to_value(u.mm), camera.pix_y.to_value(u.mm)])
        for camera in (scaled.camera.geometry, geometry)
    )
    distance = np.linalg.norm(there[:, np.newaxis] - here, axis=-1).min(axis=1).max()
    message = mismatch(scaled, make())
    assert f"lie up to {distance:.1f} mm from" in message
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


def test_all_that_differs_is_listed():
    telescope = with_optics(
        with_camera(toy(), cam_rotation=5 * u.deg),
        n_mirrors=2,
        mirror_area=100 * u.m**2,
    )
    message = mismatch(telescope, lst())
    assert "has 469 pixels instead of 1855; " in message
    assert "mirror area is 100 m² instead of 386 m²; " in message
    assert "2 mirrors instead of 1" in message


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
    with pytest.raises(TelescopeMismatchError, match=message):
        differences(telescope, describe_telescope(toy()))


def array_of(*telescopes):
    """An array in which they are telescopes 1, 2 and so on."""
    positions = [(50.0 * number, 0.0, 0.0) for number in range(len(telescopes))]
    return toy_subarray(list(zip(telescopes, positions, strict=True)))


def twins():
    """Telescopes that are called alike, and how the second differs from the first."""
    return [
        (with_optics(toy(), mirror_area=400 * u.m**2), "mirror area is 400 m² instead"),
        # These two are equal to ctapipe, which compares pixels only.
        (with_camera(toy(), cam_rotation=5 * u.deg), "is rotated by -5.00°"),
    ]


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
