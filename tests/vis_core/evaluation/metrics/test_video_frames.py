"""Matches of a whole video at once, against frames taken one by one."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment

from vis_core.evaluation.inputs.tracks import Result, Track, group_by_category
from vis_core.evaluation.metrics.clear import matches
from vis_core.evaluation.metrics.overlaps import overlap
from vis_core.evaluation.metrics.video_frames import video_frames

SIZE = (16, 20)
FRAMES = 9


def masks_of(random: np.random.Generator, place: np.ndarray) -> tuple[tuple[bytes | None, ...], np.ndarray]:
    """A box that drifts, and its areas; without a mask now and then."""
    masks, areas = [], []
    for frame in range(FRAMES):
        dense = np.zeros(SIZE, np.uint8, order="F")
        y, x, height, width = place + np.array([0, frame // 3, 0, 0])
        dense[y : y + height, x : x + width] = 1
        shown = random.random() < 0.8
        masks.append(bytes(coco_mask.encode(dense)["counts"]) if shown else None)
        areas.append(int(dense.sum()) if shown else -1)
    return tuple(masks), np.array(areas)


def crowded(seed: int) -> tuple[list[Result], list[Track]]:
    """Tracks side by side, results that leave one for another, in few classes."""
    random = np.random.default_rng(seed)
    places = [np.array([*random.integers(0, 8, 2), *random.integers(3, 8, 2)]) for _ in range(5)]
    tracks, results = [], []
    for number, place in enumerate(places):
        masks, areas = masks_of(random, place)
        tracks.append(Track(number + 1, int(random.integers(1, 3)), False, masks, areas, float(areas.mean())))
    for number in range(14):
        parts = [
            masks_of(random, places[i] + np.array([0, random.integers(0, 2), 0, 0])) for i in random.integers(0, 5, 2)
        ]
        cut = int(random.integers(0, FRAMES))
        masks = parts[0][0][:cut] + parts[1][0][cut:]
        areas = np.concatenate([parts[0][1][:cut], parts[1][1][cut:]])
        results.append(Result(number, int(random.integers(1, 4)), 0.5, masks, areas))
    return results, tracks


def ious_of(results: list[Result], tracks: list[Track], frame: int) -> np.ndarray:
    ious = np.full((len(tracks), len(results)), -1.0)
    for i, track in enumerate(tracks):
        for j, result in enumerate(results):
            pair = [{"size": SIZE, "counts": item.masks[frame]} for item in (result, track)]
            if None not in (pair[0]["counts"], pair[1]["counts"]):
                ious[i, j] = coco_mask.iou(pair[:1], pair[1:], [0])[0, 0]
    return ious


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_overlaps_are_those_of_each_frame_and_class(seed, class_agnostic):
    results, tracks = crowded(seed)
    groups = group_by_category(results, tracks, class_agnostic=class_agnostic)
    found = overlap(results, tracks, SIZE, groups)
    rows = list(zip(found.frames.tolist(), found.results.tolist(), found.tracks.tolist(), found.ious.tolist()))
    expected = []
    for frame in range(FRAMES):
        ious = ious_of(results, tracks, frame)
        for j, i in zip(*np.nonzero(ious.T > 0)):
            if class_agnostic or results[j].category == tracks[i].category:
                expected.append((frame, j, i, ious[i, j]))
    assert expected
    assert rows == expected


@pytest.mark.parametrize("seed", range(30))
def test_matches_are_those_of_frame_after_frame(seed):
    results, tracks = crowded(seed)
    groups = group_by_category(results, tracks, class_agnostic=False)
    frames = video_frames(results, tracks, overlap(results, tracks, SIZE, groups), groups)
    pairs, goes_on = matches(frames)
    order_of_results = [i for rows, _ in groups.values() for i in rows]
    order_of_tracks = [j for _, columns in groups.values() for j in columns]
    found = {
        (frame, order_of_tracks[track], order_of_results[result], bool(on))
        for frame, track, result, on in zip(pairs.frames, pairs.tracks, pairs.results, goes_on, strict=True)
    }
    expected = set()
    for rows, columns in groups.values():
        before: dict[int, int] = {}
        for frame in range(FRAMES):
            seen_results = [i for i in rows if results[i].masks[frame]]
            seen_tracks = [j for j in columns if tracks[j].masks[frame]]
            if not seen_results or not seen_tracks:
                continue
            ious = ious_of([results[i] for i in seen_results], [tracks[j] for j in seen_tracks], frame)
            scores = np.where(ious >= 0.5 - np.finfo(float).eps, ious, 0)
            kept = np.array([[before.get(j) == i for i in seen_results] for j in seen_tracks])
            chosen = zip(*linear_sum_assignment(-(scores + 1000 * (kept & (scores > 0)))))
            now = {seen_tracks[a]: seen_results[b] for a, b in chosen if scores[a, b] > 0}
            expected |= {(frame, j, i, j in before) for j, i in now.items()}
            before = now
    assert expected
    assert found == expected
