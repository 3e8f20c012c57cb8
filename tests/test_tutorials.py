"""The tutorials of the site, which are run when it is built."""

import ast
import importlib
import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from ctapipe_gammaphysnet.simulation.card import read_card

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs/tutorials"
TUTORIALS = sorted(FOLDER.glob("*.py"))
CARDS = sorted(FOLDER.glob("cards/full/*.yaml"))
#: What runs each command.
COMMANDS = {script.name: script for script in entry_points(group="console_scripts")}
each_tutorial = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def texts(path):
    """The blocks of text of a tutorial after the one at its top."""
    blocks = re.findall(r"^# %%\n((?:#.*\n)+)", path.read_text(), re.M)
    return [re.sub("^# ?", "", block, flags=re.M) for block in blocks]


def run_tools(path):
    """The tools that a tutorial runs, each with what it is given."""
    tree = ast.parse(path.read_text())
    modules = {
        name.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "run_tool":
            name = node.args[0].func.id
            tool = getattr(importlib.import_module(modules[name]), name)
            values = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
            yield tool, [value for value in values if isinstance(value, str)]


def commands(path):
    """The commands in the text of a tutorial, each with its tool and words."""
    for text in texts(path):
        for block in re.findall(r"::\n\n((?: {4}.*\n)+)", text):
            name, *words = shlex.split(block.replace("\\\n", " "))
            if name == "ctapipe-process":
                module, function = "ctapipe.tools.process", "ProcessorTool"
                yield getattr(importlib.import_module(module), function), words
            else:
                module = importlib.import_module(COMMANDS[name].module)
                (tool,) = (getattr(module, of) for of in module.__all__ if of != "main")
                yield tool, words


def unknown_options(tool, words):
    """Those of the words that are options, but not of this tool."""
    tool = tool()
    known = {"--" + n for names in [*tool.aliases, *tool.flags] for n in _tuple(names)}
    for section in (type(tool), *tool.classes):
        traits = section.class_traits(config=True)
        known |= {f"--{section.__name__}.{trait}" for trait in traits}
    options = (re.match(r"--[\w.-]+", word) for word in words)
    return {option[0] for option in options if option} - known


def _tuple(names):
    return names if isinstance(names, tuple) else (names,)


def test_they_are_in_order():
    numbers = [path.name.partition("_")[0] for path in TUTORIALS]
    assert numbers == ["1", "2", "3", "4", "5"]
    assert "gallery/index" in (ROOT / "docs/index.md").read_text()


@each_tutorial
def test_a_tutorial_has_title_text_and_figures(path):
    source = path.read_text()
    code = compile(source, path, "exec", flags=ast.PyCF_ONLY_AST)
    title, line, _, introduction = ast.get_docstring(code).split("\n", 3)
    assert len(line) >= len(title)
    assert set(line) == {"="}
    assert introduction.endswith(".")
    assert len(texts(path)) > 4
    assert "plt.show()" in source


@each_tutorial
def test_tools_have_the_options_that_they_are_given(path):
    found = [*run_tools(path), *commands(path)]
    assert len(found) > 1
    for tool, words in found:
        assert not unknown_options(tool, words), tool


def test_an_unknown_option_is_found(tmp_path):
    """What the test above must not overlook."""
    path = tmp_path / "wrong.py"
    path.write_text(
        "from ctapipe.tools.process import ProcessorTool\n"
        "# %%\n# In a shell::\n#\n#     ctapipe-apply-gammaphysnet --modell a \\\n"
        "#         --output b\n"
        "run_tool(ProcessorTool(), argv=['--input=a', f'--outputs={b}'])\n"
    )
    ((ours, words), *_), ((theirs, argv), *_) = commands(path), run_tools(path)
    assert unknown_options(ours, words) == {"--modell"}
    assert unknown_options(theirs, argv) == {"--outputs"}


@each_tutorial
def test_pages_that_are_named_exist(path):
    source = path.read_text()
    for name in re.findall(r":doc:`/([\w/]+)`", source):
        assert (ROOT / "docs" / f"{name}.md").exists()
    for name in re.findall(r"<sphx_glr_gallery_(\w+\.py)>", source):
        assert (FOLDER / name).exists()


def test_pages_of_the_site_link_to_tutorials():
    pages = [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/guide/*.md")]
    text = "".join(page.read_text() for page in pages)
    linked = set(re.findall(r"/gallery/(\d\w+)>`", text))
    assert linked <= {path.stem for path in TUTORIALS}
    assert len(linked) == 4


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.name)
def test_small_samples_are_like_full_ones(path):
    full, small = read_card(path), read_card(path.parents[1] / "small" / path.name)
    size = {"showers", "runs"}
    assert full.model_dump(exclude=size) == small.model_dump(exclude=size)
    assert small.showers * small.runs < full.showers * full.runs


def test_samples_are_of_new_showers():
    """Neither what the demonstration model has seen, nor those of each other."""
    cards = [read_card(path) for path in CARDS]
    used = {(card.particle, card.seed) for card in cards}
    assert len(used) == len(cards) == 6
    others = map(read_card, ROOT.glob("examples/*/*.airshower.yaml"))
    assert used.isdisjoint((card.particle, card.seed) for card in others)
