"""Are identities kept better by matching graphs than by plain assignment, and what does a frame cost?

    OMP_NUM_THREADS=1 python benchmarks/graph_matching.py [--scenes 40]

Nothing but boxes, scores, classes and embeddings of made scenes is linked: nine identities, eight of them in pairs that
look nearly alike, walk about; the camera jumps four times, and each is hidden once, for 3 to 14 frames. Detections are
all there, or some are missed and others are of nothing; then some have a wrong class too. All ways see the same scenes,
so that the differences to plain assignment (weight 0) are of pairs; after each mean stands its standard error over the
scenes. Times are CPU time of the association alone.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from conditions import Quick, tell
from rich.console import Console
from rich.table import Table

from vis_core import masks as run_lengths
from vis_core.evaluation import evaluate
from vis_core.files.results_writer import ResultsWriter
from vis_core.masks import RunLengths
from vis_core.structures import Frame, Instances
from vis_core.tracking.associator import Window
from vis_core.tracking.graph_association import Detections, GraphAssociator
from vis_core.tracking.lifecycle import TrackLifecycle

SIZE = HEIGHT, WIDTH = 360, 640
LENGTH, IDENTITIES, CLASSES, EMBEDDING = 60, 9, 3, 32
OWN_LOOK, LOOK_NOISE, PLACE_NOISE = 0.5, 0.9, 2.0  # two of a pair differ by the first; lengths beside a unit vector
JUMPS, JUMP = 4, (40, 120)  # of the camera, in a scene; pixels
ABSENCE = (3, 14)
WAYS: dict[str, dict[str, Any]] = {
    "plain assignment": {"edge_weight": 0.0},
    "graph, weight 0.5": {"edge_weight": 0.5},
    "graph, weight 1": {},
    "graph, weight 2": {"edge_weight": 2.0},
    "graph, weight 4": {"edge_weight": 4.0},
    "graph, weight 1, not pruned": {"prune": False},
    "graph, weight 1, of the class alone": {"class_aware": True},
}
CONDITIONS: dict[str, tuple[Any, ...]] = {
    "all detected, nothing else": (0.0, 0.0, 0.0),
    "5 % missed, 5 % false": (0.05, 0.05, 0.0),
    "and 10 % in a wrong class": (0.05, 0.05, 0.1),
    "5 % missed, 5 % false, twice as many jumps": (0.05, 0.05, 0.0, 2 * JUMPS),
}
METRICS = {"IDSW": 1, "IDF1": 100, "HOTA": 100}


@dataclass(frozen=True, eq=False)
class Scene:
    """What is to be found, and what is detected.

    Attributes:
        boxes: where each identity is in each frame ``[T, N, 4]``.
        visible: bool ``[T, N]``.
        detections: of each frame.
    """

    boxes: npt.NDArray[np.float64]
    visible: npt.NDArray[np.bool_]
    detections: list[Detections]


def made_scene(
    seed: int,
    identities: int = IDENTITIES,
    missed: float = 0.0,
    false: float = 0.0,
    flicker: float = 0.0,
    jumps: int = JUMPS,
    absent: bool = True,
) -> Scene:
    """A scene.

    Args:
        seed: of all that is random.
        identities: their number.
        missed: share of the detections.
        false: detections of nothing, for each identity and frame.
        flicker: share of the detections in a wrong class.
        jumps: of the camera.
        absent: whether each identity is hidden once.
    """
    random = np.random.default_rng(seed)
    boxes = _places(random, identities, jumps)
    visible = np.ones((LENGTH, identities), np.bool_)
    for identity in range(identities):
        length = random.integers(ABSENCE[0], ABSENCE[1] + 1)
        first = random.integers(5, LENGTH - length - 5)
        visible[first : first + length, identity] = not absent
    pairs = np.arange(identities) // 2
    looks = _unit(random.standard_normal((identities, EMBEDDING)))[pairs]
    looks = _unit(looks + OWN_LOOK * _unit(random.standard_normal(looks.shape)))
    detections = []
    for t in range(LENGTH):
        rows = np.flatnonzero(visible[t] & (random.random(identities) >= missed))
        count, others = len(rows), int((random.random(identities) < false).sum())
        strays = _boxes(random.uniform(0, (WIDTH, HEIGHT), (others, 2)), random.uniform(30, 70, (others, 2)))
        found = np.concatenate((boxes[t, rows] + random.normal(0, PLACE_NOISE, (count, 4)), strays))
        seen = np.concatenate((looks[rows], _unit(random.standard_normal((others, EMBEDDING)))))
        seen = _unit(seen + LOOK_NOISE * _unit(random.standard_normal(seen.shape)))
        labels = np.concatenate((pairs[rows], random.integers(0, CLASSES, others))) % CLASSES
        wrong = random.random(len(labels)) < flicker
        labels = (labels + wrong * random.integers(1, CLASSES, len(labels))) % CLASSES
        classes = np.zeros((len(labels), CLASSES))
        scores = np.concatenate((random.uniform(0.6, 1, count), random.uniform(0.3, 0.7, others)))
        classes[np.arange(len(labels)), labels] = scores
        order = random.permutation(len(labels))
        detections.append(Detections(found[order], classes[order], torch.from_numpy(seen[order]).float()))
    return Scene(boxes, visible, detections)


def _places(random: np.random.Generator, identities: int, jumps: int) -> npt.NDArray[np.float64]:
    """Boxes of all identities in all frames ``[T, N, 4]``: smooth paths within the picture, and jumps of the camera."""
    margin = np.array((60, 50))
    centre = random.uniform(margin, (WIDTH, HEIGHT) - margin, (identities, 2))
    speed = random.normal(0, 3, (identities, 2))
    sides = random.uniform(35, 65, (identities, 2))
    at = random.choice(np.arange(5, LENGTH), jumps, replace=False)
    camera, frames = np.zeros(2), []
    for t in range(LENGTH):
        speed = 0.95 * speed + random.normal(0, 0.9, speed.shape)
        centre = centre + speed
        outside = (centre < margin) | (centre > (WIDTH, HEIGHT) - margin)
        speed = np.where(outside, np.abs(speed) * np.sign((WIDTH / 2, HEIGHT / 2) - centre), speed)
        if t in at:
            angle = random.uniform(0, 2 * np.pi)
            camera = random.uniform(*JUMP) * np.array((np.cos(angle), np.sin(angle))) - camera / 2
        frames.append(_boxes(centre + camera, sides))
    return np.array(frames)


def _boxes(centres: npt.NDArray[np.float64], sides: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate((centres - sides / 2, centres + sides / 2), 1)


def _unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def filled(box: npt.NDArray[np.float64]) -> RunLengths:
    """A box as a mask, as far as it lies in the picture."""
    x1, y1, x2, y2 = np.clip(np.round(box), 0, (WIDTH, HEIGHT, WIDTH, HEIGHT)).astype(int).tolist()
    if x1 >= x2 or y1 >= y2:
        return RunLengths(SIZE)
    return run_lengths.from_box(SIZE, (x1, y1, x2 - x1, y2 - y1), [0, (x2 - x1) * (y2 - y1)])


def linked(scene: Scene, associator: GraphAssociator[Detections]) -> tuple[list[Instances], list[float]]:
    """The tracks of a scene, and the seconds of each frame."""
    lifecycle, answers, seconds = TrackLifecycle(), [], []
    for t, found in enumerate(scene.detections):
        window, masks = Window(t, 1, SIZE), [filled(box) for box in found.boxes]
        associator.forget(lifecycle.expire())
        start = time.process_time()
        rows, continues = associator.associate(found, window, lifecycle)
        taken = time.process_time() - start
        scores = found.class_scores[rows]
        frame = Frame(np.broadcast_to(np.zeros((), np.uint8), (*SIZE, 3)), t, t)
        instances = lifecycle.update(frame, continues, scores.max(1), scores, [masks[row] for row in rows])
        ids: list[int | None] = [None] * len(masks)
        for row, track_id in zip(rows, instances.track_ids.tolist()):
            ids[row] = track_id
        start = time.process_time()
        associator.remember(ids, found, window)
        seconds.append(taken + time.process_time() - start)
        answers.append(instances)
    return answers, seconds


def truth(scenes: Sequence[Scene]) -> dict[str, Any]:
    """The scenes as a file of YouTube-VIS."""
    videos, annotations = [], []
    for number, scene in enumerate(scenes, 1):
        names = [f"{number}/{t}.jpg" for t in range(LENGTH)]
        videos.append({"id": number, "width": WIDTH, "height": HEIGHT, "length": LENGTH, "file_names": names})
        for identity in range(scene.boxes.shape[1]):
            masks = [
                filled(box) if seen else None for box, seen in zip(scene.boxes[:, identity], scene.visible[:, identity])
            ]
            masks = [mask if mask is not None and mask.area else None for mask in masks]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "video_id": number,
                    "category_id": 1,
                    "iscrowd": 0,
                    "segmentations": [None if mask is None else run_lengths.to_coco(mask) for mask in masks],
                    "areas": [None if mask is None else mask.area for mask in masks],
                    "bboxes": [None if mask is None else list(mask.box) for mask in masks],
                }
            )
    categories = [{"id": i + 1, "name": f"class {i + 1}"} for i in range(CLASSES)]
    return {"videos": videos, "annotations": annotations, "categories": categories}


def scores(scenes: Sequence[Scene], answers: dict[str, Any], options: dict[str, Any]) -> npt.NDArray[np.float64]:
    """By scene, in the order of `METRICS`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        with ResultsWriter(path) as results:
            for number, scene in enumerate(scenes, 1):
                for instances in linked(scene, GraphAssociator(**options))[0]:
                    results.add(number, instances.index, instances)
                results.finish_video(number, LENGTH)
        by_video = evaluate(answers, str(path), ("hota", "clear", "identity"), class_agnostic=True).per_video
    numbers = range(1, len(scenes) + 1)
    return np.array([[factor * by_video[i][name] for name, factor in METRICS.items()] for i in numbers])


