"""COCO run lengths from files: checked before any C code sees them, and brought to one form.

A mask is kept as COCO's compressed text (bytes) without runs of length zero inside. The text holds one number a run,
in groups of five bits, low group first, each group a character from '0' (0) to 'o' (63) whose bit 32 says that more
follow and whose bit 16, in the last group, carries the sign; from the fourth run on the number is the difference to
the run two before. Source: pycocotools ``maskApi.c`` (``rleToString``), which documents the format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

Integers = npt.NDArray[np.int64] | npt.NDArray[np.int32]

GOOD, EMPTY, BAD_CHARACTER, CUT_OFF, TOO_LARGE, NEGATIVE, WRONG_SUM = range(7)
REASONS = {
    EMPTY: "are empty",
    BAD_CHARACTER: "hold a character outside '0' to 'o'",
    CUT_OFF: "end in the middle of a number",
    TOO_LARGE: "hold a run that no image has",
    NEGATIVE: "hold a negative run",
}
_FIRST_CHARACTER = ord("0")
# Seven groups of five bits hold any difference of two runs of an image below 2**31 pixels.
_MAX_GROUPS = 7
# Most pixels of an image: pycocotools keeps runs in 32 bits.
MAX_PIXELS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class CheckedTexts:
    """What ``check_texts`` found, one row a text.

    Attributes:
        status: int8 ``[N]``, ``GOOD`` or what is wrong.
        areas: int64 ``[N]``, foreground pixels; meaningless where the status is not ``GOOD``.
        sums: int64 ``[N]``, sum of all runs.
        zero_inside: bool ``[N]``, a run of length zero stands elsewhere than first.
    """

    status: npt.NDArray[np.int8]
    areas: npt.NDArray[np.int64]
    sums: npt.NDArray[np.int64]
    zero_inside: npt.NDArray[np.bool_]


def check_texts(data: bytes, lengths: npt.NDArray[np.int64], pixels: npt.NDArray[np.int64]) -> CheckedTexts:
    """Decode many compressed run lengths at once and check them.

    Args:
        data: ``N`` compressed run lengths, one after the other.
        lengths: int64 ``[N]``, characters of each.
        pixels: int64 ``[N]``, pixels of the image of each, below 2**31.
    """
    count = lengths.size
    status = np.zeros(count, np.int8)
    areas, sums = np.zeros(count, np.int64), np.zeros(count, np.int64)
    zero_inside = np.zeros(count, np.bool_)
    status[lengths == 0] = EMPTY
    filled = np.flatnonzero(lengths)
    if not filled.size:
        return CheckedTexts(status, areas, sums, zero_inside)
    found = np.zeros(filled.size, np.int8)

    codes = _codes(data)
    text_ends = lengths[filled].cumsum()
    ends = codes < 32
    if codes.max() > 63:
        found[np.searchsorted(text_ends, np.flatnonzero(codes > 63), side="right")] = BAD_CHARACTER
    found[(found == GOOD) & ~ends[text_ends - 1]] = CUT_OFF
    ends[text_ends - 1] = True  # a text that is cut off must not run into the next one

    numbers, last, too_long = _numbers(codes, ends)
    if too_long.size:
        owner = np.searchsorted(text_ends, too_long, side="right")
        found[owner] = np.where(found[owner] == GOOD, TOO_LARGE, found[owner])

    bounds = np.searchsorted(last, text_ends)
    starts = np.append(0, bounds[:-1])
    first_zero = numbers[starts] == 0
    zeros = np.zeros(filled.size, np.int64)
    totals = []
    for part in (0, 1):
        runs, firsts, counts = _every_other_run(numbers, starts, bounds, part)
        if runs.min() < 0:
            owner = np.searchsorted((bounds + 1 - part) >> 1, np.flatnonzero(runs < 0), side="right")
            found[owner] = np.where(found[owner] == GOOD, NEGATIVE, found[owner])
        totals.append(_sums(runs, firsts, counts))
        zero = runs == 0
        zero[-1] = False  # which is no run
        if zero.any():
            zeros += _sums(zero, firsts, counts)
    areas[filled] = np.where(starts & 1, totals[0], totals[1])
    sums[filled] = totals[0] + totals[1]
    found[(found == GOOD) & (sums[filled] != pixels[filled])] = WRONG_SUM
    zero_inside[filled] = zeros > first_zero  # a first run may be zero
    status[filled] = found
    return CheckedTexts(status, areas, sums, zero_inside)


def _codes(text: bytes) -> npt.NDArray[np.uint8]:
    """The number of each character; those that are none of the code are above 63."""
    return np.frombuffer(text, np.uint8) - np.uint8(_FIRST_CHARACTER)


def _numbers(
    codes: npt.NDArray[np.uint8], ends: npt.NDArray[np.bool_], wide: bool = False
) -> tuple[Integers, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The signed numbers of concatenated texts, the character where each ends, and those where too long ones end.

    They come in 32 bits where all fit in 30 (or are ``wide``): the runs, taken modulo 2**32, are then right where they
    are between 0 and 2**31, and negative elsewhere.
    """
    # The last group carries the sign; most numbers are that one group.
    values = ((codes ^ np.uint8(16)) - np.uint8(16)).view(np.int8).astype(np.int64 if wide else np.int32)
    more = np.flatnonzero(ends[1:] > ends[:-1]) + 1
    at = more
    for _ in range(1, _MAX_GROUPS if wide else _MAX_GROUPS - 1):
        if not more.size:
            break
        at = at - 1
        values[more] = (values[more] << 5) | (codes[at] & 31)
        still = ~ends[at - 1]  # before the first character stands the last one, which ends a number
        more, at = more[still], at[still]
    if more.size and not wide:
        return _numbers(codes, ends, wide=True)
    last = np.flatnonzero(ends)
    return values.take(last), last, more


