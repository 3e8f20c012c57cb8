"""What to install for a tool whose libraries are not there."""

import importlib.util

from ctapipe.core import ToolConfigurationError

__all__ = ["require_extra"]


def require_extra(extra, *modules):
    """Check that the libraries of an extra of this package are installed.

    Parameters
    ----------
    extra : str
        Name of the extra, for example ``train``.
    *modules : str
        The modules that the tool imports from it.

    Raises
    ------
    ToolConfigurationError
        If one is missing; the message says what to install.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ToolConfigurationError(
            f"{', '.join(missing)} is not installed. This tool needs the extra "
            f"'{extra}': pip install 'ctapipe_gammaphysnet[{extra}]'"
        )
