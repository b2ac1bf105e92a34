"""Two independent parts of a network at once on a processor.

Most operations of a small network are so short that waking the other threads for them takes as long as they do. While
one part waits for that, the other works.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_First = TypeVar("_First")
_Second = TypeVar("_Second")


class SideBySide:
    """Runs two functions at once without gradients: one where it is called, the other in a thread of its own.

    Where PyTorch has one thread there is nothing to share: they run one after the other.
    """

    def __init__(self) -> None:
        self._beside = ThreadPoolExecutor(1)  # begins its thread when it is first asked

    def __call__(self, first: Callable[[], _First], second: Callable[[], _Second]) -> tuple[_First, _Second]:
        """The results of both; an error of either is raised when both have ended."""
        if torch.get_num_threads() < 2:
            return _without_gradients(first), _without_gradients(second)
        other = self._beside.submit(_without_gradients, second)
        try:
            return _without_gradients(first), other.result()
        finally:
            other.exception()  # waits for it, so that nothing goes on behind an error of the first


def _without_gradients(function: Callable[[], _First]) -> _First:
    with torch.inference_mode():
        return function()
