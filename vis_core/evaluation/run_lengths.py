"""COCO run lengths from files: checked before any C code sees them, and brought to one form.

A mask is kept as COCO's compressed text (bytes) without runs of length zero inside. The text holds one number a run,
in groups of five bits, low group first, each group a character from '0' (0) to 'o' (63) whose bit 32 says that more
follow and whose bit 16, in the last group, carries the sign; from the fourth run on the number is the difference to
the run two before. Source: pycocotools ``maskApi.c`` (``rleToString``), which documents the format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

GOOD, EMPTY, BAD_CHARACTER, CUT_OFF, TOO_LARGE, NEGATIVE, WRONG_SUM = range(7)
REASONS = {
    EMPTY: "are empty",
    BAD_CHARACTER: "hold a character outside '0' to 'o'",
    CUT_OFF: "end in the middle of a number",
    TOO_LARGE: "hold a run that no image has",
    NEGATIVE: "hold a negative run",
}
# Seven groups of five bits hold any difference of two runs of an image below 2**31 pixels.
_MOST_GROUPS = 7
# Most pixels of an image: pycocotools keeps runs in 32 bits.
MOST_PIXELS = 2**31 - 1


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

    codes = np.frombuffer(b"".join(texts), np.uint8) - np.uint8(48)
    text_ends = lengths.cumsum()
    ends = codes < 32
    bad = codes > 63
    if bad.any():
        found[np.searchsorted(text_ends, np.flatnonzero(bad), side="right")] = BAD_CHARACTER
    found[(found == GOOD) & ~ends[text_ends - 1]] = CUT_OFF
    ends[text_ends - 1] = True  # a text that is cut off must not run into the next one

    numbers, last, groups = _numbers(codes, ends)
    owner = np.searchsorted(text_ends, last, side="right")
    long = groups > _MOST_GROUPS
    if long.any():
        bad_owner = owner[long]
        found[bad_owner] = np.where(found[bad_owner] == GOOD, TOO_LARGE, found[bad_owner])

    runs, rows, real = _runs(numbers, owner, filled.size)
    negative = runs < 0
    if negative.any():
        bad_owner = np.searchsorted(rows, np.flatnonzero(negative.any(axis=1)), side="right") - 1
        found[bad_owner] = np.where(found[bad_owner] == GOOD, NEGATIVE, found[bad_owner])
    areas[filled] = np.add.reduceat(runs[:, 1], rows)
    sums[filled] = np.add.reduceat(runs[:, 0], rows) + areas[filled]
    found[(found == GOOD) & (sums[filled] != pixels[filled])] = WRONG_SUM
    zero = (runs == 0) & real
    zero[rows, 0] = False
    zero_rows = zero.any(axis=1)
    if zero_rows.any():
        at = np.searchsorted(rows, np.flatnonzero(zero_rows), side="right") - 1
        zero_inside[filled[at]] = True
    status[filled] = found
    return CheckedTexts(status, areas, sums, zero_inside)


def _numbers(
    codes: npt.NDArray[np.uint8], ends: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The signed numbers of concatenated texts, the character where each ends, and its number of groups."""
    last = np.flatnonzero(ends)
    groups = np.diff(last, prepend=-1)
    first = last - groups + 1
    numbers = (codes[first] & 31).astype(np.int64)
    more = np.flatnonzero(groups > 1)
    for group in range(1, _MOST_GROUPS):
        if not more.size:
            break
        numbers[more] |= (codes[first[more] + group] & 31).astype(np.int64) << (5 * group)
        more = more[groups[more] > group + 1]
    sign = (codes[last] & 16) != 0
    numbers[sign] -= np.int64(1) << (5 * np.minimum(groups[sign], _MOST_GROUPS))
    return numbers, last, groups


def _runs(
    numbers: npt.NDArray[np.int64], owner: npt.NDArray[np.intp], count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Undo the differences.

    Returns:
        runs: int64 ``[R, 2]``, background and foreground by turns, the rows of a text together, padded with a zero.
        rows: int64 ``[count]``, the first row of each text.
        real: bool ``[R, 2]``, False at the padding.
    """
    counts = np.bincount(owner, minlength=count)
    heights = (counts + 1) // 2
    row_ends = heights.cumsum()
    rows = row_ends - heights
    shift = 2 * rows - (counts.cumsum() - counts)
    flat = np.zeros(2 * int(row_ends[-1]), np.int64)
    at = np.arange(numbers.size) + shift[owner]
    flat[at] = numbers
    table = flat.reshape(-1, 2)
    leading = table[rows, 0].copy()
    table[rows, 0] = 0
    total = table.cumsum(axis=0)
    base = total[rows] - table[rows]
    runs = total - np.repeat(base, heights, axis=0)
    runs[rows, 0] = leading
    real = np.ones(flat.size, np.bool_)
    odd = counts % 2 == 1
    real[2 * row_ends[odd] - 1] = False
    real_runs = real.reshape(-1, 2)
    runs[~real_runs] = 0
    return runs, rows, real_runs


def decode_text(text: bytes) -> npt.NDArray[np.int64]:
    """The runs of one compressed text that has been checked."""
    codes = np.frombuffer(text, np.uint8) - np.uint8(48)
    numbers, last, _ = _numbers(codes, codes < 32)
    runs, _, real = _runs(numbers, np.zeros(last.size, np.intp), 1)
    return runs[real]


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


def encode_runs(runs: npt.NDArray[np.int64], size: tuple[int, int]) -> bytes:
    """Compressed text of runs that sum to the pixels of the image."""
    encoded = coco_mask.frPyObjects({"size": list(size), "counts": runs.tolist()}, *size)
    return bytes(encoded["counts"])


def encode_polygons(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> tuple[bytes, int]:
    """Compressed text and area of the union of polygons, each ``[x0, y0, x1, y1, ...]``, that have been checked."""
    merged: dict[str, Any] = coco_mask.merge(coco_mask.frPyObjects([list(p) for p in polygons], *size))
    text = bytes(merged["counts"])
    checked = check_texts([text], np.array([size[0] * size[1]], np.int64))
    if checked.zero_inside[0]:
        text = encode_runs(merge_zero_runs(decode_text(text)), size)
    return text, int(checked.areas[0])