def with_error(values: npt.NDArray[np.float64], sign: str = "") -> str:
    """Mean and standard error."""
    return f"{values.mean():{sign}.2f} ± {values.std(ddof=1) / len(values) ** 0.5:.2f}"


def milliseconds(count: int, weight: float) -> float:
    """CPU time of a frame of so many instances: the median of some frames."""
    scene = made_scene(0, count, absent=False)
    return 1e3 * float(np.median(linked(scene, GraphAssociator(weight, max_tracks=count))[1][5:]))


def main(
    scenes: Annotated[int, typer.Option(min=2, help="of each kind")] = 40,
    first: Annotated[int, typer.Option(min=0, help="seed of the first one")] = 0,
    quick: Quick = False,
) -> None:
    """Link, score, and measure."""
    scenes = 2 if quick else scenes
    torch.set_num_threads(1)
    console = Console(width=160)
    for title, settings in list(CONDITIONS.items())[: 1 if quick else None]:
        some = [made_scene(seed, IDENTITIES, *settings) for seed in range(first, first + scenes)]
        answers, table = truth(some), Table("linked by", title=f"{title}: {scenes} scenes")
        for column in (*METRICS, *(f"{name}, less plain" for name in METRICS)):
            table.add_column(column, justify="right")
        plain: npt.NDArray[np.float64] | None = None
        for way, options in WAYS.items():
            tell(f"{title}: {way}")
            values = scores(some, answers, options)
            differences = [] if plain is None else [with_error(x, "+") for x in (values - plain).T]
            plain = values if plain is None else plain
            table.add_row(way, *map(with_error, values.T), *differences)
        console.print(table)
    table = Table("instances", "plain, ms a frame", "graph, ms a frame")
    for count in (10,) if quick else (10, 50, 100):
        table.add_row(str(count), *(f"{milliseconds(count, weight):.1f}" for weight in (0.0, 1.0)))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
