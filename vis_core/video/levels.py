"""Images of 16 bits a value, such as thermal ones, as 8 bits: by a range that is given, or found in the first ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError, OptionError

FIRST_IMAGES = 10
"""By so many of a video its range is found."""

_VALUES = 1 << 16
_LEAST_SHARE = 0.1
_PERCENTILES = (0.005, 0.995)
_BLOCK = 1 << 20  # values that are looked at at a time

Pixels = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class Levels:
    """The values that become 0 and 255; those between become what is between, those beyond are cut."""

    low: float
    high: float

    @cached_property
    def _table(self) -> npt.NDArray[np.uint8]:
        values = (np.arange(_VALUES) - self.low) * (256 / (self.high + 1 - self.low))
        return np.clip(np.floor(values), 0, 255).astype(np.uint8)

    def __call__(self, pixels: Pixels) -> npt.NDArray[np.uint8]:
        """uint16 ``[H, W, ...]`` as uint8."""
        levelled = np.empty(pixels.shape, np.uint8)
        rows = max(1, _BLOCK // pixels[0].size)  # NumPy widens an index to 8 bytes
        for top in range(0, len(pixels), rows):
            levelled[top : top + rows] = self._table[pixels[top : top + rows]]
        return levelled


FULL = Levels(0, _VALUES - 1)


def range_of(text: str | None) -> Levels | None:
    """What a range stands for: ``MIN,MAX``; None for ``auto``, and for none.

    Raises:
        OptionError: it is neither.
    """
    if text in (None, "", "auto"):
        return None
    try:
        low, high = (float(part) for part in str(text).split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not (0 <= low < high < _VALUES):
        raise OptionError(f"range {text!r}: give auto, or MIN,MAX with 0 <= MIN < MAX < {_VALUES}, such as 0,4095")
    return Levels(low, high)


class Levelling:
    """Maps the images of one video to 8 bits, all by one range; those of 8 bits stay as they are.

    Args:
        wanted: ``MIN,MAX``; ``auto``: percentiles of the first images that are looked at; None or empty: the upper 8
            bits, if the first images use a tenth of all values.
        tell: takes a sentence on how values are mapped, when the first image is, and when the range that is kept is
            another one.

    Raises:
        OptionError: ``wanted`` is none of these.
    """

    def __init__(self, wanted: str | None = None, tell: Callable[[str], object] | None = None) -> None:
        self._wanted = wanted or None
        self._tell = tell
        self._told: Levels | None = None
        self._seen = 0
        self._least, self._greatest = _VALUES, -1
        self._counts = np.zeros(0, np.int64)
        self._levels = range_of(self._wanted)
        if self._levels is not None:
            self.settle()

    def look(self, pixels: Pixels) -> None:
        """One of the first images, by which the range is found."""
        if self.settled or pixels.dtype == np.uint8:
            return
        if self._wanted is None:
            self._least = min(self._least, int(pixels.min()))
            self._greatest = max(self._greatest, int(pixels.max()))
            if self._greatest - self._least + 1 >= _LEAST_SHARE * _VALUES:
                self._levels = FULL
                self.settle()
            return
        self._seen += 1
        every = max(1, round((pixels.size / _BLOCK) ** 0.5))
        counts = np.bincount(pixels[::every, ::every].ravel(), minlength=_VALUES)
        self._counts = counts if self._seen == 1 else self._counts + counts
        shares = np.cumsum(self._counts) / self._counts.sum()
        low, high = (int(np.searchsorted(shares, share)) for share in _PERCENTILES)
        self._levels = Levels(low, high) if low < high else Levels(max(low - 1, 0), max(low, 1))

    @property
    def settled(self) -> bool:
        """Whether the range stays as it is."""
        return self._seen == FIRST_IMAGES

    @property
    def wants_more(self) -> bool:
        """Whether a range that is found changes with the next image."""
        return 0 < self._seen < FIRST_IMAGES

    def settle(self) -> None:
        """Keep the range, whatever comes."""
        self._seen = FIRST_IMAGES

    def levels(self) -> Levels:
        """The range.

        Raises:
            InputError: none is given, and what was looked at uses so few values that the upper 8 bits tell nothing.
        """
        if self._levels is None:
            given = f"{self._least},{max(self._greatest, self._least + 1)}"
            raise InputError(
                f"16-bit values from {self._least} to {self._greatest} use less than a tenth of what 16 bits hold, and "
                f"their upper 8 bits show next to nothing: give a range, auto or {given} (--range of vis segment and "
                "vis-ros, parameter range of the node; to train, convert them to 8 bits)"
            )
        return self._levels

    def told(self) -> str:
        """How values are mapped, as a sentence; raises `InputError` as of `levels`."""
        levels = self.levels()
        how = {None: "range MIN,MAX or auto maps fewer", "auto": "found by the first images"}.get(
            self._wanted, "as given"
        )
        return f"16-bit values {levels.low:g} to {levels.high:g} become 0 to 255 ({how})"

    def __call__(self, pixels: Pixels) -> npt.NDArray[np.uint8]:
        """Pixels as uint8; raises `InputError` as of `levels`."""
        if pixels.dtype == np.uint8:
            return pixels.astype(np.uint8, copy=False)
        self.look(pixels)
        levels = self.levels()
        if self._tell is not None and levels != self._told and (self._told is None or self.settled):
            self._told = levels
            self._tell(self.told())
        return levels(pixels)
