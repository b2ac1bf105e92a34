"""Small synthetic scenes that a tiny network learns in minutes on a CPU, and how well its tracks outlive meetings."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from torch import Tensor, nn

from vis_core.data.clips import TrainingClip
from vis_core.data.synthetic import SyntheticVideo, synthetic_video, write_youtube_vis
from vis_core.evaluation import evaluate
from vis_core.files.results_writer import ResultsWriter
from vis_core.structures import Instances
from vis_core.system.segmenter import Segmenter
from vis_core.system.trainable import Trainable

CLASS_NAMES = ("shape",)  # one: names are what so small a network learns last, and identities must do without them
SIZE, OBJECTS, RADIUS = (64, 96), 3, (0.2, 0.28)
SCENES, UNSEEN, LENGTH = 320, 16, 32
CLIP, BATCH = 3, 4
METRICS = ("ap", "hota", "clear", "identity")
COLUMNS = ("AP", "AP50", "HOTA", "IDF1", "IDSW", "MOTA")


@dataclass(frozen=True)
class Part:
    """A part of a training.

    Attributes:
        name: of the part, and of the file of its state.
        steps: their number.
        rate: greatest learning rate.
        apart: frames from one of a clip to the next at most.
    """

    name: str
    steps: int
    rate: float
    apart: int


class TinyBackbone(nn.Module):
    """Three convolutions for each stride."""

    channels = (64, 96, 128, 128)

    def __init__(self) -> None:
        super().__init__()
        stages = []
        for inputs, outputs in pairwise((32, *self.channels)):
            stages.append(
                nn.Sequential(_convolution(inputs, outputs, 2), *(_convolution(outputs, outputs) for _ in range(2)))
            )
        self.stem, self.stages = _convolution(3, 32, 2), nn.ModuleList(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps at strides 4, 8, 16 and 32."""
        maps = [self.stem(images)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(8, outputs), nn.ReLU())


def scene(seed: int) -> SyntheticVideo:
    """A scene of three objects, whose paths cross about half-way through."""
    video = synthetic_video(seed, LENGTH, SIZE, OBJECTS, radius=RADIUS, name=f"scene{seed}")
    return replace(video, labels=np.zeros_like(video.labels))


def train(training: Trainable, part: Part, folder: Path, console: Console) -> None:
    """Do a part of a training from where it was stopped; what was learned is saved every 100 steps."""
    training.train()
    learning = [p for p in training.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, part.rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, part.rate, part.steps, pct_start=0.1)
    learned: dict[str, Any] = {"network": training.network, "optimizer": optimizer, "schedule": schedule}
    path, done, seconds = folder / f"{part.name}.pt", 0, 0.0
    if path.is_file():
        state = torch.load(path, weights_only=True)
        for name, holder in learned.items():
            holder.load_state_dict(state[name])
        done, seconds = state["done"], state["seconds"]
    known = cache(scene)
    began, sums = time.process_time() - seconds, dict[str, float]()
    for step in range(done, part.steps):
        random = np.random.default_rng(step)
        torch.manual_seed(step)
        clips = [sample(known(int(random.integers(SCENES))), part.apart, random) for _ in range(BATCH)]
        parts = training(clips, lambda x: x)
        optimizer.zero_grad()
        torch.stack(list(parts.values())).sum().backward()
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()
        sums = {name: sums.get(name, 0.0) + loss.item() for name, loss in parts.items()}
        if (step + 1) % 100 == 0 or step + 1 == part.steps:
            count, seconds = step % 100 + 1, time.process_time() - began
            means = {name: f"{total / count:.4f}" for name, total in sums.items()}
            log(folder / "log.csv", {"part": part.name, "step": step + 1, "cpu_seconds": f"{seconds:.0f}", **means})
            console.print(f"{part.name}: step {step + 1}: loss {sum(sums.values()) / count:.3f}, {seconds:.0f} CPU s")
            sums.clear()
            states = {name: holder.state_dict() for name, holder in learned.items()}
            torch.save({**states, "done": step + 1, "seconds": seconds}, path.with_suffix(".partial"))
            path.with_suffix(".partial").replace(path)
    training.eval()


