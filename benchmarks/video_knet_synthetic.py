"""Video K-Net's online system in small, from nothing: do identities survive when shapes cross and hide each other?

    python benchmarks/video_knet_synthetic.py [FOLDER] [--steps 1500] [--more 500]

A tiny network learns synthetic scenes in short clips, first of successive frames, then of frames further apart. After
each part its detections of unseen scenes are linked in five ways: by the learned embeddings, by the kernels themselves,
by matching graphs of instances with those embeddings, the same without edges, and, to compare with, by the overlap of
masks alone. The state is saved every 100 steps, so that the same command goes on where it was stopped; FOLDER/log.csv
holds the losses, and the table comes twice: of tracks that are forgotten after 5 frames, as the system does by default,
and after 30.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from conditions import Quick, kept_or_temporary, tell
from rich.console import Console
from rich.table import Table
from synthetic_scenes import (
    CLASS_NAMES,
    COLUMNS,
    LENGTH,
    OBJECTS,
    SIZE,
    UNSEEN,
    Part,
    TinyBackbone,
    covers,
    scene,
    score,
    train,
)
from torch import Tensor

from vis_core.data.synthetic import SyntheticVideo
from vis_core.models.video_knet.network import OnlineNetwork, Sizes
from vis_core.models.video_knet.online import ThingInstances, VideoKNetOnlineModel
from vis_core.models.video_knet.online_training import OnlineTraining
from vis_core.models.video_knet.vocabulary import numbered_stuff
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.assignment import assign
from vis_core.tracking.associator import Associator, Window, shown_rows
from vis_core.tracking.graph_association import Detections, GraphAssociator
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.quasi_dense import QuasiDenseAssociator

SIZES = Sizes(kernels=8, width=64, heads=4, hidden=128)
MEMORIES = (5, 30)  # frames after which a track that is not seen ends, whatever links; 5 is the system's default
BIRTH, CONTINUES, LEAST_OVERLAP = 0.35, 0.3, 0.2  # scores and IoU
LINKS = ("embeddings", "kernels", "graph", "no edges", "mask overlap")
GAPS = (1, 4, 8, 16, 24)


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


def tiny_network() -> OnlineNetwork:
    """With its first weights."""
    torch.manual_seed(0)
    network = OnlineNetwork(TinyBackbone(), "fpn", len(CLASS_NAMES), sizes=SIZES)
    network.initialise()
    return network


def segmenter(network: OnlineNetwork, link: str, memory: int) -> StreamSegmenter[Any, Any]:
    """The same network, linked in one of the ways of `LINKS`."""
    association = "kernel" if link == "kernels" else "embedding"
    model = VideoKNetOnlineModel(network, CLASS_NAMES, numbered_stuff(CLASS_NAMES, 0), association=association)
    associator: Associator[Any] = QuasiDenseAssociator(BIRTH, CONTINUES, memory_frames=memory)
    if link == "mask overlap":
        associator = MaskOverlapAssociator()
    elif link in ("graph", "no edges"):
        weight = float(link == "graph")
        associator = GraphAssociator(weight, birth_score=BIRTH, memory_features=0, describe=Detections.of)
    return StreamSegmenter(model, associator, TrackLifecycle(memory, None))


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
            frames.append({i: found.embeddings[row] for i, (row, mask) in pairs if covers(mask, objects == i + 1)})
        for number, gap in enumerate(GAPS):
            for before, after in zip(frames, frames[gap:]):
                for item in before.keys() & after.keys() if len(after) > 1 else ():
                    best = max(after, key=lambda i: float(before[item] @ after[i]))
                    counts[number] += (best == item, 1)
    return [f"{100 * same / max(judged, 1):.0f} of {judged}" for same, judged in counts.tolist()]


def main(
    folder: Annotated[
        Path | None, typer.Argument(help="where state, log and results are kept; default: a temporary one")
    ] = None,
    steps: Annotated[int, typer.Option(help="of the training on successive frames")] = 1500,
    more: Annotated[int, typer.Option(help="steps that follow, on frames further apart")] = 500,
    threads: Annotated[int, typer.Option(help="of torch")] = 1,
    quick: Quick = False,
) -> None:
    """Train, score the ways of linking after each part of the training, and print the table."""
    if quick:
        steps, more = 4, 4
    torch.set_num_threads(threads)
    folder = kept_or_temporary(folder)
    console = Console(width=130)
    unseen, memories = (2, MEMORIES[:1]) if quick else (UNSEEN, MEMORIES)
    videos = [scene(10_000 + seed) for seed in range(unseen)]
    table = Table(title=f"{unseen} unseen scenes of {LENGTH} frames")
    for column in ("trained on", "linked by", "memory", *COLUMNS, "met, same track", "hidden, same track"):
        table.add_column(column, justify="left" if "ed " in column and "same" not in column else "right")
    alike = Table(title="percent of the objects most alike, so many frames later, that are the same one")
    for column in ("trained on", "compared by", *map(str, GAPS)):
        alike.add_column(column)
    network = tiny_network()
    for part in (Part("successive", steps, 2e-3, 1), Part("apart", more, 1e-3, 8)):
        train(OnlineTraining(network.requires_grad_()), part, folder, console)
        network.requires_grad_(False)
        for memory, link in product(memories, LINKS):
            tell(f"trained on {part.name}: linked by {link}, memory {memory}")
            figures = score(lambda link=link, memory=memory: segmenter(network, link, memory), videos, folder)  # type: ignore[misc]
            table.add_row(part.name, link, str(memory), *figures)
        for link in ("embeddings", "kernels"):
            alike.add_row(part.name, link, *most_alike(network, link, videos))
    console.print(table)
    console.print(alike)


if __name__ == "__main__":
    typer.run(main)
