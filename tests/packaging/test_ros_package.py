"""The ROS package: its manifest, what CMake installs, and the prefix that ``make`` makes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILT_FROM = ("CMakeLists.txt", "package.xml", "LICENSE", "msg", "cmake", "launch", "config", "include", "examples")


def prefix() -> Path:
    """The prefix that make installs into; skips where there is none, as on a robot."""
    if not (Path(sys.prefix) / "share" / "ament_index" / "resource_index" / "packages" / "vis_ros").is_file():
        pytest.skip(f"vis_ros is not installed into {sys.prefix} ('make' does it)")
    return Path(sys.prefix)


def clean_environment(**more: str) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), **more}


def test_the_manifest_is_sound_and_names_no_package_that_is_optional():
    catkin_pkg = pytest.importorskip("catkin_pkg.package")
    package = catkin_pkg.parse_package(str(ROOT / "package.xml"))
    assert package.package_format == 3
    assert package.get_build_type() == "ament_cmake"
    assert [group.name for group in package.member_of_groups] == ["rosidl_interface_packages"]
    named = {dependency.name for dependency in (*package.build_depends, *package.exec_depends)}
    assert {"rclpy", "sensor_msgs", "std_msgs", "diagnostic_msgs", "launch_ros", "python3-numpy"} <= named
    assert not named & {"cv_bridge", "message_filters", "image_transport", "vision_msgs"}


def test_messages_import_with_no_environment_variable_from_any_folder(tmp_path):
    prefix()
    program = (
        "from vis_ros.msg import InstanceTrack, InstanceTrackArray; print(InstanceTrackArray(), InstanceTrack.NEW)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("vis_ros.msg.InstanceTrackArray(")


@pytest.mark.parametrize("command", ["bin/vis", "bin/vis-ros", "lib/vis_ros/vis", "lib/vis_ros/vis-ros"])
def test_commands_start_with_no_environment_variable_from_any_folder(command, tmp_path):
    done = subprocess.run(
        [prefix() / command, "--help"], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_ros2_run_and_launch_find_what_they_look_for():
    found = prefix()
    assert os.access(found / "lib" / "vis_ros" / "segmenter", os.X_OK)
    for folder in ("launch", "config"):
        for source in (ROOT / folder).iterdir():
            if source.is_file():
                installed = found / "share" / "vis_ros" / folder / source.name
                assert installed.read_bytes() == source.read_bytes(), f"{installed} is not up to date: run 'make'"


def test_repairing_the_wheels_points_them_to_this_machine_and_is_repeatable(tmp_path):
    path = ROOT / "cmake" / "repair_wheel_exports.py"
    spec = importlib.util.spec_from_file_location("repair_wheel_exports", path)
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    export = tmp_path / "share" / "std_msgs" / "cmake" / "export.cmake"
    export.parent.mkdir(parents=True)
    foreign = "/opt/python/cp311-cp311"
    export.write_text(
        f'INTERFACE_INCLUDE_DIRECTORIES "{foreign}/lib/python3.11/site-packages/numpy/_core/include;'
        f'{foreign}/include/python3.11;${{_IMPORT_PREFIX}}/include"\n'
    )
    assert script.repair(tmp_path) == 1
    python = sysconfig.get_path("include")
    expected = f'INTERFACE_INCLUDE_DIRECTORIES "{np.get_include()};{python};${{_IMPORT_PREFIX}}/include"\n'
    assert export.read_text() == expected
    assert script.repair(tmp_path) == 0


@pytest.mark.slow
def test_an_install_with_cmake_is_complete_and_drops_what_the_source_dropped(tmp_path):
    if shutil.which("cmake") is None:
        pytest.skip("needs cmake")
    underlay = prefix()
    tree, build, target = tmp_path / "tree with a blank", tmp_path / "build", tmp_path / "target"
    tree.mkdir()
    for name in BUILT_FROM:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    for package in ("vis_core", "vis_ros"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "vis_ros" / "dropped.py").touch()
    (tree / "vis_core" / "dropped").mkdir()
    (tree / "vis_core" / "dropped" / "__init__.py").touch()
    (tree / "config" / "dropped.yaml").touch()

    def run(*command: str | Path) -> str:
        environment = {**os.environ, "AMENT_PREFIX_PATH": str(underlay)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def installed(name: str) -> list[Path]:
        return [path for path in target.rglob(name) if "__pycache__" not in path.parts]

    run(
        *("cmake", "-S", tree, "-B", build, f"-DCMAKE_INSTALL_PREFIX={target}", f"-DCMAKE_PREFIX_PATH={underlay}"),
        *(f"-DPython3_EXECUTABLE={sys.executable}", "-DBUILD_TESTING=OFF"),
    )
    run("cmake", "--build", build)
    run("cmake", "--install", build)
    assert len(installed("dropped*")) == 3
    (tree / "vis_ros" / "dropped.py").unlink()
    shutil.rmtree(tree / "vis_core" / "dropped")
    (tree / "config" / "dropped.yaml").unlink()
    run("cmake", "--install", build)
    assert not installed("dropped*")

    (package_folder,) = installed("vis_ros/__init__.py")
    python_path = package_folder.parents[1]
    program = "import vis_ros.msg, vis_core; print(vis_ros.msg.__file__, vis_core.__file__, vis_core.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=clean_environment(PYTHONPATH=str(python_path), LD_LIBRARY_PATH=str(target / "lib")),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(python_path)) == 2
    for name in (
        "share/vis_ros/launch/visolo.launch.py",
        "share/vis_ros/config/visolo.yaml",
        "share/vis_ros/config/fastdds_shared_memory.xml",
        "share/vis_ros/package.xml",
        "share/vis_ros/msg/InstanceTrackArray.msg",
        "share/vis_ros/cmake/vis_rosConfig.cmake",
        "share/ament_index/resource_index/packages/vis_ros",
        "include/vis_ros/vis_ros/mask_decoder.hpp",
        "lib/vis_ros/segmenter",
    ):
        assert (target / name).is_file(), name


def test_a_folder_that_was_moved_gets_its_environment_made_anew(tmp_path):
    """Commands of a virtual environment name it by its full path, and would be dead."""
    if shutil.which("make") is None:
        pytest.skip("needs make")

    def makes_anew() -> bool:
        command = ["make", "--dry-run", f"--file={ROOT / 'Makefile'}", ".venv/.created"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return "-m venv --clear .venv" in done.stdout

    assert makes_anew()  # there is none yet
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    made_for = tmp_path / ".venv" / ".created"
    made_for.write_text(f"{tmp_path}\n")
    assert not makes_anew()
    made_for.write_text("/where/it/was/before\n")
    assert makes_anew()
    made_for.write_text(f"{tmp_path}\n")
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert makes_anew()


@pytest.mark.slow
def test_a_download_that_fails_says_what_to_do_and_the_next_make_goes_on(tmp_path):
    if shutil.which("make") is None or shutil.which("cmake") is None:
        pytest.skip("needs make and cmake")
    for name in (*BUILT_FROM, "Makefile", "setup.py", "pyproject.toml", "constraints.txt", "README.md"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    for package in ("vis_core", "vis_ros"):
        (tmp_path / package).mkdir()
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    command = ["make", f"PYTHON={Path(sys.base_prefix) / 'bin' / 'python3'}"]
    for attempt in ("first", "second"):
        done = subprocess.run(command, cwd=tmp_path, env={**environment, **nowhere}, capture_output=True, text=True)
        assert done.returncode != 0
        assert "check it (and PIP_INDEX_URL" in done.stderr, done.stderr
        assert "then type 'make' again" in done.stderr
        assert ("making .venv" in done.stdout) == (attempt == "first")  # what was done is kept
        assert not (tmp_path / ".venv" / ".dependencies").exists()
