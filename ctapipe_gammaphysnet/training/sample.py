"""The training sample: telescope types of files, and the images of each."""

import numpy as np
from ctapipe.core import Provenance, ToolConfigurationError

from ..events.opening import open_events
from ..events.showers import is_for_validation
from ..events.site import read_fields
from ..model.telescope import check_alike
from .index import EventIndex, TrainingDataError, check_file, read_index

__all__ = [
    "check_batch_size",
    "check_training",
    "check_validation",
    "common_field",
    "common_telescopes",
    "read_telescopes",
    "split_images",
]

#: Productions for one site describe its field as that of different years.
_FIELD_TOLERANCE_UT = 0.5


def read_telescopes(paths, names):
    """Read the telescope types of files that have all that training needs.

    Parameters
    ----------
    paths : list of pathlib.Path
        The files.
    names : list of str
        The telescope types to find; all if it is empty.

    Returns
    -------
    dict of str to ctapipe.instrument.TelescopeDescription
        The telescope types, as returned by `common_telescopes`.
    """
    arrays = {}
    for path in paths:
        arrays[path] = check_file(path)
        Provenance().add_input_file(
            path, role="DL1 images for training", add_meta=False
        )
    return common_telescopes(arrays, names)


def common_field(paths):
    """Find the geomagnetic field of the showers, which must be that of one site.

    Parameters
    ----------
    paths : list of pathlib.Path
        The files.

    Returns
    -------
    tuple of float
        Components to the north, to the west and up in µT, of the first run.

    Raises
    ------
    TrainingDataError
        If a file does not say it, or it differs by more than 0.5 µT between runs; the
        message names the files.
    DL1FileError
        If a file cannot be read.
    """
    known = []
    for path in paths:
        with open_events(path, "EQUIVALENT", needed=()) as reader:
            fields = read_fields(reader)
        if fields is None:
            raise TrainingDataError(
                f"{path} does not say the geomagnetic field of its showers: leave the "
                "condition geomagnetic_field out (TrainGammaPhysNet.conditions)"
            )
        known += [(path, field) for field in fields]
    first, field = known[0]
    for path, other in known[1:]:
        if np.abs(other - field).max() > _FIELD_TOLERANCE_UT:
            raise TrainingDataError(
                f"the showers of {first} and {path} are in different geomagnetic "
                f"fields: {_describe_field(field)}, and {_describe_field(other)}. "
                "Train on files of one site, or leave the condition geomagnetic_field "
                "out (TrainGammaPhysNet.conditions)"
            )
    return tuple(field.tolist())


def _describe_field(field_ut):
    north, west, up = field_ut
    return f"{north:.1f} µT to the north, {west:.1f} to the west, {up:.1f} up"


def common_telescopes(arrays, names):
    """Find the telescope types, which must be in all files, with equal telescopes.

    Parameters
    ----------
    arrays : dict of pathlib.Path to ctapipe.instrument.SubarrayDescription
        The array of each file.
    names : list of str
        The telescope types to find; all if it is empty.

    Returns
    -------
    dict of str to ctapipe.instrument.TelescopeDescription
        The telescope types, by their names.

    Raises
    ------
    ToolConfigurationError
        If a type is not in all files, or differs between them.
    """
    types = {
        path: sorted(set(map(str, subarray.telescope_types)))
        for path, subarray in arrays.items()
    }
    telescopes = {}
    for name in names or dict.fromkeys(
        n for present in types.values() for n in present
    ):
        for path, present in types.items():
            if name not in present:
                raise ToolConfigurationError(
                    f"{path} has no telescopes of type {name}, only "
                    f"{', '.join(present)}: leave out the file, or choose the types to "
                    "train for with --telescope-types"
                )
        telescopes[name] = check_alike(arrays, name)
    return telescopes


