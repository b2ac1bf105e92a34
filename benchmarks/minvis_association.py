"""Who links MinVIS's instances better: its own slots, the quasi-dense tracker or matched graphs, of the same queries.

    python benchmarks/minvis_association.py [--steps 400] [--threads 1]

A tiny MinVIS learns from nothing, frame by frame, what is in some synthetic videos whose objects cross; then all link
what it finds in each of them, and in unseen ones. Nothing teaches it who is who: as published, that is left to its
queries. The tracker compares their cosine, as they have unit length, and begins tracks at MinVIS's own threshold.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import tempfile
from collections.abc import Callable, Iterable, Sequence
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
from torch import Tensor, nn

from vis_core.data.annotation_files import read_annotations
from vis_core.data.augmentation import NO_AUGMENTATION
from vis_core.data.sources import open_sources
from vis_core.data.synthetic import CLASS_NAMES, SyntheticVideo, synthetic_video, write_youtube_vis
from vis_core.evaluation import evaluate
from vis_core.files.results_writer import ResultsWriter
from vis_core.models.mask2former_vis.minvis import MinVISInstances, MinVISModel
from vis_core.models.mask2former_vis.model import PixelEncoder
from vis_core.models.mask2former_vis.network import Mask2FormerVISNetwork
from vis_core.models.mask2former_vis.slots import SlotAssociator
from vis_core.models.mask2former_vis.training import Mask2FormerVISTraining
from vis_core.structures import Frame
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.associator import Associator, Window
from vis_core.tracking.graph_association import Detections, GraphAssociator
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.quasi_dense import QuasiDenseAssociator

SIZE, BATCH, RATE, LOST, THRESHOLD = (96, 160), 4, 2e-3, 30, 0.3
LEARNED, UNSEEN, LENGTH, OBJECTS = 8, 8, 32, 3
METRICS = ("ap", "hota", "clear", "identity")
COLUMNS = ("AP", "AP50", "HOTA", "IDF1", "IDSW", "MOTA")
console = Console(width=140)


class TinyBackbone(nn.Module):
    """Two convolutions for each stride."""

    channels = (32, 48, 64, 64)

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 7 if i == 0 else 3, 4 if i == 0 else 2, 3 if i == 0 else 1),
                nn.GroupNorm(8, b),
                nn.ReLU(),
                nn.Conv2d(b, b, 3, padding=1),
                nn.GroupNorm(8, b),
                nn.ReLU(),
            )
            for i, (a, b) in enumerate(zip((3, *self.channels[:-1]), self.channels))
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return maps


@dataclass(frozen=True, eq=False)
class _Boxed:
    """MinVIS's instances as the quasi-dense tracker takes them."""

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    embeddings: Tensor


def _boxed(found: MinVISInstances) -> _Boxed:
    boxes = []
    for mask in (found.mask_logits > 0).numpy():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    scores = found.class_scores
    labels = scores.argmax(1) if len(scores) else np.zeros(0, np.int64)
    return _Boxed(np.array(boxes, np.float32).reshape(-1, 4), scores.max(1, initial=0), labels, found.embeddings)


class Linked(Associator[MinVISInstances]):
    """The quasi-dense tracker, for MinVIS."""

    def __init__(self, same_label: bool) -> None:
        super().__init__()
        self._tracker = QuasiDenseAssociator(
            THRESHOLD, THRESHOLD, memory_frames=LOST, same_label=same_label, metric="cosine"
        )

    def associate(
        self, found: MinVISInstances, window: Window, lifecycle: TrackLifecycle
    ) -> tuple[Sequence[int], Sequence[int | None]]:
        return self._tracker.associate(_boxed(found), window, lifecycle)

    def remember(self, track_ids: Sequence[int | None], found: MinVISInstances, window: Window) -> None:
        self._tracker.remember(track_ids, _boxed(found), window)

    def forget(self, track_ids: Iterable[int]) -> None:
        self._tracker.forget(track_ids)

    def clear(self) -> None:
        self._tracker.clear()


