"""Reading text and JSON files from outside."""

from __future__ import annotations

import codecs
import gc
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from vis_core.errors import InputError, printable

MAX_BYTES = 4 << 30
"""The largest file that is read; annotations of a hundred thousand frames take a tenth of it."""
_FIRST = 1 << 16
_LARGE = 1 << 16
"""Characters from which on a parser is loaded that is faster."""
_UNSURE = object()
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
            if file.seekable():
                file.seek(0)  # all in one piece: no copy
                content = b""
            content += file.read()
    except (OSError, ValueError) as error:  # a name that holds a zero byte is a ValueError
        raise InputError(f"{printable(path)}: {what}: cannot be read: {getattr(error, 'strerror', error)}") from error
    try:
        text = content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {what}: not a text in UTF-8 (byte {error.start}); give a {kind} file") from error
    if (not text or text.isspace()) and not may_be_empty:
        raise InputError(f"{path}: {what}: the file is empty; was it written to its end?")
    return text


def parse_json(text: str, path: str, what: str) -> Any:
    """What a JSON text holds.

    Raises:
        InputError: the text is not JSON, is nested too deep, or an object holds a key twice.
    """
    try:
        with without_collection():
            if len(text) >= _LARGE:
                content = _parse_fast(text)
                if content is not _UNSURE:
                    return content
            return json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise InputError(f"{path}: {what}: not usable: lists or objects are nested too deep") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: {what}: not JSON: {error}; was it written to its end?") from error
    except ValueError as error:  # a number of thousands of digits, which Python does not convert
        raise InputError(f"{path}: {what}: not usable: {printable(error)}") from error


@contextmanager
def without_collection() -> Iterator[None]:
    """Have Python not look for objects that hold themselves.

    Nothing in JSON does, nor in what is read from it; with a large file's content in memory, looking for them takes
    more time than the parsing and a third of the scoring's.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _parse_fast(text: str) -> Any:
    """What a JSON text holds, by msgspec; or `_UNSURE`: it is not there, refuses the text, or a key may stand twice.

    What it takes it reads as `json` does, but of keys that stand twice the last counts. There is none where as many
    keys were read as colons stand behind what may be a key.
    """
    try:
        import msgspec
    except ImportError:
        return _UNSURE
    try:
        content = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return _UNSURE
    objects = _objects(content, text.count("{"))
    if objects is None:
        return _UNSURE
    surplus = _most_keys(text) - sum(map(len, objects))
    if surplus and "\\u003" not in text:
        # A text that begins with a colon looks like the end of a key: run lengths may, and no escape hides it here.
        texts = chain.from_iterable(map(dict.values, objects))
        surplus -= sum(value[:1] == ":" for value in texts if type(value) is str)
    return content if surplus == 0 else _UNSURE


def _objects(content: Any, count: int) -> list[dict[str, Any]] | None:
    """All objects of a JSON value, if there are as many as are said, which are the most that there can be."""
    found: list[dict[str, Any]] = []
    level = [content]
    while level:
        dicts = [item for item in level if type(item) is dict]
        found += dicts
        if len(found) == count:
            return found
        lists = [item for item in level if type(item) is list]
        level = [*chain.from_iterable(lists), *chain.from_iterable(map(dict.values, dicts))]
    return None


def _most_keys(text: str) -> int:
    """How many colons of a JSON text stand behind a quote or a space: at least as many as it has keys."""
    import numpy as np  # for large texts alone: help and errors are told without it

    count = 0
    for begin in range(0, len(text), _FIRST):
        part = np.frombuffer(text[begin : begin + _FIRST + 1].encode("utf-8"), np.uint8)
        before = (part[:-1] == ord('"')) | (part[:-1] <= ord(" "))
        count += int(np.count_nonzero(before & (part[1:] == ord(":"))))
    return count


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"an object holds the key {printable(twice, 60)!r} twice")
    return content
