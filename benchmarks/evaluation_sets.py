"""Ground truth and results made for benchmarks/evaluation.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

# Videos, frames, height, width, tracks a video, results a video.
SETS = {
    "base": (60, 40, 180, 320, 4.5, 33.2),
    "hd": (12, 40, 720, 1280, 4.5, 33.2),
    "long": (600, 40, 180, 320, 4.5, 33.2),
    "quick": (8, 12, 180, 320, 4.5, 33.2),
}
CATEGORIES = 20


def make_set(folder: Path, name: str, seed: int = 0) -> tuple[Path, Path]:
    """Write ground truth and results of wobbling blobs that drift, with results shifted, torn and invented."""
    videos, frames, height, width, tracks, results = SETS[name]
    random = np.random.default_rng(seed)
    ground_truth = {
        "videos": [],
        "categories": [{"id": k + 1, "name": f"class_{k + 1}"} for k in range(CATEGORIES)],
        "annotations": [],
    }
    entries = []
    for number in range(1, videos + 1):
        folder_name = f"video_{number:04d}"
        names = [f"{folder_name}/{frame:05d}.jpg" for frame in range(frames)]
        size = {"width": width, "height": height, "length": frames}
        ground_truth["videos"].append({"id": number, "file_names": names, **size})
        true = []
        for _ in range(max(1, random.poisson(tracks))):
            blob = _blob(random, height, width)
            masks = _masks(random, blob, frames, height, width, gap=0.1)
            category = int(random.integers(1, CATEGORIES + 1))
            true.append((blob, category))
            plain = [None if mask is None else _uncompressed(mask) for mask in masks]
            areas = [None if mask is None else int(coco_mask.area(mask)) for mask in masks]
            ground_truth["annotations"].append(
                {
                    "id": len(ground_truth["annotations"]) + 1,
                    "video_id": number,
                    "category_id": category,
                    "iscrowd": 0,
                    "height": height,
                    "width": width,
                    "segmentations": plain,
                    "areas": areas,
                    "bboxes": [None] * frames,
                }
            )
        for _ in range(random.poisson(results)):
            if random.random() < 0.7:
                blob, category = true[random.integers(len(true))]
                blob = blob + random.normal(0, 0.03, blob.shape) * np.array([height, width, height, width, 0, 0, 0])
                category = category if random.random() < 0.6 else int(random.integers(1, CATEGORIES + 1))
            else:
                blob, category = _blob(random, height, width), int(random.integers(1, CATEGORIES + 1))
            masks = _masks(random, blob, frames, height, width, gap=0.2)
            text = [None if m is None else {"size": m["size"], "counts": m["counts"].decode()} for m in masks]
            entries.append(
                {"video_id": number, "category_id": category, "score": float(random.random()), "segmentations": text}
            )
    paths = folder / f"{name}_ground_truth.json", folder / f"{name}_results.json"
    for path, content in zip(paths, (ground_truth, entries)):
        path.write_text(json.dumps(content))
    return paths


def _blob(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Centre y and x, speed y and x over the video, radius, phase, wobble."""
    centre = random.uniform(0, 1, 2) * (height, width)
    speed = random.normal(0, 0.15, 2) * (height, width)
    return np.array([*centre, *speed, random.uniform(0.05, 0.25) * height, random.uniform(0, 6.28), 0.15])


def _masks(random: np.random.Generator, blob: np.ndarray, frames: int, height: int, width: int, gap: float) -> list:
    first, last = sorted(random.integers(0, frames, 2)) if random.random() < 0.3 else (0, frames - 1)
    masks = []
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    for frame in range(frames):
        if not first <= frame <= last or random.random() < gap:
            masks.append(None)
            continue
        y, x = blob[:2] + blob[2:4] * frame / frames
        radius = blob[4] * (1 + blob[6] * np.sin(3 * angles + blob[5] + frame / 5) + random.normal(0, 0.02, 40))
        points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1).clip(0, (width, height))
        mask = coco_mask.frPyObjects([points.ravel().tolist()], height, width)[0]
        masks.append(mask if coco_mask.area(mask) else None)
    return masks


def _uncompressed(mask: dict) -> dict:
    flat = coco_mask.decode(mask).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return {"size": mask["size"], "counts": [0, *runs] if flat[0] else runs}
