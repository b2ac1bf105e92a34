"""Who follows a training while it goes on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping


class Observer:
    """Is told how far a training is: in the first of several processes, but for warnings, which come from each.

    This one keeps silent, and passes on the warnings as Python's.
    """

    def begin(self, step: int, steps: int) -> None:
        """The run goes on from a step, to the end at `steps`."""

    def step(self, step: int, row: Mapping[str, float] | None) -> None:
        """A step is done; `row` of the log, where there is one."""

    def tell(self, text: str) -> None:
        """Something happened."""

    def warn(self, text: str) -> None:
        """The training goes on, though something is amiss."""
        warnings.warn(text, stacklevel=2)
