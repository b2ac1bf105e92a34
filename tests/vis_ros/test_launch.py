"""The launch files; what needs ``launch_ros``, which is no wheel, is skipped where that is absent."""

from __future__ import annotations

import ast
import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILE = ROOT / "launch" / "visolo.launch.py"
RUN = """
    import sys
    from launch import LaunchDescription, LaunchService
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(sys.argv[1])
    arguments = [argument.split(":=", 1) for argument in sys.argv[2:]]
    service = LaunchService()
    included = IncludeLaunchDescription(source, launch_arguments=arguments)
    service.include_launch_description(LaunchDescription([included]))
    sys.exit(service.run())
"""
TIMEOUT = 60.0

needs_launch = pytest.mark.skipif(
    not os.environ.get("AMENT_PREFIX_PATH") or importlib.util.find_spec("launch_ros") is None,
    reason="needs launch_ros (ros-$ROS_DISTRO-launch-ros) and a sourced installation of this package",
)


def test_the_life_cycle_is_driven_by_events_that_every_release_has():
    """Keywords of launch_ros that Humble and Jazzy refuse do not appear."""
    tree = ast.parse((ROOT / "vis_ros" / "launching.py").read_text(), feature_version=(3, 10))
    (node,) = [
        call for call in ast.walk(tree) if isinstance(call, ast.Call) and ast.unparse(call.func) == "LifecycleNode"
    ]
    assert {keyword.arg for keyword in node.keywords} <= {
        "package",
        "executable",
        "name",
        "namespace",
        "parameters",
        "remappings",
        "arguments",
        "additional_env",
        "output",
    }


@pytest.mark.parametrize(
    ("file", "usual", "other"),
    [
        ("visolo.launch.py", "visolo-lite", "visolo"),
        ("visolo_lite.launch.py", "visolo-lite", "visolo"),
        ("minvis.launch.py", "minvis", "visolo-lite"),
        ("mask2former_vis.launch.py", "mask2former-vis", "minvis"),
    ],
)
def test_each_launch_file_starts_its_usual_system_or_the_other_with_its_parameters(described, file, usual, other):
    for system, given in ((usual, {}), (other, {"system": other, "weights": "w.pth", "image": "/camera"})):
        arguments, (node,) = described(file, **given)
        assert {"image", "namespace", "system", "params_file", "weights", "device", "autostart"} <= arguments.keys()
        path, overrides = node["parameters"]
        assert Path(path).name == f"{system}.yaml"
        assert overrides.get("system", system) == system and overrides.get("weights") == given.get("weights")
        assert (node["executable"], node["namespace"]) == ("segmenter", "vis")
        assert node["remappings"] == ([("image", "/camera")] if given else [])
        assert node["additional_env"]["OMP_WAIT_POLICY"] == "PASSIVE"


def test_every_system_has_a_launch_file_that_starts_it(described):
    from vis_core.catalog import SYSTEMS

    for system in SYSTEMS:
        given = {"system": "visolo"} if system == "visolo" else {}  # visolo.launch.py starts visolo-lite, as ever
        _, (node,) = described(f"{system.replace('-', '_')}.launch.py", **given)
        assert Path(node["parameters"][0]).name == f"{system}.yaml"


def test_a_system_without_parameters_and_a_file_that_is_absent_are_told_by_name(described):
    with pytest.raises(FileNotFoundError, match="system:=yolo: there is no file"):
        described("visolo.launch.py", system="yolo")
    with pytest.raises(FileNotFoundError, match=r"params_file:=/nowhere\.yaml"):
        described("visolo.launch.py", params_file="/nowhere.yaml")


@pytest.fixture
def launch(ros_domain_id: int) -> Iterator[subprocess.Popen[str]]:
    """Starts the launch file with arguments; ended with the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(RUN), str(LAUNCH_FILE), *arguments],
                env={**os.environ, "ROS_DOMAIN_ID": str(ros_domain_id), "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=TIMEOUT)


def _output_until(process: subprocess.Popen[str], text: str) -> str:
    output = []
    for line in process.stdout:
        output.append(line)
        if text in line:
            break
    return "".join(output)


@pytest.fixture
def small(tmp_path: Path) -> str:
    """A parameter file for a small network."""
    path = tmp_path / "small.yaml"
    path.write_text("/**:\n  ros__parameters:\n    input_size: [64, 96]\n    device: cpu\n")
    return f"params_file:={path}"


@needs_launch
def test_the_node_comes_to_life_under_its_namespace_with_image_and_parameters(launch, small):
    process = launch("image:=/camera/image_raw", "namespace:=front", small)
    output = _output_until(process, "active:")
    assert "active: /camera/image_raw to /front/instances" in output
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=TIMEOUT)
    assert "finished cleanly" in rest
    assert process.returncode == 0


@needs_launch
def test_a_weight_file_that_is_not_there_is_said_by_name(launch, small):
    output = _output_until(launch("weights:=/nowhere/visolo.pth", small), "not configured")
    assert "/nowhere/visolo.pth" in output


@needs_launch
@pytest.mark.parametrize("argument", ["transport:=/nowhere/profile.xml", "params_file:=/nowhere/visolo.yaml"])
def test_a_file_that_is_not_there_ends_the_launch_with_its_name(launch, argument):
    process = launch(argument)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode != 0
    assert argument in output
