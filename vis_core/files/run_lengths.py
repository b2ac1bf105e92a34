"""COCO run lengths from files: checked before any C code sees them, and brought to one form.

A mask is kept as COCO's compressed text (bytes) without runs of length zero inside. The text holds one number a run,
in groups of five bits, low group first, each group a character from '0' (0) to 'o' (63) whose bit 32 says that more
follow and whose bit 16, in the last group, carries the sign; from the fourth run on the number is the difference to
the run two before. Source: pycocotools ``maskApi.c`` (``rleToString``), which documents the format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
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


def check_texts(texts: Sequence[bytes], pixels: npt.NDArray[np.int64]) -> CheckedTexts:
    """Decode many compressed run lengths at once and check them.

    Args:
        texts: ``N`` compressed run lengths.
        pixels: int64 ``[N]``, pixels of the image of each, below 2**31.
    """
    count = len(texts)
    status = np.zeros(count, np.int8)
    areas = np.zeros(count, np.int64)
    sums = np.zeros(count, np.int64)
    zero_inside = np.zeros(count, np.bool_)
    lengths = np.fromiter(map(len, texts), np.int64, count)
    status[lengths == 0] = EMPTY
    filled = np.flatnonzero(lengths)
    if not filled.size:
        return CheckedTexts(status, areas, sums, zero_inside)
    lengths = lengths[filled]
    found = np.zeros(filled.size, np.int8)

    codes = _codes(b"".join(texts))
    text_ends = lengths.cumsum()
    ends = codes < 32
    bad = codes > 63
    if bad.any():
        found[np.searchsorted(text_ends, np.flatnonzero(bad), side="right")] = BAD_CHARACTER
    found[(found == GOOD) & ~ends[text_ends - 1]] = CUT_OFF
    ends[text_ends - 1] = True  # a text that is cut off must not run into the next one

    numbers, last, groups = _numbers(codes, ends)
    counts = np.diff(np.searchsorted(last, text_ends), prepend=0)
    if groups.max() > _MAX_GROUPS:
        owner = np.searchsorted(text_ends, last[groups > _MAX_GROUPS], side="right")
        found[owner] = np.where(found[owner] == GOOD, TOO_LARGE, found[owner])

    table, rows = _runs(numbers, counts)
    if table.min() < 0:
        owner = np.searchsorted(rows, np.flatnonzero(table.min(axis=1) < 0), side="right") - 1
        found[owner] = np.where(found[owner] == GOOD, NEGATIVE, found[owner])
    areas[filled] = np.add.reduceat(table[:, 1], rows, dtype=np.int64)
    sums[filled] = np.add.reduceat(table[:, 0], rows, dtype=np.int64) + areas[filled]
    found[(found == GOOD) & (sums[filled] != pixels[filled])] = WRONG_SUM
    # A first run and the padding may be zero; whatever zero is left stands inside.
    may_be = (table[rows, 0] == 0).astype(np.int64) + (counts & 1)
    zero = table == 0
    if np.count_nonzero(zero) > may_be.sum():
        zero_inside[filled] = np.add.reduceat(zero.sum(axis=1), rows) > may_be
    status[filled] = found
    return CheckedTexts(status, areas, sums, zero_inside)


def _codes(text: bytes) -> npt.NDArray[np.uint8]:
    """The number of each character; those that are none of the code are above 63."""
    return np.frombuffer(text, np.uint8) - np.uint8(_FIRST_CHARACTER)


def _numbers(
    codes: npt.NDArray[np.uint8], ends: npt.NDArray[np.bool_]
) -> tuple[Integers, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The signed numbers of concatenated texts, the character where each ends, and its number of groups.

    They come in 32 bits where all fit in 30: the runs, taken modulo 2**32, are then right where they are between 0
    and 2**31, and negative elsewhere.
    """
    last = np.flatnonzero(ends)
    groups = np.diff(last, prepend=-1)
    wide = groups.size > 0 and groups.max() >= _MAX_GROUPS
    high = codes[last].astype(np.int64 if wide else np.int32)
    # The last group carries the sign; most numbers are that one group.
    numbers = high - ((high & 16) << 1)
    more = np.flatnonzero(groups > 1)
    at = last[more]
    for _ in range(1, _MAX_GROUPS):
        if not more.size:
            break
        at = at - 1
        numbers[more] = (numbers[more] << 5) | (codes[at] & 31)
        still = at > last[more] - groups[more] + 1
        more, at = more[still], at[still]
    return numbers, last, groups


