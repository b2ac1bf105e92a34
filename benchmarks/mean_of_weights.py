"""The mean of weight files of one network, as a step of a recipe.

    python benchmarks/mean_of_weights.py OUT.safetensors A.safetensors:2 B.safetensors:1

The numbers are shares, 1 where none is given. What the first file says of itself is kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from conditions import Quick, tell

from vis_core.checkpoints import read_tensors, write_tensors


def main(
    out: Annotated[Path | None, typer.Argument(help="file to write")] = None,
    parts: Annotated[list[str] | None, typer.Argument(help="FILE or FILE:SHARE")] = None,
    quick: Quick = False,
) -> None:
    """Write it."""
    if quick:
        with tempfile.TemporaryDirectory() as folder:
            made = [Path(folder, f"{number}.safetensors") for number in range(3)]
            for path in made[1:]:
                write_tensors(path, {"a": torch.rand(2, 3), "b": torch.rand(4)}, {})
            mean_of(made[0], [f"{made[1]}:2", str(made[2])])
    elif out is None or not parts:
        raise typer.BadParameter("OUT and the files that it is the mean of are wanted")
    else:
        mean_of(out, parts)


def mean_of(out: Path, parts: Sequence[str]) -> None:
    """Write the mean of files."""
    split = [part.partition(":") for part in parts]
    files = [read_tensors(Path(name)) for name, _, _ in split]
    shares = torch.tensor([float(share or 1) for _, _, share in split], dtype=torch.float64)
    mean, metadata = files[0]
    for key, tensor in mean.items():
        tell(f"{key}: {list(tensor.shape)}")
        if tensor.is_floating_point():
            rows = torch.stack([tensors[key].double() for tensors, _ in files])
            mean[key] = torch.tensordot(shares / shares.sum(), rows, 1).float().contiguous()
    write_tensors(out, mean, metadata)
    print(f"{out}: {len(mean)} tensors")


if __name__ == "__main__":
    typer.run(main)
