"""Start the segmenter with Mask2Former-VIS, which looks at windows of frames.

ros2 launch vis_ros mask2former_vis.launch.py image:=/camera/image_raw weights:=/path/to/weights.safetensors
"""

from launch import LaunchDescription

from vis_ros.launching import segmenter_launch


def generate_launch_description() -> LaunchDescription:
    """What ``ros2 launch`` asks for."""
    return segmenter_launch("mask2former-vis")
