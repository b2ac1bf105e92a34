"""Start the segmenter with TeViT, which looks at windows of five frames, one for every second frame.

ros2 launch vis_ros tevit.launch.py image:=/camera/image_raw weights:=/path/to/tevit_msgshift.pth
"""

from launch import LaunchDescription

from vis_ros.launching import segmenter_launch


def generate_launch_description() -> LaunchDescription:
    """What ``ros2 launch`` asks for."""
    return segmenter_launch("tevit")
