"""Ids of annotation files: integers, also where a file writes them as texts or as whole floats."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vis_core.files.findings import is_integer

_LIMIT = 2**63


class Ids:
    """The ids of one list as integers.

    Integers, whole floats and texts of digits stand for themselves. Other texts are numbered in the order of the list,
    after the greatest integer: always the same numbers for the same file.

    Args:
        values: the ids as the file has them, usable or not.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        keys = {
            value: key for value in values if isinstance(value, (str, int, float)) and (key := _key(value)) is not None
        }
        after = max((key for key in keys.values() if isinstance(key, int)), default=0)
        texts = dict.fromkeys(key for key in keys.values() if isinstance(key, str))
        numbers = {text: number for number, text in enumerate(texts, max(after, 0) + 1)}
        self.texts = {
            value: key if isinstance(key, int) else numbers[key]
            for value, key in keys.items()
            if isinstance(value, str)
        }
        """The integers of the ids that are written as texts."""

    def find(self, value: Any) -> int | None:
        """The integer that an id stands for; None for what is no id, and for a text that the list does not have."""
        if type(value) is int and -_LIMIT < value < _LIMIT:
            return value
        key = _key(value)
        return self.texts.get(key) if isinstance(key, str) else key


def whole(value: Any) -> int | None:
    """An integer, or a float that is one; None for all else."""
    if is_integer(value):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else None


def _key(value: Any) -> int | str | None:
    if isinstance(value, str):
        if not (value.isascii() and value.isdecimal() and len(value) < 20):
            return value or None
        value = int(value)
    number = whole(value)
    return number if number is not None and abs(number) < _LIMIT else None
