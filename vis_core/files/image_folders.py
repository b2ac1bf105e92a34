"""Where the images of an annotation file lie: their names, made safe, and the folder that these are relative to."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PureWindowsPath

_FOLDERS = (
    *("", "frames", "JPEGImages", "images", "train2017", "val2017", "test2017", "train", "valid", "val", "test"),
    *("train/JPEGImages", "valid/JPEGImages", "val/JPEGImages", "test/JPEGImages"),
    *("images/train2017", "images/val2017", "images/train", "images/val", "images/test"),
)
_TRIES = 20  # files that are looked for in each of them
_SPLIT = re.compile(r"(?<![a-z])(train|val|test)")


def is_plain(name: str) -> bool:
    """Whether a name is a relative one, written with ``/``, that stays in its folder."""
    return not ("\\" in name or ".." in name or ":" in name or name.startswith("/"))


def inner_name(name: str) -> str | None:
    """A name that stays in its folder, written with ``/`` and without ``..``; None for one that leaves it."""
    name = name.replace("\\", "/")
    if name.startswith("/") or PureWindowsPath(name).anchor:
        return None
    name = posixpath.normpath(name)
    return None if name == ".." or name.startswith("../") else name


def name_under(name: str, images: Path, folder: Path) -> str | None:
    """A name that leaves the folder of the file relative to a folder of images; None if it does not lie there.

    Args:
        name: absolute, or relative to either of the folders.
        images: the folder that was given.
        folder: that of the annotation file.
    """
    name = name.replace("\\", "/")
    if PureWindowsPath(name).drive:
        return None
    for base in (images, folder):
        relative = os.path.relpath(base.absolute() / name, images.absolute())
        if relative not in (os.curdir, os.pardir) and not relative.startswith(os.pardir + os.sep):
            return Path(relative).as_posix()
    return None


def find_images(file: Path, names: Sequence[Sequence[str]]) -> tuple[Path | None, tuple[Path, ...]]:
    """The first usual folder beside a file, or beside its folder, that has one of its images; and all that were tried.

    Folders that are named as another split than the file come last: ``val.json`` has its images in ``val``.

    Args:
        file: the annotation file.
        names: of the images, by video.
    """
    split = _splits(f"{file.parent.name}/{file.stem}")
    ordered = sorted(_FOLDERS, key=lambda name: bool(split) and bool(_splits(name)) and not (split & _splits(name)))
    folders = tuple(dict.fromkeys(base / name for base in (file.parent, file.parent.parent) for name in ordered))
    for name in _samples(names):
        for folder in folders:
            if _is_file(folder / name):
                return folder, folders
    return None, folders


def given_folder(images: Path, names: Sequence[Sequence[str]]) -> Path:
    """The folder of images that was given, or the one above where the names begin with its own name."""
    samples = [name for name in _samples(names) if name.partition("/")[0] == images.name]
    if samples and not any(_is_file(images / name) for name in samples):
        above = images.parent
        if any(_is_file(above / name) for name in samples):
            return above
    return images


def _splits(text: str) -> set[str]:
    return set(_SPLIT.findall(text.lower()))


def _samples(names: Sequence[Sequence[str]]) -> Iterable[str]:
    """Some of the names: the first of the first videos, then some that lie evenly in all."""
    filled = [of_video for of_video in names if of_video]
    first = [of_video[0] for of_video in filled[:_TRIES]]
    spread = filled[:: max(1, len(filled) // _TRIES)][:_TRIES]
    each = max(2, _TRIES // max(1, len(spread)))
    later = [of_video[position * (len(of_video) - 1) // (each - 1)] for of_video in spread for position in range(each)]
    return dict.fromkeys([*first, *later])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
