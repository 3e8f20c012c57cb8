"""Outputs of the networks to ctapipe's DL2: columns, containers, stereo combination.

The columns are those of ctapipe's containers, in their units. The mean over the members
is taken of what the networks regress (log10 of the energy, offsets in the telescope and
in the tilted ground frame) and of the probabilities of the classes. The spread of the
members, where a container has a field for it, is the standard deviation of the physical
quantity over the members; with a single member it is NaN.
"""

from typing import NamedTuple

import astropy.units as u
import numpy as np
from ctapipe.containers import (
    ParticleClassificationContainer,
    ReconstructedEnergyContainer,
    ReconstructedGeometryContainer,
    TelescopeImpactParameterContainer,
)
from ctapipe.coordinates.utils import altaz_to_righthanded_cartesian
from ctapipe.core import Field
from ctapipe.reco.reconstructor import ReconstructionProperty

from .compat import PARTICLE_TYPE
from .stereo import combine_cores
from .targets import direction_from_target, energy_from_target, impact_from_target

__all__ = [
    "CONTAINERS",
    "PROPERTIES",
    "ModelName",
    "array_container",
    "combine_core",
    "complete_geometry",
    "fill_invalid",
    "fill_telescope",
    "group_names",
    "invalidate_array",
    "invalidate_stereo",
    "kind_of",
    "kinds_of_tasks",
    "name_model",
    "telescope_columns",
    "telescope_container",
]


#: Characters of a note, and digits of a hash, that go into the output.
_NOTE_LENGTH = 1000
_MODEL_DIGITS = 16
_MODEL = "Model file: first digits of its SHA-256"


class ModelName(NamedTuple):
    """What a model file is known by.

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


class _ArrayEnergy(ReconstructedEnergyContainer):
    model = Field("", _MODEL, max_length=_MODEL_DIGITS)


class _ArrayGeometry(ReconstructedGeometryContainer):
    model = Field("", _MODEL, max_length=_MODEL_DIGITS)


class _ArrayParticleType(ParticleClassificationContainer):
    model = Field("", _MODEL, max_length=_MODEL_DIGITS)


#: Container and name of each kind of DL2 information. The name follows the prefix:
#: each property has a group of its own, because TableLoader and the IRF tools confuse
#: the validity flags and telescope lists of properties that share one.
CONTAINERS = {
    "energy": (ReconstructedEnergyContainer, "Energy"),
    "geometry": (ReconstructedGeometryContainer, "Geometry"),
    PARTICLE_TYPE: (ParticleClassificationContainer, "Classifier"),
    "impact": (TelescopeImpactParameterContainer, "Geometry"),
}
#: The property by which ctapipe's combiners know each kind.
PROPERTIES = {
    "energy": ReconstructionProperty.ENERGY,
    "geometry": ReconstructionProperty.GEOMETRY,
    PARTICLE_TYPE: ReconstructionProperty.PARTICLE_TYPE,
}
#: Without which a prediction of the array is not valid. The impact point may be
#: missing: a network can be without that task.
_NEEDED = {
    "energy": ("energy",),
    "geometry": ("alt", "az"),
    PARTICLE_TYPE: ("prediction",),
}
#: Containers of the array, which name the model in each row: attributes of tables that
#: are merged are those of the first file.
_ARRAY_CONTAINERS = {
    "energy": _ArrayEnergy,
    "geometry": _ArrayGeometry,
    PARTICLE_TYPE: _ArrayParticleType,
}


def kinds_of_tasks(tasks):
    """Find which kinds of DL2 information a network's tasks give.

    Parameters
    ----------
    tasks : collection of str
        The network's tasks.

    Returns
    -------
    list of str
        Keys of `CONTAINERS`: energy; geometry, where there is a direction; the particle
        type; and the impact distance, where there are direction and impact point.
    """
    needs = {
        "energy": {"energy"},
        "geometry": {"direction"},
        PARTICLE_TYPE: {"class"},
        "impact": {"direction", "impact"},
    }
    return [kind for kind, needed in needs.items() if needed <= set(tasks)]


def kind_of(combiner):
    """Find which kind of DL2 information a combiner combines.

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


