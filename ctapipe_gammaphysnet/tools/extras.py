"""What to install for a tool whose libraries are not there."""

import importlib.util

from ctapipe.core import ToolConfigurationError

__all__ = ["require_modules"]


def require_modules(*modules):
    """Check that libraries are installed which not everybody needs.

    Parameters
    ----------
    *modules : str
        The modules that the tool imports; each is called like its library.

    Raises
    ------
    ToolConfigurationError
        If one is missing; the message says what to install.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        # By their names, not with an extra of this package: so pip leaves a PyTorch
        # for CPUs as it is, and needs no index that has this package.
        raise ToolConfigurationError(
            f"{', '.join(missing)} is not installed, which this tool needs: "
            f"python -m pip install {' '.join(missing)}"
        )
