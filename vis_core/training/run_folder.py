"""The folder of a run: one training at a time, and nothing torn in it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vis_core.errors import OptionError
from vis_core.training.state import NAME, PREVIOUS

_FILES = (NAME, PREVIOUS, "last.safetensors", "best.safetensors", "log.csv", "evaluation.csv", "config.yaml")
_FOLDERS = ("tensorboard", "evaluation")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """While inside, no other training can have the folder.

    Raises:
        OptionError: another one has it.
        OSError: the folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            # Of this process alone: the workers that it forks do not hold it on after a kill.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OptionError(f"{folder}: another training writes there; give another output, or wait") from error
        yield
    finally:
        os.close(descriptor)


def begin_anew(folder: Path) -> None:
    """Remove what a training left in its folder, and nothing else."""
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
    for name in _FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
