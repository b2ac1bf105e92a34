"""What is wrong or odd in one input file, collected so that all of it is told at once."""

from __future__ import annotations

import json
import math
from typing import Any, TypeGuard

from vis_core.errors import InputError

MAX_TOLD = 20
_MAX_KEPT = 1000
_MAX_CHARACTERS = 60


class InputWarning(UserWarning):
    """The scores are right, but an input file probably does not say what its author meant."""


class Findings:
    """Errors and warnings of one file.

    Args:
        file: path of the file, or None if parsed objects were given.
        what: the role of the file, ``results`` or ``ground truth``: each place begins with it; or empty.
    """

    def __init__(self, file: str | None, what: str) -> None:
        self._source = f"{file}: " if file else ""
        self._what = what
        self._errors: list[tuple[tuple[int, int, int], str]] = []
        self._sections: dict[str, int] = {}
        self.count = 0
        self._warnings: dict[str, list[Any]] = {}

    def place(self, entry: str = "", frame: int | None = None) -> str:
        """A place in the file, as in ``results [3] frame 7`` or ``ground truth annotations[3] frame 7``."""
        at = "" if frame is None else f" frame {frame}"
        return f"{self._what}{' ' if entry and self._what else ''}{entry}{at}"

    def error(self, entry: str, text: str, *, index: int = -1, frame: int | None = None) -> None:
        """Note an error; those of one list are told in the order of ``index`` (of the entry) and ``frame``."""
        self.count += 1
        if len(self._errors) < _MAX_KEPT:
            section = self._sections.setdefault(entry.partition("[")[0], len(self._sections))
            order = (section, index, -1 if frame is None else frame)
            self._errors.append((order, self._told(entry, frame, text)))

    def warn(self, kind: str, entry: str, text: str, *, frame: int | None = None) -> None:
        """Note a warning; of each kind the first is told, and how many there are."""
        told = self._warnings.setdefault(kind, [self._told(entry, frame, text), 0])
        told[1] += 1

    def _told(self, entry: str, frame: int | None, text: str) -> str:
        place = self.place(entry, frame)
        return f"{place}: {text}" if place else text

    @property
    def has_errors(self) -> bool:
        """Whether an error was noted."""
        return self.count > 0

    def warnings(self) -> tuple[str, ...]:
        """The warnings, one text a kind."""
        return tuple(
            f"{self._source}{text}" + (f" ({count - 1} more like this)" if count > 1 else "")
            for text, count in self._warnings.values()
        )

    def raise_errors(self) -> None:
        """Raise all errors as one.

        Raises:
            InputError: an error was noted; its text holds the first 20, one a line.
        """
        if not self.count:
            return
        lines = [text for _, text in sorted(self._errors, key=lambda item: item[0])[:MAX_TOLD]]
        if self.count == 1:
            raise InputError(f"{self._source}{lines[0]}")
        first = f" (the first {MAX_TOLD})" if self.count > MAX_TOLD else ""
        raise InputError(f"{self._source}{self.count} errors{first}:\n  " + "\n  ".join(lines))


def shown(value: Any) -> str:
    """A value of a JSON file as a message shows it, cut to a few dozen characters."""
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    if isinstance(value, (list, tuple)):
        if len(value) > 4 or any(isinstance(item, (list, tuple, dict)) for item in value):
            return f"a list of {len(value)}"
        return f"[{', '.join(shown(item) for item in value)}]"
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError):
        text = f"of type {type(value).__name__}"
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}... ({len(text)} characters)"


def is_integer(value: Any) -> TypeGuard[int]:
    """Whether a value of a JSON file is an integer (true and false are not)."""
    return type(value) is int


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of a JSON file is a finite number that a float holds (true and false are not)."""
    if type(value) is int:
        return abs(value) <= 2**53
    return isinstance(value, float) and math.isfinite(value)
