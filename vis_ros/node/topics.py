"""The names of cameras, and of their topics."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vis_core.errors import OptionError, printable

ONLY = ""
"""Name of a node's only camera, which its topics do not show."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")


def camera_names(text: str) -> tuple[str, ...]:
    """The cameras that a list with commas between them names; an empty one: the only one.

    Raises:
        OptionError: a name cannot be part of a topic's, or stands there twice.
    """
    if not text.strip():
        return (ONLY,)
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if not _NAME.fullmatch(name):
            raise OptionError(
                f"cameras: {printable(name, 60)!r} cannot be part of a topic's name; a letter comes first, then "
                "letters, digits, and single underscores, as in front,rear_left"
            )
        if names.count(name) > 1:
            raise OptionError(f"cameras: {name!r} stands there twice")
    return names


def topic_names(class_names: Iterable[str]) -> dict[str, str]:
    """What each class is called in a topic: letters and digits, with underscores between; the same for no two."""
    out: dict[str, str] = {}
    for name in dict.fromkeys(class_names):
        words = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "class"
        token = wanted = words if words[0].isalpha() else f"class_{words}"
        number = 2
        while token in out.values():
            token, number = f"{wanted}_{number}", number + 1
        out[name] = token
    return out


def topic_of(camera: str, topic: str) -> str:
    """What a topic of the node is called for a camera: ``instances`` and ``~/overlay`` are ``front/instances`` and
    ``front/overlay``; of the only one they stay as they are."""
    return topic if camera == ONLY else f"{camera}/{topic.removeprefix('~/')}"
