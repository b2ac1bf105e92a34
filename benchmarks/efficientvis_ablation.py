"""The ablations of EfficientVIS's paper in small: tiny networks learn synthetic scenes, and are scored on unseen ones.

    python benchmarks/efficientvis_ablation.py [FOLDER] [--steps 1400] [--start 4000] [--only still]

A model of images is trained first, as the paper's networks begin from one. From it each row of the paper's tables that
a switch of the network or of its training makes goes on as a network of its own; the rows on linking score one network
in several ways. A row's state is saved as it goes, so that the same command goes on where
it was stopped, and several may run at once, each on rows of its own (`--only`). The published figures stand beside: of
ResNet-50 on YouTube-VIS 2019, so that only the order of rows can be compared.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from conditions import Quick, kept_or_temporary, tell
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from vis_core.data.clips import TrainingClip
from vis_core.data.synthetic import CLASS_NAMES, SyntheticVideo, synthetic_video, write_youtube_vis
from vis_core.evaluation import evaluate
from vis_core.files.results_writer import ResultsWriter
from vis_core.models.efficientvis.model import EfficientVISModel
from vis_core.models.efficientvis.network import EfficientVISNetwork
from vis_core.models.efficientvis.slots import Slots
from vis_core.models.efficientvis.training import EfficientVISTraining
from vis_core.nn.feature_pyramid import FeaturePyramid
from vis_core.nn.region_queries import Dimensions
from vis_core.structures import Frame
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.overlap import OverlapAssociator

SIZE, OBJECTS, QUERIES = (64, 96), 3, 6
DIMENSIONS = Dimensions(width=32, heads=4, dynamic=8, feedforward=64, stages=2)
CLIP = 3  # frames of each of the two successive clips of a sample
WINDOW = 4
SCENES, UNSEEN, LENGTH = 160, 16, 32
IMAGES, IMAGE_RATE = 8, 1e-3  # images of a step of the start
BATCH, RATE = 2, 5e-4
METRICS = ("ap", "hota", "clear", "identity")


@dataclass(frozen=True)
class Row:
    """A network to train: what differs from the published one, and the AP that the paper has."""

    published: float
    network: dict[str, str] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


IMAGE_MODEL = "model of images"
_OF_IMAGES = Row(0, {"attention": "spatial", "dynamic_convolution": "still"}, {"successive_clips": 1})
ROWS = {
    "as published": Row(37.0),
    "attention: spatial only": Row(32.8, {"attention": "spatial"}),
    "attention: temporal only": Row(30.4, {"attention": "temporal"}),
    "attention: joint": Row(33.7, {"attention": "joint"}),
    "dynamic convolution: still": Row(36.0, {"dynamic_convolution": "still"}),
    "queries: time shared": Row(35.5, {"queries_over_time": "shared"}),
    "no correspondence learning": Row(7.4, {}, {"correspondence": False}),
}


class TinyBackbone(nn.Module):
    """Two convolutions for each stride."""

    channels = (24, 32, 48, 48)

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, size, stride, size // 2),
                nn.GroupNorm(8, b),
                nn.ReLU(),
                nn.Conv2d(b, b, 3, padding=1),
                nn.GroupNorm(8, b),
                nn.ReLU(),
            )
            for a, b, size, stride in zip((3, *self.channels), self.channels, (7, 3, 3, 3), (4, 2, 2, 2))
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps at strides 4, 8, 16 and 32."""
        maps = [images]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]


def scene(seed: int) -> SyntheticVideo:
    """A scene of three objects."""
    return synthetic_video(seed, LENGTH, SIZE, OBJECTS, radius=(0.15, 0.25), name=f"scene{seed}")


def tiny_network(options: dict[str, str]) -> EfficientVISNetwork:
    """The same first weights for every row, as far as they have the same parts."""
    torch.manual_seed(0)
    network = EfficientVISNetwork(None, len(CLASS_NAMES), QUERIES, DIMENSIONS, **options)  # type: ignore[arg-type]
    network.backbone = TinyBackbone()  # type: ignore[assignment]
    network.pyramid = FeaturePyramid(TinyBackbone.channels, DIMENSIONS.width)
    network.initialise()
    return network


