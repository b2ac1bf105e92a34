"""Reading JSON files from outside."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import Any

from vis_core.errors import InputError


def read_text(path: str | os.PathLike[str], what: str, *, may_be_empty: bool = False) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        what: its role, for messages.
        may_be_empty: whether an empty file is as good as any.

    Raises:
        InputError: the file cannot be read, is empty or is not UTF-8.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {what}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {what}: not a text in UTF-8 (byte {error.start}); give a JSON file") from error
    if not text.strip() and not may_be_empty:
        raise InputError(f"{path}: {what}: the file is empty; was it written to its end?")
    return text


def parse_json(text: str, path: str, what: str) -> Any:
    """What a JSON text holds.

    Raises:
        InputError: the text is not JSON, or nested too deep.
    """
    # Nothing in JSON holds itself: looking for cycles meanwhile takes twice the time of the parsing on a large file.
    collects = gc.isenabled()
    gc.disable()
    try:
        return json.loads(text)
    except RecursionError as error:
        raise InputError(f"{path}: {what}: not usable: lists or objects are nested too deep") from error
    except ValueError as error:
        raise InputError(f"{path}: {what}: not JSON: {error}; was it written to its end?") from error
    finally:
        if collects:
            gc.enable()
