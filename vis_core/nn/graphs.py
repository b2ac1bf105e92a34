"""A piece of a network as an exporter takes it: tensors in, tensors out, under names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Graph:
    """A piece of a network that becomes one graph.

    It is traced with gradients enabled: there our modules take their plain forms, without packed weights and kept
    constants.

    Attributes:
        module: whose forward takes `inputs` in their order and gives a tensor, or a tuple of tensors.
        inputs: examples, by name.
        outputs: names of the results.
        dynamic: of an input, which axes have another size from call to call, and what that size is called; sizes of
            one name are equal, and ``32*height`` is a multiple of what ``height`` is elsewhere.
        float32: what the names of submodules, with a dot at their end, begin with that stay in float32 where the rest
            is quantised, for rounding shows there; an empty name: all.
        opset: of ONNX's operators, where the runtimes lack some of them in the newest one; None: the exporter's own.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    float32: tuple[str, ...] = ()
    opset: int | None = None
