"""The videos of results against those of a ground truth: ids alone do not tell that they are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import PureWindowsPath

from vis_core.evaluation.inputs.tracks import Video
from vis_core.files.results_info import ResultsInfo


def other_video(info: ResultsInfo, videos: Mapping[int, Video]) -> str:
    """A video of the results that has the id of another one in the ground truth, by the names of their first images.

    Args:
        info: the companion of the results.
        videos: of the ground truth, by id.

    Returns:
        What is wrong, for a message; empty if nothing is known to be.
    """
    names = {number: _parts(video.file_names[0]) for number, video in videos.items() if video.file_names}
    counts = Counter(names.values())
    known = {parts: number for number, parts in names.items() if counts[parts] == 1}
    for video in info.videos:
        if not video.file_names:
            continue
        parts = _parts(video.file_names[0])
        ends = (parts[at:] for at in range(len(parts)))
        number = next((known[end] for end in ends if end in known), video.id)
        if number != video.id:
            return (
                f"video_id {video.id} is of {video.file_names[0]}, which is video {number} of the ground truth: were "
                "they numbered otherwise, as in a folder of images or a training? Segment the JSON of the ground truth"
            )
    return ""


def _parts(name: str) -> tuple[str, ...]:
    return PureWindowsPath(name).parts
