"""Check the optional libraries of a tool."""

import importlib
import importlib.util

from ctapipe.core import ToolConfigurationError

from ..figures.drawing import check_drawing

__all__ = ["require_modules"]


def require_modules(*modules):
    """Check that optional libraries are installed and work.

    Parameters
    ----------
    *modules : str
        The modules that the tool imports; each has the name of its library.

    Raises
    ------
    ToolConfigurationError
        If one is missing, or does not work; the message says what to install.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        # By name, not with an extra of this package: pip then leaves a PyTorch for CPUs
        # as it is, and needs no index that has this package.
        raise ToolConfigurationError(
            f"this tool needs {', '.join(missing)}, not installed here: "
            f"python -m pip install {' '.join(missing)}"
        )
    if "matplotlib" in modules:
        # First: other libraries import it, and would fail with the user's settings.
        check_drawing()
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ToolConfigurationError(
                f"this tool needs {name}, which is installed but cannot be imported: "
                f"{error}. Install it again: python -m pip install --force-reinstall "
                f"{name}"
            ) from error
