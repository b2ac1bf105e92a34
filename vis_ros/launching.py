"""What the launch files start: the segmenter, with the system of each.

The node configures and activates itself, so that one that is respawned does too, and a dump of its parameters starts it
again. The actions and their keywords are those that launch_ros has from Humble on.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import yaml
from ament_index_python.packages import get_package_share_directory
from launch import (  # type: ignore[attr-defined] # mypy sees the folder of launch files
    LaunchContext,
    LaunchDescription,
    LaunchDescriptionEntity,
)
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode

from vis_ros.node.transport import profiles_variable

_RESPAWN_SECONDS = 2.0

_SWITCH = ("true", "false", "True", "False")
_ARGUMENTS = (
    ("image", "image", "image topic; where image_transport is compressed the topic without /compressed"),
    ("depth_image", "", "topic of depth images aligned to the image, for tracks in space; camera_info is beside it"),
    ("target_frame", "", "tf frame of the tracks in space, with z up; empty: the one that params_file names"),
    ("namespace", "vis", "namespace of the node and its topics"),
    ("params_file", "", "file of parameters; empty: the one of the system in this package"),
    ("weights", "", "weight file; empty: the one that params_file names, else the system's own, if it has any"),
    ("device", "", "auto, cpu, cuda, cuda:1...; empty: the one that params_file names"),
    ("autostart", "", "configure and activate the node; empty: as params_file says, which is true by default"),
    ("respawn", "false", "start the node again when it has ended; false: the launch ends with it"),
    ("log_level", "info", "of the node"),
    (
        "transport",
        "shared_memory",
        "of Fast DDS: shared_memory (the profile of this package), default (its own), or a file of profiles; "
        f"the first two leave a {profiles_variable()} that is set as it is",
    ),
)
_CHOICES = {
    "autostart": ("", *_SWITCH),
    "respawn": _SWITCH,
    "log_level": ("debug", "info", "warn", "error", "fatal"),
}


def segmenter_launch(usual: str) -> LaunchDescription:
    """Arguments, then the node that is made of them.

    Args:
        usual: the system of the launch file; the argument ``system`` names another one.
    """
    declared = [
        DeclareLaunchArgument(
            "system",
            default_value="",
            description=f"of 'vis systems'; empty: the one that params_file names, {usual} where it names none",
        ),
        *(
            DeclareLaunchArgument(name, default_value=default, description=text, choices=_CHOICES.get(name))
            for name, default, text in _ARGUMENTS
        ),
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_start, args=[usual])])


def _start(context: LaunchContext, usual: str) -> list[LaunchDescriptionEntity]:
    """The node, for the arguments given."""
    names = ["system", *(name for name, _, _ in _ARGUMENTS)]
    given = {name: LaunchConfiguration(name).perform(context) for name in names}
    overrides: dict[str, object] = {
        name: given[name] for name in ("system", "weights", "device", "target_frame") if given[name]
    }
    if given["depth_image"]:
        overrides["depth"] = True
    if given["autostart"]:
        overrides["autostart"] = given["autostart"].lower() == "true"
    # Threads of the network that wait must not spin: other nodes need the cores.
    environment = {"OMP_WAIT_POLICY": context.environment.get("OMP_WAIT_POLICY", "PASSIVE")}
    # Before all files, so that a system that one names is the one.
    arguments = ["--ros-args", "--log-level", given["log_level"], "-p", f"system:={usual}"]
    transport = given["transport"]
    if transport == "default":
        arguments = ["--default-transport", *arguments]
    elif Path(transport).expanduser().is_file():
        environment[profiles_variable()] = str(Path(transport).expanduser())
    elif transport != "shared_memory":  # which is the node's default
        raise FileNotFoundError(f"transport:={transport} is neither shared_memory nor default nor a file")
    system = given["system"] or usual
    shipped = Path(get_package_share_directory("vis_ros")) / "config" / f"{system}.yaml"
    if not shipped.is_file():
        raise FileNotFoundError(f"system:={system}: there is no file {shipped}; 'vis systems' lists the systems")
    if not given["params_file"]:
        overrides["system"] = system
    params_file = Path(given["params_file"]).expanduser() if given["params_file"] else shipped
    if not params_file.is_file():
        raise FileNotFoundError(f"params_file:={given['params_file']}: there is no file {params_file}")
    respawn = given["respawn"].lower() == "true"
    node = LifecycleNode(
        package="vis_ros",
        executable="segmenter",
        name="segmenter",
        namespace=given["namespace"],
        parameters=[str(params_file), overrides] if overrides else [str(params_file)],
        remappings=_remappings(given["image"], given["depth_image"]),
        arguments=arguments,
        additional_env=environment,
        output="screen",
        respawn=respawn,
        respawn_delay=_RESPAWN_SECONDS,
        on_exit=None if respawn else _end_launch,
    )
    return [*_unused(context.launch_configurations, names, shipped), node]


def _remappings(image: str, depth: str) -> list[tuple[str, str]]:
    """Where the node's topics are, by those of the images: a camera's info is beside its image."""
    out = []
    if image != "image":
        out += [("image", image), ("camera_info", _info_of(image))]
    if depth:
        out += [("depth", depth), ("depth/camera_info", _info_of(depth))]
    return out


def _info_of(image: str) -> str:
    return image.rpartition("/")[0] + "/camera_info" if "/" in image else "camera_info"


def _unused(given: Iterable[str], known: list[str], shipped: Path) -> list[LaunchDescriptionEntity]:
    """Words about arguments that are not ours and look as if they were meant to be; a launch file above has its own."""
    parameters = yaml.safe_load(shipped.read_text())["/**"]["ros__parameters"]
    words = []
    for name in sorted({*given} - {*known}):
        close = get_close_matches(name, known, 1, 0.8)
        if name in parameters:
            words.append(f"{name}:=... is not used: it is a parameter, which belongs into the file of params_file:=...")
        elif close:
            words.append(f"{name}:=... is not used: did you mean {close[0]}:=...?")
    return [LogInfo(msg=text) for text in words]


def _end_launch(event: object, context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """What follows when the node has ended; a second shutdown would be an error."""
    return [] if context.is_shutdown else [Shutdown(reason="the segmenter has ended")]
