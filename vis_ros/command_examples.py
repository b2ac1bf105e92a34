"""What to start from: the command lines at the end of the help of each command of ``vis-ros``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

VIS_ROS: Mapping[str, Sequence[str]] = {
    "make-bag": (
        "vis-ros make-bag street.mp4 street_bag",
        "vis-ros make-bag val.json bag --video 3 --storage mcap --encoding jpeg",
    ),
    "segment-bag": (
        "vis-ros segment-bag street_bag --out out",
        "vis-ros segment-bag 'nights/*' --out out --jobs 2 --bag --no-overlay",
    ),
    "evaluate-bag": (
        "vis-ros evaluate-bag street_bag --ground-truth val.json",
        "vis-ros evaluate-bag street_bag --ground-truth val.json --live --out live",
    ),
    "run": (
        "vis-ros run visolo-lite --ros-args -r image:=/camera/image_raw",
        "vis-ros run visolo --ros-args -p weights:=visolo.safetensors",
    ),
    "record": ("vis-ros record stream.jsonl", "vis-ros record stream.jsonl --topic /front/instances"),
    "play": ("vis-ros play street_bag", "vis-ros play street_bag --rate 0.5 --ros-args -r /camera/image_raw:=/image"),
    "camera": ("vis-ros camera 0", "vis-ros camera rtsp://camera.local/stream --rate 10 --frame-id front"),
}
"""By name."""
