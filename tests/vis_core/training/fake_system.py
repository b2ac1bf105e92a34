"""A system that trains in milliseconds: it finds the pixels that belong to anything, and calls them one object.

As a program it is ``vis`` with this system. ``FAKE_KILL`` names the moment at which it kills itself: ``forward:5``
(in the fifth forward pass), ``write:2`` (half of the second state is written), ``rename:3`` (before the third rename).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Annotated

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.vis_core.fake_system import FakeSegmenter
from vis_core import catalog, masks
from vis_core.data.clips import TrainingClip
from vis_core.system.entry import System
from vis_core.system.option import Option
from vis_core.system.trainable import Trainable


def network(width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width).eval(), nn.ReLU(), nn.Dropout(dropout),
        nn.Conv2d(width, 1, 3, padding=1),
    )  # fmt: skip


def normalised(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float() / 255 - 0.5


class FakeTraining(Trainable):
    def __init__(self, width: int, dropout: float, explode: int) -> None:
        super().__init__(network(width, dropout), (0.0,) * 3, (1.0,) * 3)
        self.explode, self.calls = explode, 0

    def train(self, mode: bool = True) -> FakeTraining:
        super().train(mode)
        self.network[1].eval()  # its statistics would be those of one process
        return self

    def forward(self, clips: Sequence[TrainingClip], all_reduce_sum: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        self.calls += 1
        die("forward")
        images = torch.from_numpy(np.concatenate([clip.images for clip in clips]))
        wanted = torch.from_numpy(np.concatenate([clip.masks.any(0) for clip in clips])).float()
        logits = self.network(normalised(images))[:, 0]
        each = F.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="none").mean((1, 2)).sum()
        counts = all_reduce_sum(torch.tensor([float(len(clips) * clips[0].images.shape[0]), 1.0]))
        loss = each * counts[1] / counts[0]
        if self.calls == self.explode:
            loss = loss * float("nan")
        return {"pixels": loss, "size": 0.1 * logits.float().square().mean((1, 2)).sum() * counts[1] / counts[0]}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"backbone": list(self.network[0].parameters()), "heads": list(self.network[4].parameters())}

    def weights(self) -> dict[str, Tensor]:
        return {key: x.float() for key, x in self.network.state_dict().items() if "num_batches" not in key}


class Segmenter(FakeSegmenter):
    """One track: the fifth of the pixels with the largest logits."""

    def __init__(self, tensors: Mapping[str, Tensor], names: Sequence[str]) -> None:
        super().__init__()
        self.class_names = tuple(names)
        self.network = network(len(tensors["0.bias"]), 0.0)
        self.network.load_state_dict(dict(tensors), strict=False)
        self.network.eval()

    @torch.no_grad()
    def step(self, frame):
        logits = self.network(normalised(torch.from_numpy(frame.image)[None]))[0, 0].numpy()
        found = logits > np.quantile(logits, 0.8)
        self.lifecycle.expire()
        continues = list(self.lifecycle.alive[:1]) or [None]
        classes = np.full((1, len(self.class_names)), 0.5)
        return [self.lifecycle.update(frame, continues, np.array([0.5]), classes, [masks.encode(found)])]


def build(
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    device: torch.device,
    precision: str,
    score_threshold: Annotated[float, Option("Least score.", 0.0, 1.0)] = 0.1,
) -> Segmenter:
    return Segmenter(tensors, json.loads(metadata["class_names"]))


def trainable(
    class_names: tuple[str, ...],
    tensors: Mapping[str, Tensor] | None,
    generator: torch.Generator,
    width: Annotated[int, Option("Channels.", 1, 64)] = 8,
    dropout: Annotated[float, Option("Share of the channels.", 0, 1)] = 0.0,
    explode: Annotated[int, Option("Forward pass whose loss is no number.", 0)] = 0,
) -> FakeTraining:
    made = FakeTraining(width, dropout, explode)
    for parameter in made.parameters():
        nn.init.normal_(parameter, 0, 0.2, generator=generator)
    if tensors is not None:
        made.network.load_state_dict(dict(tensors), strict=False)
    made.network[1].requires_grad_(False)
    return made


SYSTEM = System(
    name="fake",
    title="Fake",
    paper="nobody, nowhere",
    build=build,
    published=None,
    checkpoints_licence="none",
    checkpoints_source="nowhere",
    trainable=trainable,
)
SYSTEMS = {**catalog.SYSTEMS, "fake": SYSTEM}

_passed: dict[str, int] = {}


def die(moment: str) -> None:
    """End this process, as the kernel would, if this is the moment that was asked for."""
    wanted, _, count = os.environ.get("FAKE_KILL", "").partition(":")
    _passed[moment] = _passed.get(moment, 0) + 1
    if moment == wanted and _passed[moment] == int(count):
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    from vis_core.commands import main as cli
    from vis_core.training import state

    save, replace = torch.save, Path.replace

    def save_half(content: object, file: IO[bytes]) -> None:
        whole = BytesIO()
        save(content, whole)
        data = whole.getvalue()
        file.write(data[: len(data) // 2])
        file.flush()
        die("write")
        file.write(data[len(data) // 2 :])

    def replace_late(path: Path, target: Path) -> Path:
        if Path(target).suffix == ".pt":
            die("rename")
        return replace(path, target)

    state.torch.save = save_half
    Path.replace = replace_late
    catalog.SYSTEMS = SYSTEMS
    cli.main()


if __name__ == "__main__":
    sys.exit(main())
