"""The depth images of a recording beside its camera's, and tracks in space by them, as the node makes them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from vis_core.data.spatial_truth import read_spatial_truth
from vis_core.errors import InputError
from vis_core.evaluation.inputs.tracks import GroundTruth, Video
from vis_core.evaluation.spatial_scores import SpatialScores
from vis_core.files.findings import InputWarning
from vis_core.spatial.camera import Camera
from vis_core.spatial.measurement import measure_instances
from vis_core.spatial.tracks import Pose, SpatialTrack, SpatialTracks
from vis_core.structures import Instances, TrackState
from vis_ros.messages import stamp_of
from vis_ros.node.depth import DepthBuffer, camera_of, depth_metres
from vis_ros.recordings.bags import CAMERA_INFO, IMAGE, typestore
from vis_ros.recordings.recording import Recording, Topic, listed

SLOP = 17_000_000
"""Nanoseconds by which the stamps of an image and its depth image may differ, as of the node."""
_UPRIGHT = 1  # of a camera's optical frame, whose y points down


class DepthRecording:
    """Tracks in space, in the camera's optical frame, by the depth images of a recording.

    Args:
        path: the recording.
        images: topic of the camera's images.
        topic: of the depth images, aligned to them; None: the only one with ``depth`` in its name.

    Raises:
        InputError: there is no such topic, or several and none is named, or nothing tells of the camera.
    """

    def __init__(self, path: Path, images: str, topic: str | None = None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it was told when the recording was opened first
            self._recording = Recording(path)
        try:
            self.topic, self._info = _choose(path, self._recording.topics, images, topic)
        except BaseException:
            self._recording.close()
            raise
        self._path = path
        self._coming = self._recording.messages([self.topic, self._info])
        self._buffer, self._latest = DepthBuffer(SLOP), -1
        self._tracks = SpatialTracks(upright=_UPRIGHT)
        self._camera: tuple[Any, Camera] | None = None

    def close(self) -> None:
        """Let go of the files."""
        self._coming.close()  # type: ignore[attr-defined]
        self._recording.close()

    def step(self, instances: Instances) -> list[SpatialTrack]:
        """The tracks in space at the time of an image; images come in order of their stamps."""
        while self._latest <= instances.stamp + SLOP and (coming := next(self._coming, None)) is not None:
            self._take(*coming)
        found = self._buffer.nearest(instances.stamp)
        measured = {}
        if found is not None:
            try:
                depth = depth_metres(found[0])
                camera = self._camera_of(found[1], (depth.shape[0], depth.shape[1]))
            except InputError as error:
                raise InputError(f"{self._path}: {self.topic.name}: {error}") from error
            measured = measure_instances(instances, depth, camera)
            self._buffer.note_used(int(instances.visible.sum()) - len(measured))
        states = dict(zip(instances.track_ids.tolist(), map(TrackState, instances.states.tolist())))
        return self._tracks.step(instances.stamp, states, measured, Pose.none())

    def counts(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        counts = self._buffer.counts
        return {
            "topic": self.topic.name,
            "images_with_depth": counts.paired,
            "images_without_depth": counts.unpaired,
            "too_few_points": counts.too_few,
        }

    def _camera_of(self, info: Any, size: tuple[int, int]) -> Camera:
        """Made once of what does not change: its rays are costly."""
        key = (repr(info.k), repr(info.d), repr(info.p), repr(info.roi), info.binning_x, info.binning_y, size)
        if self._camera is None or self._camera[0] != key:
            self._camera = key, camera_of(info, size, rectified=False)
        return self._camera[1]

    def _take(self, topic: str, _: int, data: bytes) -> None:
        kind = self.topic.type if topic == self.topic.name else self._info.type
        try:
            message = typestore().deserialize_cdr(data, kind)
        except Exception as error:  # whatever the bytes make of the parser
            raise InputError(f"{self._path}: {topic}: a message is no {kind}: {error}") from error
        if topic == self._info.name:
            self._buffer.add_info(message)
            return
        self._buffer.add(message)
        self._latest = stamp_of(message)


class SpatialEvaluation:
    """Answers against a truth in space, by the depth images of a recording; see `spatial_evaluation`."""

    def __init__(self, depth: DepthRecording, scores: SpatialScores) -> None:
        self._depth, self._scores = depth, scores

    def add(self, position: int, instances: Instances) -> None:
        """The answer to a frame of the video."""
        self._scores.add(position, instances, self._depth.step(instances))

    def summary(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        return {**self._scores.summary(), "depth": self._depth.counts()}

    def close(self) -> None:
        """Let go of the files."""
        self._depth.close()


def spatial_evaluation(
    path: Path, images: Topic, topic: str | None, ground_truth: str | Path, part: GroundTruth, video: Video
) -> SpatialEvaluation | None:
    """What scores answers in space; None where the truth tells no positions, or, with a warning, no depth is there.

    Args:
        path: the recording.
        images: topic of the camera's images.
        topic: of the depth images; None: as of `DepthRecording`, and it need not be there.
        ground_truth: the file.
        part: what was read of it.
        video: that the recording shows.

    Raises:
        InputError: the truth in space is not of its form, or the depth that is named is not there.
    """
    truth = read_spatial_truth(ground_truth, video.id, video.length)
    if not truth:
        if topic is not None:
            raise InputError(f"{ground_truth}: no annotation of video {video.name} has positions to compare depth with")
        return None
    try:
        depth = DepthRecording(path, images.name, topic)
    except InputError as error:
        if topic is not None:
            raise
        warnings.warn(f"positions are not scored: {error}", InputWarning, stacklevel=3)
        return None
    return SpatialEvaluation(depth, SpatialScores(truth, part.tracks[video.id]))


def _choose(path: Path, topics: tuple[Topic, ...], images: str, wanted: str | None) -> tuple[Topic, Topic]:
    """The topics of depth images and of what tells of their camera."""
    of_images = [topic for topic in topics if topic.type == IMAGE and topic.name != images]
    if wanted is None:
        found = [topic for topic in of_images if "depth" in topic.name]
    else:
        found = [topic for topic in of_images if topic.name == "/" + wanted.strip("/")]
    if len(found) != 1:
        problem = "several topics of depth" if found else f"no topic of depth {wanted or ''}".rstrip()
        raise InputError(f"{path}: {problem} ({IMAGE}); name one with --depth-topic; holds {listed(topics)}")
    places = [found[0].name + "/camera_info"]  # ours; that of image_transport; aligned depth has the camera's own
    places += [name.rpartition("/")[0] + "/camera_info" for name in (found[0].name, images)]
    infos = {topic.name: topic for topic in topics if topic.type == CAMERA_INFO}
    for place in places:
        if place in infos:
            return found[0], infos[place]
    raise InputError(f"{path}: nothing tells of the camera of {found[0].name}: none of {', '.join(places)}")
