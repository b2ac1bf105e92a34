"""The node's parameters: one table that declares them, checks them and documents them.

Those of the node stand here; those of a system are the options of its entry in ``vis_core.catalog``.
An option that may be None is a parameter that may be 0, or -1 where 0 is a value of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from vis_core.errors import OptionError
from vis_ros.node.topics import camera_names

if TYPE_CHECKING:
    from rclpy.node import Node

    from vis_core.system.option import Option

IMAGE_TRANSPORTS = ("raw", "compressed")
DROP_POLICIES = ("latest", "every_frame")
LABEL_IMAGE_VALUES = ("position", "track_id")
OF_OUTPUTS = ("classes", "mask_classes", "min_score", "follow")
"""Parameters that what is published follows, and no segmenter, while the node runs."""

_INTEGER_BOUNDS = (-(2**63), 2**63 - 1)
_FLOAT_BOUNDS = (-sys.float_info.max, sys.float_info.max)


def node_parameters() -> dict[str, Option]:
    """The parameters that the node has whatever the system."""
    from vis_core.catalog import PRECISIONS, SYSTEMS
    from vis_core.system.option import Option
    from vis_core.video.headers import MAX_PIXELS
    from vis_core.video.levels import range_of

    return {
        "system": Option(
            "segmentation system; fixed when the node starts", choices=tuple(SYSTEMS), default="visolo-lite"
        ),
        "weights": Option(
            "weight file: our .safetensors or a published checkpoint; empty: the system's own, else random weights",
            default="",
        ),
        "device": Option("auto (a GPU if there is one), cpu, cuda, cuda:1...", default="auto"),
        "precision": Option(
            "arithmetic of the network; auto: float32, but for what does not show bfloat16 where that is fast",
            choices=PRECISIONS,
            default="auto",
        ),
        "threads": Option(
            "threads of the network on a CPU; 0: as many as PyTorch chooses, without it those of the machine",
            0,
            1024,
            default=0,
        ),
        "cameras": Option(
            "names of cameras with commas between them, which share the network: NAME/image in, NAME/instances and all "
            "else out; empty: one, whose topics have no name before them",
            parse=camera_names,
            default="",
        ),
        "image_transport": Option(
            "raw subscribes to image, compressed to image/compressed", choices=IMAGE_TRANSPORTS, default="raw"
        ),
        "range": Option(
            "values of 16-bit images that become black and white: MIN,MAX, or auto, which finds them by the first "
            "images; empty: by their upper 8 bits, and an image that uses less than a tenth of all values is bad",
            parse=range_of,
            default="",
        ),
        "max_image_pixels": Option(
            "pixels of the largest image that is taken; of a larger one no memory is taken",
            1,
            MAX_PIXELS,
            default=1 << 26,
        ),
        "drop_policy": Option(
            "latest: work on the newest image, drop those it replaces; every_frame: queue them",
            choices=DROP_POLICIES,
            default="latest",
        ),
        "queue_size": Option(
            "images queued with every_frame, up to a quarter of free memory; when full the oldest is dropped",
            1,
            1000,
            default=30,
        ),
        "late_tolerance": Option(
            "seconds; an image whose stamp is earlier than the newest by no more is late and left out, one that is "
            "still earlier begins a new stream",
            0,
            60,
            default=0.4,
        ),
        "prefetch": Option(
            "begin with the next image while one is at work: more images a second, later answers",
            former="look_ahead",
            default=True,
        ),
        "classes": Option(
            "names of the classes whose tracks are published, with commas between them; empty: all",
            live=True,
            default="",
        ),
        "min_score": Option(
            "running score that a track must reach to be published, from then on to its end; none: as the weights are "
            "shown with, 0.4 of those of visolo-lite that ship, 0 of others",
            0,
            1,
            live=True,
            kind=float,
            optional=True,
            default=None,
        ),
        "mask_classes": Option(
            "names of the classes that mask/image shows, with commas between them; empty: all", live=True, default=""
        ),
        "label_image_values": Option(
            "position: 1 + the place in the tracks array; track_id: 1 + the id modulo 65535, the same in every image",
            choices=LABEL_IMAGE_VALUES,
            default="position",
        ),
        "max_lost_seconds": Option(
            "seconds, by stamps; a track that was not seen for longer ends, whatever max_lost_frames says",
            0.001,
            3600,
            live=True,
            kind=float,
            optional=True,
            default=None,
        ),
        "depth": Option(
            "subscribe to depth and depth/camera_info, aligned to the camera's image, and publish tracks in space",
            default=False,
        ),
        "depth_slop": Option(
            "seconds by which the stamps of an image and its depth image may differ: half a frame", 0, 1, default=0.017
        ),
        "depth_rectified": Option(
            "the depth image is rectified: its camera info's p counts, not k and d", default=False
        ),
        "target_frame": Option("tf frame of the tracks in space, with z up; empty: the camera's", default=""),
        "object_acceleration": Option(
            "metres a second squared; how fast the velocity of an object in space may change", 0.01, 100, default=2.0
        ),
        "follow": Option(
            "id of a track, or name of a class of which the nearest is meant, whose pose is published",
            live=True,
            default="",
        ),
        "follow_frame": Option("name of a tf frame that goes with the track that is followed; empty: none", default=""),
        "autostart": Option(
            "configure and activate when the node starts; false: wait for the lifecycle services", default=True
        ),
    }


def system_parameters(system: str) -> Mapping[str, Option]:
    """The parameters that a system adds; none for an unknown one."""
    from vis_core.catalog import SYSTEMS

    return SYSTEMS[system].options if system in SYSTEMS else {}


def all_parameters(system: str) -> dict[str, Option]:
    """The parameters of the node and of a system."""
    return {**node_parameters(), **system_parameters(system)}


def declare(node: Node) -> dict[str, Option]:
    """Declare the parameters of the node and of the system that it is told; returns their table."""
    own = node_parameters()
    system = node.declare_parameter("system", own["system"].default, descriptor("system", own["system"])).value
    table = all_parameters(system)
    for name, option in table.items():
        if name != "system":
            default = default_of(option)
            if option.former and (given := _given(node, option.former)) is not None:
                node.get_logger().warning(f"parameter {option.former} is called {name} now")
                default = given
            node.declare_parameter(name, default, descriptor(name, option))
    return table


def _given(node: Node, name: str) -> Any:
    """What a parameter that the node does not have is set to where the node is started, None if it is not."""
    from rcl_interfaces.msg import ParameterDescriptor

    value = node.declare_parameter(name, None, ParameterDescriptor(dynamic_typing=True)).value
    node.undeclare_parameter(name)
    return value


def descriptor(name: str, option: Option) -> Any:
    """The ``rcl_interfaces/ParameterDescriptor`` of an option."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    described = ParameterDescriptor(
        name=name,
        description=_meaning(option),
        read_only=name == "system",
        additional_constraints="" if name == "system" else _range(option),
    )
    if option.minimum is None and option.maximum is None:
        return described
    low, high = (_none(option) if option.optional else option.minimum), option.maximum
    if option.kind is int:
        described.integer_range = [
            IntegerRange(
                from_value=_INTEGER_BOUNDS[0] if low is None else int(low),
                to_value=_INTEGER_BOUNDS[1] if high is None else int(high),
            )
        ]
    elif option.kind is float:
        described.floating_point_range = [
            FloatingPointRange(
                from_value=_FLOAT_BOUNDS[0] if low is None else float(low),
                to_value=_FLOAT_BOUNDS[1] if high is None else float(high),
            )
        ]
    return described


