"""From a system and its weights to a file that runs without PyTorch's network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

import vis_core
from vis_core import catalog
from vis_core.data.synthetic import synthetic_video
from vis_core.errors import CheckpointError, ExportError, OptionError
from vis_core.export.onnx_graphs import nodes_within, traced, write_onnx
from vis_core.export.openvino_graphs import converted, write_openvino
from vis_core.export.proof import Proof, prove
from vis_core.export.quantisation import quantised
from vis_core.files.weights_folder import find_weights
from vis_core.nn.graphs import Graph
from vis_core.nn.runtimes import PRECISIONS, SUFFIXES, is_exported
from vis_core.structures import Frame, Instances
from vis_core.system import exported, exported_tensors
from vis_core.system.clip import ClipModel, TensorRun
from vis_core.system.driver import StreamSegmenter
from vis_core.system.option import check_options
from vis_core.system.segmenter import Segmenter

PROOF_FRAMES = 8
"""Synthetic ones, where none are given."""


def export(
    name: str,
    weights: str | Path | None,
    target: Path,
    form: str,
    precision: str = "fp32",
    frames: Sequence[Frame] = (),
    options: Mapping[str, Any] | None = None,
) -> Proof:
    """Export a system.

    Args:
        name: of the system.
        weights: as for `vis_core.load`.
        target: see `vis_core.nn.runtimes.exported_path`.
        form: a key of `SUFFIXES`.
        precision: ``fp32``, ``bf16`` (OpenVINO), ``int8``.
        frames: to prove it on, and to calibrate int8 on; none: synthetic ones.
        options: of the system, of those that are part of the graphs.

    Raises:
        ExportError: it cannot be exported so, and why.
        OptionError, CheckpointError: as of `vis_core.load`.
        OSError: the target cannot be written.
    """
    options = dict(options or {})
    system = catalog.find(name)
    path = system.default_weights() if weights is None else find_weights(weights)
    if path is not None and is_exported(path):
        raise CheckpointError(f"{path}: is exported already; give the weights that it was made from")
    checked = check_options(system.options, options, f"{name}: ")
    stated: dict[str, Any] = {"system": name, "source": None}
    tensors: Mapping[str, Tensor] | None = None
    metadata: Mapping[str, str] = {}
    if path is not None:
        tensors, metadata = catalog.read_weights(system, path)
        stated["source"] = {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    segmenter = catalog.build(system, tensors, metadata, "cpu", "fp32", checked)
    fixed = _model(segmenter).fixed_options
    if free := sorted(options.keys() - set(fixed)):
        raise OptionError(
            f"{name}: {', '.join(free)}: not part of the graphs ({', '.join(fixed) or 'no option is'}); give it where "
            "the exported network is loaded"
        )
    stated["options"] = {key: checked[key] for key in fixed}
    return export_segmenter(segmenter, target, form, precision, frames, stated, tensors, metadata)


def export_segmenter(
    segmenter: Segmenter,
    target: Path,
    form: str = "onnx",
    precision: str = "fp32",
    frames: Sequence[Frame] = (),
    stated: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Tensor] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Proof:
    """Export a segmenter on the CPU in float32; see `export`.

    Args:
        segmenter: whose network is exported.
        target: the file or folder.
        form: a key of `SUFFIXES`.
        precision: of the exported network.
        frames: to prove it on, and to calibrate int8 on.
        stated: its system, options and source.
        tensors: that it was built from.
        metadata: of their file.
    """
    if form not in SUFFIXES or precision not in PRECISIONS:
        raise OptionError(
            f"format {form!r} and precision {precision!r}: known are {', '.join((*SUFFIXES, *PRECISIONS))}"
        )
    if (form, precision) == ("onnx", "bf16"):
        raise ExportError("bf16 in ONNX: ONNX Runtime's CPU has no kernels for it; use --format openvino, or int8")
    if precision == "int8" and not frames:
        raise ExportError("int8: give real images to calibrate on, --calibrate DATA.json: a hundred will do")
    model = _model(segmenter)
    graphs = model.graphs()
    models = {name: traced(name, graph) for name, graph in graphs.items()}
    excluded = {name: nodes_within(models[name], graph.float32) for name, graph in graphs.items()}
    if precision == "int8":
        models = quantised(models, graphs, excluded, partial(_recorded_inputs, segmenter, graphs, frames))
    if form == "openvino":
        models = {name: converted(x) for name, x in models.items()}
    about = {
        "format": exported.FORMAT,
        "system": "",
        "options": {},
        **(stated or {}),
        "class_names": list(segmenter.class_names),
        "precision": precision,
        "weights": None if tensors is None else exported_tensors.stated_weights(tensors),
        "weights_metadata": dict(metadata or {}),
        "graphs": {
            name: {
                "inputs": list(graph.inputs),
                "outputs": list(graph.outputs),
                "precision": "fp32" if "" in graph.float32 else precision,
            }
            for name, graph in graphs.items()
        },
        "versions": _versions(),
    }
    write = write_onnx if form == "onnx" else write_openvino
    synthetic = synthetic_video(0, PROOF_FRAMES)
    shown = list(frames)[:PROOF_FRAMES] or [synthetic.frame(i) for i in range(len(synthetic))]
    plain = _answers(segmenter, shown)
    with TemporaryDirectory() as folder:
        trial = Path(folder) / target.name
        write(trial, models, {**about, "proof": None})
        network = exported.read(trial, "cpu")
        if precision == "bf16" and all(run.precision == "f32" for run in network.runs.values()):
            raise ExportError(
                "bf16: this CPU has none, and computes in float32; export where it has, for the proof's sake"
            )
        with _running(model, {name: exported_tensors.on_tensors(run) for name, run in network.runs.items()}):
            proof = prove(plain, _answers(segmenter, shown))
    if precision == "fp32":
        proof.check()
    write(target, models, {**about, "proof": proof.stated()})
    return proof


def _model(segmenter: Segmenter) -> ClipModel[Any, Any]:
    if not isinstance(segmenter, StreamSegmenter):
        raise ExportError(f"{type(segmenter).__name__}: this system cannot be exported: it has a driver of its own")
    return segmenter.model


def _answers(segmenter: Segmenter, frames: Iterable[Frame]) -> list[Instances]:
    return list(segmenter.run(frames, prefetch=False))


def _recorded_inputs(
    segmenter: Segmenter, graphs: Mapping[str, Graph], frames: Iterable[Frame]
) -> dict[str, list[tuple[Tensor, ...]]]:
    """What each graph is asked while a segmenter runs over frames."""
    asked: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in graphs}

    def recorded(name: str, module: nn.Module) -> TensorRun:
        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            asked[name].append(tuple(x.clone() for x in inputs))
            found = module(*inputs)
            return (found,) if isinstance(found, Tensor) else tuple(found)

        return run

    with _running(_model(segmenter), {name: recorded(name, graph.module) for name, graph in graphs.items()}):
        _answers(segmenter, frames)
    return asked


@contextmanager
def _running(model: ClipModel[Any, Any], runs: Mapping[str, TensorRun]) -> Iterator[None]:
    """Inside, a model runs on these in place of its network's pieces."""
    model.use_exported(runs)
    try:
        yield
    finally:
        model.use_exported({})


def _versions() -> dict[str, str]:
    """Of what has a part in an export."""
    found = {"vis_ros": vis_core.__version__}
    for name in ("torch", "onnx", "onnxscript", "onnxruntime", "openvino"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