def group_names(prefix):
    """Name the DL2 groups.

    Parameters
    ----------
    prefix : str
        The common stem, for example ``GammaPhysNet``.

    Returns
    -------
    dict of str to str
        Name of the group, and prefix of its columns, of each kind.
    """
    return {kind: prefix + name for kind, (_, name) in CONTAINERS.items()}


def telescope_columns(outputs, pointing_alt, pointing_az, position):
    """Turn the outputs of one telescope type's networks into DL2 columns.

    Parameters
    ----------
    outputs : dict of str to numpy.ndarray
        For each task, shape (n_members, n, n_outputs), as the predictor gives them.
    pointing_alt, pointing_az : astropy.units.Quantity
        Pointing of the telescope at each image, shape (n,).
    position : astropy.units.Quantity
        Telescope of each image in the GroundFrame, shape (n, 3).

    Returns
    -------
    dict of str to dict of str to array
        For each kind the columns of its container, shape (n,), with units: energy in
        TeV, alt and az in deg, positions and distances in m in the GroundFrame and in
        the TiltedGroundFrame of the telescope's pointing. Where ``is_valid`` is False
        all others are NaN.
    """
    columns = {}
    if "energy" in outputs:
        columns["energy"] = _energy_columns(outputs["energy"])
    if "direction" in outputs:
        columns.update(_geometry_columns(outputs, pointing_alt, pointing_az, position))
    if "class" in outputs:
        gammaness = outputs["class"][..., 0].mean(axis=0)
        columns[PARTICLE_TYPE] = {"prediction": gammaness}
    for container in columns.values():
        _invalidate(container)
    # The container of impact distances has no flag: NaN says it all.
    columns.get("impact", {}).pop("is_valid", None)
    return columns


def _with_mean(outputs):
    """The mean over members, followed by the members: (1 + n_members, n, ...)."""
    return np.concatenate([outputs.mean(axis=0, keepdims=True), outputs])


def _mean_and_spread(values):
    """First row, and standard deviation of the others: NaN if that is a single one."""
    members = values[1:]
    if len(members) == 1:
        return values[0], np.full_like(members[0], np.nan)
    return values[0], members.std(axis=0, ddof=1)


def _energy_columns(output):
    # What is too large for a number becomes infinite, and what is too small 0: neither
    # is an energy.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        energy, uncertainty = _mean_and_spread(energy_from_target(_with_mean(output)))
        energy = np.where(energy > 0, energy, np.nan)
    return {"energy": energy, "energy_uncert": uncertainty}


def _geometry_columns(outputs, pointing_alt, pointing_az, position):
    """Columns of geometry and impact: directions, impact points, distances."""
    offset = _with_mean(outputs["direction"])
    shape = offset.shape[:2]
    # ctapipe's tables have pointings in float32: too coarse to compute with.
    pointing = [
        np.tile(angle.astype(float), shape[0]) for angle in (pointing_alt, pointing_az)
    ]
    alt, az = direction_from_target(offset.reshape(-1, 2), *pointing)
    values = {("alt", "alt_uncert"): alt, ("az", "az_uncert"): az}
    distance = None
    if "impact" in outputs:
        position = np.tile(position, (shape[0], 1))
        core, tilted = impact_from_target(
            _with_mean(outputs["impact"]).reshape(-1, 2), position, *pointing
        )
        distance = _impact_distance(alt, az, core, position)
        values |= {
            ("core_x", "core_uncert_x"): core[:, 0],
            ("core_y", "core_uncert_y"): core[:, 1],
            ("core_tilted_x", "core_tilted_uncert_x"): tilted[:, 0],
            ("core_tilted_y", "core_tilted_uncert_y"): tilted[:, 1],
        }

    geometry = {}
    for (name, uncertainty), value in values.items():
        value = value.reshape(shape)
        mean = value[0]
        if name == "az":
            # As differences from their mean, so that they do not wrap at north.
            value = (value - mean + 180 * u.deg) % (360 * u.deg)
        geometry[name] = mean
        geometry[uncertainty] = _mean_and_spread(value)[1]
    # In the telescope frame, where nothing is distorted near the zenith.
    with np.errstate(invalid="ignore"):
        lon, lat = np.moveaxis(offset, -1, 0)
        _, spread = _mean_and_spread(np.stack([lon * np.cos(np.deg2rad(lat)), lat], -1))
    geometry["ang_distance_uncert"] = u.Quantity(np.hypot(*spread.T), u.deg)
    if distance is None:
        return {"geometry": geometry}
    distance, uncertainty = _mean_and_spread(distance.reshape(shape))
    impact = {"distance": distance, "distance_uncert": uncertainty}
    return {"geometry": geometry, "impact": impact}