def _every_other_run(
    numbers: Integers, starts: npt.NDArray[np.int64], bounds: npt.NDArray[np.int64], part: int
) -> tuple[Integers, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The runs of texts that stand at even (``part`` 0), or odd (1), places among all numbers.

    Args:
        numbers: of all texts.
        starts, bounds: int64 ``[N]``, where those of each text begin, and end.

    Returns:
        The runs, and a zero after them; int64 ``[N]`` the first of each text, and how many it has of them.
    """
    runs = np.zeros(((numbers.size + 1 - part) >> 1) + 1, numbers.dtype)
    runs[:-1] = numbers[part::2]
    firsts = (starts + 1 - part) >> 1
    counts = ((bounds + 1 - part) >> 1) - firsts
    # The first number of a text is a run, and the third as well: differences begin at the fourth.
    leading = firsts[starts & 1 == part]
    of_leading = runs[leading]
    runs[leading] = 0
    runs[:-1].cumsum(dtype=runs.dtype, out=runs[:-1])
    before = np.append(runs[-1:], runs)[firsts]
    runs[:-1] -= np.repeat(before, counts)
    runs[leading] = of_leading
    return runs, firsts, counts


def _sums(
    values: npt.NDArray[Any], firsts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Sums of parts of an array, one after the other."""
    return np.where(counts > 0, np.add.reduceat(values, firsts, dtype=np.int64), 0)


def decode_text(text: bytes) -> npt.NDArray[np.int64]:
    """The runs of one compressed text that has been checked."""
    codes = _codes(text)
    numbers, last, _ = _numbers(codes, codes < 32)
    runs = np.empty(last.size, np.int64)
    for part in (0, 1):
        runs[part::2] = _every_other_run(numbers, np.array([0]), np.array([last.size]), part)[0][:-1]
    return runs


def merge_zero_runs(runs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The same mask without runs of length zero inside: their two neighbours are one run."""
    colours = np.arange(runs.size) % 2
    kept = runs > 0
    runs, colours = runs[kept], colours[kept]
    if not runs.size:
        return runs
    starts = np.flatnonzero(np.diff(colours, prepend=-1))
    merged = np.add.reduceat(runs, starts)
    return np.concatenate(([0], merged)) if colours[0] else merged


def encode_runs(runs: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> list[bytes]:
    """Compressed texts of many masks.

    Args:
        runs: below 2**31, of one mask after the other.
        lengths: int64 ``[N]``, how many of them each mask has.
    """
    text_ends = lengths.cumsum()
    starts = text_ends - lengths
    numbers = runs.copy()
    numbers[2:] -= runs[:-2]
    for position in range(3):
        first = starts[lengths > position] + position
        numbers[first] = runs[first]
    # Most numbers are one group.
    groups = np.ones(numbers.size, np.int64)
    long = np.flatnonzero((numbers < -16) | (numbers > 15))
    magnitude = np.where(numbers[long] < 0, ~numbers[long], numbers[long])
    groups[long] = 1 + np.searchsorted(1 << (5 * np.arange(1, _MAX_GROUPS) - 1), magnitude, side="right")
    ends = np.zeros(numbers.size + 1, np.int64)
    np.cumsum(groups, out=ends[1:])
    codes = np.empty(int(ends[-1]), np.uint8)
    codes[ends[:-1]] = _FIRST_CHARACTER + (numbers & 31) + 32 * (groups > 1)
    for group in range(1, _MAX_GROUPS):
        long = long[groups[long] > group]
        more = groups[long] > group + 1
        codes[ends[long] + group] = _FIRST_CHARACTER + ((numbers[long] >> (5 * group)) & 31) + 32 * more
    data = codes.tobytes()
    bounds = ends[np.append(starts, text_ends[-1:])].tolist()
    return [data[begin:end] for begin, end in pairwise(bounds)]


def encode_polygons(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> bytes:
    """Compressed text of the union of polygons, each ``[x0, y0, x1, y1, ...]``, that have been checked.

    It may hold runs of length zero.
    """
    merged: dict[str, Any] = coco_mask.merge(coco_mask.frPyObjects([list(p) for p in polygons], *size))
    return bytes(merged["counts"])