def check(name: str, option: Option, value: Any) -> Any:
    """The option's value for a parameter's.

    Raises:
        OptionError: wrong type, out of range or not among the choices.
    """
    if option.kind is tuple:
        value = tuple(value)
    if option.optional and value == _none(option):
        value = None
    return option.check(name, value)


def check_changes(changes: Iterable[Any], table: Mapping[str, Option], configured: bool) -> dict[str, Any]:
    """The options' values of parameters that are changed while the node runs; none before it is configured.

    Args:
        changes: ``rclpy.parameter.Parameter``.
        table: of all parameters.
        configured: whether it is.

    Raises:
        OptionError: a value cannot be, or is read only when the node is configured.
    """
    live = {}
    for change in changes:
        option = table.get(change.name)
        if option is None:
            continue
        value = check(change.name, option, change.value)
        if configured:
            if not option.live:
                raise OptionError(f"{change.name} is read when the node is configured: clean it up first")
            live[change.name] = value
    return live


def to_ros(option: Option, value: Any) -> Any:
    """The parameter's value for an option's."""
    if value is None:
        return _none(option)
    return list(value) if isinstance(value, tuple) else value


def default_of(option: Option) -> Any:
    """The parameter's default: the option's, or the one for streams where it has one."""
    return to_ros(option, option.default if option.streamed is None else option.streamed)


