"""Tracks in space without ROS: masks and depth images in, positions and velocities out, drawn into a picture.

    python examples/tracks_in_space.py tracks_3d.jpg

The scene is rendered, so that the truth is known; of a depth camera take its images and calibration instead, and the
tracks of a segmenter (``instances.track_ids``, ``instances.masks``).
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from vis_core.data.synthetic_depth import Solid, depth_video
from vis_core.spatial.measurement import measure, metres
from vis_core.spatial.tracks import Pose, SpatialTrack, SpatialTracks
from vis_core.structures import TrackState
from vis_core.video.images import write_image

SOLIDS = (
    Solid("ball", (0.5, 0.5, 0.5), (-1.6, 0.6, 3.4), (0.9, 0.0, -0.2)),
    Solid("box", (0.5, 1.6, 0.5), (1.9, 0.3, 4.0), (-0.5, 0.0, 0.2), yaw=0.4, turn=0.5),
    Solid("box", (0.6, 1.0, 0.6), (0.2, 0.5, 5.6), (0.2, 0.0, -0.4), yaw=0.7),
)
COLOURS = ((235, 120, 60), (60, 150, 235), (90, 200, 90))
LENGTH, FIELD = 32, 6.5  # frames; metres across the view from above
UPRIGHT = 1  # of a camera's optical frame, whose y points down


def main(path: str) -> None:
    """Track the scene, and draw its last image beside the view from above."""
    video = depth_video(SOLIDS, LENGTH, (360, 480))
    tracks = SpatialTracks(upright=UPRIGHT)
    noise = np.random.default_rng(0)
    trails: list[list[tuple[int, int]]] = [[] for _ in SOLIDS]
    found: list[SpatialTrack] = []
    for t in range(LENGTH):
        depth = metres(video.depth[t] + noise.normal(0, 0.02, video.depth[t].shape).astype(np.float32))
        seen = {i: measure(video.mask(t, i), depth, video.camera) for i in range(len(SOLIDS))}
        seen = {i: measurement for i, measurement in seen.items() if measurement is not None}
        states = {i: TrackState.TRACKED if i in seen else TrackState.LOST for i in range(len(SOLIDS))}
        found = tracks.step(int(video.stamps[t]), states, seen, Pose.none())
        for track in found:
            trails[track.track_id].append(from_above(track.position[[0, 2]]))
    image = video.frames[-1].copy()
    above = np.full((360, 360, 3), 250, np.uint8)
    for metre in range(1, 7):
        cv2.ellipse(above, (180, 350), (scale(metre), scale(metre)), 0, 180, 360, (215, 215, 215), 1, cv2.LINE_AA)
    for track in found:
        colour = COLOURS[track.track_id]
        draw_box(image, track, video.camera, colour)
        outline = np.array([from_above(corner) for corner in track.footprint])
        cv2.polylines(above, [outline], True, colour, 2, cv2.LINE_AA)
        cv2.polylines(above, [np.array(trails[track.track_id])], False, colour, 1, cv2.LINE_AA)
        end = from_above((track.position + track.velocity)[[0, 2]])
        cv2.arrowedLine(above, from_above(track.position[[0, 2]]), end, (40, 40, 40), 1, cv2.LINE_AA, tipLength=0.2)
        off = np.linalg.norm(track.position - video.positions[-1, track.track_id])
        print(f"track {track.track_id}: {np.round(track.position, 2)} m, {off * 100:.1f} cm from the truth")
    write_image(Path(path), np.hstack([image, above]))


def draw_box(image: np.ndarray, track: SpatialTrack, camera, colour: tuple[int, int, int]) -> None:
    """The box of a track in the image, with its distance and speed."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    corners = np.rint(camera.project(track.position + signs * track.size / 2)).astype(int)
    for one in range(8):
        for other in range(one):
            if np.count_nonzero(signs[one] != signs[other]) == 1:
                cv2.line(image, corners[one].tolist(), corners[other].tolist(), colour, 2, cv2.LINE_AA)
    text = f"{np.linalg.norm(track.position):.1f} m  {np.linalg.norm(track.velocity):.1f} m/s"
    x, y = int(corners[:, 0].min()), int(corners[:, 1].max()) + 18
    cv2.rectangle(image, (x, y - 13), (x + 8 * len(text), y + 5), colour, -1)
    cv2.putText(image, text, (x + 3, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)


def from_above(point: np.ndarray) -> tuple[int, int]:
    """Pixel of a place x, z in the view from above."""
    return 180 + scale(point[0]), 350 - scale(point[1])


def scale(metres_: float) -> int:
    """Pixels of a length."""
    return round(float(metres_) * 360 / FIELD)


if __name__ == "__main__":
    main(sys.argv[1])
