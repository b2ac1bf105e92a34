"""What to start from: the command lines at the end of each command's help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.markup import escape

VIS: Mapping[str, Sequence[str]] = {
    "segment": (
        "vis segment street.mp4",
        "vis segment frames/ -o out --save-masks=color --csv",
        "vis segment 'clips/*.mp4' -o out --jobs 2",
        "vis segment rtsp://camera.local/stream --max-frames 3000 -o out",
        "vis segment val.json --system visolo --weights visolo.safetensors",
    ),
    "evaluate": (
        "vis evaluate out/results.json --ground-truth val.json",
        "vis evaluate out/results.json --ground-truth val.json --out scores",
    ),
    "train": ("vis train train.yaml", "vis train train.yaml steps=2000 output=run2"),
    "inspect": ("vis inspect val.json", "vis inspect val.json --sheet pictures.png"),
    "systems": ("vis systems", "vis systems visolo-lite"),
    "convert": ("vis convert visolo visolo_r50.pth visolo.safetensors --half",),
    "submit": ("vis submit out/results.json --split ytvis2019 --out submission.zip",),
}
"""Of the commands of ``vis``, by name."""


def examples(lines: Sequence[str]) -> str:
    """The end of a command's help: its examples, for ``epilog``."""
    return "\n\n".join(("[bold]Examples[/]", *(f"  {escape(line)}" for line in lines)))
