"""Networks in 8 bits: static, weights per channel, ranges of activations from real images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from vis_core.errors import MissingDependencyError
from vis_core.nn.graphs import Graph

Inputs = Mapping[str, "list[tuple[Tensor, ...]]"]
"""What each graph was asked, for calibration."""


def quantised(
    form: str, models: Mapping[str, Any], graphs: Mapping[str, Graph], record: Callable[[], Inputs]
) -> dict[str, Any]:
    """Graphs in 8 bits, but for those that must stay in float32.

    Args:
        form: ``onnx`` or ``openvino``.
        models: by name, of that form.
        graphs: what they were made from.
        record: gives what each is asked in real images.

    Raises:
        MissingDependencyError: NNCF is not installed.
    """
    asked = record()
    quantise = _quantised_onnx if form == "onnx" else _quantised_openvino
    return {
        name: model
        if graphs[name].float32
        else quantise(model, [{key: x.numpy() for key, x in zip(graphs[name].inputs, one)} for one in asked[name]])
        for name, model in models.items()
    }


def _quantised_onnx(model: Any, inputs: list[dict[str, Any]]) -> Any:
    """By ONNX Runtime: convolutions in QDQ form, which its kernels fuse."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
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
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(target)


def _quantised_openvino(model: Any, inputs: list[dict[str, Any]]) -> Any:
    """By NNCF; group norms and what follows no convolution stay in float32, which they need."""
    try:
        import nncf
    except ImportError as error:
        raise MissingDependencyError("nncf is needed for int8: pip install 'vis_ros[openvino]'") from error
    ignored = nncf.IgnoredScope(types=["MVN", "Reshape"], validate=False)
    data, preset = nncf.Dataset(inputs), nncf.QuantizationPreset.MIXED
    return nncf.quantize(model, data, preset=preset, subset_size=len(inputs), ignored_scope=ignored)
