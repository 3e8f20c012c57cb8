"""DL1 files as lstchain writes them, of showers whose parameters are known."""

import astropy.units as u
import numpy as np
import tables
from astropy.table import QTable, Table
from ctapipe.image import hillas_parameters, leakage_parameters, timing_parameters
from ctapipe.instrument import CameraGeometry
from ctapipe.io import write_table
from toy_sample import LSTCAM, toy_subarray, toy_telescope

#: s since 1970 of 2024-01-01.
START = 1704067200.0
#: Focal lengths that differ by 4.66 %, as those of the LST.
FOCAL_LENGTHS = {"focal_length": 28 * u.m, "effective_focal_length": 29.306 * u.m}


def lst_subarray(n_telescopes=2):
    """LSTs with both focal lengths."""
    camera = CameraGeometry.from_table(Table.read(LSTCAM))
    lst = toy_telescope(camera, **FOCAL_LENGTHS)
    return toy_subarray([(lst, (70 * i, -40 * i, 5)) for i in range(n_telescopes)])


def draw_images(subarray, n, seed=0):
    """Ellipses of light with a time gradient; charge, time and mask."""
    rng = np.random.default_rng(seed)
    geometry = subarray.tel[1].camera.geometry
    x, y = (p.to_value(u.m) for p in (geometry.pix_x, geometry.pix_y))
    images = []
    for i in range(n):
        psi = -np.pi / 2 + np.pi * (i + rng.random()) / n
        x0, y0 = rng.uniform(-0.5, 0.5, 2)
        along = (x - x0) * np.cos(psi) + (y - y0) * np.sin(psi)
        across = -(x - x0) * np.sin(psi) + (y - y0) * np.cos(psi)
        width = 0.12 * np.where(along > 0, 1.4, 0.7)
        light = 80 * np.exp(-((along / width) ** 2) / 2 - (across / 0.06) ** 2 / 2)
        charge = rng.poisson(light) + rng.normal(0, 1, len(x))
        time = 15 + rng.choice([-1, 1]) * 8 * along + rng.normal(0, 3e-3, len(x))
        images.append((charge.astype(np.float32), time.astype(np.float32), light > 5))
    return [np.array(column) for column in zip(*images, strict=True)]


def lstchain_parameters(subarray, image, time, mask):
    """Parameters of an image in lstchain's frames, from ctapipe's."""
    geometry = subarray.tel[1].camera.geometry
    n_pixels = int(mask.sum())
    parameters = {"n_pixels": n_pixels, "n_islands": 1 if n_pixels else 0}
    if n_pixels == 0:
        names = ["intensity", "skewness", "kurtosis", "time_gradient", "intercept"]
        names += [
            f"leakage_{k}_width_{n}" for k in ("pixels", "intensity") for n in "12"
        ]
        parameters |= dict.fromkeys(names, np.nan)
        parameters |= {name: np.nan * u.m for name in ("x", "y")}
        parameters |= {name: np.nan * u.rad for name in ("psi",)}
        parameters |= {name: np.nan * u.deg for name in ("length", "width")}
    else:
        hillas = hillas_parameters(geometry[mask], image[mask])
        timing = timing_parameters(geometry[mask], image[mask], time[mask], hillas)
        for name in ("intensity", "skewness", "kurtosis", "x", "y"):
            parameters[name] = hillas[name]
        parameters["psi"] = hillas.psi.to(u.rad)
        for name in ("length", "width"):
            parameters[name] = np.arctan2(hillas[name], 28 * u.m).to(u.deg)
        parameters["time_gradient"] = timing.slope.to_value(1 / u.m)
        parameters["intercept"] = timing.intercept
        leakage = leakage_parameters(geometry, image, mask)
        parameters |= {f"leakage_{name}": leakage[name] for name in leakage.fields}
    concentration = ("cog", "core", "pixel")
    return parameters | {f"concentration_{name}": 0.3 for name in concentration}


def write_lstchain(path, subarray, images, rows, is_simulation=True):
    """Write a file.

    ``rows`` are tuples of observation, event, telescope, event type and pointing
    (altitude and azimuth in deg), one for each image.
    """
    image, time, mask = images
    keys = ("obs_id", "event_id", "tel_id")
    parameters = []
    for i, (obs_id, event_id, tel_id, event_type, altitude, azimuth) in enumerate(rows):
        row = dict(zip(keys, (obs_id, event_id, tel_id), strict=True))
        row |= lstchain_parameters(subarray, image[i], time[i], mask[i])
        row |= {"alt_tel": np.deg2rad(altitude) * u.rad}
        row |= {"az_tel": np.deg2rad(azimuth) * u.rad, "event_type": event_type}
        row |= {"trigger_time": START + event_id, "mc_type": -9999}
        if is_simulation:
            row |= {
                "mc_type": 101,
                "mc_energy": (0.1 + event_id) * u.TeV,
                "mc_alt": np.deg2rad(altitude + 0.5) * u.rad,
                "mc_az": np.deg2rad(azimuth - 0.5) * u.rad,
                "mc_core_x": 10.0 * event_id * u.m,
                "mc_core_y": -20.0 * event_id * u.m,
                "mc_h_first_int": 21 * u.km,
                "mc_x_max": 300 * u.g / u.cm**2,
            }
        else:
            row["dragon_time"] = START + event_id + 0.25
        parameters.append(row)
    ids = {key: [row[key] for row in parameters] for key in keys}
    subarray.to_hdf(path, overwrite=True)
    table = QTable({**ids, "image": image, "peak_time": time, "image_mask": mask})
    write_table(table, path, "/dl1/event/telescope/image/LST_LSTCam")
    columns = {name: [row[name] for row in parameters] for name in parameters[0]}
    columns = {
        name: u.Quantity(values) if isinstance(values[0], u.Quantity) else values
        for name, values in columns.items()
    }
    write_table(QTable(columns), path, "/dl1/event/telescope/parameters/LST_LSTCam")
    if is_simulation:
        runs = sorted({row[0] for row in rows})
        table = QTable({"obs_id": runs, "n_showers": [1000 + run for run in runs]})
        table["energy_range_min"] = np.full(len(runs), 0.005) * u.TeV
        table["spectral_index"] = -2.0
        write_table(table, path, "/simulation/run_config")
    return path


def change(path, node, **columns):
    """Replace columns of a table."""
    with tables.open_file(path, "r+") as h5file:
        for name, values in columns.items():
            h5file.root[node].modify_column(column=values, colname=name)
