"""Augmentations do to images what they say, and to the targets what that entails."""

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from ctapipe.coordinates import CameraFrame, EngineeringCameraFrame, TelescopeFrame
from ctapipe.core import ToolConfigurationError
from ctapipe.instrument import CameraGeometry
from ctapipe.io import TableLoader
from numpy.testing import assert_allclose, assert_array_equal
from traitlets.config import Config

from ctapipe_gammaphysnet.events.background import measure_background
from ctapipe_gammaphysnet.events.preparation import InputPreparation
from ctapipe_gammaphysnet.model.card import InputCard
from ctapipe_gammaphysnet.network.lattice import CameraLattice
from ctapipe_gammaphysnet.tasks.direction import direction_to_target
from ctapipe_gammaphysnet.tasks.impact import impact_to_target
from ctapipe_gammaphysnet.training.augmentation import (
    Augmentation,
    add_night_sky,
    draw_modules,
    find_turns,
    kill_pixels,
    turn_images,
    turn_targets,
)

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/data"
SIMULATION = ROOT / "ctapipe_gammaphysnet/simulation/data"
FILES = {
    "LSTCam": SIMULATION / "LSTCam.camgeom.fits.gz",
    "NectarCam": SIMULATION / "NectarCam.camgeom.fits.gz",
    "FlashCam": ROOT / "tests/data/FlashCam.camgeom.fits.gz",
    "DigiCam": ROOT / "tests/data/DigiCam.camgeom.fits.gz",
}
FOCAL_LENGTH = 28 * u.m
EVERYTHING = {"noise_pe": [1.5, 3.0], "dead_pixel_fraction": 0.1, "rotate": True}


def read_camera(name="LSTCam"):
    geometry = CameraGeometry.from_table(Table.read(FILES[name]))
    geometry.frame = CameraFrame(focal_length=FOCAL_LENGTH)
    return geometry


def sky_positions(geometry):
    """fov_lon and fov_lat of the pixels in deg, shape (n_pixels, 2)."""
    sky = geometry.transform_to(TelescopeFrame())
    return np.column_stack([sky.pix_x.to_value(u.deg), sky.pix_y.to_value(u.deg)])


def make_targets(n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "energy": rng.normal(size=(n, 1)).astype(np.float32),
        "direction": rng.normal(size=(n, 2)).astype(np.float32),
        "impact": rng.normal(size=(n, 2)).astype(np.float32),
        "class": rng.integers(2, size=n),
    }


