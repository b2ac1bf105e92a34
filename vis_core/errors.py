"""The errors that vis_core raises: each names the file or option at fault, the entry in it and the value found."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class VisError(Exception):
    """Base of all errors of this package; its text says what was wrong and what to do."""


class InputError(VisError):
    """A file or a stream from outside is not what it should be (an image, a video, a JSON, a bag, a message)."""


class CheckpointError(VisError):
    """A weight file cannot be used: unreadable, unsafe, of another system, or with wrong keys or shapes."""


class OptionError(VisError):
    """An option, a parameter or a name that does not exist, or a value out of its range."""


class ExportError(VisError):
    """A system cannot be exported as asked; the text says why, and what can be."""


class MissingDependencyError(VisError):
    """An optional package is needed for what was asked; the text names how to install it."""


def printable(text: object, limit: int = 300) -> str:
    """Text from outside as a message shows it: on one line, control characters written out, and cut."""
    whole = str(text)
    line = " ".join(whole[: 4 * limit].split())
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    cut = len(line) > limit or len(whole) > 4 * limit
    return f"{line[:limit]}... ({len(whole)} characters)" if cut else line


def nearest(name: str, known: Iterable[str]) -> str:
    """What a message about an unknown name ends with: the known one that is most like it, or all of them."""
    names = list(known)
    close = get_close_matches(name[:100], names, n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}"
