"""Start the segmenter: visolo-lite with its own weights, or VISOLO with those that are given.

ros2 launch vis_ros visolo.launch.py image:=/camera/image_raw
ros2 launch vis_ros visolo.launch.py image:=/camera/image_raw system:=visolo weights:=/path/to/visolo.safetensors
"""

from launch import LaunchDescription

from vis_ros.launching import segmenter_launch


def generate_launch_description() -> LaunchDescription:
    """What ``ros2 launch`` asks for."""
    return segmenter_launch("visolo-lite")