def _runs(numbers: Integers, counts: npt.NDArray[np.int64]) -> tuple[Integers, npt.NDArray[np.int64]]:
    """Undo the differences.

    Args:
        numbers: of all texts.
        counts: int64 ``[N]``, numbers of each text.

    Returns:
        table: ``[R, 2]``, background and foreground by turns, the rows of a text together, padded with a zero.
        rows: int64 ``[N]``, the first row of each text.
    """
    heights = (counts + 1) >> 1
    row_ends = heights.cumsum()
    rows = row_ends - heights
    odd = np.flatnonzero(counts & 1)
    padded: npt.NDArray[Any] = np.insert(numbers, counts.cumsum()[odd], 0) if odd.size else numbers.copy()
    table = padded.reshape(-1, 2)
    leading = table[rows, 0]
    table[rows, 0] = 0
    for column in (0, 1):
        total = table[:, column].cumsum(dtype=table.dtype)
        total -= np.repeat(total[rows] - table[rows, column], heights)
        table[:, column] = total
    table[rows, 0] = leading
    table[row_ends[odd] - 1, 1] = 0
    return table, rows


def decode_text(text: bytes) -> npt.NDArray[np.int64]:
    """The runs of one compressed text that has been checked."""
    codes = _codes(text)
    numbers, last, _ = _numbers(codes, codes < 32)
    table, _ = _runs(numbers, np.array([last.size]))
    return table.ravel()[: last.size].astype(np.int64)


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


def encode_runs(runs: Sequence[Sequence[int]]) -> list[bytes]:
    """Compressed texts of many masks, each given as runs below 2**31."""
    lengths = np.fromiter(map(len, runs), np.int64, len(runs))
    flat = np.fromiter(chain.from_iterable(runs), np.int64, int(lengths.sum()))
    text_ends = lengths.cumsum()
    starts = text_ends - lengths
    numbers = flat.copy()
    numbers[2:] -= flat[:-2]
    for position in range(3):
        first = starts[lengths > position] + position
        numbers[first] = flat[first]
    magnitude = np.where(numbers < 0, ~numbers, numbers)
    groups = np.ones(numbers.size, np.int64)
    for group in range(1, _MAX_GROUPS):
        groups += magnitude >= 1 << (5 * group - 1)
    ends = groups.cumsum()
    codes = np.empty(int(ends[-1]) if ends.size else 0, np.uint8)
    at = np.arange(numbers.size)
    for group in range(_MAX_GROUPS):
        if not at.size:
            break
        more = groups[at] > group + 1
        codes[ends[at] - groups[at] + group] = _FIRST_CHARACTER + ((numbers[at] >> (5 * group)) & 31) + 32 * more
        at = at[more]
    data = codes.tobytes()
    bounds = np.concatenate(([0], ends))[np.concatenate((starts, text_ends[-1:]))].tolist()
    return [data[begin:end] for begin, end in pairwise(bounds)]


def encode_polygons(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> bytes:
    """Compressed text of the union of polygons, each ``[x0, y0, x1, y1, ...]``, that have been checked.

    It may hold runs of length zero.
    """
    merged: dict[str, Any] = coco_mask.merge(coco_mask.frPyObjects([list(p) for p in polygons], *size))
    return bytes(merged["counts"])
