"""What tells others about the package: citation, metadata, recipe, changes, wheel."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
CODEMETA = json.loads((ROOT / "codemeta.json").read_text())
#: Other names of distributions in conda-forge.
CONDA_NAMES = {
    "astropy": "astropy-base",
    "blosc2": "python-blosc2",
    "ctapipe": "ctapipe-base",
    "matplotlib": "matplotlib-base",
    "tables": "pytables",
    "torch": "pytorch",
}


def test_citation_has_what_its_format_asks_for():
    assert CITATION["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type", "version"} <= set(CITATION)
    (paper,) = CITATION["references"]
    assert len(paper["authors"]) == 5
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert paper["title"] in readme
    assert paper["url"] in readme


def test_names_and_licences_agree():
    assert CITATION["title"] == CODEMETA["name"] == PROJECT["name"]
    assert CITATION["license"] == PROJECT["license"]
    assert CODEMETA["license"].endswith(f"/{PROJECT['license']}")
    assert CITATION["keywords"] == CODEMETA["keywords"] == PROJECT["keywords"]
    assert CODEMETA["description"] == PROJECT["description"]
    assert CODEMETA["programmingLanguage"]["version"] == PROJECT["requires-python"]
    (author,), (organization,) = PROJECT["authors"], CODEMETA["author"]
    assert CITATION["authors"] == [author]
    assert organization["name"] == author["name"]


def test_all_tell_the_version_of_the_newest_changes():
    newest = re.search(r"^(\d+\.\d+\.\d+) \(", (ROOT / "CHANGES.rst").read_text(), re.M)
    assert CITATION["version"] == CODEMETA["version"] == newest[1]


def split(requirement):
    """Name and versions of a requirement."""
    return re.fullmatch(r"([\w.-]+)\s*(.*)", requirement).groups()


def test_the_recipe_needs_what_the_package_needs():
    # Jinja's lines are for conda alone.
    text = (ROOT / "conda/meta.yaml").read_text()
    text = re.sub(r"\{%.*?%\}", "", text).replace("{{", "'{{").replace("}}", "}}'")
    text = re.sub(r"^(\s+script: )(.*)$", r"\1unread", text, flags=re.M)
    text = re.sub(r"^(\s+- SETUPTOOLS.*)$", "", text, flags=re.M)
    recipe = yaml.safe_load(text)
    extras = PROJECT["optional-dependencies"]
    python = f"python {PROJECT['requires-python']}"

    def in_conda(requirements):
        pairs = map(split, requirements)
        return {f"{CONDA_NAMES.get(name, name)} {limits}" for name, limits in pairs}

    run = set(recipe["requirements"]["run"])
    assert run == in_conda(PROJECT["dependencies"]) | {python}
    optional = [*extras["train"], *extras["evaluate"], *extras["explain"]]
    constrained = recipe["requirements"]["run_constrained"]
    assert set(constrained) == in_conda(optional)
    scripts = {f"{name} = {at}" for name, at in PROJECT["scripts"].items()}
    assert set(recipe["build"]["entry_points"]) == scripts
    assert recipe["about"]["license"] == PROJECT["license"]
    assert recipe["about"]["summary"] == PROJECT["description"]


@pytest.fixture
def copy(tmp_path):
    """What a release changes, elsewhere."""
    for name in ("pyproject.toml", "CHANGES.rst"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "changes", tmp_path / "changes")
    return tmp_path


KINDS = ["feature", "change", "bugfix", "model"]


def test_all_fragments_are_of_a_known_kind():
    """Towncrier leaves out the others without a word."""
    names = {path.name for path in (ROOT / "changes").iterdir()} - {"README.md"}
    assert all(re.fullmatch(rf"\+[\w-]+\.({'|'.join(KINDS)})\.rst", n) for n in names)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fragment_ends_in_the_changes(copy, kind):
    before = (copy / "CHANGES.rst").read_text()
    (copy / f"changes/+planted.{kind}.rst").write_text("Something planted.\n")
    command = [sys.executable, "-m", "towncrier", "build", "--yes", "--version=9.9.9"]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    after = (copy / "CHANGES.rst").read_text()
    title = after.index("9.9.9 (")
    assert title < after.index("Something planted.") < after.index("0.1.0 (")
    # Nothing of before is lost.
    head, tail = before.split("0.1.0 (")
    assert after.startswith(head.rstrip())
    assert after.endswith(tail)
    assert not (copy / f"changes/+planted.{kind}.rst").exists()
    assert (copy / "changes/README.md").exists()


def test_the_wheel_has_all_files_of_the_package():
    """Those of the repository, where what is tested is installed."""
    import ctapipe_gammaphysnet

    installed = Path(ctapipe_gammaphysnet.__file__).parent
    source = ROOT / "ctapipe_gammaphysnet"
    if installed == source:
        pytest.skip("no wheel is installed: the package is that of the repository")
    for path in source.glob("**/*"):
        if path.is_file() and "__pycache__" not in path.parts:
            there = installed / path.relative_to(source)
            assert there.read_bytes() == path.read_bytes()
