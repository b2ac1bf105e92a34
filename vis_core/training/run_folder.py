"""The folder of a run: one training at a time, nothing torn in it, the run before kept until the next one stands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vis_core.files import outputs
from vis_core.files.atomic import clear_partials
from vis_core.files.outputs import refuse_outputs
from vis_core.training.state import NAME, PREVIOUS

_WEIGHTS = ("last.safetensors", "best.safetensors")
_FILES = (NAME, PREVIOUS, *_WEIGHTS, "log.csv", "evaluation.csv", "config.yaml")
_FOLDERS = ("tensorboard", "evaluation")
_ASIDE = ".replaced"


@contextmanager
def locked(folder: Path, tell: Callable[[str], None] = outputs.say_nothing) -> Iterator[None]:
    """While inside, no other run can have the folder; what a killed one has left half done is put in order.

    Raises:
        OptionError: another one has it.
        InputError: the folder cannot be made or written to.
    """
    with outputs.locked(folder, "training"):
        keep_replaced(folder)
        for left in [left for name in _FILES for left in clear_partials(folder / name)]:
            tell(f"{left}: removed; a run that did not come to its end had left it")
        try:
            yield
        finally:
            keep_replaced(folder)


def begin_anew(folder: Path) -> None:
    """Set what a training left in its folder aside, and nothing else, until a new state stands."""
    aside = folder / _ASIDE
    for name in (*_FILES, *_FOLDERS):
        if os.path.lexists(folder / name):
            aside.mkdir(exist_ok=True)
            (folder / name).replace(aside / name)


def keep_replaced(folder: Path) -> None:
    """Remove what was set aside if a new state stands; else put it back in its place."""
    aside = folder / _ASIDE
    if not aside.is_dir():
        return
    if not any((folder / name).exists() for name in (NAME, PREVIOUS)):
        for name in (*_FILES, *_FOLDERS):
            if os.path.lexists(aside / name):
                _remove(folder / name)
                (aside / name).replace(folder / name)
    shutil.rmtree(aside, ignore_errors=True)


def refuse_without_state(folder: Path) -> None:
    """Refuse a folder that holds weights, but no state to go on from.

    Raises:
        InputError: it is such a one.
    """
    if not any((folder / name).exists() for name in (NAME, PREVIOUS)):
        found = [folder / name for name in _WEIGHTS if os.path.lexists(folder / name)]
        refuse_outputs(found, f"there is no {NAME} to go on from; --restart replaces it, or give another output")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
