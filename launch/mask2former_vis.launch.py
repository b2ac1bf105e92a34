"""Start the segmenter with MinVIS, one frame at a time, or Mask2Former-VIS, in windows of frames.

ros2 launch vis_ros mask2former_vis.launch.py image:=/camera/image_raw weights:=/path/to/minvis.safetensors
ros2 launch vis_ros mask2former_vis.launch.py image:=/camera/image_raw system:=mask2former-vis weights:=...
"""

from launch import LaunchDescription

from vis_ros.launching import segmenter_launch


def generate_launch_description() -> LaunchDescription:
    """What ``ros2 launch`` asks for."""
    return segmenter_launch(("minvis", "mask2former-vis"))
