"""Containers and groups of DL2: one group for each property, named after the prefix."""

from typing import NamedTuple

import astropy.units as u
import numpy as np
from ctapipe.containers import (
    ParticleClassificationContainer,
    ReconstructedEnergyContainer,
    ReconstructedGeometryContainer,
    TelescopeImpactParameterContainer,
)
from ctapipe.core import Field
from ctapipe.reco.reconstructor import ReconstructionProperty

from ..compat import PARTICLE_TYPE
from ..tasks import TASKS

__all__ = [
    "CONTAINERS",
    "PROPERTIES",
    "ModelName",
    "array_container",
    "group_name",
    "group_names",
    "kind_of",
    "kinds_of_tasks",
    "needed_fields",
    "telescope_container",
    "value_of",
    "with_unit",
]

#: Characters of a note, and digits of a hash, that go into the output.
_NOTE_LENGTH = 1000
_MODEL_DIGITS = 16
_MODEL = "Model file: first digits of its SHA-256"


class ModelName(NamedTuple):
    """Identification of a model file.

    Attributes
    ----------
    sha256 : str
        Hash of the file, in hexadecimal digits.
    note : str
        The note of its card.
    """

    sha256: str
    note: str

    def attributes(self):
        """Make attributes of tables, which are written with a container's ``meta``.

        Returns
        -------
        dict of str to str
            Hash and note; the note is cut to what fits into an attribute.
        """
        return {
            "GAMMAPHYSNET_MODEL_SHA256": self.sha256,
            "GAMMAPHYSNET_MODEL_NOTE": self.note[:_NOTE_LENGTH],
        }


class _Geometry(ReconstructedGeometryContainer):
    """With the rest of the ellipses, of which ctapipe has only the widths."""

    alt_az_correlation = Field(
        np.nan, "correlation of the errors along altitude and azimuth"
    )
    core_correlation = Field(np.nan, "correlation of the errors of core_x and core_y")


class _ArrayEnergy(ReconstructedEnergyContainer):
    model = Field("", _MODEL, max_length=_MODEL_DIGITS)


class _ArrayGeometry(_Geometry):
    model = Field("", _MODEL, max_length=_MODEL_DIGITS)


class _ArrayParticleType(ParticleClassificationContainer):
    model = Field("", _MODEL, max_length=_MODEL_DIGITS)


#: Container and name of each kind of DL2 information. The name follows the prefix:
#: each property has a group of its own, because TableLoader and the IRF tools confuse
#: the validity flags and telescope lists of properties that share one.
CONTAINERS = {
    "energy": (ReconstructedEnergyContainer, "Energy"),
    "geometry": (_Geometry, "Geometry"),
    PARTICLE_TYPE: (ParticleClassificationContainer, "Classifier"),
    "impact": (TelescopeImpactParameterContainer, "Geometry"),
}
#: The property of each kind in ctapipe's combiners.
PROPERTIES = {
    "energy": ReconstructionProperty.ENERGY,
    "geometry": ReconstructionProperty.GEOMETRY,
    PARTICLE_TYPE: ReconstructionProperty.PARTICLE_TYPE,
}
#: Containers of the array, which name the model in each row: merged tables have only
#: the attributes of the first file.
_ARRAY_CONTAINERS = {
    "energy": _ArrayEnergy,
    "geometry": _ArrayGeometry,
    PARTICLE_TYPE: _ArrayParticleType,
}


def kinds_of_tasks(*networks):
    """Find the kinds of DL2 information that networks predict.

    Parameters
    ----------
    *networks : collection of str
        Tasks of each network.

    Returns
    -------
    list of str
        Keys of `CONTAINERS`: energy; geometry, if there is a direction; the particle
        type; and the impact distance, if there are direction and impact point.
    """
    found = set().union(
        *(TASKS[task].kinds(tasks) for tasks in networks for task in tasks)
    )
    return [kind for kind in CONTAINERS if kind in found]


def needed_fields(kind):
    """Find the fields without which a prediction of the array is not valid.

    The impact point may be missing: a network may not have that task.

    Parameters
    ----------
    kind : str
        Kind of prediction: a key of `PROPERTIES`.

    Returns
    -------
    list of str
        Fields of its container.
    """
    return [
        field
        for task in TASKS.values()
        for its_kind, field, _ in task.columns.values()
        if task.needed and its_kind == kind
    ]


def kind_of(combiner):
    """Find the kind of DL2 information that a combiner combines.

    Parameters
    ----------
    combiner : ctapipe.reco.StereoCombiner
        The combiner, of one property.

    Returns
    -------
    str
        A key of `PROPERTIES`.
    """
    (kind,) = [k for k, p in PROPERTIES.items() if p is combiner.property]
    return kind


def group_name(prefix, kind):
    """Name the DL2 group of a kind.

    Parameters
    ----------
    prefix : str
        The common stem, for example ``GammaPhysNet``.
    kind : str
        Kind of prediction: a key of `CONTAINERS`.

    Returns
    -------
    str
        Name of the group, and prefix of its columns.
    """
    return prefix + CONTAINERS[kind][1]


def group_names(prefix):
    """Name the DL2 groups.

    Parameters
    ----------
    prefix : str
        The common stem, for example ``GammaPhysNet``.

    Returns
    -------
    dict of str to str
        Name of the group, and prefix of its columns, for each kind.
    """
    return {kind: group_name(prefix, kind) for kind in CONTAINERS}


def telescope_container(prefix, kind, **values):
    """Make a DL2 container of one telescope.

    Parameters
    ----------
    prefix : str
        Common stem of the groups' names.
    kind : str
        Kind of prediction: a key of `CONTAINERS`.
    **values
        The container's fields. Without any, nothing is predicted: NaN, and ``is_valid``
        False.

    Returns
    -------
    ctapipe.core.Container
        The container, with the prefix of its columns.
    """
    suffix = "_tel_impact" if kind == "impact" else "_tel"
    return CONTAINERS[kind][0](prefix=group_name(prefix, kind) + suffix, **values)


def array_container(prefix, kind, model, **values):
    """Make a DL2 container of the array.

    Parameters
    ----------
    prefix : str
        As for `telescope_container`.
    kind : str
        Kind of prediction: a key of `PROPERTIES`.
    model : ModelName
        The model, which the container names.
    **values
        The container's fields.

    Returns
    -------
    ctapipe.core.Container
        The container, with the prefix of its columns.
    """
    container = _ARRAY_CONTAINERS[kind](
        prefix=group_name(prefix, kind), model=model.sha256[:_MODEL_DIGITS], **values
    )
    container.meta = model.attributes()
    return container


def with_unit(value, unit):
    """Give a number its unit, as ctapipe's containers want it.

    Parameters
    ----------
    value : float or bool or numpy.ndarray
        The number.
    unit : astropy.units.Unit or None
        The unit of the container's field.

    Returns
    -------
    astropy.units.Quantity, or the value itself without a unit
        The value of the field.
    """
    return value if unit is None else u.Quantity(value, unit)


def value_of(value, unit=None):
    """Take the number from the field of a container.

    Parameters
    ----------
    value : float or astropy.units.Quantity
        The value of the field.
    unit : astropy.units.Unit, optional
        The unit wanted; by default that of the value.

    Returns
    -------
    float
        The number.
    """
    return value.to_value(unit) if isinstance(value, u.Quantity) else value
