"""Labelled images of one telescope type, from ctapipe DL1 files of simulations."""

from dataclasses import dataclass, fields

import astropy.units as u
import numpy as np
import tables
from ctapipe.core import ToolConfigurationError
from ctapipe.io import TableLoader

from ..dl1 import prepare_images
from ..targets import direction_to_target, energy_to_target, impact_to_target

__all__ = ["Sample", "TrainingDataError", "check_file", "read_sample"]

#: Particle id of gammas in ctapipe's simulated showers: sim_telarray's ids.
_GAMMA_ID = 0
_IMAGES = "/dl1/event/telescope/images"
_PARAMETERS = "/dl1/event/telescope/parameters"
_SHOWERS = "/simulation/event/subarray/shower"


class TrainingDataError(ToolConfigurationError, ValueError):
    """A file cannot be used for training; the message says why."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Labelled images of one telescope type.

    Attributes
    ----------
    inputs : numpy.ndarray
        Charge in p.e. and peak time in ns, shape (n, 2, n_pixels), float32.
    energy : numpy.ndarray
        log10(E / TeV), shape (n, 1), float32.
    direction : numpy.ndarray
        fov_lon, fov_lat in the TelescopeFrame in deg, shape (n, 2), float32.
    impact : numpy.ndarray
        Impact point minus telescope in the TiltedGroundFrame in km, shape (n, 2),
        float32.
    label : numpy.ndarray
        0 for signal and 1 for background, shape (n,), int64.
    shower : numpy.ndarray
        Number of the simulated shower, shape (n,), int64: images with the same number
        show the same shower, through several telescopes or reused.
    pointing : numpy.ndarray
        Altitude and azimuth of the telescope in deg, shape (n, 2).
    noise : numpy.ndarray
        Standard deviation in p.e. of the charge in the pixels of each image that the
        cleaning left out, shape (n,); NaN where there is none.
    """

    inputs: np.ndarray
    energy: np.ndarray
    direction: np.ndarray
    impact: np.ndarray
    label: np.ndarray
    shower: np.ndarray
    pointing: np.ndarray
    noise: np.ndarray

    def __len__(self):
        return len(self.inputs)

    @classmethod
    def concatenate(cls, samples):
        """Join samples; their shower numbers are kept apart.

        Parameters
        ----------
        samples : list of Sample
            The samples, at least one.

        Returns
        -------
        Sample
            All of them.
        """
        columns = {
            field.name: np.concatenate([getattr(s, field.name) for s in samples])
            for field in fields(cls)
            if field.name != "shower"
        }
        shower, n_showers = [], 0
        for sample in samples:
            shower.append(sample.shower + n_showers)
            n_showers += sample.shower.max(initial=-1) + 1
        return cls(**columns, shower=np.concatenate(shower))

    def select(self, mask):
        """Select images.

        Parameters
        ----------
        mask : numpy.ndarray
            Which to keep, shape (n,), bool.

        Returns
        -------
        Sample
            The selected images.
        """
        return Sample(**{f.name: getattr(self, f.name)[mask] for f in fields(self)})

    def split(self, fraction, seed):
        """Split by shower: no shower has images on both sides.

        Parameters
        ----------
        fraction : float
            Share of the showers in the second part.
        seed : int
            Seed of the choice.

        Returns
        -------
        first, second : Sample
            The two parts.
        """
        showers = np.unique(self.shower)
        rng = np.random.default_rng(seed)
        n_second = int(round(fraction * len(showers)))
        second = np.isin(self.shower, rng.permutation(showers)[:n_second])
        return self.select(~second), self.select(second)


def check_file(path):
    """Check that a file has what training needs: images, parameters and truth.

    Parameters
    ----------
    path : str or pathlib.Path
        A ctapipe HDF5 file.

    Raises
    ------
    TrainingDataError
        If it has not, with what to do.
    """
    if not tables.is_hdf5_file(str(path)):
        raise TrainingDataError(f"{path} is not a ctapipe DL1 file (HDF5)")
    with tables.open_file(path) as file:
        for group, missing, remedy in (
            (_IMAGES, "no DL1 images", "make it with 'ctapipe-process --write-images'"),
            (
                _PARAMETERS,
                "no DL1 parameters",
                "make it with 'ctapipe-process --write-parameters'",
            ),
            (
                _SHOWERS,
                "no simulated showers",
                "training needs the truth of simulations, not observations",
            ),
        ):
            if group not in file:
                raise TrainingDataError(f"{path} has {missing}: {remedy}")


