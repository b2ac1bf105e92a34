"""Reading text and JSON files from outside."""

from __future__ import annotations

import codecs
import gc
import json
import os
import stat
from pathlib import Path
from typing import Any

from vis_core.errors import InputError, printable

MAX_BYTES = 4 << 30
"""The largest file that is read; annotations of a hundred thousand frames take a tenth of it."""
_FIRST = 1 << 16
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(
    path: str | os.PathLike[str], what: str, *, may_be_empty: bool = False, limit: int = MAX_BYTES, kind: str = "JSON"
) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark.

    Args:
        path: the file.
        what: its role, for messages.
        may_be_empty: whether an empty file is as good as any.
        limit: bytes that it may have.
        kind: of file that is asked for, for messages.

    Raises:
        InputError: the file cannot be read, is empty, too large or is not UTF-8.
    """
    try:
        with Path(path).open("rb") as file:
            if stat.S_ISCHR(os.fstat(file.fileno()).st_mode):
                raise InputError(f"{path}: {what}: is a device; give a {kind} file")
            content = file.read(_FIRST)
            # No text holds a zero byte: a file of zeros or of pictures is not read to its end.
            if not content.startswith(_UTF_16) and (zero := content.find(b"\0")) >= 0:
                raise InputError(f"{path}: {what}: not a text in UTF-8 (byte {zero}); give a {kind} file")
            if (size := os.fstat(file.fileno()).st_size) > limit:
                raise InputError(f"{path}: {what}: has {size} bytes, and {limit} are the most that is read of it")
            content += file.read()
    except (OSError, ValueError) as error:  # a name that holds a zero byte is a ValueError
        raise InputError(f"{printable(path)}: {what}: cannot be read: {getattr(error, 'strerror', error)}") from error
    try:
        text = content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {what}: not a text in UTF-8 (byte {error.start}); give a {kind} file") from error
    if not text.strip() and not may_be_empty:
        raise InputError(f"{path}: {what}: the file is empty; was it written to its end?")
    return text


def parse_json(text: str, path: str, what: str) -> Any:
    """What a JSON text holds.

    Raises:
        InputError: the text is not JSON, is nested too deep, or an object holds a key twice.
    """
    # Nothing in JSON holds itself: looking for cycles meanwhile takes twice the time of the parsing on a large file.
    collects = gc.isenabled()
    gc.disable()
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise InputError(f"{path}: {what}: not usable: lists or objects are nested too deep") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: {what}: not JSON: {error}; was it written to its end?") from error
    except ValueError as error:  # a number of thousands of digits, which Python does not convert
        raise InputError(f"{path}: {what}: not usable: {printable(error)}") from error
    finally:
        if collects:
            gc.enable()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"an object holds the key {printable(twice, 60)!r} twice")
    return content
