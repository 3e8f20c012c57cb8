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
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
root_doc = "index"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
autodoc_mock_imports = ["chromo"]
numpydoc_show_class_members = False

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
