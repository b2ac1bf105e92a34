"""Opening the result file of a run, with what its companion will tell."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from vis_core.data.class_matching import ClassMatching, match_classes, shown_names
from vis_core.files.findings import InputWarning
from vis_core.files.results_info import UNKNOWN, Origin, ResultsInfo, SegmentedVideo
from vis_core.files.results_writer import ResultsWriter
from vis_core.video.sources import ImageSequence, VideoSource


def open_results(
    path: Path,
    class_names: Sequence[str],
    sources: Sequence[VideoSource],
    origin: Origin = UNKNOWN,
    kept: tuple[int, Mapping[int, int]] = (0, MappingProxyType({})),
) -> ResultsWriter:
    """A writer of ``results.json``: category ids are those that the JSON of the sources has for the classes' names.

    Where there is no such JSON, or no class is called like one of its categories, they are label + 1. Classes and
    categories without a partner are told in an `InputWarning`.

    Args:
        path: of ``results.json``.
        class_names: of the system, by label.
        sources: the videos.
        origin: what makes the results.
        kept: rows of an earlier run to go on from, as of `ResultsWriter`.

    Raises:
        OSError: the file cannot be made.
    """
    names = dict(enumerate(class_names))
    matching = _matching(names, sources[0].categories if sources else {})
    info = ResultsInfo.of_classes(names, matching, origin).of_videos(*map(_segmented, sources))
    ids = None if matching is None else [matching.ids[label] for label in names]
    return ResultsWriter(path, ids, info, kept)


def _matching(names: Mapping[int, str], categories: Mapping[int, str]) -> ClassMatching | None:
    """How classes meet the categories of a JSON; None if there are none, or none of that name."""
    if not categories:
        return None
    matching = match_classes(names, categories)
    classes, others = shown_names(matching.without_category), shown_names(matching.without_class)
    if not matching.matched:
        text = f"no class ({classes}) is called like a category of the JSON ({others}): category_id is label + 1"
        warnings.warn(text, InputWarning, stacklevel=4)
        return None
    parts = []
    if matching.without_category:
        parts.append(f"classes that are no category of the JSON: {classes}")
    if matching.without_class:
        parts.append(f"categories of the JSON that are no class of the system: {others}")
    if parts:
        warnings.warn("; ".join(parts), InputWarning, stacklevel=4)
    return matching


def _segmented(source: VideoSource) -> SegmentedVideo:
    files, stamps = (source.files, source.stamps) if isinstance(source, ImageSequence) else ((), None)
    return SegmentedVideo(
        source.video_id,
        source.name or str(source.video_id),
        source.size,
        fps=source.fps,
        file_names=tuple(map(str, files)),
        stamps=stamps or (),
    )
