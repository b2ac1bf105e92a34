"""Video K-Net's online system in small, from nothing: do identities survive when shapes cross and hide each other?

    python benchmarks/video_knet_synthetic.py FOLDER [--steps 1500] [--more 500]

A tiny network learns synthetic scenes in short clips, first of successive frames, then of frames further apart. After
each part its detections of unseen scenes are linked in three ways: by the learned embeddings, by the kernels
themselves, and, to compare with, by the overlap of masks alone. The state is
saved every 100 steps, so that the same command goes on where it was stopped; FOLDER/log.csv holds the losses, and the
table comes twice: of tracks that are forgotten after 5 frames, as the system does by default, and after 30.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from vis_core.data.clips import TrainingClip
from vis_core.data.synthetic import SyntheticVideo, synthetic_video, write_youtube_vis
from vis_core.evaluation import evaluate
from vis_core.files.results_writer import ResultsWriter
from vis_core.models.video_knet.network import OnlineNetwork, Sizes
from vis_core.models.video_knet.online import ThingInstances, VideoKNetOnlineModel
from vis_core.models.video_knet.online_training import OnlineTraining
from vis_core.models.video_knet.vocabulary import numbered_stuff
from vis_core.structures import Instances
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.assignment import assign
from vis_core.tracking.associator import Associator, Window, shown_rows
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.quasi_dense import QuasiDenseAssociator

CLASS_NAMES = ("shape",)  # one: names are what so small a network learns last, and identities must do without them
SIZE, OBJECTS, RADIUS = (64, 96), 3, (0.2, 0.28)
SIZES = Sizes(kernels=8, width=64, heads=4, hidden=128)
SCENES, UNSEEN, LENGTH = 320, 16, 32
CLIP, BATCH = 3, 4
PARTS = {"successive": (2e-3, 1), "apart": (1e-3, 8)}  # learning rate, frames from one of a clip to the next at most
MEMORIES = (5, 30)  # frames after which a track that is not seen ends, whatever links; 5 is the system's default
BIRTH, CONTINUES, LEAST_OVERLAP = 0.35, 0.3, 0.2  # scores and IoU
METRICS = ("ap", "hota", "clear", "identity")
LINKS = ("embeddings", "kernels", "mask overlap")
GAPS = (1, 4, 8, 16, 24)
COLUMNS = ("AP", "AP50", "HOTA", "IDF1", "IDSW", "MOTA")


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


@dataclass(frozen=True)
class _Seen:
    """The last mask of a track ``[H, W]``."""

    mask: npt.NDArray[np.bool_]

    @property
    def nbytes(self) -> int:
        return self.mask.nbytes


class MaskOverlapAssociator(Associator[ThingInstances]):
    """A detection continues the track whose last mask it overlaps most: what can be done without any appearance."""

    def associate(
        self, found: ThingInstances, window: Window, lifecycle: TrackLifecycle
    ) -> tuple[Sequence[int], Sequence[int | None]]:
        continues: list[int | None] = [None] * len(found)
        ids = list(self.remembered)
        if ids and len(found):
            before = np.stack([self.remembered[i].mask.ravel() for i in ids]).astype(np.float32)
            now = _masks(found).reshape(len(found), -1).astype(np.float32)
            common = before @ now.T
            overlaps = common / np.maximum(before.sum(1)[:, None] + now.sum(1) - common, 1)
            for track, row in assign(overlaps, (overlaps >= LEAST_OVERLAP) & (found.scores > CONTINUES)):
                continues[row] = ids[track]
        rows = [row for row, x in enumerate(continues) if x is not None or found.scores[row] > BIRTH]
        return rows, [continues[row] for row in rows]

    def remember(self, track_ids: Sequence[int | None], found: ThingInstances, window: Window) -> None:
        masks = _masks(found)
        for row, track_id in shown_rows(track_ids):
            self.remembered[track_id] = _Seen(masks[row])


def _masks(found: ThingInstances) -> npt.NDArray[np.bool_]:
    """``[N, H, W]``."""
    return np.asarray(found.owners.cpu().numpy() == np.array(found.numbers).reshape(-1, 1, 1))


def scene(seed: int) -> SyntheticVideo:
    """A scene of three objects, whose paths cross about half-way through."""
    video = synthetic_video(seed, LENGTH, SIZE, OBJECTS, radius=RADIUS, name=f"scene{seed}")
    return replace(video, labels=np.zeros_like(video.labels))


def tiny_network() -> OnlineNetwork:
    """With its first weights."""
    torch.manual_seed(0)
    network = OnlineNetwork(TinyBackbone(), "fpn", len(CLASS_NAMES), sizes=SIZES)
    network.initialise()
    return network


def train(network: OnlineNetwork, part: str, steps: int, folder: Path, console: Console) -> None:
    """Do a part of the training, of `PARTS`, from where it was stopped."""
    rate, apart = PARTS[part]
    training = OnlineTraining(network.train().requires_grad_())
    optimizer = torch.optim.AdamW(training.parameters(), rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    learned: dict[str, Any] = {"network": network, "optimizer": optimizer, "schedule": schedule}
    path, done, seconds = folder / f"{part}.pt", 0, 0.0
    if path.is_file():
        state = torch.load(path, weights_only=True)
        for name, holder in learned.items():
            holder.load_state_dict(state[name])
        done, seconds = state["done"], state["seconds"]
    scenes = [scene(seed) for seed in range(SCENES)] if done < steps else []
    began, sums = time.process_time() - seconds, dict[str, float]()
    for step in range(done, steps):
        random = np.random.default_rng(step)
        clips = [sample(scenes[random.integers(SCENES)], apart, random) for _ in range(BATCH)]
        parts = training(clips, lambda x: x)
        optimizer.zero_grad()
        torch.stack(list(parts.values())).sum().backward()
        nn.utils.clip_grad_norm_(training.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        sums = {name: sums.get(name, 0.0) + loss.item() for name, loss in parts.items()}
        if (step + 1) % 100 == 0 or step + 1 == steps:
            count, seconds = step % 100 + 1, time.process_time() - began
            means = {name: f"{total / count:.4f}" for name, total in sums.items()}
            log(folder / "log.csv", {"part": part, "step": step + 1, "cpu_seconds": f"{seconds:.0f}", **means})
            console.print(f"{part}: step {step + 1}: loss {sum(sums.values()) / count:.3f}, {seconds:.0f} CPU s")
            sums.clear()
            states = {name: holder.state_dict() for name, holder in learned.items()}
            torch.save({**states, "done": step + 1, "seconds": seconds}, path.with_suffix(".partial"))
            path.with_suffix(".partial").replace(path)
    network.eval().requires_grad_(False)


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


def segmenter(network: OnlineNetwork, link: str, memory: int) -> StreamSegmenter[Any, Any]:
    """The same network, linked in one of the ways of `LINKS`."""
    association = "kernel" if link == "kernels" else "embedding"
    model = VideoKNetOnlineModel(network, CLASS_NAMES, numbered_stuff(CLASS_NAMES, 0), association=association)
    associator: Associator[Any] = QuasiDenseAssociator(BIRTH, CONTINUES, memory_frames=memory)
    if link == "mask overlap":
        associator = MaskOverlapAssociator()
    return StreamSegmenter(model, associator, TrackLifecycle(memory, None))


def score(network: OnlineNetwork, link: str, memory: int, videos: Sequence[SyntheticVideo], folder: Path) -> list[str]:
    """A row of the table: scores on videos, in percent but for the id switches, and the meetings that are outlived."""
    truth, path = folder / "unseen", folder / "results.json"
    if not (truth / "instances.json").is_file():
        write_youtube_vis(videos, truth)
    kept = np.zeros((2, 2), np.int64)
    with ResultsWriter(path) as results:
        for number, video in enumerate(videos, 1):
            answers = list(segmenter(network, link, memory).run(video.frame(t) for t in range(LENGTH)))
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
        if _covers(found, mask):
            return int(track_id)
    return None


def _covers(found: npt.NDArray[np.bool_], mask: npt.NDArray[np.bool_]) -> bool:
    """Whether the IoU of two masks is at least 0.5, and neither is empty."""
    return bool(mask.any() and 2 * (found & mask).sum() >= (found | mask).sum())


def most_alike(network: OnlineNetwork, link: str, videos: Sequence[SyntheticVideo]) -> list[str]:
    """How often, of the objects seen some frames later, the one most alike by dot product is the same, by `GAPS`.

    Only objects that are detected in both frames are asked for, and only where there are others to choose from.
    """
    counts = np.zeros((len(GAPS), 2), np.int64)
    for video in videos:
        model, frames = segmenter(network, link, MEMORIES[0]).model, list[dict[int, Tensor]]()
        for t, objects in enumerate(video.object_image):
            found = model.segment([model.encode(video.frame(t))], Window(t, 1, SIZE))
            pairs = product(range(OBJECTS), enumerate(_masks(found)))
            frames.append({i: found.embeddings[row] for i, (row, mask) in pairs if _covers(mask, objects == i + 1)})
        for number, gap in enumerate(GAPS):
            for before, after in zip(frames, frames[gap:]):
                for item in before.keys() & after.keys() if len(after) > 1 else ():
                    best = max(after, key=lambda i: float(before[item] @ after[i]))
                    counts[number] += (best == item, 1)
    return [f"{100 * same / max(judged, 1):.0f} of {judged}" for same, judged in counts.tolist()]


def main(
    folder: Annotated[Path, typer.Argument(help="where state, log and results are kept")],
    steps: Annotated[int, typer.Option(help="of the training on successive frames")] = 1500,
    more: Annotated[int, typer.Option(help="steps that follow, on frames further apart")] = 500,
    threads: Annotated[int, typer.Option(help="of torch")] = 1,
) -> None:
    """Train, score the ways of linking after each part of the training, and print the table."""
    torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(width=130)
    videos = [scene(10_000 + seed) for seed in range(UNSEEN)]
    table = Table(title=f"{UNSEEN} unseen scenes of {LENGTH} frames")
    for column in ("trained on", "linked by", "memory", *COLUMNS, "met, same track", "hidden, same track"):
        table.add_column(column, justify="left" if "ed " in column and "same" not in column else "right")
    alike = Table(title="percent of the objects most alike, so many frames later, that are the same one")
    for column in ("trained on", "compared by", *map(str, GAPS)):
        alike.add_column(column)
    network = tiny_network()
    for part, count in zip(PARTS, (steps, more)):
        train(network, part, count, folder, console)
        for memory in MEMORIES:
            for link in LINKS:
                table.add_row(part, link, str(memory), *score(network, link, memory, videos, folder))
        for link in ("embeddings", "kernels"):
            alike.add_row(part, link, *most_alike(network, link, videos))
    console.print(table)
    console.print(alike)


if __name__ == "__main__":
    typer.run(main)
