"""The version is declared once, in package.xml; everything else of the package is in pyproject.toml."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import setup

manifest = ElementTree.parse(Path(__file__).with_name("package.xml"))  # noqa: S314 - a file of ours
setup(version=manifest.findtext("version"))
