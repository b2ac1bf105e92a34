"""MOTS text: one line a mask, ``frame id class height width rle``; one file a sequence.

KITTI-MOTS counts frames from 0, MOTSChallenge from 1; class 10 is a region to ignore; masks of a frame do not overlap.
The text has no scores: AP takes all results as equally sure, in file order. Source: P. Voigtlaender et al., MOTS, CVPR
2019.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pycocotools import mask as coco_mask

from vis_core.errors import InputError
from vis_core.evaluation.inputs.mots_checks import SequencePair, compare_frames, note_shared_pixels
from vis_core.evaluation.inputs.tracks import GroundTruth, Result, Results, Track, Video
from vis_core.files.atomic import atomic_write
from vis_core.files.findings import Findings, shown
from vis_core.files.json_files import read_text
from vis_core.files.run_lengths import MAX_PIXELS
from vis_core.files.segmentations import Areas, Masks, SegmentationReader

IGNORE_CLASS = 10
CLASS_NAMES = {1: "car", 2: "pedestrian"}
_MAX_FRAMES = 1_000_000
_MAX_SLOTS = 100_000_000

Folder = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class _Sequence:
    """The lines of one file: by id and class, the compressed text of each frame."""

    path: str
    size: tuple[int, int] | None
    lines: Mapping[tuple[int, int], Mapping[int, str]]
    frames: int


def read_mots(
    ground_truth: Folder,
    results: Folder,
    *,
    first_frame: int = 0,
    lengths: Mapping[str, int] | None = None,
    class_agnostic: bool = False,
) -> tuple[GroundTruth, Results]:
    """Read the ground truth and the results of a MOTS data set.

    Args:
        ground_truth: folder of ``.txt`` files, one a sequence, or one such file.
        results: folder of files of the same names, or one file.
        first_frame: number of the first frame: 0 of KITTI-MOTS, 1 of MOTSChallenge.
        lengths: number of frames by sequence (name without ending); default: up to the last frame with a mask.
        class_agnostic: an id is one track, whatever its classes; else each class of it is a track of its own.

    Raises:
        InputError: a file is not usable, one of the results has no ground truth, masks of a frame overlap, or the two
            sides count their frames from different numbers.
    """
    truth_files, result_files = _files(ground_truth, "ground truth"), _files(results, "results")
    named = not (Path(ground_truth).is_dir() and Path(results).is_dir())
    if named and len(truth_files) == len(result_files) == 1:
        result_files = dict(zip(truth_files, result_files.values()))
    unknown = sorted(set(result_files) - set(truth_files))
    if unknown:
        raise InputError(f"{results}: results: {unknown[0]}.txt has no ground truth in {ground_truth}")
    strange = sorted(set(lengths or {}) - set(truth_files))
    if strange:
        raise InputError(f"{ground_truth}: ground truth: no {strange[0]}.txt, but lengths names {shown(strange[0])}")
    videos: dict[int, Video] = {}
    tracks: dict[int, tuple[Track, ...]] = {}
    found: dict[int, tuple[Result, ...]] = {}
    regions: dict[int, tuple[bytes | None, ...]] = {}
    categories: set[int] = set()
    told: list[str] = []
    pairs: list[SequencePair] = []
    for number, name in enumerate(sorted(truth_files), 1):
        truth_findings = Findings(str(truth_files[name]), "ground truth")
        truth = _read_lines(truth_files[name], truth_findings, first_frame, None, class_agnostic)
        truth_findings.raise_errors()
        result_findings = Findings(str(result_files.get(name, "")), "results")
        answer = _Sequence("", None, {}, 0)
        if name in result_files:
            answer = _read_lines(result_files[name], result_findings, first_frame, truth.size, class_agnostic)
            result_findings.raise_errors()
        length = (lengths or {}).get(name, max(truth.frames, answer.frames))
        size = truth.size or answer.size or (1, 1)
        videos[number] = Video(number, name, size, length)
        masks = _masks(truth, size, length, first_frame, truth_findings)
        regions[number] = _regions([item for key, item in masks.items() if key[1] == IGNORE_CLASS], size, length)
        kept = [(key, item) for key, item in masks.items() if key[1] != IGNORE_CLASS]
        tracks[number] = tuple(_track(identity, category, *item) for (identity, category), item in kept)
        categories |= {category for (_, category), _ in kept}
        answered = _masks(answer, size, length, first_frame, result_findings)
        sides = [item[0] for _, item in kept], [item[0] for item in answered.values()]
        pairs.append(SequencePair(truth.path, answer.path, size, first_frame, *sides))
        found[number] = tuple(
            Result(entry, category, 1.0, tuple(item[0]), item[1], identity)
            for entry, ((identity, category), item) in enumerate(answered.items())
        )
        told += [*truth_findings.warnings(), *result_findings.warnings()]
    names = {category: CLASS_NAMES.get(category, f"class {category}") for category in sorted(categories)}
    told += compare_frames(pairs)
    missing = sorted(set(truth_files) - set(result_files))
    if missing:
        text = f"no {missing[0]}.txt ({len(missing)} of {len(truth_files)} sequences are missing): all of it is missed"
        told.append(f"{results}: results: {text}; if nothing was found there, an empty file says so")
    if any(item.category == IGNORE_CLASS for items in found.values() for item in items):
        told.append(f"{results}: results: class {IGNORE_CLASS} marks regions to ignore, in ground truth alone; dropped")
    real = {video: tuple(item for item in items if item.category != IGNORE_CLASS) for video, items in found.items()}
    dropped = sorted({item.category for items in real.values() for item in items} - set(names))
    of_classes = (f"{results}: results: classes {dropped} are not in the ground truth; dropped",) if dropped else ()
    used = {video: items for video, items in regions.items() if any(items)}
    return GroundTruth(videos, names, tracks, False, tuple(told), used), Results(real, (), of_classes)


def write_mots(
    folder: Folder,
    videos: Mapping[int, Video],
    tracks: Mapping[int, Sequence[Track]] | Mapping[int, Sequence[Result]],
    *,
    first_frame: int = 0,
) -> None:
    """Write tracks or results as MOTS text, one file a video, ids as class * 1000 + number.

    Args:
        folder: to write to; files are named after the videos.
        videos: by id.
        tracks: of each video.
        first_frame: number of the first frame.

    Raises:
        InputError: a class has more than 1000 tracks in a video: ids do not hold more; or masks of a frame overlap.
        OSError: a file cannot be written.
    """
    for number, video in videos.items():
        lines: list[tuple[int, int, str]] = []
        counts: defaultdict[int, int] = defaultdict(int)
        for track in tracks.get(number, ()):
            identity = track.category * 1000 + counts[track.category]
            counts[track.category] += 1
            for frame, mask in enumerate(track.masks):
                if mask is not None:
                    size = f"{video.size[0]} {video.size[1]}"
                    text = f"{frame + first_frame} {identity} {track.category} {size} {mask.decode('ascii')}"
                    lines.append((frame, identity, text))
        crowded = [category for category, count in counts.items() if count > 1000]
        if crowded:
            raise InputError(f"video {video.name}: more than 1000 tracks of class {crowded[0]}; MOTS ids hold no more")
        findings = Findings(None, f"video {video.name}")
        named: list[tuple[str, Masks]] = []
        for track in tracks.get(number, ()):
            named.append((f"tracks[{len(named)}]", list(track.masks)))
        note_shared_pixels(named, video.size, first_frame, findings)
        findings.raise_errors()
        with atomic_write(Path(folder) / f"{Path(video.name).name}.txt") as partial:
            partial.write_text("".join(f"{text}\n" for *_, text in sorted(lines)), encoding="ascii")


def _files(source: Folder, what: str) -> dict[str, Path]:
    path = Path(source)
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        hint = ""
        if any(any(path.glob(pattern)) for pattern in ("*.png", "*/*.png")):
            hint = "; PNGs of MOTS are not read: give its text (instances_txt); '--panoptic' scores KITTI-STEP's PNGs"
        raise InputError(f"{path}: {what}: the folder holds no .txt file{hint}")
    return {file.stem: file for file in files}


def _read_lines(
    path: Path, findings: Findings, first_frame: int, size: tuple[int, int] | None, class_agnostic: bool
) -> _Sequence:
    """The lines of a file, not yet their masks."""
    lines: dict[tuple[int, int], dict[int, str]] = {}
    frames = 0
    classes: dict[int, int] = {}
    for number, line in enumerate(read_text(path, findings.place(), may_be_empty=True).splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        place = f"line {number}"
        numbers = fields[:5]
        if len(fields) != 6 or not all(text.isascii() and text.isdigit() and len(text) < 19 for text in numbers):
            text = f"{shown(line)} is not 'frame id class height width rle'"
            findings.error(place, text, index=number)
            continue
        frame, identity, category, height, width = map(int, numbers)
        if not 0 <= frame - first_frame < _MAX_FRAMES:
            text = f"frame {frame}; frames count from {first_frame} (--first-frame) in ground truth and results alike"
            findings.error(place, text, index=number)
            continue
        if size is None and 0 < height * width <= MAX_PIXELS:
            size = (height, width)
        if size != (height, width):
            wanted = "an image" if size is None else f"the sequence is {size[0]} x {size[1]}"
            findings.error(place, f"size {height} x {width}, but {wanted}", index=number)
            continue
        first_category = classes.setdefault(identity, category)
        if class_agnostic and IGNORE_CLASS not in (first_category, category):
            category = first_category
        elif first_category != category:
            findings.warn("class", place, f"id {identity} changes its class; each class is a track of its own")
        track = lines.setdefault((identity, category), {})
        if frame - first_frame in track:
            findings.error(place, f"id {identity} stands twice in frame {frame}", index=number)
        track[frame - first_frame] = fields[5]
        frames = max(frames, frame - first_frame + 1)
    if len(lines) * frames > _MAX_SLOTS:
        findings.error("", f"{len(lines)} tracks over {frames} frames are more than can be scored")
    return _Sequence(str(path), size, lines, frames)


def _masks(
    sequence: _Sequence, size: tuple[int, int], length: int, first_frame: int, findings: Findings
) -> dict[tuple[int, int], tuple[Masks, Areas]]:
    """Checked masks by id and class, in file order."""
    reader = SegmentationReader(findings, polygons=False)
    out = {}
    for index, (key, frames) in enumerate(sequence.lines.items()):
        segmentations: list[dict[str, object] | None] = [None] * length
        for frame, text in frames.items():
            if frame >= length:
                findings.error(f"id {key[0]}", f"the sequence has {length} frames", index=index, frame=frame)
                break
            segmentations[frame] = {"size": list(size), "counts": text}
        out[key] = reader.add_track(segmentations, size, f"id {key[0]}", index)
    reader.finish()
    findings.raise_errors()
    named = [(f"id {identity}", masks) for (identity, _), (masks, _) in out.items()]
    note_shared_pixels(named, size, first_frame, findings)
    findings.raise_errors()
    return out


def _track(identity: int, category: int, masks: Masks, areas: Areas) -> Track:
    filled = areas[areas > 0]
    return Track(identity, category, False, tuple(masks), areas, float(filled.mean()) if filled.size else 0.0)


def _regions(items: Sequence[tuple[Masks, Areas]], size: tuple[int, int], length: int) -> tuple[bytes | None, ...]:
    """The region to ignore in each frame."""
    out: list[bytes | None] = []
    for frame in range(length):
        here = [masks[frame] for masks, _ in items if masks[frame] is not None]
        merged = coco_mask.merge([{"size": list(size), "counts": mask} for mask in here]) if here else None
        out.append(None if merged is None else bytes(merged["counts"]))
    return tuple(out)
