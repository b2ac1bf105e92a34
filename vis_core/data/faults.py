"""What was wrong in an annotation file and left out, or odd and kept: counted by kind, the first few by name."""

from __future__ import annotations

from dataclasses import dataclass

MASK_SKIPPED = "mask skipped"
"""The kind of masks that cannot be used."""
_MAX_EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """Faults of one kind.

    Attributes:
        kind: in a few words, with what was done.
        count: how many.
        examples: the first few, each with its entry and value.
    """

    kind: str
    count: int
    examples: tuple[str, ...]


class Faults:
    """Faults of one file while it is read; takes what a `SegmentationReader` finds, too.

    Args:
        frames: whether a place is told with its frame: an image has but one.
    """

    def __init__(self, frames: bool = True) -> None:
        self.frames = frames
        self._kinds: dict[str, tuple[list[int], list[str]]] = {}
        self.bad_masks: set[tuple[int, int]] = set()
        """Annotation (its place in the file) and frame of the masks that cannot be used."""

    def note(self, kind: str, entry: str, text: str) -> None:
        """Count a fault, as in ``note("image skipped", "images[3]", "width is missing")``."""
        count, examples = self._kinds.setdefault(kind, ([0], []))
        count[0] += 1
        if len(examples) < _MAX_EXAMPLES:
            examples.append(f"{entry}: {text}")

    def error(self, entry: str, text: str, *, index: int = -1, frame: int | None = None) -> None:
        """Note a mask that cannot be used."""
        self.bad_masks.add((index, frame or 0))
        self.note(MASK_SKIPPED, self.place(entry, frame), text)

    def warn(self, kind: str, entry: str, text: str, *, frame: int | None = None) -> None:
        """Note a mask that is odd."""
        self.note(kind, self.place(entry, frame), text)

    def place(self, entry: str, frame: int | None) -> str:
        """As in ``annotations[7] frame 2``, or without the frame."""
        return entry if frame is None or not self.frames else f"{entry} frame {frame}"

    def findings(self) -> tuple[Finding, ...]:
        """All, in the order in which their kinds were met."""
        return tuple(Finding(kind, count[0], tuple(examples)) for kind, (count, examples) in self._kinds.items())


def summary(findings: tuple[Finding, ...]) -> str:
    """Findings in one line, as in ``3 x mask skipped (annotations[7] frame 2: counts are empty)``."""
    return "; ".join(f"{found.count} x {found.kind} ({found.examples[0]})" for found in findings)