WAYS: dict[str, Callable[[], Associator[Any]]] = {
    "slots": lambda: SlotAssociator(0.5, 0.75),
    "quasi-dense": lambda: Linked(same_label=True),
    "quasi-dense, of any label": lambda: Linked(same_label=False),
    "graph": lambda: GraphAssociator(1.0, birth_score=0, memory_features=0, describe=Detections.of),
    "graph without edges": lambda: GraphAssociator(0.0, birth_score=0, memory_features=0, describe=Detections.of),
}


def videos(first: int, count: int) -> list[SyntheticVideo]:
    """Videos of seeds of their own."""
    numbers = range(first, first + count)
    return [synthetic_video(i, LENGTH, SIZE, OBJECTS, radius=(0.15, 0.28)) for i in numbers]


def trained(steps: int, folder: Path) -> Mask2FormerVISNetwork:
    """A network that has seen the first videos."""
    annotated = read_annotations(write_youtube_vis(videos(0, LEARNED), folder), class_names=CLASS_NAMES)
    (source,) = open_sources([annotated], 1, SIZE, NO_AUGMENTATION)
    torch.manual_seed(0)
    network = Mask2FormerVISNetwork(TinyBackbone(), len(CLASS_NAMES), 8, 64, 2, 3, (128, 128))
    network.initialise()
    training = Mask2FormerVISTraining(network, False, points=1024, labels_from_visible_frame=True)
    optimizer = torch.optim.AdamW(training.parameters(), RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    for step in range(steps):
        random = [np.random.default_rng([step, i]) for i in range(BATCH)]
        parts = training([source.clip(int(r.integers(len(source))), r) for r in random], lambda x: x)
        optimizer.zero_grad()
        loss = torch.stack(list(parts.values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(training.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            console.print(f"step {step}: loss {float(loss.detach()):.2f}")
    return network.eval().requires_grad_(False)


def scores(network: Mask2FormerVISNetwork, way: str, some: list[SyntheticVideo], folder: Path) -> list[float]:
    """In the order of `COLUMNS`."""
    truth, path = write_youtube_vis(some, folder), folder / "results.json"
    model = MinVISModel(network, CLASS_NAMES, PixelEncoder(network, None, 1333), THRESHOLD, 8)
    with ResultsWriter(path) as results:
        for number, video in enumerate(some, 1):
            segmenter = StreamSegmenter(model, WAYS[way](), TrackLifecycle(LOST))
            segmenter.reset()
            for instances in segmenter.run(Frame(image, t, t) for t, image in enumerate(video.frames)):
                results.add(number, instances.index, instances)
            results.finish_video(number, LENGTH)
    summary = evaluate(str(truth), str(path), METRICS).summary
    return [float(summary[name]) * (1 if name == "IDSW" else 100) for name in COLUMNS]


def main(
    steps: Annotated[int, typer.Option(min=1, help="of the training")] = 400,
    threads: Annotated[int, typer.Option(min=1, help="of torch")] = 1,
    quick: Quick = False,
) -> None:
    """Train, link, score."""
    steps, count = (20, 2) if quick else (steps, UNSEEN)
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network = trained(steps, folder / "training")
        title = f"MinVIS, {steps} steps, {LEARNED} videos learned, {count} unseen, {LENGTH} frames of {OBJECTS} objects"
        table = Table("videos", "linked by", *COLUMNS, title=title)
        for kind, some in (("learned", videos(0, min(LEARNED, count))), ("unseen", videos(1000, count))):
            for way in WAYS:
                tell(f"{kind} videos, linked by {way}")
                row = scores(network, way, some, folder / f"{kind}_{way}")
                table.add_row(kind, way, *(f"{x:.0f}" if c == "IDSW" else f"{x:.1f}" for c, x in zip(COLUMNS, row)))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