def read_sample(path, telescope, label, quality_query, cleaned=False):
    """Read the images of one telescope type with their truth.

    Parameters
    ----------
    path : str or pathlib.Path
        A ctapipe DL1 file of simulations, with images and parameters.
    telescope : str
        Telescope type, for example ``LST_LST_LSTCam``.
    label : {0, 1}
        0 if the file is signal (gammas), 1 if it is background.
    quality_query : ctapipe.core.QualityQuery
        Selects the images by their DL1 parameters, and counts them.
    cleaned : bool
        Whether to leave out pixels that did not survive the image cleaning.

    Returns
    -------
    Sample
        The selected images.

    Raises
    ------
    TrainingDataError
        If particles are not what the label says, or the pointing is not known.
    """
    # The focal length does not matter here, and old files know only one.
    with TableLoader(path, focal_length_choice="EQUIVALENT") as loader:
        table = loader.read_telescope_events(
            [telescope],
            dl1_images=True,
            dl1_parameters=True,
            dl2=False,
            simulated=True,
            true_parameters=False,
            pointing=True,
        )
        positions = dict(
            zip(
                loader.subarray.tel_ids,
                loader.subarray.tel_coords.cartesian.xyz.to_value(u.m).T,
                strict=True,
            )
        )
    _check_particles(path, table, label)
    table = table[quality_query.get_table_mask(table)]
    pointing_alt, pointing_az = (
        u.Quantity(table[f"telescope_pointing_{angle}"]).astype(float)
        for angle in ("altitude", "azimuth")
    )
    if not np.isfinite(pointing_alt.value + pointing_az.value).all():
        raise TrainingDataError(
            f"{path}: the pointing of {telescope} is not known for all its events"
        )
    position = np.reshape([positions[t] for t in table["tel_id"]], (-1, 3))
    masks = np.asarray(table["image_mask"])
    inputs, has_pixels = prepare_images(
        np.asarray(table["image"]), np.asarray(table["peak_time"]), masks, cleaned
    )
    # Telescopes of one shower, and the reuses of one simulated shower, share these.
    shower = np.column_stack(
        [
            np.asarray(table[name], dtype=float)
            for name in ("obs_id", "true_energy", "true_alt", "true_h_first_int")
        ]
    )
    sample = Sample(
        inputs=inputs,
        energy=energy_to_target(u.Quantity(table["true_energy"])).astype(np.float32),
        direction=direction_to_target(
            u.Quantity(table["true_alt"]),
            u.Quantity(table["true_az"]),
            pointing_alt,
            pointing_az,
        ).astype(np.float32),
        impact=impact_to_target(
            u.Quantity(table["true_core_x"]),
            u.Quantity(table["true_core_y"]),
            u.Quantity(position, u.m),
            pointing_alt,
            pointing_az,
        ).astype(np.float32),
        label=np.full(len(table), label),
        shower=np.unique(shower, axis=0, return_inverse=True)[1].reshape(-1),
        pointing=np.column_stack(
            [pointing_alt.to_value(u.deg), pointing_az.to_value(u.deg)]
        ),
        noise=np.array(
            [
                _noise(image[~mask])
                for image, mask in zip(table["image"], masks, strict=True)
            ]
        ),
    )
    return sample.select(has_pixels)


def _noise(charge):
    """Standard deviation of the finite charges, NaN if there is none."""
    charge = charge[np.isfinite(charge)]
    return charge.std() if len(charge) > 0 else np.nan


def _check_particles(path, table, label):
    particles = np.unique(table["true_shower_primary_id"])
    is_gamma = particles == _GAMMA_ID
    if label == 0 and not is_gamma.all():
        raise TrainingDataError(
            f"{path} was given as signal, but has particles with the ids "
            f"{particles[~is_gamma].tolist()}; gammas have {_GAMMA_ID}"
        )
    if label == 1 and is_gamma.any():
        raise TrainingDataError(f"{path} was given as background, but has gammas")
