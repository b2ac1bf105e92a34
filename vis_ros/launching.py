"""What the launch files start: the segmenter, with the system of each, brought to life by events.

The events are those that launch_ros has from Humble on.
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import (  # type: ignore[attr-defined] # mypy sees the folder of launch files
    LaunchContext,
    LaunchDescription,
    LaunchDescriptionEntity,
)
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from vis_ros.node.transport import profiles_variable

_ARGUMENTS = (
    ("image", "image", "image topic; where image_transport is compressed the topic without /compressed"),
    ("namespace", "vis", "namespace of the node and its topics"),
    ("params_file", "", "file of parameters; empty: the one of the system in this package"),
    ("weights", "", "weight file; empty: the one that params_file names, else the system's own, if it has any"),
    ("device", "", "auto, cpu, cuda, cuda:1...; empty: the one that params_file names"),
    ("autostart", "true", "configure and activate the node"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
    (
        "transport",
        "shared_memory",
        "of Fast DDS: shared_memory (the profile of this package), default (its own), or a file of profiles; "
        f"the first two leave a {profiles_variable()} that is set as it is",
    ),
)


def segmenter_launch(usual: str) -> LaunchDescription:
    """Arguments, then the node and the events that are made of them.

    Args:
        usual: the system of the launch file; the argument ``system`` names another one.
    """
    declared = [
        DeclareLaunchArgument(
            "system",
            default_value="",
            description=f"of 'vis systems'; empty: the one that params_file names, {usual} without a file",
        ),
        *(DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in _ARGUMENTS),
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_start, args=[usual])])


def _start(context: LaunchContext, usual: str) -> list[LaunchDescriptionEntity]:
    """The node and the events that bring it to life, for the arguments given."""
    names = ["system", *(name for name, _, _ in _ARGUMENTS)]
    given = {name: LaunchConfiguration(name).perform(context) for name in names}
    overrides: dict[str, object] = {name: given[name] for name in ("system", "weights", "device") if given[name]}
    overrides["autostart"] = False  # the events below do it, where asked for
    # Threads of the network that wait must not spin: other nodes need the cores.
    environment = {"OMP_WAIT_POLICY": context.environment.get("OMP_WAIT_POLICY", "PASSIVE")}
    arguments = ["--ros-args", "--log-level", given["log_level"]]
    transport = given["transport"]
    if transport == "default":
        arguments = ["--default-transport", *arguments]
    elif Path(transport).expanduser().is_file():
        environment[profiles_variable()] = str(Path(transport).expanduser())
    elif transport != "shared_memory":  # which is the node's default
        raise FileNotFoundError(f"transport:={transport} is neither shared_memory nor default nor a file")
    system = given["system"] or usual
    if not given["params_file"]:
        overrides["system"] = system
    share = Path(get_package_share_directory("vis_ros"))
    params_file = given["params_file"] or str(share / "config" / f"{system}.yaml")
    if not Path(params_file).is_file():
        asked = f"params_file:={params_file}" if given["params_file"] else f"system:={system}"
        raise FileNotFoundError(f"{asked}: there is no file {params_file}")
    node = LifecycleNode(
        package="vis_ros",
        executable="segmenter",
        name="segmenter",
        namespace=given["namespace"],
        parameters=[params_file, overrides],
        remappings=[("image", given["image"])] if given["image"] != "image" else [],
        arguments=arguments,
        additional_env=environment,
        output="screen",
    )
    if given["autostart"].lower() not in ("true", "1"):
        return [node]
    activate = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="configuring",
            goal_state="inactive",
            entities=[_change(node, Transition.TRANSITION_ACTIVATE)],
        )
    )
    return [activate, node, _change(node, Transition.TRANSITION_CONFIGURE)]


def _change(node: LifecycleNode, transition: int) -> EmitEvent:
    """The event that asks the node for a transition."""
    return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))
