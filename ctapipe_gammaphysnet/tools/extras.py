"""What to install for a tool whose libraries are not there, or are broken."""

import importlib
import importlib.util

from ctapipe.core import ToolConfigurationError

from ..figures.drawing import check_drawing

__all__ = ["require_modules"]


def require_modules(*modules):
    """Check that libraries work which not everybody needs.

    Parameters
    ----------
    *modules : str
        The modules that the tool imports; each is called like its library.

    Raises
    ------
    ToolConfigurationError
        If one is missing, or does not work; the message says what to install.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        # By their names, not with an extra of this package: so pip leaves a PyTorch
        # for CPUs as it is, and needs no index that has this package.
        raise ToolConfigurationError(
            f"{', '.join(missing)} is not installed, which this tool needs: "
            f"python -m pip install {' '.join(missing)}"
        )
    if "matplotlib" in modules:
        # First: libraries that import it, too, would stumble over the user's settings.
        check_drawing()
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ToolConfigurationError(
                f"{name}, which this tool needs, is installed, but cannot be imported: "
                f"{error}. Install it again: python -m pip install --force-reinstall "
                f"{name}"
            ) from error
