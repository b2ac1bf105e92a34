"""Start the segmenter with MinVIS, which answers every frame at once.

ros2 launch vis_ros minvis.launch.py image:=/camera/image_raw weights:=/path/to/minvis.safetensors
"""

from launch import LaunchDescription

from vis_ros.launching import segmenter_launch


def generate_launch_description() -> LaunchDescription:
    """What ``ros2 launch`` asks for."""
    return segmenter_launch("minvis")
