"""What a training leaves to read: CSV files that fit its state, and TensorBoard's events."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError
from vis_core.files.atomic import atomic_write, errors_name


class CsvLog:
    """A CSV file with a column ``step``, that only ever grows while a run goes on.

    Args:
        path: of the file.
        step: of the state that the run goes on from; later rows are dropped, and a last one that was cut off.

    Raises:
        InputError: the file is no such log.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self._columns: list[str] | None = None
        if path.exists():
            self._keep_until(step)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row; the first one of a file gives the columns."""
        head = ""
        if self._columns is None:
            self._columns = list(row)
            head = _csv_line(self._columns)
        elif new := [name for name in row if name not in self._columns]:
            self._widen(new)
        values = [_text(row.get(name, "")) for name in self._columns]
        with errors_name(self.path), self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(head + _csv_line(values))

    def _widen(self, new: list[str]) -> None:
        """Add columns, empty in the rows that are there."""
        assert self._columns is not None
        rows = list(csv.reader(self.path.read_text("utf-8").splitlines()))
        self._columns = self._columns + new
        self._rewrite([self._columns, *(row + [""] * len(new) for row in rows[1:])])

    def _rewrite(self, rows: list[list[str]]) -> None:
        with atomic_write(self.path) as partial:
            partial.write_text("".join(map(_csv_line, rows)), "utf-8")

    def _keep_until(self, step: int) -> None:
        text = self.path.read_text("utf-8")
        lines = text.split("\n")[:-1]  # a line without its end was cut off
        if not lines:
            self.path.unlink()
            return
        self._columns, *rows = csv.reader(lines)
        try:
            at = self._columns.index("step")
            kept = [row for row in rows if int(row[at]) <= step]
        except (ValueError, IndexError) as error:
            raise InputError(f"{self.path}: is not the log of a training; move it away") from error
        if not kept:
            self.path.unlink()
            self._columns = None
            return
        self._rewrite([self._columns, *kept])


class Events:
    """TensorBoard's events of a run; nothing, if TensorBoard is not installed.

    Args:
        folder: to write to.
        step: that the run goes on from; later events are dropped by the viewer.
        tell: is told once if TensorBoard is missing.
    """

    def __init__(self, folder: Path, step: int, tell: Callable[[str], None]) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            tell("TensorBoard is not installed, so there are no events for it: pip install 'vis_ros[train]'")
            return
        self._writer = SummaryWriter(str(folder), purge_step=step + 1)  # type: ignore[no-untyped-call]

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Numbers of a step."""
        for name, value in values.items() if self._writer is not None else ():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def pictures(self, images: Mapping[str, npt.NDArray[np.uint8]], step: int) -> None:
        """Images of a step, uint8 ``[H, W, 3]``."""
        for name, image in images.items() if self._writer is not None else ():
            self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Have everything on the disk."""
        if self._writer is not None:
            self._writer.close()


def _csv_line(values: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _text(value: Any) -> str:
    return f"{value:.8g}" if isinstance(value, float) else str(value)
