"""Checking a result file against the rules of a benchmark server, and packing it."""

from __future__ import annotations

import json
import os
import zipfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vis_core.data.class_matching import match_classes, shown_names
from vis_core.data.vocabularies import OVIS, YOUTUBE_VIS_2019, YOUTUBE_VIS_2021
from vis_core.errors import InputError, OptionError
from vis_core.evaluation.inputs.ground_truth import read_ground_truth
from vis_core.evaluation.inputs.results import read_results
from vis_core.evaluation.inputs.tracks import GroundTruth, Result, Results, Video
from vis_core.files.atomic import atomic_write
from vis_core.files.findings import is_integer
from vis_core.files.json_files import parse_json, read_text
from vis_core.files.results_info import info_path, read_info

# Categories of each split, in the order of their ids, from 1.
SPLITS = {"ytvis2019": YOUTUBE_VIS_2019, "ytvis2021": YOUTUBE_VIS_2021, "ovis": OVIS}


def pack(
    results: str | os.PathLike[str],
    split: str,
    out: Path,
    videos: str | os.PathLike[str] | None = None,
    categories: Mapping[str, str] | None = None,
) -> Results:
    """Check a result file and write the zip that the server of its benchmark takes.

    Where a companion (``results.info.json``) tells the names of the classes, each gets the id of its name in the split.
    The zip holds ``results.json``: the same tracks, scores as floats, run lengths compressed, extra keys left out.

    Args:
        results: path of the result file.
        split: of ``SPLITS``.
        out: zip to write.
        videos: JSON of the split (labels are not needed): with it ids, sizes and lengths of the videos are checked;
            without it only that they agree within the file.
        categories: as of ``evaluate``; what stands for no category is left out.

    Returns:
        What was packed, with warnings.

    Raises:
        OptionError: no such split, or ``categories`` names what is not there.
        InputError: a class of the results is none of the split's, or the server would refuse the file or score it
            wrong; the text names all errors, up to 20.
        OSError: the zip cannot be written.
    """
    if split not in SPLITS:
        raise OptionError(f"split: {split} not known; choose of {', '.join(SPLITS)}")
    path = os.fspath(results)
    content = parse_json(read_text(results, "results"), path, "results")
    if isinstance(content, list) and not content:
        raise InputError(f"{path}: results: the list is empty; the server's tool does not survive that")
    told: tuple[str, ...] = ()
    if videos is None:
        split_videos = _videos_of(content)
        told = (f"{path}: results: ids, sizes and lengths of videos were not compared with the split: none was given",)
    else:
        listed = parse_json(read_text(videos, "ground truth"), os.fspath(videos), "ground truth")
        if isinstance(listed, Mapping):
            listed = {**listed, "annotations": [], "categories": []}
        split_videos = dict(read_ground_truth(listed).videos)
    known, info = dict(enumerate(SPLITS[split], 1)), read_info(results)
    if info is not None and (alone := match_classes(info.categories, known, categories).without_category):
        companion = info_path(Path(path)).name
        raise InputError(
            f"{path}: results: {companion} tells classes that {split} does not have: {shown_names(alone)}; pair them "
            "with --categories FROM=TO, or leave them out with --categories FROM="
        )
    truth = GroundTruth(split_videos, known, dict.fromkeys(split_videos, ()))
    read = read_results(content, truth, path=path, known_categories_only=True, categories=categories, info=info)
    with atomic_write(out) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("results.json", json.dumps(_entries(read, truth), allow_nan=False))
    return Results(read.counted(known, class_agnostic=False).tracks, told + read.warnings)


def _entries(results: Results, truth: GroundTruth) -> list[dict[str, Any]]:
    counted = results.counted(truth.categories, class_agnostic=False)
    entries = [(result, video) for video, tracks in counted.tracks.items() for result in tracks]
    entries.sort(key=lambda item: item[0].entry)
    return [_entry(result, truth.videos[video]) for result, video in entries]


def _entry(result: Result, video: Video) -> dict[str, Any]:
    size = [video.size[0], video.size[1]]
    masks = [None if mask is None else {"size": size, "counts": mask.decode("ascii")} for mask in result.masks]
    return {
        "video_id": video.id,
        "category_id": result.category,
        "score": float(result.score),
        "segmentations": masks,
    }


def _videos_of(content: Any) -> dict[int, Video]:
    """The videos that a result file speaks of, with the size and the length that most of their tracks have."""
    sizes: defaultdict[int, Counter[tuple[int, int]]] = defaultdict(Counter)
    lengths: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for entry in content if isinstance(content, list) else ():
        if isinstance(entry, dict) and is_integer(entry.get("video_id")):
            masks = entry.get("segmentations")
            if isinstance(masks, list):
                lengths[entry["video_id"]][len(masks)] += 1
                sizes[entry["video_id"]].update(size for size in map(_size, masks) if size is not None)
    videos = {}
    for number in sorted(lengths):
        size = sizes[number].most_common(1)[0][0] if sizes[number] else (1, 1)
        videos[number] = Video(number, str(number), size, lengths[number].most_common(1)[0][0])
    return videos


def _size(segmentation: Any) -> tuple[int, int] | None:
    size: Sequence[Any] | Any = segmentation.get("size") if isinstance(segmentation, dict) else None
    if not isinstance(size, list) or len(size) != 2 or not all(is_integer(v) and v > 0 for v in size):
        return None
    return (size[0], size[1]) if size[0] * size[1] < 2**31 else None
