"""Folders of panoptic images: which frame answers which, and what of them cannot be scored."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vis_core.data.panoptic_classes import PanopticClasses
from vis_core.errors import InputError
from vis_core.evaluation.metrics.panoptic import Overlaps, frame_overlaps
from vis_core.files.findings import MAX_TOLD, Findings
from vis_core.files.panoptic_images import MAX_NUMBER, NUMBER_BITS, VOID, read_panoptic

Folder = str | os.PathLike[str]
Image = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class PanopticVideo:
    """A video whose frames have both an image of the ground truth and one of the results.

    Attributes:
        name: of its folder.
        truth: of each frame, in order.
        results: of each frame.
    """

    name: str
    truth: tuple[Path, ...]
    results: tuple[Path, ...]


@dataclass(slots=True)
class Remarks:
    """What was found in the images of one video: of the ground truth, of the results.

    Attributes:
        errors: whether of the results, place, text.
        unnumbered: places of images of results with things of number 0.
    """

    errors: list[tuple[bool, str, str]] = field(default_factory=list)
    unnumbered: list[str] = field(default_factory=list)


def find_videos(
    ground_truth: Folder, results: Folder, truth_findings: Findings, result_findings: Findings
) -> list[PanopticVideo]:
    """The videos of the ground truth, by name, and what answers them.

    Args:
        ground_truth: folder of folders of PNGs named by their frame's number, or one such folder.
        results: likewise; videos by the same names, frames by the same numbers, however many zeros lead.
        truth_findings: takes what is wrong or odd in the names.
        result_findings: likewise.

    Raises:
        InputError: something is missing or misnamed.
    """
    truth = _videos(Path(ground_truth), truth_findings)
    truth_findings.raise_errors()
    answers = _videos(Path(results), result_findings)
    result_findings.raise_errors()
    if _is_one(truth, ground_truth) and _is_one(answers, results) and len(answers) == 1:
        answers = dict(zip(truth, answers.values()))
    for name in sorted(set(answers) - set(truth)):
        result_findings.warn("video", name, "the ground truth has no such video; not scored")
    found = []
    for name, frames in truth.items():
        answered = answers.get(name)
        if answered is None:
            result_findings.error(name, f"no such folder; the ground truth has {len(frames)} frames of it")
            continue
        missing = sorted(set(frames) - set(answered))
        if missing:
            more = f", and {len(missing) - 1} more of its {len(frames)} frames" if len(missing) > 1 else ""
            result_findings.error(name, f"frame {missing[0]} is missing{more}")
        extra = sorted(set(answered) - set(frames))
        if extra:
            more = f", and for {len(extra) - 1} more" if len(extra) > 1 else ""
            result_findings.warn("frames", name, f"no ground truth for frame {extra[0]}{more}; not scored")
        steps = np.diff(list(frames))
        if len(steps) and steps.min() != steps.max():
            text = f"frames are {steps.min()} to {steps.max()} apart; a window takes them as they follow each other"
            truth_findings.warn("steps", name, text)
        both = [frame for frame in frames if frame in answered]
        found.append(PanopticVideo(name, tuple(map(frames.get, both)), tuple(map(answered.get, both))))  # type: ignore[arg-type]
    result_findings.raise_errors()
    return found


def read_overlaps(video: PanopticVideo, classes: PanopticClasses, remarks: Remarks) -> Iterator[Overlaps]:
    """The overlaps of each sound frame, in order; it ends when there are as many errors as are told.

    Args:
        video: whose images are read, one frame at a time.
        classes: of the images.
        remarks: takes what is wrong.
    """
    size: tuple[int, ...] | None = None
    for paths in zip(video.truth, video.results, strict=True):
        if len(remarks.errors) >= MAX_TOLD:
            return
        images: list[Image] = []
        before = len(remarks.errors)
        for of_results, path in enumerate(paths):
            place = f"{video.name}/{path.name}"
            try:
                image = read_panoptic(path)
            except InputError as error:
                remarks.errors.append((bool(of_results), place, str(error)))
                continue
            size = size or image.shape
            if image.shape != size:
                text = f"size {image.shape[0]} x {image.shape[1]}, but the video is {size[0]} x {size[1]}"
                remarks.errors.append((bool(of_results), place, text))
                continue
            images.append(image)
        if len(images) < len(paths):
            continue
        overlaps = frame_overlaps(*images)
        for of_results, segments in enumerate((overlaps.truth, overlaps.result)):
            place = f"{video.name}/{paths[of_results].name}"
            faults = _faults(np.unique(segments), images[of_results], classes)
            remarks.errors += [(bool(of_results), place, text) for text in faults]
        if len(remarks.errors) > before:
            continue
        numberless = overlaps.result[overlaps.result & MAX_NUMBER == 0] >> NUMBER_BITS
        if not classes.things.isdisjoint(numberless.tolist()):
            remarks.unnumbered.append(f"{video.name}/{paths[1].name}")
        yield Overlaps(
            _without_numbers_of_void(overlaps.truth), _without_numbers_of_void(overlaps.result), overlaps.areas
        )


def _without_numbers_of_void(segments: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.where(segments >> NUMBER_BITS == VOID, VOID << NUMBER_BITS, segments)


def _faults(segments: npt.NDArray[np.int64], image: Image, classes: PanopticClasses) -> Iterator[str]:
    """What is wrong with the segments of an image: unknown classes, numbered stuff."""
    unknown = set()
    for segment in segments.tolist():
        number, class_ = segment & MAX_NUMBER, segment >> NUMBER_BITS
        if class_ == VOID or class_ in classes.things or class_ in unknown:
            continue
        if class_ not in classes.names:
            unknown.add(class_)
            text = f"class {class_} (red) is none of the {len(classes.names)} classes, nor {VOID}, void"
        elif number:
            text = f"class {class_} ({classes.names[class_]}) is stuff, but has instance number {number} (green, blue)"
        else:
            continue
        row, column = np.argwhere(image == segment)[0]
        yield f"row {row} column {column}: {text}"


def _videos(folder: Path, findings: Findings) -> dict[str, dict[int, Path]]:
    """Images by video and frame number, both ascending."""
    if not folder.is_dir():
        raise InputError(f"{folder}: {findings.place()}: no such folder; give one that holds a folder of PNGs a video")
    folders = sorted(item for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))
    if any(map(_is_png, folder.iterdir())):
        if folders:
            findings.error("", f"holds PNGs and the folder {folders[0].name}; give a folder of videos, or of frames")
        folders = [folder]
    videos = {item.name: _frames(item, findings) for item in folders}
    if not any(videos.values()) and not findings.has_errors:
        findings.error("", "no PNG in this folder, nor in a folder in it")
    for name in (name for name, frames in videos.items() if not frames):
        findings.warn("empty", name, "no PNG in this folder")
    return {name: frames for name, frames in videos.items() if frames}


def _is_png(path: Path) -> bool:
    return path.suffix.lower() == ".png" and not path.name.startswith(".")


def _frames(folder: Path, findings: Findings) -> dict[int, Path]:
    frames: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        place = f"{folder.name}/{path.name}"
        if not _is_png(path):
            findings.warn("others", place, "not a PNG; not read")
        elif not (path.stem.isascii() and path.stem.isdigit() and len(path.stem) < 19):
            findings.error(place, "not named by the number of its frame, as in 000017.png")
        elif int(path.stem) in frames:
            findings.error(place, f"frame {int(path.stem)} is {frames[int(path.stem)].name} already")
        else:
            frames[int(path.stem)] = path
    return dict(sorted(frames.items()))


def _is_one(videos: Mapping[str, Mapping[int, Path]], folder: Folder) -> bool:
    """Whether the folder is that of a single video's frames."""
    return len(videos) == 1 and next(iter(next(iter(videos.values())).values())).parent == Path(folder)
