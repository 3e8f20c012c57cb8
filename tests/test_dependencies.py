"""What the package imports is declared: for all, or with the extra that needs it."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ctapipe_gammaphysnet"
#: Folders of the package; the empty name is the package's own modules.
ROOMS = ["", *(path.parent.name for path in sorted(PACKAGE.glob("*/__init__.py")))]
#: Rooms whose libraries come with an extra, or with any of several.
EXTRAS = {
    "training": ["train"],
    "evaluation": ["evaluate"],
    "explanation": ["explain"],
    "figures": ["train", "evaluate", "explain"],
}
#: What is imported only if it is there: PyTorch for GPUs brings triton, and who makes
#: the table of collisions anew installs chromo.
NOT_DECLARED = {"network": {"triton"}, "simulation": {"chromo"}}


def imported(path):
    """Top-level names of the modules of others that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


def declared():
    """Distributions of the base install, and of each extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {
        extra: {re.match(r"[\w.-]+", text)[0].lower() for text in group}
        for extra, group in groups.items()
    }


def test_every_room_and_every_extra_is_there():
    assert {*EXTRAS, *NOT_DECLARED} <= set(ROOMS)
    assert {extra for extras in EXTRAS.values() for extra in extras} <= set(declared())


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_room_imports_is_declared(room):
    paths = list((PACKAGE / room).glob("**/*.py" if room else "*.py"))
    modules = {name for path in paths for name in imported(path)}
    distributions = packages_distributions()
    groups = declared()
    # With any of the extras it must be there.
    extras = [groups[extra] for extra in EXTRAS.get(room, [])]
    allowed = groups[""] | (set.intersection(*extras) if extras else set())
    for module in modules - sys.stdlib_module_names - NOT_DECLARED.get(room, set()):
        names = {name.lower() for name in distributions.get(module, [module])}
        assert names & allowed, f"{module} is not declared for {room or 'all'}"
