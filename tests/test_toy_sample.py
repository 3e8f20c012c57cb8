"""What is true of a toy shower can be read off its images, in ctapipe's frames."""

import astropy.units as u
import numpy as np
import pytest
import toy_sample as toy
from astropy.coordinates import AltAz, SkyCoord, angular_separation
from ctapipe.coordinates import GroundFrame, TelescopeFrame, TiltedGroundFrame
from ctapipe.image import ImageProcessor
from ctapipe.io import EventSource, HDF5EventSource, TableLoader
from ctapipe.reco import HillasReconstructor

N_EVENTS = 30
SMALL = toy.small_array()


@pytest.fixture(scope="module")
def open_card(tmp_path_factory):
    """Function that writes a card and opens it as an event source."""

    def open_card(card, **kwargs):
        path = tmp_path_factory.mktemp("card") / "events.toy.yaml"
        card.write(path)
        return EventSource(path, **kwargs)

    return open_card


@pytest.fixture(scope="module", params=[0, 90, 200])
def bright_gammas(request, open_card):
    """Bright gammas seen by the LSTs at one azimuth, with image parameters."""
    card = toy.ToyCard(n_events=N_EVENTS, seed=3, azimuth=request.param, min_energy=0.5)
    source = open_card(card)
    return source, process(source)


def process(source):
    """List the events of a source, with image parameters."""
    parametrize = ImageProcessor(source.subarray)
    events = list(source)
    for event in events:
        parametrize(event)
    return events


def tilted(x, y, z, pointing):
    """Put a point of the ground into the tilted plane; shape (2,), in metres."""
    point = SkyCoord(x=x, y=y, z=z, frame=GroundFrame())
    point = point.transform_to(TiltedGroundFrame(pointing_direction=pointing))
    return u.Quantity([point.x, point.y]).to_value(u.m)


def test_hillas_reconstruction_finds_direction_and_core(bright_gammas):
    source, events = bright_gammas
    reconstruct = HillasReconstructor(source.subarray)
    offsets, misses = [], []
    for event in events:
        reconstruct(event)
        found = event.dl2.stereo.geometry["HillasReconstructor"]
        true = event.simulation.shower
        if found.is_valid:
            offsets.append(angular_separation(true.az, true.alt, found.az, found.alt))
            miss = found.core_x - true.core_x, found.core_y - true.core_y
            misses.append(u.Quantity(miss).to_value(u.m))
    assert len(offsets) > 0.9 * N_EVENTS
    assert np.median(u.Quantity(offsets).to_value(u.deg)) < 0.03
    assert np.all(np.median(np.abs(misses), axis=0) < 3)
    assert np.all(np.abs(np.median(misses, axis=0)) < 1.5)


def test_light_is_displaced_away_from_the_core(bright_gammas):
    """
    Displacement in the view and offset of the core are opposite.

    Latitude and longitude of the TelescopeFrame go with x and y of the tilted plane:
    seen from below, pointing north, a core to the north is lower in the sky.
    """
    source, events = bright_gammas
    pointing = source.card.pointing()
    cosines = []
    for event in events:
        true = event.simulation.shower
        in_view = AltAz(alt=true.alt, az=true.az).transform_to(
            TelescopeFrame(telescope_pointing=pointing)
        )
        core = tilted(true.core_x, true.core_y, 0 * u.m, pointing)
        for tel_id, camera in event.dl1.tel.items():
            hillas = camera.parameters.hillas
            well_inside = np.hypot(hillas.fov_lon, hillas.fov_lat) < 1.5 * u.deg
            impact = event.simulation.tel[tel_id].impact.distance
            if not well_inside or impact < 50 * u.m:
                continue
            displacement = u.Quantity(
                [hillas.fov_lat - in_view.fov_lat, hillas.fov_lon - in_view.fov_lon]
            ).to_value(u.deg)
            telescope = tilted(*source.subarray.positions[tel_id], pointing)
            offset = core - telescope
            cosines.append(
                displacement
                @ offset
                / (np.linalg.norm(displacement) * np.linalg.norm(offset))
            )
    assert len(cosines) > 20
    assert np.max(cosines) < -0.99


def test_light_and_time_gradient_follow_energy_and_impact(bright_gammas):
    _, events = bright_gammas
    yields, slopes = [], []
    for event in events:
        energy = event.simulation.shower.energy.to_value(u.TeV)
        for tel_id, camera in event.dl1.tel.items():
            true = event.simulation.tel[tel_id]
            impact = true.impact.distance.to_value(u.m)
            if camera.parameters.leakage.intensity_width_2 == 0:
                expected = energy * np.exp(-impact / toy.LIGHT_RADIUS_M)
                yields.append(true.true_image_sum / expected)
                slope = camera.parameters.timing.slope.to_value(1 / u.deg)
                slopes.append(np.abs(slope) / impact)
    assert np.mean(yields) == pytest.approx(toy.LIGHT_YIELD, rel=0.01)
    assert np.std(yields) < 0.05 * toy.LIGHT_YIELD
    assert np.median(slopes) == pytest.approx(toy.TIME_GRADIENT_SLOPE, rel=0.05)


