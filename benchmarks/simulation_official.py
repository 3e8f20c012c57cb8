"""Photons of official showers, seen by our LST, compared with the official images.

A folder has pairs of public files of CTAO: ``NAME.corsika.zst`` with the photons that
CORSIKA made, and ``NAME.simtel.zst`` with what sim_telarray made of them.
"""

import astropy.units as u
import numpy as np
from checks import around
from ctapipe.image import hillas_parameters, tailcuts_clean
from ctapipe.instrument import CameraGeometry
from eventio import IACTFile, SimTelFile
from simulation_light import (
    LST,
    SPHERE_M,
    ground_m,
    lst_camera,
    yield_of_photons,
    yield_of_telescopes,
)

from ctapipe_gammaphysnet.simulation.camera import pixel_hits
from ctapipe_gammaphysnet.simulation.cherenkov import YIELD_STEP_M, photoelectron_yield
from ctapipe_gammaphysnet.simulation.efficiency import FACTORS
from ctapipe_gammaphysnet.simulation.instruments import SITES, make_subarray
from ctapipe_gammaphysnet.simulation.optics import pointing_axes, reflect

N_IMAGES = 60  # of ours for each official one
FEWEST = 80  # photoelectrons in an image whose shape is compared
CLEANING = {
    "picture_thresh": 4,
    "boundary_thresh": 2,
    "min_number_picture_neighbors": 1,
}


def check_official(folder):
    """Photoelectrons, widths and lengths of the images of all pairs in a folder."""
    pairs = sorted(folder.glob("*.corsika.zst"))
    if not pairs:
        raise SystemExit(f"{folder} has no files NAME.corsika.zst and NAME.simtel.zst")
    ours, theirs, shapes = [], [], []
    for corsika in pairs:
        simtel = corsika.with_name(corsika.name.replace(".corsika.", ".simtel."))
        for photons, image, counts in read_pair(corsika, simtel):
            images = our_images(photons, len(ours))
            ours.append((*surviving(photons), images.sum(axis=1).mean()))
            theirs.append((*counts, image.sum()))
            shapes += compare_shapes(image, photons["geometry"], images)
    yield from report_light(np.sum(ours, axis=0), np.sum(theirs, axis=0), len(ours))
    yield from report_shapes(np.array(shapes))


def report_light(ours, theirs, n_images):
    """Make the checks of the light that is left after each part of its way."""
    title = f"photons of CTAO, {n_images} images"
    for name, mine, their in zip(
        ("after the air", "after mirror, window, cathode"), ours, theirs, strict=False
    ):
        yield around(
            f"{title}: ours over theirs {name}", mine / their, 1.0, 0.03, "3 %"
        )
    error = 1 / np.sqrt(theirs[-1])
    yield around(
        f"{title}: our p.e. over theirs",
        ours[-1] / theirs[-1],
        1.0,
        0.03 + 2 * error,
        f"3 % and two errors of {error:.3f}",
    )


def report_shapes(logarithms):
    """Make the checks of width and length."""
    for name, values in zip(("width", "length"), logarithms.T, strict=True):
        error = values.std(ddof=1) / np.sqrt(len(values))
        yield around(
            f"... {len(values)} equally bright images: our {name} over theirs",
            np.exp(values.mean()),
            1.0,
            0.05 + 2 * error,
            f"5 % and two errors of {error:.3f}",
        )


