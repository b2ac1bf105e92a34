"""Start the segmenter with visolo-lite and the weights that ship with it.

ros2 launch vis_ros visolo_lite.launch.py image:=/camera/image_raw
"""

from launch import LaunchDescription

from vis_ros.launching import segmenter_launch


def generate_launch_description() -> LaunchDescription:
    """What ``ros2 launch`` asks for."""
    return segmenter_launch("visolo-lite")