def test_protons_are_wider_and_have_more_energy_for_their_light(open_card):
    width, light_per_energy = {}, {}
    events = process(open_card(toy.ToyCard("mixed", n_events=80, seed=5)))
    for particle in (toy.GAMMA_ID, toy.PROTON_ID):
        of_particle = [
            (event, tel_id)
            for event in events
            if event.simulation.shower.shower_primary_id == particle
            for tel_id in event.dl1.tel
            if event.simulation.tel[tel_id].true_image_sum > 500
        ]
        assert len(of_particle) > 40
        width[particle] = np.nanmedian(
            [
                e.dl1.tel[t].parameters.hillas.width.to_value(u.deg)
                for e, t in of_particle
            ]
        )
        # The upper edge, as images cut by the border of the camera have less light.
        light_per_energy[particle] = np.percentile(
            [
                e.simulation.tel[t].true_image_sum
                / e.simulation.shower.energy.to_value(u.TeV)
                * np.exp(
                    e.simulation.tel[t].impact.distance.to_value(u.m)
                    / toy.LIGHT_RADIUS_M
                )
                for e, t in of_particle
            ],
            90,
        )
    assert width[toy.PROTON_ID] > 1.4 * width[toy.GAMMA_ID]
    assert light_per_energy[toy.GAMMA_ID] == pytest.approx(
        toy.PROTON_ENERGY_FACTOR * light_per_energy[toy.PROTON_ID], rel=0.05
    )


def same_events(first, second):
    """Whether two lists of events have the same truth and the same images."""
    return len(first) == len(second) and all(
        a.index.event_id == b.index.event_id
        and a.simulation.shower.energy == b.simulation.shower.energy
        and a.simulation.shower.az == b.simulation.shower.az
        and list(a.dl1.tel) == list(b.dl1.tel)
        and all(
            np.array_equal(a.dl1.tel[t].image, b.dl1.tel[t].image)
            and np.array_equal(a.dl1.tel[t].peak_time, b.dl1.tel[t].peak_time)
            for t in a.dl1.tel
        )
        for a, b in zip(first, second, strict=True)
    )


def test_same_card_gives_same_events(open_card):
    card = toy.ToyCard("mixed", n_events=5, seed=1, array=SMALL)
    source = open_card(card)
    events = list(source)
    assert same_events(events, list(source))
    assert same_events(events, list(open_card(card)))
    assert same_events(events[:2], list(open_card(card, max_events=2)))
    other = toy.ToyCard("mixed", n_events=5, seed=2, array=SMALL)
    assert not same_events(events, list(open_card(other)))


def test_selecting_telescopes_keeps_the_showers(open_card):
    card = toy.ToyCard("mixed", n_events=20, seed=1, array=SMALL)
    every = {event.index.event_id: event for event in open_card(card)}
    source = open_card(card, allowed_tels={2})
    selected = list(source)
    assert list(source.subarray.tel) == [2]
    assert [event.count for event in selected] == list(range(len(selected)))
    assert [event.index.event_id for event in selected] == [
        event_id for event_id, event in every.items() if 2 in event.dl1.tel
    ]
    for event in selected:
        assert list(event.dl1.tel) == event.trigger.tels_with_trigger == [2]
        np.testing.assert_array_equal(
            event.dl1.tel[2].image, every[event.index.event_id].dl1.tel[2].image
        )


def test_card_survives_writing(tmp_path):
    card = toy.ToyCard("proton", n_events=3, altitude=60.0, array=SMALL)
    card.write(tmp_path / "a.toy.yaml")
    assert toy.ToyCard.read(tmp_path / "a.toy.yaml") == card
    (tmp_path / "empty.toy.yaml").write_text("")
    assert toy.ToyCard.read(tmp_path / "empty.toy.yaml") == toy.ToyCard()
    with pytest.raises(ValueError, match="'muon'"):
        toy.ToyCard("muon")


def test_hexagonal_camera_is_a_regular_lattice():
    geometry = toy.hexagonal_camera(3, rotation=12 * u.deg)
    assert geometry.n_pixels == 37
    n_neighbors = geometry.neighbor_matrix.sum(axis=1)
    assert np.count_nonzero(n_neighbors == 6) == 19
    assert np.count_nonzero(n_neighbors == 3) == 6
    first, second = np.nonzero(geometry.neighbor_matrix)
    x = (geometry.pix_x[second] - geometry.pix_x[first]).to_value(u.m)
    y = (geometry.pix_y[second] - geometry.pix_y[first]).to_value(u.m)
    np.testing.assert_allclose(np.hypot(x, y), 0.216)
    angles = np.rad2deg(np.arctan2(y, x)) - geometry.pix_rotation.deg
    np.testing.assert_allclose((angles + 30) % 60 - 30, 0, atol=1e-9)


