"""The mean of weight files of one network, as a step of a recipe.

    python benchmarks/mean_of_weights.py OUT.safetensors A.safetensors:2 B.safetensors:1

The numbers are shares, 1 where none is given. What the first file says of itself is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from vis_core.checkpoints import read_tensors, write_tensors


def main(
    out: Annotated[Path, typer.Argument(help="file to write")],
    parts: Annotated[list[str], typer.Argument(help="FILE or FILE:SHARE")],
) -> None:
    """Write it."""
    split = [part.partition(":") for part in parts]
    files = [read_tensors(Path(name)) for name, _, _ in split]
    shares = torch.tensor([float(share or 1) for _, _, share in split], dtype=torch.float64)
    mean, metadata = files[0]
    for key, tensor in mean.items():
        if tensor.is_floating_point():
            rows = torch.stack([tensors[key].double() for tensors, _ in files])
            mean[key] = torch.tensordot(shares / shares.sum(), rows, 1).float().contiguous()
    write_tensors(out, mean, metadata)
    print(f"{out}: {len(mean)} tensors")


if __name__ == "__main__":
    typer.run(main)
