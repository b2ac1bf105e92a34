"""What a node is told at its start and does not use, by name: parameters that it lacks, files that set nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vis_core.errors import InputError, nearest, printable
from vis_core.files.yaml_files import read_yaml

if TYPE_CHECKING:
    from rclpy.node import Node

QOS_OVERRIDES = "qos_overrides."
"""Parameters of topics, which are declared when their publishers and subscriptions are made."""

_VALUES = "ros__parameters"


def warn_of_parameters(node: Node, former: Mapping[str, str], of_topics: bool = False) -> None:
    """Log which parameters are set from outside that the node does not have, and the nearest that it has.

    Args:
        node: with all its parameters declared.
        former: names that are taken too, and what they are called now.
        of_topics: look at those of topics alone; else at all others.
    """
    known = [name for name in node.get_parameters_by_prefix("") if name.startswith(QOS_OVERRIDES) == of_topics]
    for name in sorted({*node._parameter_overrides} - {*known, *former}):
        if name.startswith(QOS_OVERRIDES) == of_topics:
            node.get_logger().warning(f"parameter {printable(name)} is set, but not used: {_instead(name, known)}")


def warn_of_files(node: Node, arguments: Sequence[str]) -> None:
    """Log which parameter files of a command line hold nothing for the node, and for which nodes they do.

    Args:
        node: fully named, as the keys of the files are.
        arguments: the command line.
    """
    name, log = node.get_fully_qualified_name(), node.get_logger()
    for option, path in pairwise(arguments):
        if option != "--params-file" or not Path(path).is_file():
            continue
        try:
            keys = {key: values for key, values in _nodes(read_yaml(path, "parameters")) if values}
        except InputError as error:  # of rules that rcl, which has read the file, does not have
            log.warning(str(error))
            continue
        if not any(_is_for(key, name) for key in keys):
            found = f"what it holds is for {printable(', '.join(sorted(keys)))}" if keys else "it holds none"
            log.warning(f"{printable(path)} sets no parameter of this node: {found}; the key must be {name} or /**")


def _is_for(key: str, name: str) -> bool:
    """Whether a key, in which ``*`` is any one name and ``**`` any number of them, is a node's."""
    pattern = re.escape(key).replace(r"/\*", r"(/\w+)").replace(r"+)\*", "+)*")
    return re.fullmatch(pattern, name) is not None


def _instead(name: str, known: Sequence[str]) -> str:
    from vis_core.catalog import SYSTEMS

    systems = [system for system, entry in SYSTEMS.items() if name in entry.options]
    return f"it is one of {', '.join(systems)}" if systems else nearest(name, known)


def _nodes(tree: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of nodes in a parameter file, each from the root of all namespaces, and their parameters."""
    if not isinstance(tree, Mapping):
        return
    for key, values in tree.items():
        if key == _VALUES:
            yield above, values
        else:
            yield from _nodes(values, f"{above}/{str(key).strip('/')}")
