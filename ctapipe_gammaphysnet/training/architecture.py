"""The architecture that a user chooses."""

from ctapipe.core import ToolConfigurationError
from pydantic import ValidationError

from ..network import NetworkConfig

__all__ = ["choose_network"]


def choose_network(section, **settings):
    """Check the settings of a network.

    Parameters
    ----------
    section : str
        Their section in the configuration.
    **settings
        As in `NetworkConfig`.

    Returns
    -------
    NetworkConfig
        The network.

    Raises
    ------
    ToolConfigurationError
        If a setting is wrong; the message names it.
    """
    try:
        return NetworkConfig(**settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["loc"]:
        value = f"{first['input']} {message.replace('Input should', 'should')}"
        message = f"{section}.{first['loc'][0]}: {value}"
    raise ToolConfigurationError(message)
