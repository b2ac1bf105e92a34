"""Start the segmenter with VisTR, which looks at 36 frames at a time and answers some frames late.

ros2 launch vis_ros vistr.launch.py image:=/camera/image_raw weights:=/path/to/vistr_r50.pth
"""

from launch import LaunchDescription

from vis_ros.launching import segmenter_launch


def generate_launch_description() -> LaunchDescription:
    """What ``ros2 launch`` asks for."""
    return segmenter_launch("vistr")
