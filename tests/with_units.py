"""The package's plain arrays, with units: wrong ones cannot be compared by mistake."""

import astropy.units as u

from ctapipe_gammaphysnet.dl2 import columns
from ctapipe_gammaphysnet.dl2.containers import CONTAINERS
from ctapipe_gammaphysnet.tasks import direction, energy, impact
from ctapipe_gammaphysnet.tasks.frames import radians


def energy_from_target(target):
    return u.Quantity(energy.energy_from_target(target), u.TeV)


def direction_from_target(target, *pointing):
    alt, az = direction.direction_from_target(target, *map(radians, pointing))
    return u.Quantity(alt, u.deg), u.Quantity(az, u.deg)


def impact_from_target(target, position, *pointing):
    where = position.to_value(u.m), *map(radians, pointing)
    core, tilted = impact.impact_from_target(target, *where)
    return u.Quantity(core, u.m), u.Quantity(tilted, u.m)


def telescope_columns(
    outputs, pointing_alt, pointing_az, position, altitude=None, targets=None
):
    """Columns in the units of their containers, whatever units the arguments have."""
    where = radians(pointing_alt), radians(pointing_az), position.to_value(u.m)
    altitude = None if altitude is None else altitude.to_value(u.m)
    found = columns.telescope_columns(outputs, *where, altitude, targets)
    for kind, values in found.items():
        for name, field in CONTAINERS[kind][0].fields.items():
            if name in values and field.unit is not None:
                values[name] = u.Quantity(values[name], field.unit)
    return found