def _impact_distance(alt, az, core, position):
    """Distance of telescopes from shower axes, shape (n,), as ctapipe defines it."""
    direction = altaz_to_righthanded_cartesian(alt=alt, az=az)
    from_core = position.to_value(u.m) - np.pad(core.to_value(u.m), ((0, 0), (0, 1)))
    return u.Quantity(np.linalg.norm(np.cross(from_core, direction), axis=-1), u.m)


def _invalidate(columns):
    """Set the validity flags: a row is valid if all it predicts is finite."""
    valid = _are_usable(columns, [name for name in columns if "uncert" not in name])
    for value in columns.values():
        value[~valid] = np.nan
    columns["is_valid"] = valid


def _are_usable(columns, needed):
    """Rows in which all that is needed is finite, and nothing is infinite.

    What is not known is NaN: the spread of a single member, for example.
    """
    finite = [np.isfinite(columns[name]) for name in needed]
    return np.all([*finite, *(~np.isinf(v) for v in columns.values())], axis=0)


def invalidate_array(kind, columns):
    """Make predictions of the array invalid that are not finite.

    Parameters
    ----------
    kind : str
        Which: a key of `PROPERTIES`.
    columns : dict of str to numpy.ndarray
        Columns of its container, shape (n_events,), and ``telescopes``, a mask, shape
        (n_events, n_telescopes), bool. They are changed: rows that are not valid, or
        not finite, become NaN, without telescopes and with ``is_valid`` False. An
        uncertainty or an impact point that is not known may be NaN.
    """
    telescopes, valid = columns.pop("telescopes"), columns.pop("is_valid")
    valid = valid & _are_usable(columns, _NEEDED[kind])
    for value in columns.values():
        value[~valid] = np.nan
    columns["telescopes"] = telescopes & valid[:, np.newaxis]
    columns["is_valid"] = valid


def invalidate_stereo(event, kind, name):
    """Make the prediction of the array of an event invalid if it is not finite.

    Whatever combines telescopes may give NaN: with weights that are not finite, such
    as ``length / width`` of an image that is a line.

    Parameters
    ----------
    event : ctapipe.containers.ArrayEventContainer
        The event.
    kind : str
        Which prediction: a key of `PROPERTIES`.
    name : str
        Name of its group.

    Returns
    -------
    bool
        Whether it is valid.
    """
    containers = getattr(event.dl2.stereo, kind)
    stereo = containers[name]
    columns = {
        field: u.Quantity(stereo[field]).value
        for field in stereo.keys()
        if field in _NEEDED[kind] or "uncert" in field
    }
    if not (stereo.is_valid and _are_usable(columns, _NEEDED[kind])):
        containers[name] = CONTAINERS[kind][0](prefix=name, telescopes=[])
    return bool(containers[name].is_valid)


def fill_telescope(event, tel_id, prefix, columns, row):
    """Fill the DL2 containers of one telescope of an event.

    Parameters
    ----------
    event : ctapipe.containers.ArrayEventContainer
        The event to fill.
    tel_id : int
        The telescope.
    prefix : str
        Common stem of the groups' names.
    columns : dict of str to dict of str to array
        As `telescope_columns` gives them.
    row : int
        The telescope's row in the columns.
    """
    for kind, values in columns.items():
        _set_container(
            event, tel_id, prefix, kind, {k: v[row] for k, v in values.items()}
        )


def fill_invalid(event, tel_id, prefix, kinds):
    """Fill the DL2 containers of a telescope for which nothing is predicted.

    Parameters
    ----------
    event : ctapipe.containers.ArrayEventContainer
        The event to fill.
    tel_id : int
        The telescope.
    prefix : str
        Common stem of the groups' names.
    kinds : list of str
        Which containers to fill: with NaN, and ``is_valid`` False.
    """
    for kind in kinds:
        _set_container(event, tel_id, prefix, kind, {})


