"""A rendered scene with depth as a recording, and its truth: what ``evaluate-bag`` scores positions by.

python -m vis_ros.recordings.depth_scene scene
vis-ros evaluate-bag scene/bag --topic /camera/image_raw --ground-truth scene/truth.json --class-agnostic
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.rosbag2 import StoragePlugin, Writer

from vis_core.data.synthetic_depth import DepthVideo, Solid, depth_video
from vis_ros.recordings.bags import CAMERA_INFO, IMAGE, typestore

TOPICS = {
    "image": ("/camera/image_raw", IMAGE),
    "depth": ("/camera/aligned_depth/image_raw", IMAGE),
    "camera_info": ("/camera/aligned_depth/camera_info", CAMERA_INFO),
}
_FRAME_ID = "camera_optical"
_SOLIDS = (
    Solid("ball", (0.5, 0.5, 0.5), (-1.2, 0.4, 3.0), (0.8, 0.0, 0.0)),
    Solid("box", (0.5, 0.8, 0.5), (0.8, 0.4, 3.2), (-0.3, 0.0, 0.3), yaw=0.5, turn=0.6),
)


def write_depth_scene(video: DepthVideo, folder: str | Path) -> tuple[Path, Path]:
    """Write ``bag``, an MCAP recording of images, depth (16UC1) and camera info, and ``truth.json``; returns both.

    Args:
        video: the scene.
        folder: made; it holds neither yet.

    Raises:
        OSError: they cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    bag, truth = folder / "bag", folder / "truth.json"
    store = typestore()
    with Writer(bag, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            name: writer.add_connection(topic, kind, typestore=store) for name, (topic, kind) in TOPICS.items()
        }
        for t, stamp in enumerate(video.stamps.tolist()):
            header = _header(stamp)
            millimetres = np.rint(np.where(np.isfinite(video.depth[t]), video.depth[t], 0) * 1000).astype("<u2")
            for name, message in (
                ("camera_info", _info(video, header)),
                ("depth", _image(millimetres, "16UC1", header)),
                ("image", _image(video.frames[t], "rgb8", header)),
            ):
                writer.write(connections[name], stamp, bytes(store.serialize_cdr(message, TOPICS[name][1])))
    truth.write_text(json.dumps(video.truth()) + "\n", "utf-8")
    return bag, truth


def _header(stamp: int) -> Any:
    types = typestore().types
    seconds, rest = divmod(stamp, 1_000_000_000)
    time = types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=rest)
    return types["std_msgs/msg/Header"](stamp=time, frame_id=_FRAME_ID)


def _image(pixels: npt.NDArray[Any], encoding: str, header: Any) -> Any:
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    return typestore().types[IMAGE](
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=pixels.strides[0],
        data=data,
    )


def _info(video: DepthVideo, header: Any) -> Any:
    types = typestore().types
    height, width = video.camera.size
    projection = np.hstack([video.camera.matrix, np.zeros((3, 1))])
    return types[CAMERA_INFO](
        header=header,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=video.camera.matrix.ravel(),
        r=np.eye(3).ravel(),
        p=projection.ravel(),
        binning_x=0,
        binning_y=0,
        roi=types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
    )


if __name__ == "__main__":
    print(*write_depth_scene(depth_video(_SOLIDS, 60, (360, 480)), sys.argv[1]), sep="\n")
