"""Write the page of each command, from the tool's own description and traits."""

import inspect
import textwrap
from pathlib import Path

from traitlets import UseEnum
from traitlets.config import Configurable

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
#: Options that all tools of ctapipe have.
COMMON = {"Tool", "Application", "GammaPhysNetTool"}


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
    sections = [
        f"# {tool.name}",
        inspect.cleandoc(tool.__doc__),
        "## Examples",
        f"```text\n{examples}\n```",
        "## Options",
        "On the command line an option is `--Section.option=value`, or the short form.",
    ]
    short = short_forms(tool)
    for section in configurables(tool):
        rows = [row(section, trait, short) for trait in traits_of(section)]
        if rows:
            table = ["| option | default | |", "|---|---|---|", *rows]
            sections += [f"### {section.__name__}", "\n".join(table)]
    return "\n\n".join(sections) + "\n"


def configurables(tool):
    """List the sections of a tool's configuration, its own first."""
    found = [tool, *tool.classes]
    for section in list(found):
        found += [base for base in section.__mro__ if issubclass(base, Configurable)]
    unique = dict.fromkeys(found)
    return [section for section in unique if section.__name__ not in COMMON]


def traits_of(section):
    """List the options that a section adds to those of its bases."""
    own = section.class_own_traits(config=True)
    return [own[name] for name in sorted(own)]


def short_forms(tool):
    """Map full names of options to their short forms."""
    aliases = {}
    for alias, target in tool.aliases.items():
        name = alias[-1] if isinstance(alias, tuple) else alias
        target = target[0] if isinstance(target, tuple) else target
        aliases[target] = f"--{name}"
    return aliases


def row(section, trait, short):
    """Make the row of an option."""
    full = f"{section.__name__}.{trait.name}"
    name = f"`{trait.name}`"
    if full in short:
        name += f"<br>`{short[full]}`"
    default = trait.default_value_repr()
    if isinstance(trait, UseEnum):
        default = trait.default_value.name
    elif default in {"traitlets.Undefined", "''", "None", "[]"}:
        default = ""
    text = " ".join((trait.help or "").split()).replace("``", "`").replace("|", "\\|")
    return f"| {name} | {f'`{default}`' if default else ''} | {text} |"
