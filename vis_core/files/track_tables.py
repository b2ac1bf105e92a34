"""The tracks of a video as tables for other programs: CSV with a heading, and the text form of MOTChallenge."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vis_core.files.appended import AppendedFile
from vis_core.files.atomic import atomic_write
from vis_core.structures import Instances

CSV_COLUMNS = (
    *("video", "frame", "file", "seconds", "track_id", "category_id", "class_name", "score", "track_score"),
    *("x", "y", "width", "height", "area"),
)
"""Frame from 0; score in the frame and running score of the track; box and area of the mask, pixels."""


class TrackTable:
    """Writes a row for each track that is seen in a frame: ``.csv`` with a heading, else MOTChallenge's ten columns.

    MOTChallenge's are frame and box corner counted from 1, ``frame, id, left, top, width, height, confidence, class,
    visibility, unused``; the class is the category id, the last two are -1.

    Args:
        path: of the file.
        video: its name.
        class_names: by label.
        category_of: category id of a label.
        file_names: of the images, by frame; none for a video file.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(
        self,
        path: Path,
        video: str,
        class_names: Sequence[str],
        category_of: Callable[[int], int],
        file_names: Sequence[str] = (),
    ) -> None:
        self.path = path
        self._video, self._class_names, self._category_of = video, class_names, category_of
        self._file_names = file_names
        self._file = AppendedFile(path)
        self._as_csv = path.suffix == ".csv"
        if self._as_csv:
            self._append([CSV_COLUMNS])

    def add(self, instances: Instances) -> None:
        """The rows of one frame, whole or not at all.

        Raises:
            OSError: they cannot be written.
        """
        rows = [row for row in np.flatnonzero(instances.visible) if instances.masks[row].area]
        self._append([(self._csv_row if self._as_csv else self._mot_row)(instances, int(row)) for row in rows])

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _append(self, rows: Sequence[Sequence[object]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.append(text.getvalue().encode())

    def _csv_row(self, instances: Instances, row: int) -> Sequence[object]:
        label, mask = int(instances.labels[row]), instances.masks[row]
        return (
            self._video,
            instances.index,
            self._file_names[instances.index] if self._file_names else "",
            f"{instances.stamp / 1e9:.6f}",
            int(instances.track_ids[row]),
            self._category_of(label),
            self._class_names[label] if 0 <= label < len(self._class_names) else "",
            f"{instances.scores[row]:.4f}",
            f"{instances.track_scores[row]:.4f}",
            *mask.box,
            mask.area,
        )

    def _mot_row(self, instances: Instances, row: int) -> Sequence[object]:
        x, y, width, height = instances.masks[row].box
        identity = (instances.index + 1, int(instances.track_ids[row]))
        score, category = f"{instances.scores[row]:.4f}", self._category_of(int(instances.labels[row]))
        return (*identity, x + 1, y + 1, width, height, score, category, -1, -1)


def write_mot_classes(path: Path, class_names: Sequence[str], category_of: Callable[[int], int]) -> None:
    """Which class the numbers of MOTChallenge's eighth column are: ``number,name``, a line each.

    Raises:
        OSError: the file cannot be written.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows((category_of(i), name) for i, name in enumerate(class_names))
    with atomic_write(path) as partial:
        partial.write_text(text.getvalue(), "utf-8")
