"""Traits and flags that several tools share, with the same help."""

from functools import partial

from ctapipe.core import traits
from ctapipe.instrument import FocalLengthKind

from ..files.paths import FilePath

__all__ = [
    "aliases",
    "atmosphere",
    "device",
    "focal_length_choice",
    "n_jobs",
    "output_dir",
    "output_path",
    "precision",
    "switches",
    "telescope_types",
]

output_path = partial(FilePath, default_value=None, allow_none=True, directory_ok=False)
output_dir = partial(
    FilePath,
    default_value=None,
    allow_none=True,
    file_ok=False,
    help="Folder to write, which appears when it is complete.",
)
focal_length_choice = partial(
    traits.UseEnum,
    FocalLengthKind,
    default_value=FocalLengthKind.EFFECTIVE,
    help=(
        "Which focal length to use: ``EQUIVALENT`` for old productions without the"
        " effective one."
    ),
)
atmosphere = partial(
    FilePath,
    default_value=None,
    allow_none=True,
    directory_ok=False,
    exists=True,
    help=(
        "File with the atmosphere of the showers, for the height of their maximum (task"
        " ``h_max``). By default that of each input; ctapipe-merge does not keep it."
    ),
)
device = partial(
    traits.Unicode,
    "auto",
    help="Where to compute: ``cpu``, ``cuda``, ``cuda:1`` or ``auto``.",
)
precision = partial(
    traits.CaselessStrEnum,
    ["float32", "bfloat16"],
    default_value="float32",
    help="Precision of the convolutions.",
)
n_jobs = partial(
    traits.Int,
    None,
    min=1,
    allow_none=True,
    help="Number of threads; default: one for each core.",
)


def telescope_types(purpose):
    """Make the trait of telescope types.

    Parameters
    ----------
    purpose : str
        Verb after "to".

    Returns
    -------
    traitlets.List
        The trait; empty by default, which means all.
    """
    return traits.List(
        traits.Unicode(),
        help=f"Telescope types to {purpose}, e.g. LST_LST_LSTCam. Default: all.",
    )


def aliases(section, *options):
    """Make short forms of options that have the name of their trait.

    Parameters
    ----------
    section : str
        Section of the options.
    *options : str
        Names on the command line, without dashes in front.

    Returns
    -------
    dict of str to str
        The traits, by option.
    """
    return {option: f"{section}.{option.replace('-', '_')}" for option in options}


def switches(section, **meanings):
    """Make flags that switch options on.

    Parameters
    ----------
    section : str
        Section of the options.
    **meanings : str
        Help for each option.

    Returns
    -------
    dict of str to tuple
        The flags, as for traitlets.
    """
    return {
        option.replace("_", "-"): ({section: {option: True}}, meaning)
        for option, meaning in meanings.items()
    }
