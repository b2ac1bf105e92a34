"""The segmenter node and its parts.

``from vis_ros.node import SegmenterNode``, for an executor and a process of your own; rclpy is imported with it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vis_ros.node.segmenter_node import SegmenterNode as SegmenterNode

__all__ = ["SegmenterNode"]


def __getattr__(name: str) -> Any:
    if name != "SegmenterNode":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vis_ros.node.segmenter_node import SegmenterNode

    return SegmenterNode
