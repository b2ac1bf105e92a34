"""The Python distribution vis_ros: what an sdist and a wheel hold, and that they install."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from email.parser import Parser
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("vis_core", "vis_ros")
NO_SOURCE = shutil.ignore_patterns("__pycache__", "*.pyc")


def sources() -> Iterator[str]:
    """Files of the packages, relative to the root."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from a copy of the tree, because building leaves files behind."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("setup.py", "pyproject.toml", "package.xml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=NO_SOURCE)
    build = "from setuptools.build_meta import build_sdist; print(build_sdist('dist'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tree / "dist" / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def installed(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the distribution installed from the sdist by pip, without its dependencies and without network."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--target", str(target), str(sdist)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def test_the_sdist_holds_every_file_of_the_packages_and_what_builds_them(sdist):
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {*sources(), "package.xml", "setup.py", "pyproject.toml", "README.md", "LICENSE"} <= held


def test_a_wheel_installs_exactly_the_files_of_the_packages(installed):
    found = {
        path.relative_to(installed).as_posix()
        for package in PACKAGES
        for path in (installed / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert found == set(sources())


def test_the_installed_packages_are_typed_and_import_from_any_folder(installed, tmp_path):
    program = (
        "import sys, vis_core, vis_core.masks, vis_core.video.opening\n"
        f"assert vis_core.__file__.startswith({str(installed)!r}), vis_core.__file__\n"
        "assert 'torch' not in sys.modules\n"
        "print(vis_core.__version__)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == package_version()
    assert all((installed / package / "py.typed").is_file() for package in PACKAGES)


def package_version() -> str:
    return str(ElementTree.parse(ROOT / "package.xml").findtext("version"))


def metadata(installed: Path) -> tuple[Path, dict[str, list[str]]]:
    (folder,) = installed.glob("vis_ros-*.dist-info")
    message = Parser().parsestr((folder / "METADATA").read_text(encoding="utf-8"))
    return folder, {key: [str(value) for value in message.get_all(key, [])] for key in message}


def test_the_version_is_that_of_package_xml_and_of_the_latest_release_or_above_it(installed):
    _, fields = metadata(installed)
    changes = (ROOT / "CHANGELOG.rst").read_text()
    latest = re.search(r"^(\d+\.\d+\.\d+) ?.*\n-{3,}$", changes, re.MULTILINE)
    assert latest
    assert fields["Version"] == [package_version()]
    ahead, released = ([int(part) for part in text.split(".")] for text in (package_version(), latest[1]))
    assert ahead == released or (ahead > released and f"Version {package_version()}" in changes)


def test_commands_and_extras_are_declared(installed):
    folder, fields = metadata(installed)
    commands = (folder / "entry_points.txt").read_text()
    assert "vis = vis_core.commands.main:main" in commands
    assert "vis-ros = vis_ros.cli:main" in commands
    ros = {"ros", "ros-build", "ros-jazzy", "ros-build-jazzy"}
    assert set(fields["Provides-Extra"]) == {"train", "onnx", "openvino", "gpu", "ray", *ros, "test", "lint", "docs"}


def test_a_plain_install_asks_for_no_ros_package_and_no_other_framework(installed):
    _, fields = metadata(installed)
    plain = {re.split(r"[^\w.-]", row)[0].lower() for row in fields["Requires-Dist"] if "extra ==" not in row}
    assert "torch" in plain
    assert not [name for name in plain if name.startswith("ros-") or name in ("torchvision", "timm", "detectron2")]


def test_every_range_holds_the_version_that_make_installs():
    requirements = pytest.importorskip("packaging.requirements")
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    pinned: dict[str, str] = {}
    files = [ROOT / "constraints.txt", ROOT / "constraints-jazzy.txt"]
    for line in chain.from_iterable(file.read_text().splitlines() for file in files):
        if line and not line.startswith("#"):
            pin = requirements.Requirement(line)
            assert [clause.operator for clause in pin.specifier] == ["=="], line
            if pin.marker is None or pin.marker.evaluate():
                # Packages of ROS of one name have a version in each distribution.
                assert pin.name.startswith("ros-") or pin.name not in pinned, f"{pin.name} is pinned twice"
                pinned[canonical(pin.name)] = next(iter(pin.specifier)).version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for row in chain(project["dependencies"], *extras.values()):
        wanted = requirements.Requirement(row)
        assert wanted.specifier.contains(pinned[canonical(wanted.name)]), row


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
