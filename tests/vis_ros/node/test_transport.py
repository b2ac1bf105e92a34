"""The transport profile: found in every installation, chosen unless the user chose, and in force."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
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
        ("kilted", "FASTDDS_DEFAULT_PROFILES_FILE"),
        ("rolling", "FASTDDS_DEFAULT_PROFILES_FILE"),
        ("jazzy", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ("humble", "FASTRTPS_DEFAULT_PROFILES_FILE"),
    ],
)
def test_the_profile_is_named_by_the_variable_that_the_release_reads(monkeypatch, distribution, variable):
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
    monkeypatch.delenv(transport.profiles_variable())
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


@pytest.mark.parametrize(
    ("library", "variable"),
    [("libfastdds.so", "FASTDDS_DEFAULT_PROFILES_FILE"), ("libfastrtps.so", "FASTRTPS_DEFAULT_PROFILES_FILE")],
)
def test_wheels_which_name_no_release_are_known_by_their_library(monkeypatch, tmp_path, library, variable):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / library).touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert transport.profiles_variable() == variable


def test_fast_dds_takes_the_profile_and_opens_a_segment_of_64_mib(ros_domain_id):
    program = (
        "from pathlib import Path\n"
        "from vis_ros.node.transport import use_shared_memory\n"
        "use_shared_memory()\n"
        "import rclpy\n"
        "if 'fastrtps' not in rclpy.get_rmw_implementation_identifier(): raise SystemExit('another middleware')\n"
        "def segments(): return set(Path('/dev/shm').glob('fast*_*'))\n"
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


def segment_of(folder: Path, name: str, age: float = 60.0) -> tuple[Path, Path]:
    """A segment and the file by whose lock its process is known to live, as Fast DDS leaves them."""
    segment, lock = folder / name, folder / f"{name}_el"
    segment.write_bytes(bytes(5000))
    lock.touch()
    os.utime(lock, (time.time() - age,) * 2)
    return segment, lock


def test_segments_of_dead_processes_are_removed_and_nothing_else(monkeypatch, tmp_path):
    monkeypatch.setattr(transport, "_SHARED_MEMORY", tmp_path)
    dead = segment_of(tmp_path, "fastdds_0123456789abcdef")
    older = segment_of(tmp_path, "fastrtps_fedcba9876543210")
    alone = segment_of(tmp_path, "fastdds_00000000000000aa")
    alone[0].unlink()
    young = segment_of(tmp_path, "fastdds_00000000000000bb", age=0)
    port = segment_of(tmp_path, "fastdds_port7411")
    foreign = segment_of(tmp_path, "other_0123456789abcdef")
    live = segment_of(tmp_path, "fastdds_00000000000000cc")
    unowned = tmp_path / "fastdds_00000000000000dd"
    unowned.touch()
    with live[1].open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert transport.remove_dead_segments() == 10_000
    assert set(tmp_path.iterdir()) == {*young, *port, *foreign, *live, unowned}
    assert not {*dead, *older, *alone} & set(tmp_path.iterdir())


def test_a_lock_of_another_user_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(transport, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(transport.os, "geteuid", lambda: os.getuid() + 1)
    files = segment_of(tmp_path, "fastdds_0123456789abcdef")
    assert transport.remove_dead_segments() == 0
    assert set(tmp_path.iterdir()) == set(files)


def test_what_a_killed_process_leaves_is_gone_when_the_next_has_started(monkeypatch, ros_domain_id):
    """The segment of a live process stays."""
    from vis_ros.recordings.session import free_domain

    program = (
        "from pathlib import Path\n"
        "from vis_ros.node.transport import use_shared_memory\n"
        "use_shared_memory(image_bytes=1)\n"
        "import rclpy, signal\n"
        "if 'fastrtps' not in rclpy.get_rmw_implementation_identifier(): raise SystemExit('another middleware')\n"
        "rclpy.init(); node = rclpy.create_node('probe')\n"
        "maps = Path('/proc/self/maps').read_text().split()\n"
        "print(*{p for p in maps if '/dev/shm/fast' in p and 'port' not in p}, flush=True)\n"
        "signal.pause()\n"
    )
    monkeypatch.setattr(transport, "_YOUNG_SECONDS", 0.0)

    def start(domain: int) -> subprocess.Popen[str]:
        environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
        command = [sys.executable, "-c", program]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)

    with free_domain() as other, start(ros_domain_id) as first, start(other) as second:
        try:
            paths = [process.stdout.readline().split() for process in (first, second)]
            if not all(paths):
                pytest.skip("needs Fast DDS as the middleware")
            (dead,), (live,) = ([Path(path) for path in named] for named in paths)
            assert 16 * 2**20 <= live.stat().st_size <= 20 * 2**20  # sized by the image
            first.kill()
            first.wait()
            assert dead.exists()
            transport.use_shared_memory()
            assert not dead.exists()
            assert live.exists()
        finally:
            first.kill()
            second.kill()
    transport.remove_dead_segments()


@pytest.mark.parametrize(
    ("image", "size"),
    [(None, 64), (0, 16), (640 * 480 * 3, 16), (1280 * 960 * 3, 64), (1920 * 1080 * 3, 256), (8192 * 8192 * 3, 1024)],
)
def test_a_segment_has_room_for_some_images_within_bounds(image, size):
    assert transport.segment_bytes(image) == size * 2**20


@pytest.mark.parametrize(("largest", "mebibytes"), [("640x480", 16), ("1920x1080", 256), ("4096x3072", 1024)])
def test_the_largest_image_chooses_the_profile(monkeypatch, largest, mebibytes):
    monkeypatch.setattr(transport.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**33))
    monkeypatch.setenv("VIS_ROS_LARGEST_IMAGE", largest)
    assert transport.use_shared_memory() == ""
    profile = Path(os.environ[transport.profiles_variable()]).read_text()
    assert profile == transport.profile_path().read_text().replace("67108864", str(mebibytes * 2**20))


@pytest.mark.parametrize("text", ["1280", "0x4", "-1x5", "axb", "1280x960x3", "\x1b[2J"])
def test_a_largest_image_that_is_no_size_is_named(monkeypatch, text):
    monkeypatch.setenv("VIS_ROS_LARGEST_IMAGE", text)
    with pytest.raises(transport.InputError, match=r"VIS_ROS_LARGEST_IMAGE=.*expected WIDTHxHEIGHT") as raised:
        transport.use_shared_memory()
    assert "\x1b" not in str(raised.value)


def test_without_room_for_a_segment_udp_is_used_in_words(monkeypatch):
    monkeypatch.setattr(transport.shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * 2**20))
    with pytest.warns(UserWarning, match="3 MiB free, the shared-memory transport needs 136, so UDP is used"):
        problem = transport.use_shared_memory()
    assert "so UDP is used: images will get lost" in problem
    assert os.environ[transport.profiles_variable()] == str(ROOT / "config" / "fastdds_udp.xml")


def test_fast_dds_takes_the_profile_without_shared_memory(ros_domain_id):
    program = (
        "from pathlib import Path\n"
        "import rclpy\n"
        "if 'fastrtps' not in rclpy.get_rmw_implementation_identifier(): raise SystemExit('another middleware')\n"
        "rclpy.init(); node = rclpy.create_node('probe')\n"
        "print('/dev/shm/fast' in Path('/proc/self/maps').read_text())\n"
    )
    environment = {**os.environ, transport.profiles_variable(): str(ROOT / "config" / "fastdds_udp.xml")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=environment)
    if "another middleware" in done.stderr:
        pytest.skip("needs Fast DDS as the middleware")
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
