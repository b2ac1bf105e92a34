"""docker/Dockerfile: sound where nothing can build it, and linted where hadolint is."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
KNOWN = {"ARG", "FROM", "SHELL", "WORKDIR", "COPY", "RUN", "ENTRYPOINT", "CMD"}


def instructions() -> list[tuple[str, str]]:
    """Each with its arguments, on one line."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in joined)]


def test_it_begins_with_a_distribution_and_takes_what_exists():
    found = instructions()
    assert {name for name, _ in found} <= KNOWN
    assert found[:2] == [("ARG", "ROS_DISTRO=jazzy"), ("FROM", "ros:${ROS_DISTRO}-ros-base")]
    for source in (rest.split()[0] for name, rest in found if name == "COPY"):
        assert (ROOT / source).exists(), source
    (command,) = [rest for name, rest in found if name == "CMD"]
    assert (ROOT / "launch" / re.findall(r"\w+\.launch\.py", command)[0]).is_file()


def test_its_versions_are_those_of_the_package():
    ranges = dict(re.findall(r'^  "([a-z]+)(>=[\d.]+)",$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    asked = dict(re.findall(r"'([a-z]+)(>=[\d.]+)'", DOCKERFILE.read_text()))
    assert asked == {name: ranges[name] for name in ("torch", "typer", "rich", "av")}
    line = re.search(r"^pip install '.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert line
    assert dict(re.findall(r"'([a-z]+)(>=[\d.]+)'", line[0])) == asked


def test_hadolint_finds_nothing():
    if shutil.which("hadolint") is None:
        pytest.skip("needs hadolint")
    done = subprocess.run(["hadolint", DOCKERFILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
