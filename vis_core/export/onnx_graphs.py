"""Pieces of a network as ONNX graphs, and the one file that holds them."""

from __future__ import annotations

import ast
import base64
import json
import logging
import warnings
from collections.abc import Collection, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vis_core.errors import ExportError, MissingDependencyError, printable
from vis_core.files.atomic import atomic_write
from vis_core.nn.graphs import Graph
from vis_core.system.exported import ABOUT, GRAPH_KEY

OPSET = 23
"""From 23 on a query that may look at no key gives 0, as PyTorch does; before, the mean of all values, or NaN."""
_TALKERS = ("torch.onnx", "torch.onnx._internal.exporter._registration", "onnxscript", "onnx_ir")
LARGEST = 2**31 - 1  # bytes of a file of this form
LARGEST_SIZE = 2**16


def traced(name: str, graph: Graph) -> Any:
    """The `onnx.ModelProto` of a graph, with named inputs, outputs and sizes.

    Raises:
        ExportError: PyTorch cannot export it.
        MissingDependencyError: a package is missing.
    """
    try:
        import onnxscript  # noqa: F401 what PyTorch exports with
    except ImportError as error:
        raise MissingDependencyError("onnxscript is needed to export: pip install 'vis_ros[onnx]'") from error
    module = graph.module.eval()
    try:
        with _quiet(), torch.enable_grad():  # where modules take their plain forms
            program = torch.onnx.export(
                module,
                tuple(x.clone() for x in graph.inputs.values()),
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=_sizes(graph),
                dynamo=True,
                opset_version=graph.opset or OPSET,
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        raise ExportError(
            f"graph {name!r}: PyTorch {torch.__version__} cannot export it: {printable(error)}"
        ) from error
    assert program is not None
    return program.model_proto


def nodes_within(model: Any, names: Collection[str]) -> list[str]:
    """Nodes of a traced graph that belong to submodules whose names begin with one of these."""
    found = []
    for node in model.graph.node:
        scopes = next((x.value for x in node.metadata_props if x.key == "pkg.torch.onnx.name_scopes"), "[]")
        *modules, _ = ast.literal_eval(scopes) or [""]
        if any(f"{module}.".startswith(name) for module in modules for name in names):
            found.append(node.name)
    return found


def write_onnx(path: Path, models: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write graphs as one file: the first is the file's own, the others lie in its metadata.

    Raises:
        ExportError: it would be larger than such a file can be.
        OSError: it cannot be written.
    """
    (_, main), *others = models.items()
    del main.metadata_props[:]
    entries = {ABOUT: json.dumps(about)}
    entries |= {GRAPH_KEY + name: base64.b64encode(model.SerializeToString()).decode() for name, model in others}
    for key, value in entries.items():
        entry = main.metadata_props.add()
        entry.key, entry.value = key, value
    if main.ByteSize() > LARGEST:
        raise ExportError(f"{path}: the network takes {main.ByteSize() / 1e9:.1f} GB, an .onnx file 2.1 at most")
    with atomic_write(path) as partial:
        partial.write_bytes(main.SerializeToString())


def _sizes(graph: Graph) -> tuple[dict[int, Any], ...]:
    """Of each input the axes that change, as PyTorch takes them; those that are multiples of one another are tied."""
    axes = [graph.dynamic.get(name, {}) for name in graph.inputs]
    tied = {text.split("*")[1] for of_input in axes for text in of_input.values() if "*" in text}
    known = {name: torch.export.Dim(name, min=1, max=LARGEST_SIZE) for name in tied}

    def size(text: str) -> Any:
        *times, name = text.split("*")
        return int(times[0]) * known[name] if times else known.get(name, name)

    return tuple({axis: size(text) for axis, text in of_input.items()} for of_input in axes)


@contextmanager
def _quiet() -> Any:
    """Without what PyTorch's exporter tells of itself."""
    loggers = [logging.getLogger(name) for name in _TALKERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
