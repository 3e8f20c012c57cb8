"""Settings of the site: `sphinx-build -W docs docs/_build`."""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import command_reference

project = "ctapipe_gammaphysnet"
author = copyright = "The ctapipe_gammaphysnet developers"
version = release = version_of("ctapipe_gammaphysnet")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates", "tutorials"]
templates_path = ["_templates"]
root_doc = "index"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
autodoc_mock_imports = ["chromo"]
numpydoc_show_class_members = False

# The tutorials run in full, unless TUTORIALS=small is set: see CONTRIBUTING.md.
sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/\d_",  # all of them run, in the order of their numbers
    "capture_repr": ("_repr_html_",),  # tables; what else is of use is printed
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
}

# Links into the pages of others; without a network set DOCS_OFFLINE=1.
intersphinx_mapping = {
    "astropy": ("https://docs.astropy.org/en/stable", None),
    "ctapipe": ("https://ctapipe.readthedocs.io/en/stable", None),
    "gammapy": ("https://docs.gammapy.org/stable", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "pyirf": ("https://pyirf.readthedocs.io/en/stable", None),
    "python": ("https://docs.python.org/3", None),
}
if os.environ.get("DOCS_OFFLINE"):
    intersphinx_mapping = {}

html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
html_title = "ctapipe_gammaphysnet"


def setup(app):
    """Write the pages that are made of the code."""
    app.connect("builder-inited", command_reference.write)
