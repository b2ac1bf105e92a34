"""What a run of ``vis segment`` has finished, video by video, so that another run can go on from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vis_core.errors import InputError, OptionError

JOURNAL = ".journal.jsonl"
ROWS = "results.json.rows.jsonl"


@dataclass(frozen=True, slots=True)
class FinishedVideo:
    """A video that was segmented to its end.

    Attributes:
        video_id: its number.
        frames: answered by the segmenter.
        skipped: those left out, since they could not be read, and why.
        tracks: that have had a mask.
        length: frames of the video in the results.
        rows_end: size of the rows of the results with those of this video, bytes.
        outputs: its files and folders, relative to the folder of the run, and how many files each is (0: one file).
    """

    video_id: int
    frames: int
    skipped: Sequence[str]
    tracks: int
    length: int
    rows_end: int
    outputs: Mapping[str, int]


class Journal:
    """The finished videos of a run, a JSON line each.

    Args:
        folder: that the run writes in.
        run: what it was asked for: plain values by name.
        resume: go on from what is there.

    Attributes:
        path: of the journal.
        finished: by the number of the video.

    Raises:
        OptionError: the run there was asked for something else; names the first difference.
        InputError: the journal cannot be read.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any], resume: bool = False) -> None:
        self._folder = folder
        self.path = folder / JOURNAL
        self._run = json.loads(json.dumps(run, default=str))
        self.finished: dict[int, FinishedVideo] = {}
        if resume and self.path.exists():
            self._read()

    @property
    def kept(self) -> tuple[int, dict[int, int]]:
        """Size of the rows of the finished videos, bytes, and the lengths of these videos."""
        end = max((video.rows_end for video in self.finished.values()), default=0)
        return end, {video.video_id: video.length for video in self.finished.values()}

    def finish(self, video: FinishedVideo) -> None:
        """Note a video that is done, with all of its files.

        Raises:
            OSError: it cannot be written.
        """
        lines = [asdict(video)] if self.finished else [{"run": self._run}, asdict(video)]
        with self.path.open("a" if self.finished else "w", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
        self.finished[video.video_id] = video

    def _read(self) -> None:
        end = self._rows_size()
        try:
            lines = self.path.read_text("utf-8").split("\n")[:-1]  # a line without its end was cut off
            run = json.loads(lines[0])["run"] if lines else self._run
            videos = [FinishedVideo(**json.loads(line)) for line in lines[1:]]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{self.path}: cannot be used: {error}; begin anew with --force") from None
        for name in {**run, **self._run}:
            if run.get(name) != self._run.get(name):
                before, now = run.get(name), self._run.get(name)
                what = f"{now!r}, was {before!r}" if len(f"{now!r}{before!r}") < 200 else "is not what it was"
                raise OptionError(
                    f"{self._folder.parent}: the run there was begun otherwise: {name}: {what}. Set it back, or begin "
                    "anew with --force"
                )
        for video in videos:
            if video.rows_end > end or not all(self._stands(*output) for output in video.outputs.items()):
                break  # rows of later videos stand behind those of this one
            self.finished[video.video_id] = video
        kept = [{"run": self._run}, *map(asdict, self.finished.values())]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")

    def _rows_size(self) -> int:
        rows = self._folder / ROWS
        return rows.stat().st_size if rows.exists() else 0

    def _stands(self, name: str, count: int) -> bool:
        path = self._folder / name
        return path.is_file() if count == 0 else path.is_dir() and sum(1 for _ in path.iterdir()) >= count
