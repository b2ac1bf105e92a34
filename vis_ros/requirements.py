"""What commands need beside Python packages, and how its lack is told."""

from __future__ import annotations

from vis_core.errors import MissingDependencyError


def require_ros() -> None:
    """See whether ROS 2 and the messages of this package can be imported.

    Raises:
        MissingDependencyError: one cannot; the text says how to get it.
    """
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "this needs ROS 2: source an installation (source /opt/ros/$ROS_DISTRO/setup.bash), "
            f"or install its Python packages with pip install 'vis_ros[ros]' or make ({error})"
        ) from error
    try:
        import vis_ros.msg  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"the messages of vis_ros are not built ({error}): colcon build and source install/setup.bash, or make"
        ) from error
