"""GMP-VIS online in small, from nothing: do tracks outlive it when shapes cross and hide each other?

    python benchmarks/gmp_vis_synthetic.py [FOLDER] [--steps 3000] [--more 600] [--seed 1] [--only both]

A tiny network learns synthetic scenes in clips of frames up to 8 apart. Then, on what it finds, the part that instances
are matched by is taught anew in several ways: by the matching of graphs, by the contrastive loss, or by both; with a
look at what is remembered of the tracks, or without. What is found in unseen scenes is linked with each, with edges and
without, and with no embeddings at all. After a mean stands its standard error over the scenes; the last columns tell
the differences that edges make, scene by scene, and the second table those that the memory makes. The state of the
first training is saved every 100 steps, so that the same command goes on where it was stopped; FOLDER/log.csv holds its
losses.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from conditions import Quick, kept_or_temporary, tell
from rich.console import Console
from rich.table import Table
from synthetic_scenes import CLASS_NAMES, LENGTH, SCENES, SIZE, Part, TinyBackbone, meetings, scene, train
from torch import Tensor

from vis_core.data.synthetic import SyntheticVideo, write_youtube_vis
from vis_core.evaluation import evaluate
from vis_core.files.results_writer import ResultsWriter
from vis_core.models.gmp_vis import online_losses
from vis_core.models.gmp_vis.memory_attention import MatchingEmbedding
from vis_core.models.gmp_vis.online import EncodedFrame, FrameInstances, GMPVISModel
from vis_core.models.gmp_vis.online_losses import Said
from vis_core.models.gmp_vis.online_network import Dimensions, OnlineNetwork
from vis_core.models.gmp_vis.online_training import OnlineTraining
from vis_core.nn.region_losses import Match, Targets
from vis_core.structures import Frame, Instances
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.graph_association import Detections, GraphAssociator
from vis_core.tracking.lifecycle import TrackLifecycle

SIZES = Dimensions(queries=12, width=64, hidden=128, layers=3, heads=4, points=4, embedding=32)
UNSEEN, CLIP, BATCH, APART = 48, 4, 8, 8
TAUGHT = {"graphs": (1.0, 0.0), "contrastive": (0.0, 1.0), "both": (1.0, 1.0)}  # weights of the two losses
FIGURES = {"IDSW": 1, "IDF1": 100, "HOTA": 100}


def tiny_network() -> OnlineNetwork:
    """With its first weights."""
    torch.manual_seed(0)
    network = OnlineNetwork(TinyBackbone(), len(CLASS_NAMES), False, SIZES)
    network.initialise()
    return network


@dataclass(frozen=True, eq=False)
class Learned:
    """What the trained network says of a scene, and which query is which object.

    Attributes:
        queries: of the last layer ``[T, Q, C]``.
        matches: of each frame.
        targets: of the scene.
    """

    queries: Tensor
    matches: list[Match]
    targets: Targets

    def clip(self, random: np.random.Generator) -> tuple[Tensor, list[Match], Targets]:
        """A few frames of it, forwards or backwards."""
        steps = np.append(0, random.integers(1, APART + 1, CLIP - 1)).cumsum()
        chosen = (steps + random.integers(LENGTH - steps[-1])).tolist()
        if random.random() < 0.5:
            chosen.reverse()
        targets = replace(self.targets, boxes=self.targets.boxes[:, chosen])
        return self.queries[chosen], [self.matches[t] for t in chosen], targets


@torch.no_grad()
def learned(training: OnlineTraining, video: SyntheticVideo) -> Learned:
    """What the network says of a scene."""
    images = training.normalised(torch.from_numpy(video.frames)).contiguous(memory_format=torch.channels_last)
    out = training.network.frames(training.network.maps(images))
    masks = np.stack([video.object_image == item + 1 for item in range(len(video.labels))])
    nothing = np.zeros((0, *video.object_image.shape), bool)
    known = np.ones(len(CLASS_NAMES), bool)
    targets = Targets.of(video.labels, masks, known, nothing, np.zeros(0, np.int64), training.mean.device)
    return Learned(out.queries[-1], online_losses.match(Said(out.logits[-1], out.boxes[-1]), targets), targets)


def teach(network: OnlineNetwork, temporal: bool, how: str, scenes: Sequence[Learned], steps: int, seed: int) -> None:
    """Give a network a new part that instances are matched by, and teach it alone."""
    torch.manual_seed(seed)
    network.matching = MatchingEmbedding(SIZES.width, SIZES.embedding, temporal, SIZES.hidden, SIZES.heads)
    network.matching.initialise()
    permutation, contrastive = TAUGHT[how]
    training = OnlineTraining(network)
    optimizer = torch.optim.AdamW(network.matching.parameters(), 1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps, pct_start=0.1)
    for step in range(steps):
        random = np.random.default_rng((seed, step))
        clips = [scenes[int(random.integers(len(scenes)))].clip(random) for _ in range(BATCH)]
        found = [torch.stack(pair) for clip in clips for pair in training.pairs(*clip)]
        losses = torch.stack(found).mean(0)
        optimizer.zero_grad()
        (permutation * losses[0] + contrastive * losses[1]).backward()
        optimizer.step()
        schedule.step()
    network.matching.requires_grad_(False)


class Recorded(GMPVISModel):
    """The model on a scene whose frames were looked at before.

    Args:
        frames: what was seen in each.
        network: as of the model.
        associator: as of the model.
    """

    def __init__(
        self, frames: Sequence[EncodedFrame], network: OnlineNetwork, associator: GraphAssociator[FrameInstances]
    ) -> None:
        super().__init__(network, CLASS_NAMES, associator, None)
        self.frames = frames

    def encode(self, frame: Frame) -> EncodedFrame:
        return self.frames[frame.index]


def without_embeddings(found: FrameInstances, *_: Any) -> Detections:
    """Boxes and scores alone."""
    return Detections(found.boxes, found.class_scores)


@dataclass(frozen=True, eq=False)
class Scores:
    """Of one way of linking.

    Attributes:
        figures: of each scene ``[scenes, 3]``, as in `FIGURES`.
        kept: meetings that have the same track before and after, and all that are counted; of those in which the object
            is seen by half, and of the others: ``[2, 2]``.
    """

    figures: npt.NDArray[np.float64]
    kept: npt.NDArray[np.int64]


def score(
    network: OnlineNetwork,
    seen: Sequence[Sequence[EncodedFrame]],
    videos: Sequence[SyntheticVideo],
    folder: Path,
    edge_weight: float,
    embeddings: bool = True,
) -> Scores:
    """How well what was seen of videos is linked."""
    truth, path = folder / "unseen", folder / "results.json"
    if not (truth / "instances.json").is_file():
        write_youtube_vis(videos, truth)
    kept = np.zeros((2, 2), np.int64)
    with ResultsWriter(path) as results:
        for number, (video, frames) in enumerate(zip(videos, seen), 1):
            associator: GraphAssociator[FrameInstances] = GraphAssociator(
                edge_weight, describe=None if embeddings else without_embeddings
            )
            runner = StreamSegmenter(Recorded(frames, network, associator), associator, TrackLifecycle(30, None))
            answers: list[Instances] = list(runner.run((video.frame(t) for t in range(LENGTH)), prefetch=False))
            for instances in answers:
                results.add(number, instances.index, instances)
            results.finish_video(number, LENGTH)
            kept += meetings(video, answers)
    found = evaluate(str(truth / "instances.json"), str(path), ("hota", "clear", "identity"), class_agnostic=True)
    per_scene = [[factor * figures[name] for name, factor in FIGURES.items()] for figures in found.per_video.values()]
    return Scores(np.array(per_scene), kept)


def with_error(values: npt.NDArray[np.float64]) -> str:
    """Mean and standard error."""
    return f"{values.mean():.2f} ± {values.std(ddof=1) / np.sqrt(len(values)):.2f}"


def add_rows(table: Table, names: tuple[str, str], plain: Scores, graph: Scores) -> None:
    """Of one embedding: without and with edges, and the differences."""
    for edges, scores in (("no", plain), ("yes", graph)):
        changes = ["", ""] if edges == "no" else [with_error(x) for x in (graph.figures - plain.figures)[:, :2].T]
        meetings_kept = [f"{same} of {judged}" for same, judged in scores.kept.tolist()]
        table.add_row(*names, edges, *map(with_error, scores.figures.T), *meetings_kept, *changes)


def main(
    folder: Annotated[
        Path | None, typer.Argument(help="where state, log and results are kept; default: a temporary one")
    ] = None,
    steps: Annotated[int, typer.Option(help="of the training of all of the network")] = 3000,
    more: Annotated[int, typer.Option(help="of each training of what instances are matched by")] = 600,
    scenes: Annotated[int, typer.Option(help="unseen ones that are scored")] = UNSEEN,
    seed: Annotated[int, typer.Option(help="of the trainings of what instances are matched by")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="one of them: graphs, contrastive, both")] = None,
    threads: Annotated[int, typer.Option(help="of torch")] = 1,
    quick: Quick = False,
) -> None:
    """Train, score the ways of linking, and print the table."""
    if quick:
        steps, more, scenes, only = 4, 4, 2, only or ["both"]
    torch.set_num_threads(threads)
    folder = kept_or_temporary(folder)
    console = Console(width=160)
    network = tiny_network()
    train(OnlineTraining(network), Part("network", steps, 1e-3, 8), folder, console)
    network.requires_grad_(False)
    training = OnlineTraining(network)
    tell("what it says of the scenes, and of unseen ones")
    known = [learned(training, scene(seed)) for seed in range(8 if quick else SCENES)]
    videos = [scene(10_000 + seed) for seed in range(scenes)]
    model = GMPVISModel(network, CLASS_NAMES, GraphAssociator(), None)
    with torch.inference_mode():
        seen = [[model.encode(video.frame(t)) for t in range(LENGTH)] for video in videos]
    table = Table(title=f"{len(videos)} unseen scenes of {LENGTH} frames at {SIZE[1]}x{SIZE[0]}")
    for column in ("embeddings", "memory", "edges", *FIGURES, "met, same track", "hidden, same track"):
        table.add_column(column)
    for name in ("IDSW", "IDF1"):
        table.add_column(f"edges: {name}")

    def both(embeddings: bool = True) -> tuple[Scores, Scores]:
        plain, graph = (score(network, seen, videos, folder, weight, embeddings) for weight in (0.0, 1.0))
        return plain, graph

    add_rows(table, ("none", ""), *both(embeddings=False))
    add_rows(table, ("of the first training", "no"), *both())
    changes = Table(title="differences that the memory makes")
    for column in ("embeddings", "edges", *FIGURES):
        changes.add_column(column)
    for how in only or TAUGHT:
        found = []
        for temporal in (False, True):
            tell(f"{how}, {'with' if temporal else 'without'} memory: {more} steps")
            teach(network, temporal, how, known, more, seed)
            found.append(both())
            add_rows(table, (how, "yes" if temporal else "no"), *found[-1])
        for edges, without, with_memory in zip(("no", "yes"), *found):
            changes.add_row(how, edges, *map(with_error, (with_memory.figures - without.figures).T))
    console.print(table)
    console.print(changes)


if __name__ == "__main__":
    typer.run(main)
