"""Names of files, and addresses in their place."""

from __future__ import annotations

import re
from urllib.parse import urlsplit


def natural_order(name: str) -> list[tuple[int, str]]:
    """A key to sort names by, 2 before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def is_address(text: str) -> bool:
    """Whether a text is the address of a video, such as ``rtsp://...``, not a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def shown_address(address: str) -> str:
    """An address as messages show it: without name and password, and without what follows the path."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
