"""Configuration sections: which are ours, and which take precedence.

Our sections may be at the top of a file, or nested as in ``ctapipe-process``
(``ShowerProcessor: GammaPhysNetReconstructor: ImageQualityQuery``). They mean the same
in all tools. The command line takes precedence. A section that nothing reads is an
error.
"""

import pkgutil
import warnings
from contextlib import suppress
from copy import deepcopy
from difflib import get_close_matches
from functools import cache
from importlib import import_module

import ctapipe.tools
from ctapipe.core import ToolConfigurationError
from ctapipe.core.plugins import detect_and_import_plugins
from traitlets.config import Config, Configurable

__all__ = [
    "CommandLineFirst",
    "check_options_at_top",
    "check_sections",
    "is_ours",
    "merged_section",
    "tool_of",
]

_PACKAGE = __package__.partition(".")[0]
#: Our tools and components: their modules, and the sections inside theirs.
_OURS = {
    "ApplyGammaPhysNet": (
        "tools.apply",
        ("GammaPhysNetReconstructor", "EventTypeFilter", "Contact", "Instrument"),
    ),
    "TrainGammaPhysNet": (
        "tools.train",
        (
            *("TrainingQualityQuery", "EventTypeFilter"),
            *("Recipe", "InputTransformation", "Augmentation"),
        ),
    ),
    "EvaluateGammaPhysNet": (
        "tools.evaluate",
        ("TrainingQualityQuery", "EventTypeFilter"),
    ),
    "ExplainGammaPhysNet": (
        "tools.explain",
        ("TrainingQualityQuery", "EventTypeFilter"),
    ),
    "ImportGammaPhysNet": ("tools.import_model", ()),
    "GammaPhysNetReconstructor": (
        "reconstructor",
        ("ImageQualityQuery", "StereoCombiner"),
    ),
    "ImageQualityQuery": ("events.quality", ()),
    "TrainingQualityQuery": ("events.quality", ()),
    "Recipe": ("training.recipe", ()),
    "InputTransformation": ("training.recipe", ()),
    "Augmentation": ("training.augmentation", ()),
    "AirShowerEventSource": ("simulation.source", ()),
}
#: Sections of ctapipe that contain our sections, or others with the same name.
_HOSTS = {
    "ProcessorTool": ("ShowerProcessor", "EventSource"),
    "ShowerProcessor": ("GammaPhysNetReconstructor",),
    # It has its own ImageQualityQuery.
    "ImageProcessor": ("ImageQualityQuery",),
}


class CommandLineFirst:
    """Mixin of components: the command line takes precedence over files.

    traitlets prefers the more deeply nested section, even from a file.
    """

    def _find_my_config(self, cfg):
        # Copies: traitlets merges in place.
        found = super()._find_my_config(deepcopy(cfg))
        command_line = deepcopy(_command_line(self))
        found.merge(super()._find_my_config(command_line))
        # Components made by this one look here last, so these take precedence.
        found.merge({k: v for k, v in command_line.items() if isinstance(v, Config)})
        return found


def _command_line(component):
    return getattr(tool_of(component), "cli_config", Config())


def tool_of(component):
    """Find the tool that a component belongs to.

    Parameters
    ----------
    component : traitlets.config.Configurable
        A component, or a tool.

    Returns
    -------
    traitlets.config.Configurable
        The outermost parent: the tool, if there is one.
    """
    while component.parent is not None:
        component = component.parent
    return component


def merged_section(config, *chain):
    """Merge the sections of a component from all their places.

    Parameters
    ----------
    config : traitlets.config.Config
        The whole configuration; not modified.
    *chain : tuple of str
        Names of the sections of the component and of all that contain it, from the
        outermost; for each component, the most specific name last.

    Returns
    -------
    traitlets.config.Config
        The section that traitlets would find for a component with these parents.
    """
    found = Config()
    places = [config]
    if len(chain) > 1:
        places.append(merged_section(config, *chain[:-1]))
    for place in places:
        for name in chain[-1]:
            if name in place:
                found.merge(deepcopy(place[name]))
    return found


def check_sections(config):
    """Refuse our sections and options if they do nothing.

    Parameters
    ----------
    config : traitlets.config.Config
        The whole configuration, of any tool.

    Returns
    -------
    list of str
        Sections at the top that are unknown to us, ctapipe and its plugins.

    Raises
    ------
    ToolConfigurationError
        If a section or option does nothing, and is ours or similar to ours. The message
        suggests a correction.
    """
    unknown = []
    for name, section in config.items():
        _refuse_lower_case(name, section, "the configuration")
        if isinstance(section, Config):
            if not _is_known(name):
                _refuse_similar(name, "the configuration")
                unknown.append(name)
            _check_section(name, section)
    return unknown


