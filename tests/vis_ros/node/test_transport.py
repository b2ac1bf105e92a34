"""The transport profile: found in every installation, chosen unless the user chose, and in force."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from vis_ros.node import transport

ROOT = Path(__file__).resolve().parents[3]
VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "ROS_DISTRO", "AMENT_PREFIX_PATH"):
        monkeypatch.setenv(name, "")  # registers the name, so that it is as before afterwards
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("distribution", "variable"),
    [
        (None, "FASTDDS_DEFAULT_PROFILES_FILE"),
        ("kilted", "FASTDDS_DEFAULT_PROFILES_FILE"),
        ("rolling", "FASTDDS_DEFAULT_PROFILES_FILE"),
        ("jazzy", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ("humble", "FASTRTPS_DEFAULT_PROFILES_FILE"),
    ],
)
def test_the_profile_is_named_by_the_variable_that_the_release_reads(monkeypatch, distribution, variable):
    if distribution:
        monkeypatch.setenv("ROS_DISTRO", distribution)
    transport.use_shared_memory()
    chosen = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    assert chosen == {variable: str(ROOT / "config" / "fastdds_shared_memory.xml")}


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_profile_that_the_user_chose_stays(monkeypatch, variable):
    monkeypatch.setenv(variable, "/mine.xml")
    transport.use_shared_memory()
    assert {name: os.environ[name] for name in VARIABLES if name in os.environ} == {variable: "/mine.xml"}


def test_too_little_shared_memory_is_a_warning_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(transport.shutil, "disk_usage", lambda _: SimpleNamespace(free=64 * 2**20))
    with pytest.warns(UserWarning, match=r"64 MiB free.*--shm-size"):
        transport.use_shared_memory()
    monkeypatch.delenv("FASTDDS_DEFAULT_PROFILES_FILE")
    monkeypatch.setattr(transport.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transport.use_shared_memory()


def test_the_profile_is_found_by_prefix_when_there_is_no_source_tree(monkeypatch, tmp_path):
    installed = tmp_path / "prefix" / "share" / "vis_ros" / "config" / "fastdds_shared_memory.xml"
    monkeypatch.setattr(transport, "__file__", str(tmp_path / "site-packages" / "vis_ros" / "transport.py"))
    monkeypatch.setattr(transport.sys, "prefix", str(tmp_path / "elsewhere"))
    with pytest.raises(transport.InputError, match="not installed"):
        transport.profile_path()
    installed.parent.mkdir(parents=True)
    installed.touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/opt/nothing{os.pathsep}{tmp_path / 'prefix'}")
    assert transport.profile_path() == installed


def test_fast_dds_takes_the_profile_and_opens_a_segment_of_64_mib(ros_domain_id):
    program = (
        "from pathlib import Path\n"
        "from vis_ros.node.transport import use_shared_memory\n"
        "use_shared_memory()\n"
        "import rclpy\n"
        "if 'fastrtps' not in rclpy.get_rmw_implementation_identifier(): raise SystemExit('another middleware')\n"
        "def segments(): return set(Path('/dev/shm').glob('fastdds_*'))\n"
        "before = segments()\n"
        "rclpy.init(); node = rclpy.create_node('probe')\n"
        "maps = Path('/proc/self/maps').read_text()\n"
        "mine = [p for p in segments() - before if str(p) in maps]\n"
        "print(max(p.stat().st_size for p in mine))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    if "another middleware" in done.stderr:
        pytest.skip("needs Fast DDS as the middleware")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 64 * 2**20
    assert "rror" not in done.stderr
