"""Graphs that were exported, run by ONNX Runtime or OpenVINO on NumPy arrays; nothing here loads PyTorch or NumPy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from vis_core.errors import CheckpointError, MissingDependencyError, OptionError, printable

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class Run(Protocol):
    """A graph that can be run.

    Attributes:
        inputs: names of what it takes, in order.
        outputs: names of what it gives.
        shapes: of both, by name; None: a size that may change.
        device: the runtime, and what of it works.
        precision: in which it computes what is not quantised, ``f32`` or ``bf16``: a CPU may have none but the first.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, tuple[int | None, ...]]
    device: str
    precision: str

    def __call__(self, *inputs: Array) -> list[Array]:
        """What it makes of its inputs.

        Raises:
            CheckpointError: they do not fit it.
        """


SUFFIXES: Mapping[str, str] = {"onnx": ".onnx", "openvino": "_openvino_model"}
"""Of what an exported network is written to, by format."""
PRECISIONS = ("fp32", "bf16", "int8")
_INSTALL = {
    "onnxruntime": "pip install 'vis_ros[onnx]' (on a GPU: vis_ros[gpu])",
    "openvino": "pip install 'vis_ros[openvino]'",
}


def is_exported(path: str | Path) -> bool:
    """Whether a path names an exported network, by its suffix."""
    return Path(path).name.endswith(tuple(SUFFIXES.values()))


def exported_path(stem: Path, form: str) -> Path:
    """What an exported network of a format is written to: ``STEM.onnx`` or ``STEM_openvino_model``."""
    return stem.with_name(stem.name.removesuffix(SUFFIXES[form]) + SUFFIXES[form])


def onnx_session(source: Path | bytes, device: str, threads: int) -> OnnxSession:
    """A graph under ONNX Runtime.

    Args:
        source: a file, or its content.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``tensorrt``, ``tensorrt:1``.
        threads: of the CPU.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        OptionError: this ONNX Runtime has no such device.
        CheckpointError: it is no graph that ONNX Runtime can run.
    """
    runtime = _package("onnxruntime")
    providers = onnx_providers(device, runtime.get_available_providers())
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads take no CPU from others
    # Without both, memory grows with every size of input that it has not seen.
    options.enable_mem_pattern = options.enable_cpu_mem_arena = False
    what = "a graph" if isinstance(source, bytes) else str(source)
    try:
        session = runtime.InferenceSession(source if isinstance(source, bytes) else str(source), options, providers)
    except Exception as error:
        raise CheckpointError(f"{what}: ONNX Runtime {runtime.__version__}: {printable(error)}") from error
    return OnnxSession(session)


class OnnxSession:
    """Runs a graph; may be called in several threads at once."""

    precision = "f32"

    def __init__(self, session: Any) -> None:
        self._session = session
        self.device = f"ONNX Runtime {session.get_providers()[0]}"
        self.inputs = tuple(x.name for x in session.get_inputs())
        self.outputs = tuple(x.name for x in session.get_outputs())
        self.shapes: Mapping[str, tuple[int | None, ...]] = {
            x.name: tuple(size if isinstance(size, int) else None for size in x.shape)
            for x in (*session.get_inputs(), *session.get_outputs())
        }

    def metadata(self) -> Mapping[str, str]:
        """Of the file, a copy each time, which may hold megabytes."""
        return self._session.get_modelmeta().custom_metadata_map  # type: ignore[no-any-return]

    def __call__(self, *inputs: Array) -> list[Array]:
        try:
            return self._session.run(None, dict(zip(self.inputs, inputs, strict=True)))  # type: ignore[no-any-return]
        except Exception as error:  # its own kinds have no common base
            raise CheckpointError(f"the exported network does not run: ONNX Runtime: {printable(error)}") from error


def onnx_providers(device: str, available: Sequence[str]) -> list[Any]:
    """ONNX Runtime's execution providers for a device, the best first, as it takes them.

    Raises:
        OptionError: the device is unknown, or none of the available ones serves it.
    """
    if device in ("auto", "cpu"):
        gpu = device == "auto" and "CUDAExecutionProvider" in available
        return [*(["CUDAExecutionProvider"] if gpu else []), "CPUExecutionProvider"]
    found = re.fullmatch(r"(cuda|tensorrt)(?::(\d{1,3}))?", device)
    if found is None:
        raise OptionError(f"device {device!r}: an .onnx file runs on auto, cpu, cuda, cuda:1, tensorrt or tensorrt:1")
    number = {"device_id": int(found[2] or 0)}
    wanted = [("CUDAExecutionProvider", number)]
    if found[1] == "tensorrt":
        wanted.insert(0, ("TensorrtExecutionProvider", number))
    if wanted[0][0] not in available:
        raise OptionError(
            f"device {device!r}: this ONNX Runtime has no {wanted[0][0]} (it has {', '.join(available)}); "
            "pip install 'vis_ros[gpu]', or use cpu"
        )
    return [*wanted, "CPUExecutionProvider"]


def openvino_model(path: Path, device: str, threads: int, precision: str) -> OpenVINOModel:
    """A graph under OpenVINO.

    Args:
        path: its ``.xml``.
        device: ``auto``, ``cpu``, or OpenVINO's name of another, ``GPU``, ``GPU.1``, ``NPU``.
        threads: of the CPU.
        precision: of what is not quantised: ``bf16``, else float32.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
        OptionError: it has no such device.
        CheckpointError: it is no graph that OpenVINO can run.
    """
    openvino = _package("openvino")
    core = openvino.Core()
    name = "CPU" if device in ("auto", "cpu") else device.upper()
    if name.partition(".")[0] not in {x.partition(".")[0] for x in core.available_devices}:
        raise OptionError(
            f"device {device!r}: OpenVINO finds {', '.join(core.available_devices)} here; use auto or cpu"
        )
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    options["PERFORMANCE_HINT"] = "LATENCY"
    if name == "CPU":  # each process and model would be bound to the same CPUs
        options |= {"ENABLE_CPU_PINNING": False, "INFERENCE_NUM_THREADS": threads}
    try:
        return OpenVINOModel(core.compile_model(str(path), name, options))
    except Exception as error:
        raise CheckpointError(f"{path}: OpenVINO {openvino.__version__}: {printable(error)}") from error


class OpenVINOModel:
    """Runs a graph; of calls in several threads one is served at a time."""

    def __init__(self, compiled: Any) -> None:
        self.device = f"OpenVINO {', '.join(compiled.get_property('EXECUTION_DEVICES'))}"
        self.inputs = tuple(x.get_any_name() for x in compiled.inputs)
        self.outputs = tuple(x.get_any_name() for x in compiled.outputs)
        self.shapes: Mapping[str, tuple[int | None, ...]] = {
            x.get_any_name(): tuple(None if size.is_dynamic else size.get_length() for size in x.get_partial_shape())
            for x in (*compiled.inputs, *compiled.outputs)
        }
        self.precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        self._request, self._lock = compiled.create_infer_request(), Lock()

    def __call__(self, *inputs: Array) -> list[Array]:
        with self._lock:
            try:
                found = self._request.infer(dict(zip(self.inputs, inputs, strict=True)))
            except Exception as error:  # as above
                raise CheckpointError(f"the exported network does not run: OpenVINO: {printable(error)}") from error
            return [found[i].copy() for i in range(len(self.outputs))]


def _package(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependencyError(f"{name} is needed for this file and not installed: {_INSTALL[name]}") from error
