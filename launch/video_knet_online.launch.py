"""Start the segmenter with Video K-Net's online system, which tells things and stuff frame by frame.

ros2 launch vis_ros video_knet_online.launch.py image:=/camera/image_raw weights:=/path/to/checkpoint.pth
"""

from launch import LaunchDescription

from vis_ros.launching import segmenter_launch


def generate_launch_description() -> LaunchDescription:
    """What ``ros2 launch`` asks for."""
    return segmenter_launch("video-knet-online")
