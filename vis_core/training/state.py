"""The state file of a training: all that a run needs to go on as if it had never stopped."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from vis_core.errors import CheckpointError, InputError, OptionError, printable
from vis_core.files.atomic import atomic_write
from vis_core.training.config import Config
from vis_core.training.config_file import plain

FORMAT = "vis_core training 1"
NAME, PREVIOUS = "state.pt", "state.previous.pt"

_FREE = ("output", "initial_weights", "device", "accumulate", "evaluation", "save_every", "log_every", "workers")
"""Keys that may change between the parts of a run; how many steps it takes may too, where no schedule depends on it."""

_NAMED = ("groups", "categories")  # mappings whose keys are the user's, not ours


def save_state(folder: Path, state: dict[str, Any]) -> Path:
    """Write the state; the one before is kept beside it, and stands untouched if the writing fails.

    Raises:
        OSError: it cannot be written; the error names the file.
    """
    path = folder / NAME
    try:
        with atomic_write(path) as partial:
            with partial.open("wb") as file:
                remembering = _Remembering(file)
                try:
                    torch.save({"format": FORMAT, **state}, cast(IO[bytes], remembering))
                except RuntimeError as error:  # torch hides what the system said
                    if remembering.error is not None:
                        raise remembering.error from None
                    raise OSError(errno.EIO, f"cannot be written: {_first_line(error)}") from error
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                path.replace(folder / PREVIOUS)
        _sync(folder)
    except OSError as error:
        kept = "; the state before is untouched" if (folder / NAME).exists() or (folder / PREVIOUS).exists() else ""
        raise OSError(error.errno, f"{error.strerror or error}{kept}", str(path)) from error
    return path


class _Remembering:
    """A binary file to write to, and the error of the system that ended it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def load_state(folder: Path) -> dict[str, Any] | None:
    """The latest state of a folder, on the CPU; None if there is none.

    Raises:
        CheckpointError: the file is no state of this version, or is damaged.
    """
    path = next((folder / name for name in (NAME, PREVIOUS) if (folder / name).exists()), None)
    if path is None:
        return None
    other = f"; the state before may be sound: move {PREVIOUS} to {NAME}" if path.name == NAME else ""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch reports a torn file by many types
        raise CheckpointError(f"{path}: is no sound state: {_first_line(error)}{other}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(
            f"{path}: format {printable(repr(found), 60)} is not {FORMAT!r}, which this version reads"
        )
    return state


def comparable(config: Config) -> dict[str, Any]:
    """What of a config a run may not change on its way; a data set is known by the content of its file.

    Raises:
        InputError: an annotation file cannot be read.
    """
    kept = {key: value for key, value in plain(config).items() if key not in _FREE}
    if config.schedule.kind != "cosine":
        del kept["steps"]
    for entry in kept["data"]:
        try:
            entry["annotations"] = hashlib.sha256(Path(entry["annotations"]).read_bytes()).hexdigest()
        except OSError as error:
            raise InputError(f"{entry['annotations']}: cannot be read: {error.strerror or error}") from error
        del entry["images"]
    return kept


def check_unchanged(saved: Any, current: Any, folder: Path) -> None:
    """Refuse a config that is not the one a state was made with.

    Raises:
        OptionError: names the first key that differs.
    """
    if (changed := _difference(saved, current, "")) is not None:
        key, before, now = changed
        what = "the file's content has changed" if key.endswith("annotations") else f"{now!r}, was {before!r}"
        raise OptionError(
            f"{folder}: the run there was begun with another config: {key}: {what}. Set it back, begin anew with "
            f"--restart, or give another output (with initial_weights: {folder / 'last.safetensors'} to start from it)"
        )


def _difference(saved: Any, current: Any, key: str) -> tuple[str, Any, Any] | None:
    if isinstance(saved, dict) and isinstance(current, dict):
        if key.rpartition(".")[2] in _NAMED and saved.keys() != current.keys():
            return key, saved, current
        # A key that an older version did not know is not held against it.
        places: Any = [name for name in saved if name in current]
    elif isinstance(saved, list) and isinstance(current, list) and len(saved) == len(current):
        places = range(len(saved))
    else:
        return None if saved == current else (key, saved, current)
    found = (_difference(saved[p], current[p], f"{key}.{p}" if key else str(p)) for p in places)
    return next((difference for difference in found if difference), None)


def _sync(folder: Path) -> None:
    """Have the renames of a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _first_line(error: Exception) -> str:
    return printable(str(error).strip().splitlines()[0]) if str(error).strip() else type(error).__name__