def _set_container(event, tel_id, prefix, kind, values):
    name = group_names(prefix)[kind]
    container = telescope_container(prefix, kind, **values)
    getattr(event.dl2.tel[tel_id], kind)[name] = container


def telescope_container(prefix, kind, **values):
    """Make a DL2 container of one telescope.

    Parameters
    ----------
    prefix : str
        Common stem of the groups' names.
    kind : str
        Which: a key of `CONTAINERS`.
    **values
        The container's fields. Without any, nothing is predicted: NaN, and ``is_valid``
        False.

    Returns
    -------
    ctapipe.core.Container
        The container, with the prefix of its columns.
    """
    suffix = "_tel_impact" if kind == "impact" else "_tel"
    return CONTAINERS[kind][0](prefix=group_names(prefix)[kind] + suffix, **values)


def array_container(prefix, kind, model, **values):
    """Make a DL2 container of the array.

    Parameters
    ----------
    prefix : str
        Common stem of the groups' names.
    kind : str
        Which: a key of `PROPERTIES`.
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
        prefix=group_names(prefix)[kind], model=model.sha256[:_MODEL_DIGITS], **values
    )
    container.meta = model.attributes()
    return container


def name_model(event, prefix, kinds, model):
    """Have the DL2 containers of an event name the model that they are from.

    Parameters
    ----------
    event : ctapipe.containers.ArrayEventContainer
        The event, with its DL2 of telescopes and array.
    prefix : str
        Common stem of the groups' names.
    kinds : list of str
        The kinds of DL2 information.
    model : ModelName
        The model.
    """
    for kind in kinds:
        name = group_names(prefix)[kind]
        for tel_id in event.trigger.tels_with_trigger:
            event.dl2.tel[tel_id][kind][name].meta = model.attributes()
        if kind in PROPERTIES:
            array = event.dl2.stereo[kind]
            values = dict(array[name].items())
            array[name] = array_container(prefix, kind, model, **values)


def combine_core(event, name):
    """Add the impact point to the stereo geometry, from those of the telescopes.

    ctapipe's combiners leave it out. It is the mean over the valid telescopes in the
    GroundFrame, weighted by the intensity of their images; its uncertainty is the
    weighted standard deviation. The tilted impact point is that in the frame of the
    array's pointing.

    Parameters
    ----------
    event : ctapipe.containers.ArrayEventContainer
        The event, with its DL2 of the telescopes and a stereo geometry.
    name : str
        Name of the geometry.
    """
    stereo = event.dl2.stereo.geometry[name]
    if not stereo.is_valid:
        return
    mono = {
        tel_id: event.dl2.tel[tel_id].geometry[name] for tel_id in stereo.telescopes
    }
    # A network without the task impact gives a direction, but no impact point.
    tel_ids = [
        tel_id
        for tel_id, g in mono.items()
        if np.isfinite(g.core_x) and np.isfinite(g.core_y)
    ]
    if not tel_ids:
        return
    pointing = event.monitoring.pointing
    columns = combine_cores(
        np.array([mono[tel_id].core_x.to_value(u.m) for tel_id in tel_ids]),
        np.array([mono[tel_id].core_y.to_value(u.m) for tel_id in tel_ids]),
        np.array([event.dl1.tel[t].parameters.hillas.intensity for t in tel_ids]),
        np.zeros(len(tel_ids), dtype=int),
        np.atleast_1d(pointing.array_altitude),
        np.atleast_1d(pointing.array_azimuth),
    )
    for field, (value,) in columns.items():
        stereo[field] = value * u.m


def complete_geometry(event, name):
    """Add to the stereo geometry what ctapipe's combiners leave out.

    The impact point; and that a single telescope has no spread, where the combiner
    says 0.

    Parameters
    ----------
    event : ctapipe.containers.ArrayEventContainer
        The event, with its DL2 of the telescopes and a stereo geometry.
    name : str
        Name of the geometry.
    """
    combine_core(event, name)
    stereo = event.dl2.stereo.geometry[name]
    if stereo.is_valid and len(stereo.telescopes) < 2:
        stereo.ang_distance_uncert = np.nan * u.deg
