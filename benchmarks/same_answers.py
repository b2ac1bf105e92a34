"""Whether every system still answers what it answered before a change, to the last bit.

    python benchmarks/same_answers.py record VIDEO before.json      # with the code as it was
    python benchmarks/same_answers.py compare VIDEO before.json     # with the code as it is, on the same machine

Each scenario runs a system, with its own or with fixed random weights, over frames of the video: the shipped model over
all of it, with one and four views; the others over a few frames, in windows of several lengths and strides, whole
videos, through a change of size and a reset in the middle. An answer is a frame's track ids, labels, scores, boxes,
states, ages, stamps and run lengths. `compare` runs each scenario frame by frame, then with the frames prefetched; it
ends with exit code 1 if one answer differs.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import atexit
import hashlib
import json
import shutil
import sys
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer
from conditions import Quick, first_frames

import vis_core
from vis_core.checkpoints import write_tensors
from vis_core.models.visolo.network import VISOLONetwork
from vis_core.structures import Frame, Instances

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Scenario:
    """A run of a system.

    Attributes:
        system: its name.
        options: of the system.
        skip: every how many frames of the video one is taken.
        count: frames of the video; None: all.
        smaller_from: number of the first frame that comes at three quarters of the size, which begins a new stream.
        reset_before: number of the frame before which what is owed is asked for and the segmenter is reset.
    """

    system: str
    options: dict[str, Any] = field(default_factory=dict)
    skip: int = 10
    count: int | None = 16
    smaller_from: int | None = 12
    reset_before: int | None = 7


_LITE = {"score_threshold": 0.05, "birth_threshold": 0.1, "first_birth_threshold": 0.08}
_VISOLO = {"input_size": (96, 160), "score_threshold": 0.0, "update_threshold": 0.0, "max_instances": 12}
_QUERIES = {"short_side": 96, "score_threshold": 0.295, "max_instances": 40, "max_lost_frames": 2}
_STRICT = {"min_similarity": 0.9997, "return_similarity": 0.9996, "max_lost_tracks": 5}
SCENARIOS = {
    "visolo-lite": Scenario("visolo-lite", {}, 1, None, None, None),
    "visolo-lite, 4 views": Scenario("visolo-lite", {"views": 4}, 1, None, None, None),
    "visolo-lite, change of size": Scenario("visolo-lite", _LITE, 3, 40, 30, 17),
    "visolo-lite, published masks, 2 views": Scenario(
        "visolo-lite", {**_LITE, "mask_resize": "published", "views": 2, "min_part": 0.1, "max_lost_frames": 2}, 3, 30
    ),
    "visolo": Scenario("visolo", _VISOLO),
    "visolo, as published": Scenario(
        "visolo",
        {**_VISOLO, "published_quirks": True, "memory_frames": None, "max_lost_frames": None, "memory_interval": 2},
    ),
    "visolo, logits, short lives": Scenario(
        "visolo", {**_VISOLO, "mask_resize": "logits", "max_lost_frames": 1, "max_lost_tracks": 3, "reweighting": False}
    ),
    "minvis": Scenario("minvis", _QUERIES),
    "minvis, strict slots": Scenario("minvis", {**_QUERIES, **_STRICT}),
    "minvis, unbounded": Scenario("minvis", {**_QUERIES, "unbounded": True}),
    "mask2former-vis, unbounded": Scenario("mask2former-vis", {**_QUERIES, "unbounded": True}),
    **{
        f"mask2former-vis, windows of {length}, stride {stride}": Scenario(
            "mask2former-vis",
            {
                **_QUERIES,
                "clip_length": length,
                "stride": stride,
                "link_overlap": overlap,
                "max_lost_frames": 2 * length,
            },
        )
        for length, stride, overlap in ((2, 1, 0.3), (4, 3, 0.5), (5, 1, 0.6), (5, 2, 0.3), (6, 5, 0.1), (36, 12, 0.3))
    },
}


def stream(scenario: Scenario, video: Path) -> Iterator[Frame]:
    """The frames of a scenario."""
    with vis_core.open_video(video) as source:
        for number, frame in enumerate(islice(source, 0, None, scenario.skip)):
            if number == scenario.count:
                return
            image = frame.image
            if scenario.smaller_from is not None and number >= scenario.smaller_from:
                image = np.asarray(cv2.resize(image, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA), np.uint8)
            yield Frame(image, frame.stamp, number)


def answers(scenario: Scenario, video: Path, prefetch: bool) -> list[str]:
    """What a system answers, one digest a frame."""
    weights = narrow_visolo() if scenario.system == "visolo" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that weights are random
        segmenter = vis_core.load(scenario.system, weights, device="cpu", precision="fp32", **scenario.options)
    if scenario.system in ("minvis", "mask2former-vis"):
        stir(segmenter.network)
    found: list[Instances] = []
    frames = list(stream(scenario, video)) if scenario.count is not None else stream(scenario, video)
    if prefetch:
        parts: Sequence[Any] = [frames]
        if scenario.reset_before is not None:
            assert isinstance(frames, list)
            parts = [frames[: scenario.reset_before], frames[scenario.reset_before :]]
        for part in parts:
            found += segmenter.run(part)
    else:
        for frame in frames:
            if frame.index == scenario.reset_before:
                found += segmenter.flush()
                segmenter.reset()
            found += segmenter.step(frame)
        found += segmenter.flush()
    return [digest(instances) for instances in found]


@cache
def narrow_visolo() -> Path:
    """Weights of a VISOLO a quarter as wide as the published one, which finds several instances in noise."""
    random = torch.Generator().manual_seed(2)
    tensors = VISOLONetwork(50, classes=5, width=64).state_dict()
    for key, value in tensors.items():
        if value.dim() == 4:
            value.normal_(0, value[0].numel() ** -0.5, generator=random)
        elif key.endswith("norm.weight"):
            value.uniform_(0.5, 1.5, generator=random)
        elif not key.endswith("var"):
            value.normal_(0, 0.02, generator=random)
    path = Path(tempfile.mkdtemp()) / "narrow.safetensors"
    write_tensors(path, tensors, {"format": "vis_core 1", "system": "visolo"})
    atexit.register(shutil.rmtree, path.parent)
    return path


@torch.no_grad()
def stir(network: torch.nn.Module) -> None:
    """Random heads and queries under which many instances are found, begin and end: new ones find all, or none."""
    random = torch.Generator().manual_seed(4)
    for name, x in network.state_dict().items():
        if x.dim() == 2 and ("class_embed" in name or "mask_embed" in name):
            x.normal_(0, (2 / x.shape[1]) ** 0.5, generator=random)
        elif "query" in name:
            x.normal_(0, 2, generator=random)


def digest(x: Instances) -> str:
    """Index, tracks seen and all tracks of a frame, then the CRC-32 of everything that is said of them."""
    text = hashlib.blake2b(digest_size=8)
    for array in (
        x.track_ids,
        x.labels,
        x.scores,
        x.track_scores,
        x.boxes,
        x.states,
        x.ages,
        x.first_seen,
        x.last_seen,
    ):
        text.update(array.tobytes())
    text.update(repr((x.stamp, x.size)).encode())
    for mask in x.masks:
        text.update(repr((mask.size, mask.box)).encode())
        text.update(mask.runs.tobytes())
    return f"{x.index} {int(x.visible.sum())} {len(x)} {text.hexdigest()}"


@app.callback(invoke_without_command=True)
def begin(context: typer.Context, quick: Quick = False) -> None:
    """Write what every system answers, or compare it with what was written."""
    if quick:
        with tempfile.TemporaryDirectory() as folder:
            for frame in first_frames(None, 10, (96, 160)):
                cv2.imwrite(f"{folder}/{frame.index:02d}.png", frame.image)
            scenarios = {name: replace(SCENARIOS[name], skip=1) for name in ("visolo",)}
            before = Path(folder, "before.json")
            _record(Path(folder), before, scenarios)
            _compare(Path(folder), before, scenarios)
    elif context.invoked_subcommand is None:
        raise typer.BadParameter("record or compare?")


@app.command()
def record(video: Path, out: Path, only: Annotated[str, typer.Option(help="part of a scenario's name")] = "") -> None:
    """Write what every system answers."""
    _record(video, out, {name: scenario for name, scenario in SCENARIOS.items() if only in name})


def _record(video: Path, out: Path, scenarios: Mapping[str, Scenario]) -> None:
    torch.set_num_threads(2)
    recorded = json.loads(out.read_text("utf-8")) if out.is_file() else {}
    for name, scenario in scenarios.items():
        if name not in recorded:
            recorded[name] = answers(scenario, video, prefetch=False)
            out.write_text(json.dumps(recorded, indent=0) + "\n", "utf-8")
            print(f"{name}: {summary(recorded[name])}", flush=True)


@app.command()
def compare(
    video: Path, before: Path, only: Annotated[str, typer.Option(help="part of a scenario's name")] = ""
) -> None:
    """Compare what every system answers with what was written."""
    _compare(video, before, {name: scenario for name, scenario in SCENARIOS.items() if only in name})


def _compare(video: Path, before: Path, scenarios: Mapping[str, Scenario]) -> None:
    torch.set_num_threads(2)
    differing = 0
    for name, expected in json.loads(before.read_text("utf-8")).items():
        if name not in scenarios:
            continue
        for prefetch in (False, True):
            found = answers(scenarios[name], video, prefetch)
            where = [i for i, (a, b) in enumerate(zip(expected, found)) if a != b]
            told = "equal" if found == expected else f"{len(found)} for {len(expected)}, different at {where[:10]}"
            differing += found != expected
            print(f"{name}{', prefetched' if prefetch else ''}: {told} ({summary(found)})", flush=True)
    sys.exit(differing > 0)


def summary(digests: Sequence[str]) -> str:
    """How much there was to compare."""
    seen = sum(int(text.split()[1]) for text in digests)
    return f"{len(digests)} frames, {seen} masks, CRC {zlib.crc32(chr(10).join(digests).encode()):08x}"


if __name__ == "__main__":
    app()
