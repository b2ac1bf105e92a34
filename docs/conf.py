"""The site of the documentation: make docs, then open build/docs/index.html."""

import re

from sphinx.application import Sphinx

from vis_core import __version__

project = "vis_ros"
author = "vis_ros contributors"
copyright = author  # noqa: A001
release = version = __version__

# Sphinx: it reads our docstrings as they are, and has been kept for longer than any other generator.
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
exclude_patterns = ["conf.py"]

myst_heading_anchors = 4  # as on GitHub, whose links the pages use

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"vis_ros {version}"


def setup(app: Sphinx) -> None:
    app.connect("source-read", _lead_to_the_first_page)


def _lead_to_the_first_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Pages refer to the README, which lies outside the site."""
    source[0] = re.sub(r"\(\.\./README\.md(#[\w-]+)?\)", "(index.md)", source[0])
