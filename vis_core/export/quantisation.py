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
        found[name] = model if "" in graphs[name].float32 else _quantised_onnx(model, inputs, sorted(excluded[name]))
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
        return onnx.load(target)