def split_images(
    paths, labels, telescope, query, validation_fraction, tasks, atmosphere=None
):
    """Select the images of a telescope type, and split them by their showers.

    Parameters
    ----------
    paths : list of pathlib.Path
        The files.
    labels : list of {0, 1}
        Label of each file: 0 for signal, 1 for background.
    telescope : str
        Telescope type, for example ``LST_LST_LSTCam``.
    query : ImageQualityQuery
        Selects the images, and counts them.
    validation_fraction : float
        Share of the showers kept for validation.
    tasks : collection of str
        What networks learn.
    atmosphere : ctapipe.atmosphere.AtmosphereDensityProfile, optional
        The atmosphere of the showers; by default that of each file.

    Returns
    -------
    training, validation : EventIndex
        The images.
    """
    index = EventIndex.concatenate(
        [
            read_index(path, number, telescope, label, query, tasks, atmosphere)
            for number, (path, label) in enumerate(zip(paths, labels, strict=True))
        ]
    )
    kept = is_for_validation(index.shower, validation_fraction)
    return index.select(~kept), index.select(kept)


def check_training(telescope, training, n_classes, selection):
    """Check that there are training images.

    Parameters
    ----------
    telescope : str
        Telescope type.
    training : EventIndex
        The images.
    n_classes : {1, 2}
        2 if background is needed, too.
    selection : str
        Counts of the selection.

    Raises
    ------
    TrainingDataError
        If there are no images of a class.
    """
    counts = _counts(training)
    if min(counts[:n_classes]) == 0:
        raise TrainingDataError(
            f"{telescope}: {counts[0]} images of signal and {counts[1]} of background "
            "are left for training. Leave this telescope type out "
            "(--telescope-types), or give more files. Counts of the selection:\n"
            f"{selection}"
        )


def check_batch_size(telescope, training, recipe, log):
    """Check that a batch is not larger than the sample, and must repeat images.

    Parameters
    ----------
    telescope, training : str, EventIndex
        As in `check_training`.
    recipe : Recipe
        Has the batch size.
    log : logging.Logger
        Where to warn if the default is too large, as for small tests.

    Raises
    ------
    TrainingDataError
        If a batch size that is not the default is too large.
    """
    if recipe.batch_size <= len(training):
        return
    problem = (
        f"{telescope}: a batch of {recipe.batch_size} images is larger than the sample "
        f"of {len(training)} images for training"
    )
    advice = "Lower --batch-size, or give more files"
    if recipe.batch_size != type(recipe).batch_size.default_value:
        raise TrainingDataError(f"{problem}. {advice}")
    log.warning("%s: it repeats images. %s", problem, advice)


def check_validation(telescope, validation, n_classes, n_processes, needed, log):
    """Check that there are validation images.

    Parameters
    ----------
    telescope : str
        Telescope type.
    validation : EventIndex
        The images.
    n_classes : {1, 2}
        2 if background is expected, too.
    n_processes : int
        Number of processes that split them.
    needed : bool
        Whether early stopping needs images of all classes.
    log : logging.Logger
        Where to warn if images are missing, but not needed.

    Raises
    ------
    TrainingDataError
        If needed images are missing, or there are fewer images than processes.
    """
    counts = _counts(validation)[:n_classes]
    if min(counts) == 0:
        problem = (
            f"{telescope}: of {len(validation)} images for validation, {counts[0]} are "
            "signal" + (f" and {counts[1]} are background" if n_classes > 1 else "")
        )
        if needed:
            raise TrainingDataError(
                f"{problem}: Recipe.patience needs them. Raise "
                "TrainGammaPhysNet.validation_fraction, or leave out the patience"
            )
        log.warning("%s", problem)
    if 0 < len(validation) < n_processes:
        raise TrainingDataError(
            f"{telescope}: {len(validation)} images for validation are fewer than the "
            f"{n_processes} processes that split them: raise "
            "TrainGammaPhysNet.validation_fraction, or set it to 0"
        )


def _counts(index):
    """Numbers of images of signal and of background."""
    return np.bincount(index.label, minlength=2)
