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
from types import SimpleNamespace

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


def test_only_keywords_are_used_that_every_release_has():
    """Of launch and launch_ros since Humble; ``autostart`` of LifecycleNode, for one, came later."""
    tree = ast.parse((ROOT / "vis_ros" / "launching.py").read_text(), feature_version=(3, 10))
    calls = [(ast.unparse(call.func), call) for call in ast.walk(tree) if isinstance(call, ast.Call)]
    for action, known in {
        "LifecycleNode": "package executable name namespace parameters remappings arguments additional_env output "
        "respawn respawn_delay on_exit",
        "DeclareLaunchArgument": "default_value description choices",
        "Shutdown": "reason",
        "LogInfo": "msg",
    }.items():
        keywords = {keyword.arg for name, call in calls if name == action for keyword in call.keywords}
        assert keywords and keywords <= set(known.split()), action


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
        assert overrides == {"system": system, **({"weights": "w.pth"} if given else {})}
        assert f"system:={usual}" in node["arguments"]  # the weakest word: files come later
        assert (node["executable"], node["namespace"]) == ("segmenter", "vis")
        assert node["remappings"] == ([("image", "/camera"), ("camera_info", "/camera_info")] if given else [])
        assert node["additional_env"]["OMP_WAIT_POLICY"] == "PASSIVE"


def test_the_launch_file_s_system_stands_before_a_file_of_parameters_and_a_named_one_after_it(described, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("/**:\n  ros__parameters:\n    device: cpu\n")
    _, (node,) = described("mask2former_vis.launch.py", params_file=str(path))
    assert node["parameters"] == [str(path)]
    assert node["arguments"][-2:] == ["-p", "system:=mask2former-vis"]
    _, (node,) = described("mask2former_vis.launch.py", params_file=str(path), system="minvis")
    assert node["parameters"] == [str(path), {"system": "minvis"}]


def test_a_depth_image_brings_tracks_in_space_and_its_camera_info_is_beside_it(described):
    _, (node,) = described("visolo.launch.py", image="/c/color/image_raw", depth_image="/c/depth/image_raw")
    assert node["parameters"][1]["depth"] is True and "target_frame" not in node["parameters"][1]
    assert dict(node["remappings"]) == {
        "image": "/c/color/image_raw",
        "camera_info": "/c/color/camera_info",
        "depth": "/c/depth/image_raw",
        "depth/camera_info": "/c/depth/camera_info",
    }
    _, (node,) = described("visolo.launch.py", depth_image="depth_raw", target_frame="odom")
    assert node["parameters"][1]["target_frame"] == "odom"
    assert node["remappings"] == [("depth", "depth_raw"), ("depth/camera_info", "camera_info")]


@pytest.mark.parametrize(("said", "override"), [("", []), ("true", [True]), ("False", [False])])
def test_autostart_is_set_only_where_it_is_asked_for(described, said, override):
    """So that a dump of the parameters starts the node again."""
    _, (node,) = described("visolo.launch.py", autostart=said)
    assert [values["autostart"] for values in node["parameters"][1:] if "autostart" in values] == override


def test_arguments_that_look_like_ours_and_are_not_are_told_and_a_launch_file_above_may_have_its_own(described):
    described("visolo.launch.py")
    from vis_ros.launching import _unused

    given = ["image", "name_space", "score_threshold", "use_rviz"]
    told = _unused(given, ["image", "namespace"], ROOT / "config" / "visolo.yaml")
    assert [action.keywords["msg"] for action in told] == [
        "name_space:=... is not used: did you mean namespace:=...?",
        "score_threshold:=... is not used: it is a parameter, which belongs into the file of params_file:=...",
    ]


def test_a_node_that_ends_ends_the_launch_or_comes_again(described):
    _, (node,) = described("visolo.launch.py")
    running, ending = SimpleNamespace(is_shutdown=False), SimpleNamespace(is_shutdown=True)
    assert not node["respawn"]
    assert [action.keywords["reason"] for action in node["on_exit"](None, running)] == ["the segmenter has ended"]
    assert node["on_exit"](None, ending) == []
    _, (node,) = described("visolo.launch.py", respawn="true")
    assert node["respawn"] and node["on_exit"] is None


def test_every_system_has_a_launch_file_that_starts_it(described):
    from vis_core.catalog import SYSTEMS

    for system in SYSTEMS:
        given = {"system": "visolo"} if system == "visolo" else {}  # visolo.launch.py starts visolo-lite, as ever
        _, (node,) = described(f"{system.replace('-', '_')}.launch.py", **given)
        assert Path(node["parameters"][0]).name == f"{system}.yaml"


def test_a_system_without_parameters_and_a_file_that_is_absent_are_told_by_name(described):
    with pytest.raises(FileNotFoundError, match="system:=yolo: there is no file"):
        described("visolo.launch.py", system="yolo")
    with pytest.raises(FileNotFoundError, match="system:=yolo: there is no file"):
        described("visolo.launch.py", system="yolo", params_file=__file__)
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


@needs_launch
@pytest.mark.parametrize("argument", ["autostart:=maybe", "respawn:=perhaps", "log_level:=loud"])
def test_a_value_that_is_no_choice_ends_the_launch_and_the_choices_are_told(launch, argument):
    process = launch(argument)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode != 0
    assert f'provided value "{argument.split(":=")[1]}" is not valid' in output


@needs_launch
@pytest.mark.parametrize("respawn", [False, True])
def test_a_node_that_is_killed_takes_its_launch_down_or_is_started_again(launch, small, respawn):
    process = launch(small, *(["respawn:=true"] if respawn else []))
    output = _output_until(process, "active:")
    os.kill(int(output.split("process started with pid [")[1].split("]")[0]), signal.SIGKILL)
    if respawn:
        assert "process started with pid" in _output_until(process, "active:")
    else:
        output, _ = process.communicate(timeout=TIMEOUT)
        assert "shutting down launched system" in output


@needs_launch
def test_a_file_that_names_no_system_runs_the_launch_file_s_and_one_that_does_its_own(launch, small, tmp_path):
    assert "configured: visolo-lite" in _output_until(launch(small), "configured: ")
    path = tmp_path / "visolo.yaml"
    path.write_text("/vis/segmenter:\n  ros__parameters:\n    system: visolo\n    input_size: [64, 96]\n")
    assert "configured: visolo," in _output_until(launch(f"params_file:={path}"), "configured: ")
