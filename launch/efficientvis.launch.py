"""Start the segmenter with EfficientVIS, which looks at windows of five frames, one for every frame.

ros2 launch vis_ros efficientvis.launch.py image:=/camera/image_raw weights:=/path/to/weights.safetensors
"""

from launch import LaunchDescription

from vis_ros.launching import segmenter_launch


def generate_launch_description() -> LaunchDescription:
    """What ``ros2 launch`` asks for."""
    return segmenter_launch("efficientvis")