def train(name: str, steps: int, folder: Path, console: Console) -> EfficientVISNetwork:
    """Train a row, or the model of images, from where it was stopped."""
    row, path = ROWS.get(name, _OF_IMAGES), file_of(name, folder, ".pt")
    network = tiny_network(row.network)
    if name in ROWS:
        network.load_state_dict(torch.load(file_of(IMAGE_MODEL, folder, ".pt"), weights_only=True)["network"])
    training = EfficientVISTraining(network, **row.training)
    rate, frames, batch = (RATE, 2 * CLIP, BATCH) if name in ROWS else (IMAGE_RATE, 1, IMAGES)
    optimizer = torch.optim.AdamW([p for p in training.parameters() if p.requires_grad], rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    done = 0
    if path.is_file():
        state = torch.load(path, weights_only=True)
        training.network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        done = state["done"]
    known = cache(scene)
    began, recent = time.process_time(), 0.0
    for step in range(done, steps):
        random = np.random.default_rng(step)
        clips = [sample(known(int(random.integers(SCENES))), frames, random) for _ in range(batch)]
        total = torch.stack(list(training(clips, lambda x: x).values())).sum()
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(training.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent = 0.98 * recent + 0.02 * total.item() if step > done else total.item()
        if (step + 1) % 200 == 0 or step + 1 == steps:
            parts = (training.network, optimizer, schedule)
            state = dict(zip(("network", "optimizer", "schedule"), (part.state_dict() for part in parts)))
            torch.save({**state, "done": step + 1}, path.with_suffix(".partial"))
            path.with_suffix(".partial").replace(path)
            seconds = (time.process_time() - began) / (step + 1 - done)
            console.print(f"{name}: step {step + 1}, loss {recent:.2f}, {seconds:.3f} CPU s a step", soft_wrap=True)
    return training.network.eval()


def file_of(name: str, folder: Path, suffix: str) -> Path:
    """Where the state or the scores of a row are kept."""
    return folder / (name.replace(" ", "_").replace(":", "") + suffix)


def sample(video: SyntheticVideo, count: int, random: np.random.Generator) -> TrainingClip:
    """Successive frames of a scene, forwards or backwards, mirrored or not."""
    first = int(random.integers(LENGTH - count + 1))
    frames, objects = video.frames[first : first + count], video.object_image[first : first + count]
    if random.random() < 0.5:
        frames, objects = frames[::-1], objects[::-1]
    if random.random() < 0.5:
        frames, objects = frames[:, :, ::-1], objects[:, :, ::-1]
    masks = np.stack([objects == item + 1 for item in range(OBJECTS)])
    nothing = np.zeros((0, count, *SIZE), bool)
    known = np.ones(len(CLASS_NAMES), bool)
    return TrainingClip(np.ascontiguousarray(frames), masks, video.labels, known, nothing, np.zeros(0, np.int64))


def score(
    network: EfficientVISNetwork, folder: Path, unseen: int, length: int = WINDOW, link_threshold: float | None = None
) -> dict[str, float]:
    """Scores on unseen scenes, in percent but for the id switches; classes count for nothing: they are learned late.

    Args:
        network: trained.
        folder: for files.
        unseen: how many scenes.
        length: frames of a window; linked by queries windows share none, by masks one.
        link_threshold: IoU by which masks are linked; None: queries are carried.
    """
    videos = [scene(10_000 + seed) for seed in range(unseen)]
    truth = folder / "unseen"
    if not (truth / "instances.json").is_file():
        write_youtube_vis(videos, truth)
    slots = Slots("confident", "learned", max_lost_clips=3) if link_threshold is None else None
    model = EfficientVISModel(network, CLASS_NAMES, slots, SIZE, 0.2, 0.05)
    associator: Any = slots or OverlapAssociator(link_threshold or 0.0)
    stride = length if slots else length - 1
    path = folder / f"results_{os.getpid()}.json"
    with ResultsWriter(path) as results:
        for number, video in enumerate(videos, 1):
            segmenter = StreamSegmenter(model, associator, TrackLifecycle(None), length, stride)
            for instances in segmenter.run(Frame(image, 0, t) for t, image in enumerate(video.frames)):
                results.add(number, instances.index, instances)
            results.finish_video(number, LENGTH)
    summary = evaluate(next(truth.glob("*.json")), path, METRICS, class_agnostic=True).summary
    path.unlink()
    names = ("AP", "AP50", "HOTA", "IDF1", "IDSW", "MOTA")
    return {name: float(summary[name]) * (1 if name == "IDSW" else 100) for name in names}


def main(
    folder: Annotated[
        Path | None, typer.Argument(help="where states and scores are kept; default: a temporary one")
    ] = None,
    steps: Annotated[int, typer.Option(help="of each training")] = 1400,
    start: Annotated[int, typer.Option(help="steps of the model of images that each begins from")] = 4000,
    only: Annotated[list[str] | None, typer.Option(help="part of the names of the rows to train")] = None,
    threads: Annotated[int, typer.Option(help="of torch")] = 1,
    quick: Quick = False,
) -> None:
    """Train what is not trained yet, score it, and print all that there is."""
    torch.set_num_threads(threads)
    folder = kept_or_temporary(folder)
    unseen = 2 if quick else UNSEEN
    if quick:
        steps, start, only = 4, 4, only or ["as published", "still"]
    console = Console(width=120)
    if not file_of("as published", folder, ".pt").is_file():
        train(IMAGE_MODEL, start, folder, console)
    for name in ROWS:
        path = file_of(name, folder, ".json")
        if path.is_file() or (only and not any(part in name for part in only)):
            continue
        network = train(name, steps, folder, console)
        tell(f"{name}: {unseen} unseen scenes")
        scores = {name: score(network, folder, unseen)}
        if name == "as published":
            scores |= {f"windows of {length}": score(network, folder, unseen, length) for length in (2, 8)}
            for threshold in (0.1, 0.3, 0.5, 0.7):
                scores[f"linked by masks, least IoU {threshold}"] = score(network, folder, unseen, WINDOW, threshold)
        path.write_text(json.dumps(scores, indent=2) + "\n", "utf-8")
    show(folder, steps, unseen, console)


def show(folder: Path, steps: int, unseen: int, console: Console) -> None:
    """The table of all rows that are scored."""
    table = Table(title=f"tiny networks, {steps} steps, {unseen} unseen scenes of {LENGTH} frames")
    columns: Sequence[str] = ("AP", "AP50", "HOTA", "IDF1", "IDSW", "MOTA")
    for column in ("", "published AP", *columns):
        table.add_column(column, justify="right" if column else "left")
    for path in sorted(folder.glob("*.json")):
        for name, scores in json.loads(path.read_text("utf-8")).items():
            published = f"{ROWS[name].published:.1f}" if name in ROWS else ""
            table.add_row(
                name, published, *(f"{scores[key]:.0f}" if key == "IDSW" else f"{scores[key]:.1f}" for key in columns)
            )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
