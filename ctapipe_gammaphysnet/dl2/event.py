"""Fill DL2 into ctapipe's events, and mark what is not finite as not valid."""

from ..events.event import predictions_of, triggered_telescopes
from .columns import are_usable, is_error
from .containers import (
    CONTAINERS,
    PROPERTIES,
    array_container,
    group_name,
    needed_fields,
    telescope_container,
    value_of,
    with_unit,
)

__all__ = [
    "fill_invalid",
    "fill_telescope",
    "invalidate_stereo",
    "name_model",
]


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
        Columns from `dl2.columns.telescope_columns`.
    row : int
        The telescope's row in the columns.
    """
    for kind, values in columns.items():
        fields = CONTAINERS[kind][0].fields
        values = {
            name: with_unit(column[row], fields[name].unit)
            for name, column in values.items()
        }
        _set_container(event, tel_id, prefix, kind, values)


def fill_invalid(event, tel_id, prefix, kinds):
    """Fill the DL2 containers of a telescope for which nothing is predicted.

    Parameters
    ----------
    event, tel_id, prefix : ctapipe.containers.ArrayEventContainer, int, str
        As for `fill_telescope`.
    kinds : list of str
        Which containers to fill: with NaN, and ``is_valid`` False.
    """
    for kind in kinds:
        _set_container(event, tel_id, prefix, kind, {})


def _set_container(event, tel_id, prefix, kind, values):
    name = group_name(prefix, kind)
    container = telescope_container(prefix, kind, **values)
    predictions_of(event, kind, tel_id)[name] = container


def invalidate_stereo(event, kind, name):
    """Mark the prediction of the array in an event as invalid if it is not finite.

    Any combiner may return NaN: with weights that are not finite, such as
    ``length / width`` of an image that is a line.

    Parameters
    ----------
    event : ctapipe.containers.ArrayEventContainer
        The event.
    kind : str
        Kind of prediction: a key of `PROPERTIES`.
    name : str
        Name of its group.

    Returns
    -------
    bool
        Whether it is valid.
    """
    containers = predictions_of(event, kind)
    stereo = containers[name]
    needed = needed_fields(kind)
    columns = {
        field: value_of(stereo[field])
        for field in stereo.keys()
        if field in needed or is_error(field)
    }
    if stereo.is_valid and are_usable(columns, needed):
        return True
    containers[name] = CONTAINERS[kind][0](prefix=name, telescopes=[])
    return False


def name_model(event, prefix, kinds, model):
    """Name the model in the DL2 containers of an event.

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
    attributes = model.attributes()
    for kind in kinds:
        name = group_name(prefix, kind)
        for tel_id in triggered_telescopes(event):
            predictions_of(event, kind, tel_id)[name].meta = attributes.copy()
        if kind in PROPERTIES:
            array = predictions_of(event, kind)
            values = dict(array[name].items())
            array[name] = array_container(prefix, kind, model, **values)
