"""An exported network in place of the one that PyTorch has of a system: the rest of the system stays on tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vis_core.errors import CheckpointError, printable
from vis_core.nn.runtimes import Run
from vis_core.system.clip import TensorRun
from vis_core.system.driver import StreamSegmenter
from vis_core.system.exported import ExportedNetwork
from vis_core.system.segmenter import Segmenter

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int64": torch.int64}


def use(segmenter: Segmenter, exported: ExportedNetwork) -> None:
    """Let a segmenter of the same system and options run on an exported network; its own loses its weights.

    Raises:
        CheckpointError: class names are others.
    """
    stated = tuple(exported.about["class_names"])
    if segmenter.class_names != stated:
        raise CheckpointError(
            f"{exported.path}: states classes {printable(stated, 200)}, and its system has "
            f"{printable(segmenter.class_names, 200)}"
        )
    assert isinstance(segmenter, StreamSegmenter)
    segmenter.model.use_exported({name: on_tensors(run) for name, run in exported.runs.items()})
    assert segmenter.network is not None
    for module in segmenter.network.modules():
        for held in (module._parameters, module._buffers):
            held.update(dict.fromkeys(held))


def zero_weights(exported: ExportedNetwork) -> dict[str, Tensor] | None:
    """Tensors of the shapes of the weights, which are zeros: what a network is built by. None: there were none."""
    if exported.about["weights"] is None:
        return None
    try:
        return {key: _tensor(*stated) for key, stated in exported.about["weights"].items()}
    except (TypeError, ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{exported.path}: what it states of its weights: {printable(error)}") from error


def on_tensors(run: Run) -> TensorRun:
    """What runs a graph on arrays, for tensors on the host."""

    def run_tensors(*inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(torch.from_numpy, run(*(np.ascontiguousarray(x.numpy()) for x in inputs))))

    return run_tensors


def stated_weights(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What `zero_weights` makes tensors from: type, shape, and of a few whole numbers the values."""
    return {
        key: [str(x.dtype).removeprefix("torch."), list(x.shape), None if x.is_floating_point() else x.tolist()]
        for key, x in tensors.items()
    }


def _tensor(dtype: str, shape: list[int], values: list[Any] | None) -> Tensor:
    if values is not None:
        return torch.tensor(values, dtype=_DTYPES[dtype]).reshape(shape)
    return torch.zeros((), dtype=_DTYPES[dtype]).expand(shape)
