"""The README and the pages of the site: their links, and what is made of the code."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *DOCS.glob("*.md"),
    *DOCS.glob("guide/*.md"),
]

sys.path.insert(0, str(DOCS))
import command_reference  # noqa: E402


def headings(path):
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    words = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name
        assert path.exists(), target
        assert not anchor or anchor in headings(path), target


def test_all_pages_are_in_the_site():
    listed = re.findall(r"^([\w/]+)$", (DOCS / "index.md").read_text(), re.M)
    pages = {
        str(path.relative_to(DOCS).with_suffix(""))
        for kind in ("*.md", "*.rst", "guide/*.md")
        for path in DOCS.glob(kind)
    }
    assert set(listed) == pages - {"index"} | {"gallery/index"}


def test_the_readme_is_short():
    assert (ROOT / "README.md").stat().st_size < 8000


def test_all_commands_have_a_page():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # That one has no options: the page that lists the commands tells what it does.
    commands = set(project["scripts"]) - {"ctapipe-show-gammaphysnet"}
    assert {tool.name for tool in command_reference.TOOLS} == commands


@pytest.mark.parametrize("tool", command_reference.TOOLS, ids=lambda tool: tool.name)
def test_a_command_has_all_its_options(tool):
    page = command_reference.page(tool)
    assert tool.__doc__.splitlines()[0] in page
    rows = dict(re.findall(r"^\| `(\w+)`.*\| (.*) \|$", page, re.M))
    for section in (tool, *tool.classes):
        own = section.class_own_traits(config=True)
        assert set(own) <= set(rows), section
        if section.__module__.startswith("ctapipe_gammaphysnet."):
            assert all(rows[name].strip() for name in own)
    for names in [*tool.aliases, *tool.flags]:
        for name in names if isinstance(names, tuple) else [names]:
            assert f"`{'-' if len(name) == 1 else '--'}{name}`" in page


def test_what_is_added_to_ctapipe_process_is_described():
    page = command_reference.process_page()
    for component in command_reference.COMPONENTS:
        _, _, section = page.partition(f"### {component.__name__}\n")
        section, _, _ = section.partition("\n### ")
        for name in component.class_traits(config=True):
            assert f"| `{name}`" in section
