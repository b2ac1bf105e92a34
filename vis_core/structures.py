"""What every part speaks: one camera frame, and the instances seen in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core import masks as run_lengths
from vis_core.errors import InputError, MissingDependencyError
from vis_core.masks import RunLengths


class TrackState(IntEnum):
    """Where a track stands in its life; the values are those of ``vis_ros/msg/InstanceTrack``."""

    NEW = 1
    TRACKED = 2
    LOST = 3
    ENDED = 4


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of a stream.

    Attributes:
        image: uint8 ``[H, W, 3]``, RGB.
        stamp: time of capture, nanoseconds.
        index: position in the stream, from 0; gaps are allowed.
    """

    image: npt.NDArray[np.uint8]
    stamp: int = 0
    index: int = 0

    def __post_init__(self) -> None:
        image = self.image
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            hint = _hint(image)
            raise InputError(f"frame {self.index}: image must be uint8 [H, W, 3] RGB, got {found}{hint}")
        if image.shape[0] == 0 or image.shape[1] == 0:
            raise InputError(f"frame {self.index}: image is empty, {image.shape[1]}x{image.shape[0]}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """The tracks of one frame, immutable; row i of every array is the same track.

    Tracks seen in the frame come first, by descending score; LOST and ENDED ones follow with an empty mask and score 0;
    `visible` tells which is which.

    Attributes:
        stamp: time of the frame, nanoseconds.
        index: position of the frame in the stream.
        size: height and width of the frame, pixels.
        track_ids: int64 ``[N]``.
        labels: int64 ``[N]``, index into ``Segmenter.class_names``.
        scores: float32 ``[N]``, score in this frame; 0 if not seen.
        track_scores: float32 ``[N]``, running score of the track.
        boxes: float32 ``[N, 4]``, x1, y1, x2, y2 (x2, y2 exclusive): the mask's tight box; of a LOST track where it is
            expected, zeros where that is outside the image; of an ENDED one zeros.
        masks: N run lengths.
        states: uint8 ``[N]``, values of `TrackState`.
        ages: int64 ``[N]``, frames since first seen.
        first_seen: int64 ``[N]``, nanoseconds.
        last_seen: int64 ``[N]``, nanoseconds.
        class_names: name of each label; empty where they are not known, as in answers that came by message.
    """

    stamp: int
    index: int
    size: tuple[int, int]
    track_ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    track_scores: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    masks: tuple[RunLengths, ...]
    states: npt.NDArray[np.uint8]
    ages: npt.NDArray[np.int64]
    first_seen: npt.NDArray[np.int64]
    last_seen: npt.NDArray[np.int64]
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "masks", tuple(self.masks))
        count = len(self.masks)
        for name, dtype in _ROW_ARRAYS.items():
            array = np.array(getattr(self, name), dtype=dtype)
            shape = (count, 4) if name == "boxes" else (count,)
            if array.shape != shape:
                raise InputError(f"instances of frame {self.index}: {name} has shape {array.shape}, expected {shape}")
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    def empty(cls, stamp: int, index: int, size: tuple[int, int]) -> Instances:
        """A frame without any track."""
        none: dict[str, Any] = {name: np.zeros((0, 4) if name == "boxes" else 0) for name in _ROW_ARRAYS}
        return cls(stamp=stamp, index=index, size=size, masks=(), **none)

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, rows: npt.ArrayLike | slice) -> Instances:
        """The rows chosen by a boolean array, an index array or a slice."""
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            rows = rows if rows.size else np.zeros(0, np.int64)
        chosen = np.atleast_1d(np.arange(len(self))[rows])
        arrays: dict[str, Any] = {name: getattr(self, name)[chosen] for name in _ROW_ARRAYS}
        arrays |= {"masks": tuple(self.masks[i] for i in chosen), "class_names": self.class_names}
        return Instances(self.stamp, self.index, self.size, **arrays)

    def __repr__(self) -> str:
        rows = zip(self.names[:_SHOWN], self.track_ids, self.scores, self.states)
        tracks = [
            f"{name} {track} {score:.2f}" if state <= TrackState.TRACKED else f"{name} {track} {TrackState(state).name}"
            for name, track, score, state in rows
        ]
        if len(self) > _SHOWN:
            tracks.append(f"and {len(self) - _SHOWN} more")
        frame = f"frame {self.index} at {self.stamp / 1e9:.3f} s, {self.size[1]}x{self.size[0]}"
        return f"<Instances of {frame}: {', '.join(tracks) or 'no tracks'}>"

    @property
    def names(self) -> tuple[str, ...]:
        """Name of the class of each row; ``class 3`` where `class_names` has none."""
        known = self.class_names
        return tuple(known[i] if 0 <= i < len(known) else f"class {i}" for i in self.labels.tolist())

    @property
    def visible(self) -> npt.NDArray[np.bool_]:
        """bool ``[N]``: seen in this frame (NEW or TRACKED)."""
        return self.states <= TrackState.TRACKED

    def dense_masks(self) -> npt.NDArray[np.bool_]:
        """The masks as bool ``[N, H, W]``."""
        out = np.zeros((len(self), *self.size), np.bool_)
        for row, mask in zip(out, self.masks, strict=True):
            x, y, width, height = mask.box
            row[y : y + height, x : x + width] = mask.crop()
        return out

    def label_image(self) -> npt.NDArray[np.uint16]:
        """uint16 ``[H, W]``: 0 = background, else 1 + row; where masks overlap the earlier row wins."""
        out = np.zeros(self.size, np.uint16)
        for row in range(len(self) - 1, -1, -1):
            x, y, width, height = self.masks[row].box
            out[y : y + height, x : x + width][self.masks[row].crop() != 0] = row + 1
        return out

    def to_coco(self, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """The visible rows as COCO results: track_id, category_id, score, bbox [x, y, w, h], compressed segmentation.

        Args:
            category_ids: category id of each label; default label + 1, as in YouTube-VIS.
        """
        out = []
        for row in np.flatnonzero(self.visible):
            label, mask = int(self.labels[row]), self.masks[row]
            out.append(
                {
                    "track_id": int(self.track_ids[row]),
                    "category_id": label + 1 if category_ids is None else int(category_ids[label]),
                    "score": float(self.scores[row]),
                    "bbox": [float(v) for v in mask.box],
                    "segmentation": run_lengths.to_coco(mask),
                }
            )
        return out

    def draw(self, image: npt.NDArray[np.uint8], **how: Any) -> npt.NDArray[np.uint8]:
        """A copy of the frame with its visible tracks drawn.

        Args:
            image: uint8 ``[H, W, 3]``; RGB, or BGR, which then stays BGR and swaps red and blue of the drawn colours.
            how: as of ``vis_core.draw_overlay``.

        Raises:
            InputError: the image is not of the instances' size.
        """
        from vis_core import draw_overlay

        return draw_overlay(image, self, self.class_names, **how)

    def to_supervision(self, compact: bool = False) -> Any:
        """The visible rows as ``supervision.Detections``: boxes, masks, scores, labels, track ids, ``class_name``.

        Args:
            compact: masks as ``supervision.CompactMask``, which takes little memory; not everything of ``supervision``
                takes one (``mask_to_xyxy`` of 0.31 does not).

        Raises:
            MissingDependencyError: ``supervision`` is not installed, or has no ``CompactMask``.
        """
        try:
            import supervision
        except ImportError as error:
            raise MissingDependencyError("to_supervision needs the package: pip install supervision") from error
        seen = self[self.visible]
        masks: Any
        if not compact:
            masks = seen.dense_masks()
        elif hasattr(supervision, "CompactMask"):
            last = seen.boxes - np.array([0, 0, 1, 1], np.float32)  # there x2 and y2 are of the mask
            masks = supervision.CompactMask.from_coco_rle([run_lengths.to_coco(m) for m in seen.masks], last, self.size)
        else:
            raise MissingDependencyError("this supervision has no CompactMask: pip install 'supervision>=0.31'")
        return supervision.Detections(
            xyxy=np.array(seen.boxes),
            mask=masks,
            confidence=np.array(seen.scores),
            class_id=np.array(seen.labels),
            tracker_id=np.array(seen.track_ids),
            data={"class_name": np.array(seen.names, dtype=np.str_)},
        )


def _hint(image: object) -> str:
    """What to do about what is no image of ours, after the text that says so."""
    if isinstance(image, (str, PurePath)):
        return "; vis_core.open_video opens files and cameras"
    if not isinstance(image, np.ndarray):
        return "; numpy.asarray(image) makes an array of most images" if hasattr(image, "__array__") else ""
    if image.ndim == 2 or image.shape[2:] == (1,):
        return "; of grey images: numpy.stack([image] * 3, axis=-1)"
    if image.shape[2:] == (4,):
        return "; without its fourth channel: image[..., :3]"
    if image.ndim == 3 and image.shape[0] == 3:
        return "; channels last: image.transpose(1, 2, 0)"
    return "; image.astype(numpy.uint8), after * 255 where white is 1" if image.ndim == 3 else ""


_SHOWN = 5
"""How many tracks the text of instances names."""

_ROW_ARRAYS: dict[str, type[np.generic]] = {
    "track_ids": np.int64,
    "labels": np.int64,
    "scores": np.float32,
    "track_scores": np.float32,
    "boxes": np.float32,
    "states": np.uint8,
    "ages": np.int64,
    "first_seen": np.int64,
    "last_seen": np.int64,
}
assert set(_ROW_ARRAYS) < {field.name for field in fields(Instances)}