def make_batch(n=16, n_pixels=1855, own=1.0, charge=0.0, seed=0):
    """Images of noise, the mask with every tenth pixel, whose mean charge is given."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((n, n_pixels), dtype=bool)
    mask[:, ::10] = True
    image = rng.normal(scale=own, size=mask.shape) + np.where(mask, charge, 0)
    # Signal and noise can be told by their times.
    peak_time = np.where(mask, 15, rng.uniform(0, 10, size=mask.shape))
    return image.astype(np.float32), peak_time.astype(np.float32), mask


@pytest.fixture(scope="module")
def showers():
    """Images, mask and targets of simulated gammas with much light."""
    with TableLoader(EXAMPLES / "sample_gamma.dl1.h5") as loader:
        table = loader.read_telescope_events(
            dl1_images=True, dl1_parameters=True, dl2=False, simulated=True
        )
        positions = loader.subarray.positions
        geometry = loader.subarray.tel[1].camera.geometry
    bright = (table["hillas_intensity"] > 150) & (table["morphology_n_pixels"] > 10)
    table = table[bright & (table["leakage_intensity_width_2"] < 0.2)]
    pointing = [
        u.Quantity(table[f"telescope_pointing_{angle}"])
        for angle in ("altitude", "azimuth")
    ]
    targets = {
        "direction": direction_to_target(
            u.Quantity(table["true_alt"]), u.Quantity(table["true_az"]), *pointing
        ),
        "impact": impact_to_target(
            u.Quantity(table["true_core_x"]),
            u.Quantity(table["true_core_y"]),
            u.Quantity([positions[tel_id] for tel_id in table["tel_id"]]),
            *pointing,
        ),
    }
    assert len(table) > 80
    return {
        "geometry": geometry,
        "image": np.asarray(table["image"]),
        "peak_time": np.asarray(table["peak_time"]),
        "mask": np.asarray(table["image_mask"]),
        "targets": targets,
    }


# --- all of them ---


def test_nothing_is_done_unless_asked_for():
    batch = (*make_batch(), make_targets(16))
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    augmented = Augmentation(read_camera())(*batch, rng)
    assert all(a is b for a, b in zip(augmented, batch, strict=True))
    assert rng.bit_generator.state == state


def test_the_seed_decides_and_inputs_stay_as_they_are():
    image, peak_time, mask = make_batch(charge=5)
    targets = make_targets(16)
    augmentation = Augmentation(read_camera(), **EVERYTHING)
    first, again, other = (
        augmentation(image, peak_time, mask, targets, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    for i in range(3):
        assert_array_equal(first[i], again[i])
        assert (first[i] != other[i]).any()
        assert first[i].dtype == (image, peak_time, mask)[i].dtype
    for name, values in targets.items():
        assert_array_equal(first[3][name], again[3][name])
        assert first[3][name].dtype == values.dtype
    assert (first[3]["direction"] != targets["direction"]).any()

    for values, untouched in zip(
        (image, peak_time, mask), make_batch(charge=5), strict=True
    ):
        assert_array_equal(values, untouched)
    for name, values in make_targets(16).items():
        assert_array_equal(targets[name], values)


def test_it_is_configured_as_any_component():
    config = Config({"Augmentation": {"noise_pe": [2.0], "rotate": True}})
    augmentation = Augmentation(geometry=read_camera(), config=config)
    image, peak_time, mask = make_batch()
    augmented, _, _, targets = augmentation(
        image, peak_time, mask, make_targets(16), np.random.default_rng(0)
    )
    assert_allclose(measure_background(augmented, ~mask)[1], 2, rtol=0.1)
    assert (targets["direction"] != make_targets(16)["direction"]).any()


# --- night sky ---


@pytest.mark.parametrize(("own", "level"), [(1.0, 2.0), (1.2, 1.3), (0.5, 6.0)])
def test_noise_reaches_the_level_and_moves_no_mean(own, level):
    image, peak_time, mask = make_batch(200, own=own, charge=20)
    rng = np.random.default_rng(1)
    levels = np.full(200, level)
    noisy, _ = add_night_sky(image, peak_time, mask, levels, rng)
    assert noisy[~mask].std() == pytest.approx(level, rel=0.01)
    for pixels in (mask, ~mask):
        error = level / np.sqrt(pixels.sum())
        assert noisy[pixels].mean() == pytest.approx(
            image[pixels].mean(), abs=4 * error
        )
    # Each image by itself, too.
    assert_allclose(measure_background(noisy, ~mask)[1], level, rtol=0.15)


@pytest.mark.parametrize("variance", [0.02, 0.3, 2.0, 20.0])
def test_the_added_charge_has_the_skewness_of_photoelectrons(variance):
    """As Poisson's: the third moment is the variance, as far as there can be so much.

    The most that can be is that of the square of a Gaussian.
    """
    image = np.zeros((500, 1855), dtype=np.float32)
    level = np.full(500, np.sqrt(variance))
    mask = np.zeros(image.shape, dtype=bool)
    added, _ = add_night_sky(image, image, mask, level, np.random.default_rng(0))
    third_moment = min(variance, np.sqrt(8) * variance**1.5)
    assert added.var() == pytest.approx(variance, rel=0.01)
    assert (added.astype(float) ** 3).mean() == pytest.approx(
        third_moment, rel=0.1, abs=0.03 if variance > 0.1 else 1e-9
    )


def test_noise_is_never_removed():
    image, peak_time, mask = make_batch(own=2.0, charge=20)
    image[:8] /= 4
    level = np.full(16, 1.0)
    rng = np.random.default_rng(0)
    noisy, new_time = add_night_sky(image, peak_time, mask, level, rng)
    assert_array_equal(noisy[8:], image[8:])
    assert_array_equal(new_time[8:], peak_time[8:])
    assert_allclose(measure_background(noisy[:8], ~mask[:8])[1], 1, rtol=0.1)


def test_each_image_draws_its_level():
    image, peak_time, mask = make_batch(1000)
    augmentation = Augmentation(read_camera(), noise_pe=[2.0, 4.0])
    noisy, *_ = augmentation(image, peak_time, mask, {}, np.random.default_rng(0))
    levels = np.std(noisy, axis=1, where=~mask)
    assert_allclose(np.quantile(levels, [0.01, 0.5, 0.99]), [2.02, 3, 3.98], rtol=0.05)


def test_the_shower_does_not_count_as_noise():
    """A few pixels outside the mask have some light of the shower."""
    image, _, mask = make_batch(200)
    image[:, 1::50] += 8
    assert image[~mask].std() > 1.4
    assert_allclose(measure_background(image, ~mask)[1].mean(), 1, atol=0.05)


def test_noise_on_simulated_showers(showers):
    """Charges are skewed, quantised and not centred there."""
    image, mask = showers["image"], showers["mask"]
    level = np.full(len(image), 2.0)
    rng = np.random.default_rng(0)
    noisy, _ = add_night_sky(image, showers["peak_time"], mask, level, rng)
    assert (measure_background(image, ~mask)[1] < 1.5).all()
    assert measure_background(noisy, ~mask)[1].mean() == pytest.approx(2, rel=0.03)
    assert noisy[mask].sum() == pytest.approx(image[mask].sum(), rel=0.01)


def test_bright_pixels_keep_their_times_and_faint_ones_get_those_of_noise():
    rng = np.random.default_rng(0)
    share = []
    for charge in (0.5, 4.0, 40.0):
        image, peak_time, mask = make_batch(50, own=0.5, charge=charge)
        level = np.full(50, 3.0)
        _, new_time = add_night_sky(image, peak_time, mask, level, rng)
        changed = new_time != peak_time
        assert (new_time[changed & mask] < 10).all()
        share.append(changed[mask].mean())
    assert 0.3 < share[0] < 0.6
    assert 0.05 < share[1] < 0.2
    assert share[2] == 0


def test_times_are_redrawn_from_the_same_image():
    image, _, mask = make_batch(4, own=0.5)
    peak_time = np.where(mask, 99, 10 * np.arange(4)[:, np.newaxis])
    peak_time = (peak_time + np.linspace(0, 1, 1855)).astype(np.float32)
    rng = np.random.default_rng(0)
    _, new_time = add_night_sky(image, peak_time, mask, np.full(4, 3.0), rng)
    for old, new, in_mask in zip(peak_time, new_time, mask, strict=True):
        changed = old != new
        assert np.isin(new[changed], old[~in_mask]).all()
        assert changed.sum() > 500
        # Any of them, not only some.
        assert_allclose(new[changed].mean(), old[~in_mask].mean(), atol=0.05)


def test_missing_pixels_stay_missing():
    image, peak_time, mask = make_batch()
    image[:, 3] = np.nan
    peak_time[:, 5] = np.nan
    mask[7] = True
    noisy, new_time = add_night_sky(
        image, peak_time, mask, np.full(16, 3.0), np.random.default_rng(0)
    )
    assert_array_equal(np.isnan(noisy), np.isnan(image))
    assert_array_equal(np.isnan(new_time), np.isnan(peak_time))
    # Without pixels outside the mask nobody knows the noise.
    assert_array_equal(noisy[7], image[7])


# --- gain and pedestal ---


def augment(images, **settings):
    """Augment images of a camera; return charge, peak time, and mask."""
    augmentation = Augmentation(read_camera(), **settings)
    rng = np.random.default_rng(5)
    return augmentation(*images, make_targets(len(images[0])), rng)[:3]


def test_each_image_draws_its_gain():
    images = make_batch(200, charge=20)
    charge, time, mask = augment(images, gain=[0.8, 1.2])
    factor = charge / images[0]
    assert_allclose(factor, np.broadcast_to(factor[:, :1], factor.shape), rtol=1e-5)
    assert factor.min() == pytest.approx(0.8, abs=0.01)
    assert factor.max() == pytest.approx(1.2, abs=0.01)
    assert charge.dtype == np.float32
    assert_array_equal(time, images[1])
    assert_array_equal(mask, images[2])


def test_each_image_draws_its_pedestal_outside_of_the_mask():
    images = make_batch(200, charge=20)
    mask = images[2]
    charge, _, _ = augment(images, pedestal_pe=[0.6, -0.6])
    assert_array_equal(charge[mask], images[0][mask])
    added = np.where(mask, np.nan, charge - images[0])
    assert_allclose(np.nanmin(added, axis=1), np.nanmax(added, axis=1), atol=1e-5)
    assert np.nanmin(added) == pytest.approx(-0.6, abs=0.02)
    assert np.nanmax(added) == pytest.approx(0.6, abs=0.02)
    assert charge.dtype == np.float32


# --- dead pixels ---


def test_modules_of_neighbours_die_together():
    images = make_batch(50, charge=20)
    charge, time, mask = augment(images, dead_modules=3)
    dead = np.isnan(charge)
    assert_array_equal(dead, np.isnan(time))
    assert not mask[dead].any()
    assert_array_equal(charge[~dead], images[0][~dead])
    # One module has seven pixels, unless it is at the edge.
    assert set(dead.sum(axis=1)) <= set(range(22))
    assert {0, 7, 14} <= set(dead.sum(axis=1))


def test_each_image_has_its_number_of_dead_modules():
    modules = np.eye(1000, dtype=bool)
    number = np.array([0, 1, 5, 0, 3])
    dead = draw_modules(modules, number, np.random.default_rng(1))
    assert_array_equal(dead.sum(axis=1), number)


def test_dead_pixels_are_as_many_as_asked_for():
    image, peak_time, mask = make_batch(200, charge=20)
    share = np.repeat([0, 0.02, 0.3, 1], 50)
    broken, new_time, new_mask = kill_pixels(
        image, peak_time, mask, share, np.random.default_rng(0)
    )
    dead = np.isnan(broken)
    assert_allclose(
        dead.reshape(4, -1).mean(axis=1), [0, 0.02, 0.3, 1], rtol=0.05, atol=1e-5
    )
    assert np.isnan(new_time[dead]).all()
    assert not new_mask[dead].any()
    for new, old in ((broken, image), (new_time, peak_time), (new_mask, mask)):
        assert_array_equal(new[~dead], old[~dead])
    # Not the same ones in each image.
    assert dead[100:150].mean(axis=0).max() < 0.7


@pytest.fixture(scope="module")
def lst_lattice():
    return CameraLattice.from_geometry(read_camera())


@pytest.fixture(scope="module")
def killed():
    """Images with signal, and the same with dead pixels within the mask and outside."""
    batch = make_batch(8, charge=20)
    share = np.linspace(0, 0.5, 8)
    return batch, kill_pixels(*batch, share, np.random.default_rng(0))


@pytest.mark.parametrize("image", ["raw", "cleaned"])
@pytest.mark.parametrize("charge", ["linear", "arcsinh"])
@pytest.mark.parametrize("reference", ["none", "image"])
@pytest.mark.parametrize(
    ("pixels", "rings"), [("all", 0), ("cleaned", 0), ("cleaned", 1), ("cleaned", 3)]
)
@pytest.mark.parametrize("background", ["none", "background"])
def test_dead_pixels_enter_the_network_as_missing_ones(
    killed, lst_lattice, image, charge, reference, pixels, rings, background
):
    """Whatever is made of charges and times: 0, and nothing of them in other pixels."""
    card = InputCard(
        image=image,
        charge_reference=background,
        charge_unit="p.e." if background == "none" else "noise",
        background_rings=1,
        charge=charge,
        charge_scale=2.0,
        peak_time_reference=reference,
        peak_time_scale=5.0,
        peak_time_pixels=pixels,
        peak_time_rings=rings,
    )
    prepare = InputPreparation(card, lst_lattice)
    (charges, times, mask), (dead_charges, dead_times, dead_mask) = killed
    dead = np.isnan(dead_charges)
    assert (dead & mask).any()
    assert (dead & ~mask).any()
    inputs, has_pixels = prepare(dead_charges, dead_times, dead_mask)
    assert (inputs.transpose(0, 2, 1)[dead] == 0).all()
    assert has_pixels.all()
    # The camera says so of the charge, of the time, or of both; the mask may not know.
    for missing_charges, missing_times in (
        (np.where(dead, np.nan, charges), times),
        (charges, np.where(dead, np.nan, times)),
        (np.where(dead, np.nan, charges), np.where(dead, np.nan, times)),
    ):
        expected, _ = prepare(missing_charges, missing_times, mask)
        assert_array_equal(inputs, expected)
    alive = ~dead.any(axis=1)
    unharmed, _ = prepare(charges, times, mask)
    assert_array_equal(inputs[alive], unharmed[alive])
    assert not np.array_equal(inputs, unharmed)


def test_the_share_of_dead_pixels_is_drawn_up_to_the_largest():
    image, peak_time, mask = make_batch(400)
    augmentation = Augmentation(read_camera(), dead_pixel_fraction=0.2)
    broken, *_ = augmentation(image, peak_time, mask, {}, np.random.default_rng(0))
    share = np.isnan(broken).mean(axis=1)
    assert_allclose(np.quantile(share, [0, 0.5, 1]), [0, 0.1, 0.2], atol=0.03)


# --- turns ---


@pytest.mark.parametrize(
    ("name", "turns"),
    [
        ("LSTCam", [0, 1, 2, 3, 4, 5]),
        ("NectarCam", [0, 1, 2, 3, 4, 5]),
        ("FlashCam", [0, 2, 4]),
        ("DigiCam", [0, 2, 4]),
    ],
)
def test_turns_of_real_cameras(name, turns):
    found, pixels = find_turns(read_camera(name))
    assert_array_equal(found, turns)
    assert_array_equal(
        np.sort(pixels), np.tile(np.arange(pixels.shape[1]), (len(turns), 1))
    )
    assert_array_equal(pixels[0], np.arange(pixels.shape[1]))


def test_a_square_camera_can_only_be_upside_down():
    # ctapipe's own square camera is not centred.
    x, y = np.meshgrid(np.arange(6) - 2.5, np.arange(6) - 2.5)
    camera = CameraGeometry(
        name="square",
        pix_id=np.arange(36),
        pix_x=x.ravel() * u.cm,
        pix_y=y.ravel() * u.cm,
        pix_area=np.ones(36) * u.cm**2,
        pix_type="rectangular",
    )
    turns, pixels = find_turns(camera)
    assert_array_equal(turns, [0, 3])
    assert_array_equal(pixels[1], np.arange(36)[::-1])


def test_a_camera_without_symmetry_cannot_be_turned():
    camera = read_camera()
    # Without a pixel at the edge; the first one is at the centre.
    camera = camera[:-1]
    assert_array_equal(find_turns(camera)[0], [0])
    Augmentation(camera)
    with pytest.raises(ToolConfigurationError, match="images of LSTCam .* cannot"):
        Augmentation(camera, rotate=True)


@pytest.mark.parametrize(
    "frame",
    [
        None,
        CameraFrame(),
        CameraFrame(focal_length=5 * u.m),
        EngineeringCameraFrame(focal_length=5 * u.m),
        TelescopeFrame(),
    ],
)
@pytest.mark.parametrize("cam_rotation", [0, 100] * u.deg)
def test_turns_are_the_same_whatever_the_frame(frame, cam_rotation):
    camera = read_camera()
    expected = find_turns(camera)
    camera.rotate(-cam_rotation)
    camera.cam_rotation = cam_rotation
    if isinstance(frame, TelescopeFrame | EngineeringCameraFrame):
        camera = camera.transform_to(frame)
    else:
        camera.frame = frame
    for found, turns in zip(find_turns(camera), expected, strict=True):
        assert_array_equal(found, turns)
    assert camera.frame is frame


def test_six_turns_are_none():
    turns, pixels = find_turns(read_camera())
    image, targets = make_batch()[0], make_targets(16)
    new_image, new_targets = image, targets
    for i in range(6):
        new_image = turn_images(new_image, np.tile(pixels[1], (16, 1)))
        new_targets = turn_targets(new_targets, np.full(16, turns[1]))
        if i < 5:
            assert (new_image != image).any()
            assert np.abs(new_targets["direction"] - targets["direction"]).min() > 1e-4
    assert_array_equal(new_image, image)
    for name, values in targets.items():
        assert_allclose(new_targets[name], values, atol=1e-5)


@pytest.mark.parametrize("name", ["LSTCam", "FlashCam"])
def test_a_star_is_where_its_turned_direction_is(name):
    camera = read_camera(name)
    sky = sky_positions(camera)
    stars = np.arange(10, camera.n_pixels, 97)
    image = np.zeros((len(stars), camera.n_pixels), dtype=np.float32)
    image[np.arange(len(stars)), stars] = 1
    for turn, pixels in zip(*find_turns(camera), strict=True):
        turned = turn_images(image, np.tile(pixels, (len(stars), 1)))
        direction = turn_targets({"direction": sky[stars]}, np.full(len(stars), turn))[
            "direction"
        ]
        assert_allclose(sky[turned.argmax(axis=1)], direction, atol=1e-3)
        # By 60° in the plane, from fov_lon to fov_lat.
        rotated = sky[stars] @ [1, 1j] * np.exp(1j * np.pi / 3 * turn)
        assert_allclose(direction @ [1, 1j], rotated, atol=1e-9)


def test_a_line_turns_into_a_line():
    """Along fov_lon and brighter to one end: mirrored would not do."""
    camera = read_camera()
    lon, lat = sky_positions(camera).T
    image = np.where((np.abs(lat - 0.5) < 0.1) & (lon > 0), lon, 0)
    for turn, pixels in zip(*find_turns(camera), strict=True):
        turned = turn_images(image[np.newaxis], pixels[np.newaxis])[0]
        angle = np.pi / 3 * turn
        along = lon * np.cos(angle) + lat * np.sin(angle)
        across = lat * np.cos(angle) - lon * np.sin(angle)
        lit = turned > 0
        assert_allclose(across[lit], 0.5, atol=0.11)
        assert_allclose(turned[lit], along[lit], atol=1e-3)


def test_charge_time_and_mask_turn_alike():
    image, peak_time, mask = make_batch()
    # A pixel's time and mask can be told from its charge.
    peak_time, mask = image + 1, image > 0
    augmentation = Augmentation(read_camera(), rotate=True)
    turned, new_time, new_mask, _ = augmentation(
        image, peak_time, mask, {}, np.random.default_rng(0)
    )
    assert (turned != image).any()
    assert_array_equal(new_time, turned + 1)
    assert_array_equal(new_mask, turned > 0)


def misalignment(showers, image, mask, targets, axes):
    """Angle in deg between impact and the image's displacement from the source.

    ``axes`` is the matrix that takes tilted x and y to fov_lon and fov_lat.
    """
    charge = np.where(mask, image, 0)
    centroid = charge @ sky_positions(showers["geometry"])
    centroid /= charge.sum(axis=1, keepdims=True)
    displacement = (centroid - targets["direction"]) @ [1, 1j]
    return np.rad2deg(
        np.abs(np.angle(displacement / (targets["impact"] @ axes.T @ [1, 1j])))
    )


#: fov_lon points to -y and fov_lat to -x of the TiltedGroundFrame.
AXES = np.array([[0, -1], [-1, 0]])


def test_showers_point_to_their_impact_before_and_after(showers):
    image, mask, targets = (showers[n] for n in ("image", "mask", "targets"))
    before = misalignment(showers, image, mask, targets, AXES)
    assert np.median(before) < 3

    turns, pixels = find_turns(showers["geometry"])
    for turn, pixel in zip(turns, pixels, strict=True):
        pixel = np.tile(pixel, (len(image), 1))
        turned = [turn_images(values, pixel) for values in (image, mask)]
        new_targets = turn_targets(targets, np.full(len(image), turn))
        after = misalignment(showers, *turned, new_targets, AXES)
        assert_allclose(after, before, atol=0.1)
        if turn == 0:
            continue
        # The relation can tell: with the impact left where it was, or turned in the
        # other sense, it does not hold.
        wrong = [targets["impact"]]
        if turn != 3:
            wrong.append(turn_targets(targets, np.full(len(image), -turn))["impact"])
        for impact in wrong:
            angle = misalignment(
                showers, *turned, new_targets | {"impact": impact}, AXES
            )
            assert np.median(angle) > 50


def test_a_batch_is_turned_by_all_turns_with_its_targets(showers):
    """What the component draws for each image is the same for image and targets."""
    batch = [showers[name] for name in ("image", "peak_time", "mask", "targets")]
    augmentation = Augmentation(showers["geometry"], rotate=True)
    image, _, mask, targets = augmentation(*batch, np.random.default_rng(0))
    before = misalignment(showers, batch[0], batch[2], batch[3], AXES)
    after = misalignment(showers, image, mask, targets, AXES)
    assert_allclose(after, before, atol=0.1)
    turn = np.angle(
        (targets["direction"] @ [1, 1j]) / (batch[3]["direction"] @ [1, 1j])
    )
    drawn = np.rint(turn / (np.pi / 3)).astype(int) % 6
    assert np.bincount(drawn, minlength=6).min() > 5


def test_targets_that_are_not_learnt_are_not_needed():
    turned = turn_targets({"impact": np.array([[1.0, 0.0]])}, np.array([1]))
    assert_allclose(turned["impact"], [[0.5, -np.sqrt(0.75)]])
    assert turned.keys() == {"impact"}
