"""Find sections at the top of a file, or nested as in ctapipe-process."""

from copy import deepcopy
from itertools import chain

from ctapipe.core import ToolConfigurationError

from .sections import is_ours, merged_section

__all__ = ["at_the_top", "refuse_selection", "unused_sections"]

#: Sections in that of ``ctapipe-process`` that can contain ours.
_IN_CTAPIPE_PROCESS = {
    "GammaPhysNetReconstructor": ("ShowerProcessor",),
    "Contact": ("DataWriter",),
    "Instrument": ("DataWriter",),
    "EventTypeFilter": (),
}
#: Options of ctapipe's event sources that leave out telescopes or events.
_SELECTING = ("allowed_tels", "max_events")


def at_the_top(config, tool, components):
    """Move the sections of all components of a tool to the top.

    Parameters
    ----------
    config : traitlets.config.Config
        A configuration; not modified.
    tool : type
        The tool.
    components : iterable of type
        Its components; the tool may be among them.

    Returns
    -------
    traitlets.config.Config
        The same configuration. Nested sections take precedence over those at the top.
    """
    own, flat = tool.__name__, deepcopy(config)
    for component in components:
        name, sections = component.__name__, component.section_names()
        if name == own:
            continue
        section = merged_section(config, sections)
        for host in _hosts(tool, name):
            section.merge(merged_section(merged_section(config, *host), sections))
        if own in flat:
            flat[own].pop(name, None)
        if section:
            flat[name] = section
    return flat


def _hosts(tool, name):
    """Sections that may contain a section; later ones take precedence."""
    hosts = [[tool.section_names()]]
    if name in _IN_CTAPIPE_PROCESS:
        inside = [(section,) for section in _IN_CTAPIPE_PROCESS[name]]
        hosts.insert(0, [("Tool", "ProcessorTool"), *inside])
    return hosts


def unused_sections(config, components):
    """Find sections that a tool does not read.

    Parameters
    ----------
    config : traitlets.config.Config
        A configuration.
    components : iterable of type
        The tool, and its components.

    Returns
    -------
    list of str
        The sections at the top that none of our tools reads.
    """
    used = {name for component in components for name in component.section_names()}
    used |= {"ProcessorTool", *chain.from_iterable(_IN_CTAPIPE_PROCESS.values())}
    return [name for name in config if not (name in used or is_ours(name))]


def refuse_selection(config):
    """Refuse options that leave out telescopes or events, which our tools ignore.

    Parameters
    ----------
    config : traitlets.config.Config
        A configuration.

    Raises
    ------
    ToolConfigurationError
        If there is one.
    """
    sections = "EventSource", "HDF5EventSource"
    source = merged_section(config, ("Tool", "ProcessorTool"), sections)
    for option in _SELECTING:
        if source.get(option) is not None:
            raise ToolConfigurationError(
                f"EventSource.{option} does nothing here: this tool uses all "
                "telescopes and events of a file. Leave it out, or make a file with "
                "some of them with ctapipe-process"
            )