def test_small_cameras_see_as_much_sky_as_lstcam(open_card):
    lst = toy.toy_subarray()
    small = open_card(toy.ToyCard(array=toy.small_array(3))).subarray
    radii = []
    for subarray in (lst, small):
        on_sky = subarray.tel[1].camera.geometry.transform_to(TelescopeFrame())
        radii.append(np.sqrt(on_sky.pix_area.sum() / np.pi).to_value(u.deg))
    assert radii[0] == pytest.approx(radii[1], rel=0.03)
    assert str(lst.tel[1]) == "LST_LST_LSTCam"
    assert lst.tel[1].camera.geometry.n_pixels == 1855


@pytest.mark.parametrize("geometry", ["lst", "small"])
def test_photons_fall_into_the_pixels_that_ctapipe_names(geometry):
    tel = (
        toy.toy_subarray().tel[1]
        if geometry == "lst"
        else toy.toy_telescope(toy.hexagonal_camera(rotation=20 * u.deg))
    )
    camera = tel.camera.geometry
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-0.7, 0.7, size=(2, 500)) * u.m
    expected = np.bincount(
        camera.position_to_pix_index(x, y), minlength=camera.n_pixels
    )
    in_view = SkyCoord(x=x, y=y, frame=camera.frame).transform_to(TelescopeFrame())
    photons = np.column_stack([in_view.fov_lon.deg, in_view.fov_lat.deg])
    grid = toy.PixelGrid(camera)
    np.testing.assert_array_equal(grid.count(photons), expected)
    assert grid.count(np.array([[10.0, 0.0]])).sum() == 0


@pytest.fixture(scope="module")
def written(tmp_path_factory, open_card):
    """Events of two kinds of cameras, and the file made of them."""
    positions = toy.LST_POSITIONS
    array = toy.small_array(positions=positions[:2]) + toy.small_array(
        4, "OtherCam", 20.0, positions=positions[2:]
    )
    card = {"obs_id": 7, "azimuth": 40.0, "array": array}
    path = tmp_path_factory.mktemp("written") / "toy.dl1.h5"
    assert toy.write_toy_file(path, "mixed", 8, seed=4, **card) == path
    source = open_card(toy.ToyCard("mixed", 8, seed=4, **card))
    return path, source, list(source)


def test_file_reads_back_as_events(written):
    path, source, expected = written
    with HDF5EventSource(path) as file:
        assert file.subarray == source.subarray
        assert file.is_simulation
        assert file.simulation_config[7].max_viewcone_radius == 1.5 * u.deg
        events = list(file)
    assert same_events(events, expected)
    for event, true in zip(events, expected, strict=True):
        assert event.monitoring.pointing.array_azimuth.to_value(u.deg) == pytest.approx(
            40
        )
        assert event.trigger.time.isclose(true.trigger.time, 1 * u.us)
        for tel_id in event.dl1.tel:
            pointing = event.monitoring.tel[tel_id].pointing
            assert pointing.altitude.to_value(u.deg) == pytest.approx(70)
            seen, drawn = event.simulation.tel[tel_id], true.simulation.tel[tel_id]
            np.testing.assert_array_equal(seen.true_image, drawn.true_image)
            assert u.isclose(seen.impact.distance, drawn.impact.distance)


def test_file_reads_back_as_tables(written):
    path, _, expected = written
    with TableLoader(path) as loader:
        tables = loader.read_telescope_events_by_type(dl1_images=True).values()
    assert [table["image"].shape[1] for table in tables] == [91, 61]
    rows = [row for table in tables for row in table]
    assert len(rows) == sum(len(event.dl1.tel) for event in expected)
    true = {event.index.event_id: event for event in expected}
    for row in rows:
        event = true[row["event_id"]]
        assert row["true_energy"] == event.simulation.shower.energy.to_value(u.TeV)
        assert (
            row["true_shower_primary_id"] == event.simulation.shower.shower_primary_id
        )
        assert row["true_impact_distance"] == pytest.approx(
            event.simulation.tel[row["tel_id"]].impact.distance.to_value(u.m)
        )
        assert np.rad2deg(row["telescope_pointing_azimuth"]) == pytest.approx(40)
    assert np.isfinite([row["hillas_intensity"] for row in rows]).mean() > 0.5


def test_images_or_parameters_may_be_left_out(tmp_path):
    path = tmp_path / "toy.dl1.h5"
    for images, parameters in ((True, False), (False, True)):
        toy.write_toy_file(
            path, n_events=3, images=images, parameters=parameters, array=SMALL
        )
        with HDF5EventSource(path) as file:
            (event, *_) = file
        for camera in event.dl1.tel.values():
            assert (camera.image is not None) is images
            assert (camera.parameters is not None) is parameters