def parameters_table() -> str:
    """All parameters as a table in Markdown."""
    from vis_core.catalog import SYSTEMS

    rows = [("", name, option) for name, option in node_parameters().items()]
    for system in SYSTEMS:
        rows += [(system, name, option) for name, option in system_parameters(system).items()]
    lines = ["| parameter | of | type | default | range | meaning |", "| --- | --- | --- | --- | --- | --- |"]
    for system, name, option in rows:
        cells = (
            f"`{name}`",
            system,
            _type(option),
            f"`{_literal(default_of(option))}`",
            _range(option),
            _meaning(option),
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def documentation() -> str:
    """docs/parameters.md: what the parameters are, and the table of them."""
    return f"""# Parameters of the node

The first ones every node has. The others come with a system: they are its options, which `--option NAME=VALUE` of
`vis segment` and `vis_core.load(system, NAME=VALUE)` take too; where 0 or -1 stands for none here, those take none.
A parameter is read when the node is configured, but for those whose meaning says otherwise. `config/SYSTEM.yaml` holds
the parameters of a system at their defaults. Written by `python -m vis_ros.node.parameters`.

{parameters_table()}"""


def parameters_file(system: str) -> str:
    """All parameters of a system at their defaults as a ROS parameter file, each with its meaning."""
    lines = [
        f"# Parameters of the segmenter with {system}, at their defaults; for a node of any name in any namespace.",
        "/**:",
        "  ros__parameters:",
    ]
    for name, option in all_parameters(system).items():
        default = system if name == "system" else default_of(option)
        # Of the systems this file names its own alone: another one would have other parameters.
        allowed = f" ({_range(option)})" if _range(option) and name != "system" else ""
        lines += [f"    # {_meaning(option)}{allowed}", f"    {name}: {_literal(default)}"]
    return "\n".join(lines)


def _type(option: Option) -> str:
    if option.kind is tuple:
        return f"{_TYPE_NAMES[type(option.default[0])]}[{len(option.default)}]"
    return _TYPE_NAMES[option.kind]


_TYPE_NAMES: dict[type, str] = {bool: "bool", int: "integer", float: "double", str: "string"}


def _meaning(option: Option) -> str:
    return f"{option.description}; may be changed while it runs" if option.live else option.description


def _none(option: Option) -> float:
    """The value of a parameter that stands for None, in the parameter's type."""
    return option.kind(0 if option.minimum is not None and option.minimum > 0 else -1)


def _literal(value: Any) -> str:
    """A parameter's value as it is written in YAML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value or '""'
    return str(value)


def _range(option: Option) -> str:
    if option.choices:
        return ", ".join(option.choices)
    low, high = option.minimum, option.maximum
    text = ""
    if low is not None and high is not None:
        text = f"{low} to {high}"
    elif low is not None:
        text = f"from {low}"
    elif high is not None:
        text = f"up to {high}"
    if option.multiple_of:
        text += f"{', ' if text else ''}multiples of {option.multiple_of}"
    if option.optional:
        text += f"{', ' if text else ''}{_none(option)}: none"
    return text


if __name__ == "__main__":
    print(parameters_file(sys.argv[1]) if len(sys.argv) > 1 else documentation())
