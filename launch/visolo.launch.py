"""Start the segmenter with VISOLO: ``ros2 launch vis_ros visolo.launch.py image:=/camera/image_raw weights:=visolo.safetensors``.

The life cycle is driven by events, which launch_ros has from Humble on.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

PROFILES = "FASTDDS_DEFAULT_PROFILES_FILE"
SHARE = Path(get_package_share_directory("vis_ros"))

ARGUMENTS = (
    ("image", "image", "image topic; with image_transport:=compressed the topic without /compressed"),
    ("namespace", "vis", "namespace of the node and its topics"),
    ("params_file", str(SHARE / "config" / "visolo.yaml"), "file of parameters"),
    ("weights", "", "weight file; empty: the one that params_file names"),
    ("device", "", "auto, cpu, cuda, cuda:1...; empty: the one that params_file names"),
    ("autostart", "true", "configure and activate the node"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
    (
        "transport",
        "shared_memory",
        f"of Fast DDS: shared_memory (the profile of this package), default (its own), or a file of profiles; "
        f"a {PROFILES} that is set stays, unless a file is given",
    ),
)


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node and the events that bring it to life, for the arguments given."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    overrides: dict[str, object] = {name: given[name] for name in ("weights", "device") if given[name]}
    overrides["autostart"] = False  # the events below do it, where asked for
    node = LifecycleNode(
        package="vis_ros",
        executable="segmenter",
        name="segmenter",
        namespace=given["namespace"],
        parameters=[given["params_file"], overrides],
        remappings=[("image", given["image"])] if given["image"] != "image" else [],
        arguments=["--ros-args", "--log-level", given["log_level"]],
        additional_env={
            # Threads of the network that wait must not spin: other nodes need the cores.
            "OMP_WAIT_POLICY": context.environment.get("OMP_WAIT_POLICY", "PASSIVE"),
            PROFILES: profiles(given["transport"], context.environment.get(PROFILES)),
        },
        output="screen",
    )
    if given["autostart"].lower() not in ("true", "1"):
        return [node]
    activate = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="configuring",
            goal_state="inactive",
            entities=[change(node, Transition.TRANSITION_ACTIVATE)],
        )
    )
    return [activate, node, change(node, Transition.TRANSITION_CONFIGURE)]


def change(node: LifecycleNode, transition: int) -> EmitEvent:
    """The event that asks the node for a transition."""
    return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))


def profiles(transport: str, present: str | None) -> str:
    """The file of Fast DDS profiles for a value of the argument ``transport``; one that is set already stays."""
    if transport == "default":
        return present or ""
    if transport == "shared_memory":
        return present or str(SHARE / "config" / "shared_memory.xml")
    path = Path(transport).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"transport:={transport} is neither shared_memory nor default nor a file")
    return str(path)


def generate_launch_description() -> LaunchDescription:
    """Arguments first, then what is made of them."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
