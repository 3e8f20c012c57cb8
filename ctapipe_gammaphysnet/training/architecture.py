"""The network that a user asks for."""

from ctapipe.core import ToolConfigurationError
from pydantic import ValidationError

from ..network import NetworkConfig

__all__ = ["choose_network"]


def choose_network(section, **settings):
    """Check the settings of a network.

    Parameters
    ----------
    section : str
        Section of the configuration that they are in.
    **settings
        As for `NetworkConfig`.

    Returns
    -------
    NetworkConfig
        The network.

    Raises
    ------
    ToolConfigurationError
        If there is no such network; the message says which setting is wrong.
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
