"""The properties of a shower that a network can predict, one module for each.

The rest of the package finds them in `TASKS`. A new property needs a module and its
line here. Importing this imports neither torch nor ctapipe nor astropy.
"""

from .direction import DIRECTION
from .energy import ENERGY
from .h_max import H_MAX
from .impact import IMPACT
from .particle import CLASS

__all__ = ["TASKS", "class_first", "default_tasks"]

#: All properties by name.
TASKS = {task.name: task for task in (ENERGY, DIRECTION, IMPACT, CLASS, H_MAX)}


def default_tasks():
    """List the tasks that networks have by default.

    Returns
    -------
    tuple of str
        The paper's tasks.
    """
    return tuple(name for name, task in TASKS.items() if not task.optional)


def class_first():
    """Order the properties as in the paper's figures.

    Returns
    -------
    dict of str to Task
        The `TASKS`, with the class first.
    """
    return dict(sorted(TASKS.items(), key=lambda item: item[1].of_gammas))
