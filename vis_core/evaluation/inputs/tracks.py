"""What a ground truth file and a result file hold, once read and checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from vis_core.data.class_matching import ClassMatching, shown_names
from vis_core.errors import InputError

# By category: positions of its results, positions of its tracks.
Groups = dict[int, tuple[list[int], list[int]]]
# The only category of a class-agnostic evaluation.
ANY_CATEGORY = -1


@dataclass(frozen=True, slots=True)
class Video:
    """A video of the ground truth.

    Attributes:
        id: its id in the file.
        name: folder of its frames, else its id as text.
        size: height and width, pixels.
        length: number of frames.
        file_names: one a frame, or empty if the file gives none.
        stamps: int64 ``[length]``, nanoseconds, of a video that was streamed.
    """

    id: int
    name: str
    size: tuple[int, int]
    length: int
    file_names: tuple[str, ...] = ()
    stamps: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Track:
    """A ground truth track.

    Attributes:
        id: its id in the file.
        category: id of its category.
        crowd: whether it stands for a crowd: results on it are neither right nor wrong.
        masks: per frame COCO's compressed run lengths, or None where it is not visible.
        areas: int64 ``[frames]``, foreground pixels, -1 where it is not visible.
        average_area: mean of the file's areas that are not 0, pixels; decides its size range.
        occlusion: 0 (none) to 1, of an OVIS file.
    """

    id: int
    category: int
    crowd: bool
    masks: tuple[bytes | None, ...]
    areas: npt.NDArray[np.int64]
    average_area: float
    occlusion: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A result track.

    Attributes:
        entry: its place in the file, from 0.
        category: id of its category.
        score: the higher, the surer.
        masks: per frame COCO's compressed run lengths, or None.
        areas: int64 ``[frames]``, foreground pixels, -1 where there is no mask.
        track_id: the file's ``track_id``, for reports.
    """

    entry: int
    category: int
    score: float
    masks: tuple[bytes | None, ...]
    areas: npt.NDArray[np.int64]
    track_id: int | None = None


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """A ground truth file.

    Attributes:
        videos: by id, ascending.
        categories: name by id, ascending.
        tracks: of each video, in file order.
        has_occlusion: whether it is an OVIS file: tracks have occlusion levels.
        warnings: what is odd in the file.
        ignored_regions: of some videos, for each frame the compressed run lengths of a region, or None: results in it
            that match nothing are left out.
        video_texts: ids of videos that the file writes as texts, for results that do so too.
        category_texts: likewise of categories.
    """

    videos: Mapping[int, Video]
    categories: Mapping[int, str]
    tracks: Mapping[int, tuple[Track, ...]]
    has_occlusion: bool = False
    warnings: tuple[str, ...] = ()
    ignored_regions: Mapping[int, tuple[bytes | None, ...]] = field(default_factory=dict)
    video_texts: Mapping[str, int] = field(default_factory=dict)
    category_texts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Results:
    """A result file.

    Attributes:
        tracks: of each video of the ground truth, in file order; those of unknown categories too.
        warnings: what is odd in the file.
        category_warnings: what is odd in its categories, for whom does not ignore them.
        classes: how its classes were matched with the categories; None: by ids, since nobody tells their names.
    """

    tracks: Mapping[int, tuple[Result, ...]]
    warnings: tuple[str, ...] = ()
    category_warnings: tuple[str, ...] = ()
    classes: ClassMatching | None = None

    def counted(self, categories: Collection[int], *, class_agnostic: bool, compat: bool = False) -> Results:
        """The results that count: of known categories; where categories are ignored, all of them.

        Args:
            categories: ids that the ground truth has.
            class_agnostic: ignore the category labels.
            compat: leave out unknown categories all the same, as the official tool does.

        Raises:
            InputError: categories count, and none of them is a class of the results.
        """
        if class_agnostic and not compat:
            return replace(self, category_warnings=(), classes=None)
        if not class_agnostic:
            require_common_class(self.classes)
        kept = {
            video: tuple(result for result in results if result.category in categories)
            for video, results in self.tracks.items()
        }
        classes = None if class_agnostic else self.classes
        return Results(kept, self.warnings + self.category_warnings, classes=classes)


def require_common_class(classes: ClassMatching | None) -> None:
    """Refuse results of other classes than the ground truth's.

    Raises:
        InputError: names were compared, and none is on both sides.
    """
    if classes is not None and classes.complete and not classes.matched:
        source = f"{classes.source}: " if classes.source else ""
        raise InputError(
            f"{source}results: no class ({shown_names(classes.without_category)}) has the name of a category of the "
            f"ground truth ({shown_names(classes.without_class)}); pair them with --categories FROM=TO, or ignore "
            "them with --class-agnostic"
        )


def group_by_category(results: Sequence[Result], tracks: Sequence[Track], *, class_agnostic: bool) -> Groups:
    """By category, ascending, the positions of its results and of its tracks in the lists, in file order.

    Args:
        results: of a video.
        tracks: of a video.
        class_agnostic: take all as one category of id -1; category after category, each in file order.
    """
    groups: Groups = {}
    if class_agnostic:
        rows = sorted(range(len(results)), key=lambda i: results[i].category)
        columns = sorted(range(len(tracks)), key=lambda j: tracks[j].category)
        return {ANY_CATEGORY: (rows, columns)} if rows or columns else {}
    for i, result in enumerate(results):
        groups.setdefault(result.category, ([], []))[0].append(i)
    for j, track in enumerate(tracks):
        groups.setdefault(track.category, ([], []))[1].append(j)
    return dict(sorted(groups.items()))
