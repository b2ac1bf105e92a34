"""Start the segmenter with GMP-VIS, which links the instances of each frame to the tracks by matching graphs.

ros2 launch vis_ros gmp_vis.launch.py image:=/camera/image_raw weights:=/path/to/gmp_vis.safetensors
"""

from launch import LaunchDescription

from vis_ros.launching import segmenter_launch


def generate_launch_description() -> LaunchDescription:
    """What ``ros2 launch`` asks for."""
    return segmenter_launch("gmp-vis")
