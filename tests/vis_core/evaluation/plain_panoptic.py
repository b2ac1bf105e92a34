"""The panoptic scores once more, from their papers' definitions alone: sets of pixels, slow and plain; random videos.

A video is a pair of int arrays ``[T, H, W]``, ground truth and result, of ``class << 16 | number``.
"""

from __future__ import annotations

import math

import numpy as np

from vis_core.data.panoptic_classes import PanopticClasses
from vis_core.files.panoptic_images import encode_panoptic

VOID = 255
CLASSES = PanopticClasses({0: "road", 1: "sky", 4: "person", 7: "car", 200: "bird"}, frozenset({4, 7}))


def pixels(video):
    """The set of pixels (t, y, x) of each segment; those of void all together."""
    sets = {}
    for at, value in np.ndenumerate(video):
        class_, number = int(value) >> 16, int(value) & 0xFFFF
        sets.setdefault((class_, 0 if class_ == VOID else number), set()).add(at)
    return sets


def stq(videos, classes=CLASSES):
    """STQ, AQ, SQ and the IoU of each class."""
    qualities, common, union = [], dict.fromkeys(classes.names, 0), dict.fromkeys(classes.names, 0)
    for truth, result in videos:
        true_sets, sets = pixels(truth), pixels(result)
        void = true_sets.get((VOID, 0), set())
        crowds = set().union(*(true_sets.get((c, 0), set()) for c in classes.things))
        tracks = [s for (c, number), s in true_sets.items() if c in classes.things and number]
        answered = [s - crowds for (c, _), s in sets.items() if c in classes.things]
        for g in tracks:
            quality = 0.0
            for p in answered:
                tpa, fpa, fna = len(p & g), len(p - g), len(g - p)
                quality += tpa * (tpa / (tpa + fpa + fna))
            qualities.append(quality / len(g))
        for c in classes.names:
            of_truth = set().union(*(s for (k, _), s in true_sets.items() if k == c))
            of_result = set().union(*(s for (k, _), s in sets.items() if k == c)) - void
            common[c] += len(of_truth & of_result)
            union[c] += len(of_truth | of_result)
    ious = {c: common[c] / union[c] if union[c] else -1 for c in classes.names}
    aq, sq = mean(qualities), mean([iou for iou in ious.values() if iou != -1])
    return (-1 if -1 in (aq, sq) else math.sqrt(aq * sq)), aq, sq, ious


def vpq(videos, n, classes=CLASSES):
    """VPQ of windows of n frames of each class, -1 where it does not occur."""
    counts = {c: [0.0, 0, 0, 0] for c in classes.names}  # sum of IoU, TP, FP, FN
    for truth, result in videos:
        for t in range(len(truth) - n + 1):
            match(pixels(truth[t : t + n]), pixels(result[t : t + n]), classes, counts)
    return {c: iou / (tp + fp / 2 + fn / 2) if tp + fp + fn else -1 for c, (iou, tp, fp, fn) in counts.items()}


def match(true_tubes, tubes, classes, counts):
    void = true_tubes.pop((VOID, 0), set())
    tubes.pop((VOID, 0), None)
    crowds = {c: true_tubes.pop((c, 0), set()) for c in classes.things}
    matched = set()
    for (c, _), g in true_tubes.items():
        for key, tube in tubes.items():
            p = tube - void
            iou = len(p & g) / len(p | g)
            if key[0] == c and iou > 0.5:
                assert key not in matched, "two true tubes overlap one by more than half"
                matched.add(key)
                counts[c][0] += iou
                counts[c][1] += 1
                break
        else:
            counts[c][3] += 1
    for key, p in tubes.items():
        ignored = void | crowds.get(key[0], set())
        if key not in matched and len(p & ignored) / len(p) <= 0.5:
            counts[key[0]][2] += 1


def mean(values):
    return sum(values) / len(values) if values else -1


def scores(videos, windows, classes=CLASSES):
    """Summary and scores per category, under the names of the evaluation."""
    total, aq, sq, ious = stq(videos, classes)
    per_window = {n: vpq(videos, n, classes) for n in windows}
    summary = {"STQ": total, "AQ": aq, "SQ": sq}
    kinds = {"": set(classes.names), "_things": classes.things, "_stuff": set(classes.names) - classes.things}
    for kind, chosen in kinds.items():
        of_kind = {n: mean([v for c, v in of.items() if c in chosen and v != -1]) for n, of in per_window.items()}
        summary |= {f"VPQ_{n}{kind}": value for n, value in of_kind.items()}
        summary[f"VPQ{kind}"] = mean([value for value in of_kind.values() if value != -1])
    per_category = {}
    for c in classes.names:
        of_windows = {f"VPQ_{n}": per_window[n][c] for n in windows}
        average = mean([value for value in of_windows.values() if value != -1])
        per_category[c] = {"IoU": ious[c], "VPQ": average, **of_windows}
    return summary, per_category


def random_video(rng):
    """Ground truth with stuff, things that move, crowds, void; a result that is like it, more or less."""
    frames, height, width = (int(x) for x in rng.integers((1, 2, 2), (8, 9, 10)))
    truth = np.empty((frames, height, width), np.int64)
    things = [(int(rng.choice([4, 7])), int(rng.integers(0, 4))) for _ in range(rng.integers(0, 6))]  # 0: a crowd
    boxes = [(*rng.integers(0, (height, width)), *rng.integers(1, 5, 2), *rng.integers(-1, 2, 2)) for _ in things]
    horizon = rng.integers(0, height + 1)
    for t, image in enumerate(truth):
        image[:horizon], image[horizon:] = 1 << 16, 0
        if rng.random() < 0.15:
            image[:] = VOID << 16  # nothing is known of this frame
            continue
        for (c, number), (y, x, h, w, down, right) in zip(things, boxes):
            y, x = max(0, y + down * t), max(0, x + right * t)
            image[y : y + h, x : x + w] = c << 16 | number
        image[rng.random(image.shape) < rng.choice([0, 0.1, 0.5])] = VOID << 16
    result = truth.copy()
    for value in np.unique(truth):
        c, number = int(value) >> 16, int(value) & 0xFFFF
        other = rng.random()
        if c == VOID:
            chosen = [VOID << 16, VOID << 16 | 9, 0, 4 << 16 | 1, 7 << 16, 200 << 16][rng.integers(6)]
        elif c in CLASSES.things:
            of_class = 11 - c if other < 0.2 else c  # the other thing
            chosen = 1 << 16 if other > 0.9 else of_class << 16 | (number + int(rng.integers(0, 2)))
        else:
            chosen = value if other < 0.8 else 200 << 16
        since = rng.integers(0, frames) if other < 0.5 else 0
        result[since:][truth[since:] == value] = chosen
    noise = rng.random(result.shape) < rng.choice([0, 0.05, 0.3])
    result[noise] = rng.choice([0, 1 << 16, 4 << 16 | 2, 7 << 16 | 1, VOID << 16], noise.sum())
    result[rng.random(frames) < 0.1] = VOID << 16  # an empty answer
    return truth, result


def write(folder, images, numbers=None):
    """A video as PNGs, of frames 0, 1, ... or of these numbers; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in zip(numbers or range(len(images)), np.asarray(images)):
        png = encode_panoptic((image >> 16).astype(np.uint8), (image & 0xFFFF).astype(np.uint16))
        (folder / f"{number:06d}.png").write_bytes(png)
    return folder