def check_options_at_top(config):
    """Refuse options outside of sections, since nothing reads them.

    Parameters
    ----------
    config : traitlets.config.Config
        The whole configuration, of any tool.

    Raises
    ------
    ToolConfigurationError
        If there is one. The message suggests a correction.
    """
    for name, value in config.items():
        if not isinstance(value, Config):
            raise ToolConfigurationError(
                f"the option {name} of the configuration is in no section: "
                f"{_did_you_mean(_places_of_option(name))}"
            )


def is_ours(name):
    """Check whether a section belongs to this package.

    Parameters
    ----------
    name : str
        Its name.

    Returns
    -------
    bool
        Whether one of our tools or components reads it.
    """
    return name in _OURS


def _check_section(name, section):
    if is_ours(name):
        _check_options(name, section)
    children = _OURS[name][1] if is_ours(name) else _HOSTS.get(name, ())
    inside = _names_of(children)
    for key, value in section.items():
        _refuse_lower_case(key, value, name)
        if not isinstance(value, Config):
            continue
        if is_ours(key) and key not in inside:
            places = [place for place, (_, its) in _OURS.items() if key in its]
            places += [place for place, its in _HOSTS.items() if key in its]
            raise ToolConfigurationError(
                f"the section {key} does nothing in {name}: put it at the top"
                + "".join(f", or in {place}" for place in places)
            )
        if is_ours(name) and key not in inside:
            raise ToolConfigurationError(
                f"{name} reads no section {key}: {_advice(key, children)}"
            )
        if key not in inside and not _is_known(key):
            _refuse_similar(key, name)
        _check_section(key, value)


def _check_options(name, section):
    options = _class(name).class_trait_names(config=True)
    for key, value in section.items():
        if not isinstance(value, Config) and key not in options:
            of_others = _places_of_option(key)
            advice = (
                of_others
                if key in {place.rpartition(".")[2] for place in of_others}
                else get_close_matches(key, options) or of_others
            )
            raise ToolConfigurationError(
                f"{name} has no option {key}: {_did_you_mean(advice)}"
            )


def _class(name):
    module = import_module(f"{_PACKAGE}.{_OURS[name][0]}")
    return getattr(module, name)


def _places_of_option(name):
    """Our options with this or a similar name, or our section with this name.

    Options include their sections, such as ``Recipe.epochs``.
    """
    sections = {section.lower(): section for section in _OURS}
    if name.lower() in sections:
        return [sections[name.lower()]]
    options = {
        f"{section}.{option}": option
        for section in _OURS
        for option in _class(section).class_own_traits(config=True)
    }
    close = get_close_matches(name, set(options.values()), n=1)
    return [place for place, option in options.items() if option in close]


def _advice(name, candidates):
    return _did_you_mean(get_close_matches(name, candidates) or candidates)


def _did_you_mean(candidates):
    if not candidates:
        return "see --help-all"
    return f"did you mean {' or '.join(candidates)}?"


def _names_of(classes):
    """Names of the sections of classes, and of their parents."""
    names = set(classes)
    for cls in _subclasses(Configurable):
        sections = cls.section_names()
        if sections[-1] in classes or "StereoCombiner" in {*classes} & {*sections}:
            names.update(sections)
    return names


def _refuse_lower_case(name, value, where):
    """Refuse a section in lower case, which traitlets treats as an option."""
    meant = [ours for ours in _OURS if ours.lower() == name.lower()]
    if isinstance(value, dict) and not isinstance(value, Config) and meant:
        raise ToolConfigurationError(
            f"the section {name} in {where} is not known: did you mean {meant[0]}?"
        )


def _refuse_similar(name, where):
    of_others = {
        cls.__name__
        for cls in _subclasses(Configurable)
        if cls.__module__.partition(".")[0] != _PACKAGE
    }
    close = get_close_matches(name, {*_OURS, *of_others}, n=1)
    if close and is_ours(close[0]):
        raise ToolConfigurationError(
            f"the section {name} in {where} is not known: did you mean {close[0]}?"
        )


def _is_known(name):
    """Whether this is a section of ours, of ctapipe, or of its plugins."""
    if is_ours(name) or any(c.__name__ == name for c in _subclasses(Configurable)):
        return True
    _import_ctapipe()
    return any(cls.__name__ == name for cls in _subclasses(Configurable))


@cache
def _import_ctapipe():
    """Import all components, to find those that are not in use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in pkgutil.iter_modules(ctapipe.tools.__path__, "ctapipe.tools."):
            # Some modules need libraries that are not installed.
            with suppress(Exception):
                import_module(module.name)
        detect_and_import_plugins("ctapipe_io")
        detect_and_import_plugins("ctapipe_reco")


def _subclasses(cls):
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
