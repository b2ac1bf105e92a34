"""The demo's second half: answers with faults of known kinds, and the scores that tell them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from vis_core import masks
from vis_core.data.synthetic import CLASS_NAMES, SyntheticVideo, write_youtube_vis
from vis_core.files.results_writer import ResultsWriter
from vis_core.masks import RunLengths
from vis_core.structures import Instances
from vis_core.video.images import write_image
from vis_core.video.overlay import contact_sheet, draw_overlay

FAULTS = (
    "outlines that are a little too wide, an object that is not seen for a while, two that exchange their numbers, and "
    "one that is not there"
)
_SCORES = np.array([0.95, 0.9, 0.85, 0.8, 0.75], np.float32)
_GROWTH = 3  # pixels across, of the element that a mask is dilated by
_PICTURES = 6


def write_scene(scene: SyntheticVideo, folder: Path) -> tuple[Path, Path, Path]:
    """A scene as a data set, and answers to it with faults.

    Args:
        scene: with its ground truth.
        folder: where to write.

    Returns:
        The ground truth in YouTube-VIS form, its frames in ``frames`` beside it; the answers, a result file; and a
        picture of them: above the truth, below what was answered.
    """
    truth, found = scene.instances(), disturbed(scene.instances())
    path = write_youtube_vis([scene], folder)
    with ResultsWriter(folder / "answers.json") as results:
        for answer in found:
            results.add(1, answer.index, answer)
    chosen = np.linspace(0, len(scene) - 1, _PICTURES // 2 + 1).round().astype(int)[1:]
    pictures = [draw_overlay(scene.frames[t], kind[t], CLASS_NAMES) for kind in (truth, found) for t in chosen]
    titles = [f"{what}, frame {t}" for what in ("truth", "answer") for t in chosen]
    picture = folder / "answers.png"
    write_image(picture, contact_sheet(pictures, _PICTURES // 2, titles))
    return path, results.path, picture


def disturbed(answers: Sequence[Instances]) -> list[Instances]:
    """Answers with `FAULTS` put in; two tracks are of one class, and there is a third."""
    labels = {i: label for answer in answers for i, label in zip(answer.track_ids.tolist(), answer.labels.tolist())}
    pairs = ((a, b) for a in labels for b in labels if a < b and labels[a] == labels[b])
    first, second = next(pairs)
    third = next(i for i in labels if i not in (first, second))
    exchanged = {first: second, second: first}
    length, out = len(answers), []
    for t, answer in enumerate(answers):
        seen = answer[answer.visible]
        if t >= 2 * length // 3:
            seen = replace(seen, track_ids=np.array([exchanged.get(i, i) for i in seen.track_ids.tolist()], np.int64))
        if length // 3 <= t < length // 2:
            seen = seen[seen.track_ids != third]
        scores = _SCORES[seen.track_ids % len(_SCORES)]
        seen = replace(seen, masks=tuple(map(_wider, seen.masks)), scores=scores, track_scores=scores)
        out.append(_with_one_more(seen) if t < length // 4 and len(seen) else seen)
    return out


def _wider(mask: RunLengths) -> RunLengths:
    return masks.encode(cv2.dilate(mask.dense().view(np.uint8), np.ones((_GROWTH, _GROWTH), np.uint8)))


def _with_one_more(seen: Instances) -> Instances:
    """The first one a second time where nothing is, mirrored, doubtful and under a number of its own."""
    rows = [*range(len(seen)), 0]
    ids, scores = seen.track_ids[rows], seen.scores[rows]
    ids[-1], scores[-1] = 1000, 0.3
    mirrored = masks.encode(np.ascontiguousarray(seen.masks[0].dense()[::-1, ::-1]))
    return replace(seen[rows], track_ids=ids, scores=scores, track_scores=scores, masks=(*seen.masks, mirrored))