def sample(video: SyntheticVideo, apart: int, random: np.random.Generator) -> TrainingClip:
    """Frames of a scene, each at most so many after the last; forwards or backwards, mirrored or not."""
    steps = np.append(0, random.integers(1, apart + 1, CLIP - 1)).cumsum()
    chosen = steps + random.integers(LENGTH - steps[-1])
    frames, objects = video.frames[chosen], video.object_image[chosen]
    if random.random() < 0.5:
        frames, objects = frames[::-1], objects[::-1]
    if random.random() < 0.5:
        frames, objects = frames[:, :, ::-1], objects[:, :, ::-1]
    masks = np.stack([objects == item + 1 for item in range(OBJECTS)])
    nothing = np.zeros((0, CLIP, *SIZE), bool)
    known = np.ones(len(CLASS_NAMES), bool)
    return TrainingClip(np.ascontiguousarray(frames), masks, video.labels, known, nothing, np.zeros(0, np.int64))


def log(path: Path, values: dict[str, Any]) -> None:
    """Add a line."""
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(values))
        if not file.tell():
            writer.writeheader()
        writer.writerow(values)


def score(make: Callable[[], Segmenter], videos: Sequence[SyntheticVideo], folder: Path) -> list[str]:
    """A row of a table: scores on videos, in percent but for the id switches, and the meetings that are outlived.

    Args:
        make: what segments a video, anew for each.
        videos: unseen ones.
        folder: for ground truth and results.
    """
    truth, path = folder / "unseen", folder / "results.json"
    if not (truth / "instances.json").is_file():
        write_youtube_vis(videos, truth)
    kept = np.zeros((2, 2), np.int64)
    with ResultsWriter(path) as results:
        for number, video in enumerate(videos, 1):
            answers = list(make().run(video.frame(t) for t in range(LENGTH)))
            for instances in answers:
                results.add(number, instances.index, instances)
            results.finish_video(number, LENGTH)
            kept += meetings(video, answers)
    summary = evaluate(str(truth / "instances.json"), str(path), METRICS, class_agnostic=True).summary
    figures = [f"{summary[x]:.0f}" if x == "IDSW" else f"{100 * float(summary[x]):.1f}" for x in COLUMNS]
    return [*figures, *(f"{same} of {judged}" for same, judged in kept.tolist())]


def meetings(video: SyntheticVideo, answers: Sequence[Instances]) -> npt.NDArray[np.int64]:
    """How many meetings of an object with others have the same track before and after.

    A meeting lasts while what is seen of the object touches another, or nothing of it is seen. Those without a
    detection (IoU of at least 0.5) in the frame before, or in the one after, are not counted.

    Returns:
        ``[2, 2]``: kept and counted; of meetings in which at least half of the object is seen all the time, and others.
    """
    masks = np.stack([video.object_image == item + 1 for item in range(OBJECTS)], 1)
    counts = np.zeros((2, 2), np.int64)
    areas, free = masks.sum((2, 3)), np.stack([_alone(frame) for frame in masks])
    for item in range(OBJECTS):
        alone = np.flatnonzero(free[:, item]).tolist()
        for before, after in pairwise(alone):
            tracks = [_track_of(masks[t, item], answers[t]) for t in (before, after)]
            if after == before + 1 or None in tracks:
                continue
            hidden = 2 * areas[before : after + 1, item].min() < min(areas[before, item], areas[after, item])
            counts[int(hidden)] += (tracks[0] == tracks[1], 1)
    return counts


def _alone(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which of the objects of a frame ``[N, H, W]`` are seen, and touch no other, ``[N]``."""
    grown = np.stack([cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) for mask in masks])
    return np.array([mask.any() and not np.delete(grown, i, 0)[:, mask].any() for i, mask in enumerate(masks)])


def _track_of(mask: npt.NDArray[np.bool_], instances: Instances) -> int | None:
    """The track that covers a mask in a frame, if there is one."""
    for track_id, found in zip(instances.track_ids.tolist(), instances.dense_masks()):
        if covers(found, mask):
            return int(track_id)
    return None


def covers(found: npt.NDArray[np.bool_], mask: npt.NDArray[np.bool_]) -> bool:
    """Whether the IoU of two masks is at least 0.5, and neither is empty."""
    return bool(mask.any() and 2 * (found & mask).sum() >= (found | mask).sum())
