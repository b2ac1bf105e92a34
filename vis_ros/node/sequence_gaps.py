"""What was published and did not come, told by the numbers that publishers give their messages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

_MAX_PUBLISHERS = 100


class SequenceGaps:
    """Counts the messages that were published after the first one that came, and did not come; of each publisher.

    Attributes:
        missing: how many; 0 too where nothing is told.
        told: whether rclpy tells publisher and sequence number, as in Kilted.
    """

    def __init__(self) -> None:
        self.missing = 0
        self.told = False
        self._latest: OrderedDict[bytes, int] = OrderedDict()

    def note(self, info: Any) -> None:
        """A message came, with rclpy's ``MessageInfo``."""
        known: Mapping[str, Any] = info if isinstance(info, Mapping) else {}
        number, publisher = known.get("publication_sequence_number"), known.get("publisher_gid")
        if number is None or not isinstance(publisher, Mapping):
            return
        self.told = True
        key = bytes(publisher["data"])
        latest = self._latest.pop(key, number - 1)
        self.missing += max(number - latest - 1, 0)
        self._latest[key] = max(number, latest)
        if len(self._latest) > _MAX_PUBLISHERS:
            self._latest.popitem(last=False)
