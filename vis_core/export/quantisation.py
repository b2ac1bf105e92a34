"""Networks in 8 bits: static, weights per channel, ranges of activations from real images.

Only convolutions are quantised, for in those the time is spent; what lies between them stays in float32, unless the
runtime joins it to them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from vis_core.nn.graphs import Graph

Inputs = Mapping[str, "list[tuple[Tensor, ...]]"]
"""What each graph was asked, for calibration."""


def quantised(
    models: Mapping[str, Any],
    graphs: Mapping[str, Graph],
    excluded: Mapping[str, Collection[str]],
    record: Callable[[], Inputs],
) -> dict[str, Any]:
    """ONNX graphs in 8 bits, but for what must stay in float32.

    Args:
        models: by name.
        graphs: what they were made from.
        excluded: of each, the nodes that stay in float32.
        record: gives what each is asked in real images.
    """
    asked = record()
    found = {}
    for name, model in models.items():
        inputs = [{key: x.numpy() for key, x in zip(graphs[name].inputs, one)} for one in asked[name]]
        float32 = set(excluded[name])
        some = "" not in graphs[name].float32 and any(
            node.op_type == "Conv" and node.name not in float32 for node in model.graph.node
        )
        found[name] = _quantised_onnx(model, inputs, sorted(float32)) if some else model
    return found


def _quantised_onnx(model: Any, inputs: list[dict[str, Any]], excluded: list[str]) -> Any:
    """By ONNX Runtime: convolutions in QDQ form, which its kernels join.

    Weights have 7 bits: without VNNI a CPU adds products of pairs in 16, which 8 bits of both would overflow.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(inputs)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._left, None)

    with TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder) / f"{name}.onnx" for name in ("source", "prepared", "target"))
        onnx.save(model, source)
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=excluded,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        written = onnx.load(target)
    _only_for_convolutions(written.graph, excluded)
    return written


def _only_for_convolutions(graph: Any, excluded: Collection[str]) -> None:
    """Let all else read what was there before it was rounded: the tool rounds a tensor for whoever reads it."""
    made_by = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") or (
            node.op_type == "Conv" and node.name not in excluded
        ):
            continue
        for i, name in enumerate(node.input):
            wide = made_by.get(name)
            narrow = made_by.get(wide.input[0]) if wide is not None and wide.op_type == "DequantizeLinear" else None
            if narrow is not None and narrow.op_type == "QuantizeLinear":
                node.input[i] = narrow.input[0]
