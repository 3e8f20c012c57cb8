"""Write the page of each command, from the tool's own description and traits."""

import inspect
import textwrap
from pathlib import Path

from ctapipe.core import Tool
from traitlets import Undefined, UseEnum
from traitlets.config import Application

from ctapipe_gammaphysnet.events.lstchain import LSTChainDL1EventSource
from ctapipe_gammaphysnet.events.quality import ImageQualityQuery
from ctapipe_gammaphysnet.reconstructor import GammaPhysNetReconstructor
from ctapipe_gammaphysnet.simulation.source import AirShowerEventSource
from ctapipe_gammaphysnet.tools.apply import ApplyGammaPhysNet
from ctapipe_gammaphysnet.tools.evaluate import EvaluateGammaPhysNet
from ctapipe_gammaphysnet.tools.explain import ExplainGammaPhysNet
from ctapipe_gammaphysnet.tools.import_model import ImportGammaPhysNet
from ctapipe_gammaphysnet.tools.train import TrainGammaPhysNet

TOOLS = [
    ApplyGammaPhysNet,
    EvaluateGammaPhysNet,
    ExplainGammaPhysNet,
    ImportGammaPhysNet,
    TrainGammaPhysNet,
]
#: What this package adds to ``ctapipe-process``.
COMPONENTS = [
    GammaPhysNetReconstructor,
    ImageQualityQuery,
    AirShowerEventSource,
    LSTChainDL1EventSource,
]


def write(app):
    """Write the pages; called by Sphinx.

    Parameters
    ----------
    app : sphinx.application.Sphinx
        The running build.
    """
    folder = Path(app.srcdir) / "commands"
    folder.mkdir(exist_ok=True)
    for tool in TOOLS:
        (folder / f"{tool.name}.md").write_text(page(tool))
    (folder / "ctapipe-process.md").write_text(process_page())


def page(tool):
    """Describe a command.

    Parameters
    ----------
    tool : type
        Class of the tool.

    Returns
    -------
    str
        The page, in Markdown.
    """
    examples = textwrap.dedent(tool.examples).strip()
    flags = [
        f"| `--{_last(name)}` | {_line(text)} |" for name, (_, text) in _flags(tool)
    ]
    sections = [
        f"# {tool.name}",
        inspect.cleandoc(tool.__doc__),
        "## Examples",
        f"```text\n{examples}\n```",
        "## Switches",
        "\n".join(["| switch | |", "|---|---|", *flags]),
        "## Options",
        "On the command line an option is `--Section.option=value`, or the short form.",
    ]
    short = short_forms(tool)
    sections += [section_table(section, short) for section in (tool, *tool.classes)]
    return "\n\n".join(filter(None, sections)) + "\n"


def process_page():
    """Describe what this package adds to ``ctapipe-process``.

    Returns
    -------
    str
        The page, in Markdown.
    """
    sections = [
        "# ctapipe-process",
        "What this package adds to it.",
        "## Options",
        "On the command line an option is `--Section.option=value`.",
        *(section_table(section, {}) for section in COMPONENTS),
    ]
    return "\n\n".join(sections) + "\n"


def section_table(section, short):
    """Describe a section of a configuration.

    Parameters
    ----------
    section : type
        Class of the section.
    short : dict of str to str
        From `short_forms`.

    Returns
    -------
    str
        Heading and table, in Markdown; empty for a section without options.
    """
    traits = {
        name: trait
        for name, trait in sorted(section.class_traits(config=True).items())
        # Those of all programs of traitlets and ctapipe are in their help.
        if trait.this_class not in (Application, Tool)
    }
    rows = [_row(section, trait, short) for trait in traits.values()]
    head = f"### {section.__name__}\n\n| option | default | |\n|---|---|---|\n"
    return head + "\n".join(rows) if rows else ""


def short_forms(tool):
    """Map full names of options to their short forms."""
    forms = {}
    for alias, target in tool.aliases.items():
        names = alias if isinstance(alias, tuple) else (alias,)
        target = target[0] if isinstance(target, tuple) else target
        dashes = (f"`-{n}`" if len(n) == 1 else f"`--{n}`" for n in names)
        forms[target] = "<br>".join(dashes)
    return forms


def _flags(tool):
    return sorted(tool.flags.items(), key=lambda flag: _last(flag[0]))


def _last(names):
    return names[-1] if isinstance(names, tuple) else names


def _line(text):
    return " ".join((text or "").split()).replace("``", "`").replace("|", "\\|")


def _row(section, trait, short):
    full = (f"{base.__name__}.{trait.name}" for base in section.__mro__)
    forms = dict.fromkeys(short[name] for name in full if name in short)
    name = "<br>".join([f"`{trait.name}`", *forms])
    default = trait.default()
    if isinstance(trait, UseEnum):
        default = default.name
    shown = "" if default in (None, Undefined, "", []) else f"`{default!r}`"
    return f"| {name} | {shown} | {_line(trait.help)} |"