def read_pair(corsika, simtel):
    """Yield photons, true image and light of each LST in each triggered event.

    The light is what sim_telarray counts after the air, and after mirror, window and
    cathode, too.
    """
    with SimTelFile(str(simtel)) as file:
        az_rad, alt_rad = file.header["direction"]
        site = site_of(file.mc_run_headers[-1]["B_total"])
        lsts = find_lsts(file)
        events = {event["event_id"] // 100: event for event in file}
    with IACTFile(str(corsika)) as file:
        for shower in file:
            event = events.get(int(shower.header["event_number"]))
            for i, geometry in lsts.items() if event else ():
                photons = {
                    "bunches": shower.photon_bunches[i],
                    "band_nm": wavelengths(shower.header),
                    "pointing": (alt_rad, az_rad),
                    "site": site,
                    "geometry": geometry,
                }
                image = event["photoelectrons"][i]["photoelectrons"]
                light = event["photoelectron_sums"]
                counts = light["photons_atm"][i], light["photons_atm_qe"][i]
                yield photons, image[: geometry.n_pixels], counts


def site_of(field_ut):
    """Find the site by its magnetic field."""
    return min(SITES, key=lambda name: abs(SITES[name].field.to_value(u.uT) - field_ut))


def wavelengths(header):
    """Band of the photons in nm."""
    return tuple(header[f"cherenkov_wavelength_{end}"] for end in ("min", "max"))


def find_lsts(file):
    """Geometries of the cameras of LSTs, by index of the telescope."""
    lsts = {}
    for i, description in enumerate(file.telescope_descriptions.values()):
        camera = description["camera_settings"]
        if camera["focal_length"] == LST.focal_length_m:
            lsts[i] = CameraGeometry(
                name="LSTCam",
                pix_id=np.arange(camera["n_pixels"]),
                pix_x=camera["pixel_x"] * u.m,
                pix_y=camera["pixel_y"] * u.m,
                pix_area=camera["pixel_area"] * u.m**2,
                pix_type="hexagon",
            )
    return lsts


def our_images(photons, seed):
    """Images of photon bunches in our LST, shape (N_IMAGES, n_pixels).

    All photons in the sphere are used, as if each hit the dish somewhere.
    """
    made = yield_of_telescopes(photons["site"], np.sin(photons["pointing"][0]))
    mean = surviving_each(photons, made) * LST.radius_m**2 / SPHERE_M**2
    rays = rays_of(photons["bunches"])
    axes = pointing_axes(*photons["pointing"])
    camera = lst_camera()
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(N_IMAGES):
        seen = np.repeat(rays, rng.poisson(mean), axis=0)
        pixel, _ = pixel_hits(reflect(rng, seen, axes, LST), camera)
        images.append(np.bincount(pixel, minlength=camera.n_pixels))
    return np.array(images)


def surviving(photons):
    """How many photons are left after the air, and after mirror, window, cathode."""
    site, cosine = photons["site"], np.sin(photons["pointing"][0])
    first, last = photons["band_nm"]
    band_nm = np.arange(max(first, 270), last + 1.0)
    after_air = photoelectron_yield(
        ground_m(site), cosine, band_nm, np.ones_like(band_nm), site
    )
    factors = FACTORS["LSTCam"]
    dish = factors.area_m2 / (np.pi * LST.radius_m**2)
    rest = dish * factors.light_guide * factors.filled
    after_cathode = yield_of_telescopes(site, cosine) / rest
    return [surviving_each(photons, left).sum() for left in (after_air, after_cathode)]


def surviving_each(photons, left):
    """Photons of each bunch of which some are left, if those of a track are `left`."""
    emitted = yield_of_photons(photons["site"], 1.0, photons["band_nm"])
    bunches = photons["bunches"]
    heights_m = np.arange(len(left)) * YIELD_STEP_M
    return bunches["photons"] * np.interp(
        bunches["zem"] / 100, heights_m, left / emitted
    )


def rays_of(bunches):
    """Directions as the focused camera sees them, and times, shape (n, 4)."""
    cx, cy = bunches["cx"].astype(float), bunches["cy"].astype(float)
    flight = np.column_stack([cx, cy, -np.sqrt(1 - cx**2 - cy**2)])
    position = np.column_stack([bunches["x"], bunches["y"], np.zeros(len(cx))]) / 100
    along = (position * flight).sum(axis=1, keepdims=True)
    focused = flight - (position - along * flight) / LST.focus_m
    focused /= np.linalg.norm(focused, axis=1, keepdims=True)
    return np.column_stack([focused, bunches["time"]])


def compare_shapes(official, geometry, ours):
    """Logarithms of our width and length over the official ones, at equal light."""
    theirs = shape(geometry, official)
    if official.sum() < FEWEST or theirs is None:
        return []
    camera = make_subarray("lst1", "la_palma").tel[1].camera.geometry
    rng = np.random.default_rng(1)
    found = []
    for image in ours:
        kept = rng.binomial(image, min(1.0, official.sum() / image.sum()))
        found.append(shape(camera, kept))
    found = [one for one in found if one is not None]
    return [np.log(found).mean(axis=0) - np.log(theirs)] if len(found) > 5 else []


def shape(geometry, image):
    """Width and length of a cleaned image in m; None if little is left."""
    clean = tailcuts_clean(geometry, image, **CLEANING)
    if clean.sum() < 5:
        return None
    hillas = hillas_parameters(geometry[clean], image[clean].astype(float))
    return hillas.width.to_value(u.m), hillas.length.to_value(u.m)
