"""Several inputs on a command line: patterns, and the folder that the results of each one go to."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from vis_core.errors import InputError
from vis_core.files.names import is_address, natural_order, shown_address

DEFAULT_FOLDER = Path("segmented")
"""Where results go that nobody said a place for."""

_SEVERAL = "batch"
_CAMERA = r"(camera:)?\d{1,3}"


def expanded(texts: Iterable[str]) -> list[str]:
    """Inputs, each pattern such as ``clips/*.mp4`` replaced by the files and folders that it matches, 2 before 10.

    Raises:
        InputError: a pattern matches nothing, or an input stands there twice.
    """
    found: list[str] = []
    for text in texts:
        if not glob.has_magic(text) or is_address(text) or Path(text).exists():
            found.append(text)
            continue
        matches = sorted(glob.glob(text, recursive=True), key=natural_order)  # noqa: PTH207 absolute ones, too
        if not matches:
            raise InputError(f"{text}: matches no file or folder")
        found += matches
    twice = next((text for i, text in enumerate(found) if text in found[:i]), None)
    if twice is not None:
        raise InputError(f"{twice}: is given twice")
    return found


def is_live(text: str) -> bool:
    """Whether an input names a camera or a stream, and so nothing that can be looked for."""
    return is_address(text) or (re.fullmatch(_CAMERA, text) is not None and not Path(text).exists())


def shown_input(text: str) -> str:
    """An input as messages show it: an address without name and password."""
    return shown_address(text) if is_address(text) else text


def result_folders(inputs: Sequence[str], out: Path | None, again: bool = False) -> list[Path]:
    """The folder that the results of each input go to: one input's into ``out`` itself, several each into one there.

    Args:
        inputs: as of `expanded`.
        out: None: ``segmented/NAME``, of several ``segmented/batch``; where that is taken ``NAME-2``, ``NAME-3``...
        again: take the latest of these, to replace it or go on from it.
    """
    names = folder_names(inputs)
    several = len(inputs) > 1
    if out is None:
        out = _numbered(DEFAULT_FOLDER / (_SEVERAL if several else names[0]), again)
    return [out / name for name in names] if several else [out]


def folder_names(inputs: Sequence[str]) -> list[str]:
    """A name for each input, each its own: that of its file or folder, those above it before it where two are alike."""
    parts = [_parts(text) for text in inputs]
    depths = [1] * len(parts)
    while True:
        names = [safe_name("-".join(part[-depth:])) for part, depth in zip(parts, depths)]
        alike = [i for i, name in enumerate(names) if names.count(name) > 1 and depths[i] < len(parts[i])]
        if not alike:
            break
        for i in alike:
            depths[i] += 1
    taken: set[str] = set()
    for i, name in enumerate(names):
        number = 1
        while names[i] in taken:
            number += 1
            names[i] = f"{name}-{number}"
        taken.add(names[i])
    return names


def safe_name(text: str) -> str:
    """A text as a file name."""
    return re.sub(r"[^\w.-]+", "_", text).strip("._")[:100] or "video"


def _parts(text: str) -> tuple[str, ...]:
    """What an input may be called after, the most telling last."""
    if is_address(text):
        address = urlsplit(text)
        *above, name = [part for part in address.path.split("/") if part] or [address.hostname or "stream"]
        return (address.hostname or "stream", *above, Path(name).stem)
    if is_live(text):
        return (f"camera{text.removeprefix('camera:')}",)
    path = Path(text).resolve() if Path(text).is_dir() else Path(text).absolute()
    return (*path.parts[1:-1], path.name if path.is_dir() else path.stem)


def _numbered(folder: Path, again: bool) -> Path:
    """The first of ``NAME``, ``NAME-2``... that is not there; the last one that is, if that is asked for."""
    number, place, last = 1, folder, folder
    while place.exists():
        number, last = number + 1, place
        place = folder.with_name(f"{folder.name}-{number}")
    return last if again else place
