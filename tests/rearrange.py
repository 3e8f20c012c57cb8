"""Rename the cameras of a DL1 file, and list their pixels in another order."""

import numpy as np
import tables
from spoil import change_rows

CAMERAS = "/configuration/instrument/telescope/camera"
LAYOUT = "/configuration/instrument/subarray/layout"
IMAGES = "/dl1/event/telescope/images/tel_{:03d}"
TRUE_IMAGES = "/simulation/event/telescope/images/tel_{:03d}"


def random_order(n_pixels, seed=0):
    return np.random.default_rng(seed).permutation(n_pixels)


def rearrange_pixels(path, tel_ids, order=None, name=None, turn=1):
    """Give telescopes of one type a camera of their own.

    Its pixels are those at the numbers in ``order``, turned about the origin by the
    angle of a complex number; images keep up with them.
    """
    with tables.open_file(path, "r+") as file:
        layout = file.root[LAYOUT][:]
        chosen = np.isin(layout["tel_id"], tel_ids)
        (old,) = set(layout["camera_index"][chosen])
        new = sum(n.startswith("geometry_") for n in file.root[CAMERAS]._v_children)
        for part in ("geometry", "readout"):
            node = file.root[CAMERAS]._f_get_child(f"{part}_{old}")
            node.copy(newname=f"{part}_{new}")
        geometry = file.root[CAMERAS]._f_get_child(f"geometry_{new}")
        geometry.attrs["CAM_ID"] = name or geometry.attrs["CAM_ID"]
        layout["camera_index"][chosen] = new
        if name is not None:
            layout["camera_name"][chosen] = name
            layout["tel_description"][chosen] = f"LST_LST_{name}"
        file.root[LAYOUT][:] = layout
        n_pixels = len(geometry)
    order = np.arange(n_pixels) if order is None else order

    def move(rows):
        rows = rows[order]
        xy = (rows["pix_x"] + 1j * rows["pix_y"]) * turn
        rows["pix_x"], rows["pix_y"] = xy.real, xy.imag
        rows["pix_id"] = np.arange(len(rows))
        return rows

    def permute(rows):
        for column in rows.dtype.names:
            if rows[column].ndim == 2:
                rows[column] = rows[column][:, order]
        return rows

    change_rows(path, f"{CAMERAS}/geometry_{new}", move)
    for tel_id in tel_ids:
        for node in (IMAGES.format(tel_id), TRUE_IMAGES.format(tel_id)):
            change_rows(path, node, permute)
    return path
