"""The systems by name, and how one is made from a weight file.

The catalogue is read without PyTorch, which is imported when a network is made of it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vis_core.errors import CheckpointError, MissingDependencyError, OptionError, nearest, printable
from vis_core.files.weights_folder import find_weights
from vis_core.models import efficientvis, gmp_vis, mask2former_vis, tevit, video_knet, visolo
from vis_core.nn.runtimes import is_exported
from vis_core.system.entry import System
from vis_core.system.option import check_options

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vis_core.system.exported import ExportedNetwork
    from vis_core.system.segmenter import Segmenter

SYSTEMS: Mapping[str, System] = {
    system.name: system
    for module in (visolo, mask2former_vis, efficientvis, tevit, video_knet, gmp_vis)
    for system in module.SYSTEMS
}
PRECISIONS = ("auto", "fp32", "bf16", "fp16")

_log = logging.getLogger(__name__)


def load(
    name: str,
    weights: str | Path | None = None,
    device: str | torch.device = "auto",
    precision: str = "auto",
    **options: Any,
) -> Segmenter:
    """A system, ready to run on a stream.

    Args:
        name: a name of `SYSTEMS`.
        weights: our ``.safetensors``, or a published checkpoint (``.pth``, ``.pkl``), which is converted on the fly; an
            exported network (``.onnx``, ``..._openvino_model``) of ``vis export``; None: those that are part of the
            package, or random ones, with a warning. A name alone is looked for in the folder ``VIS_WEIGHTS`` too.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``...; of an exported network also
            ``tensorrt``, or a device of OpenVINO.
        precision: ``auto`` (bfloat16 for what does not show in the masks, where the device is fast at it; all else is
            float32), ``fp32``, ``bf16``, ``fp16``; of an exported network its own, or ``auto``.
        options: those of the system (``SYSTEMS[name].options``).

    Raises:
        OptionError: an unknown name or option, or a value out of range.
        CheckpointError: the weights do not fit, or are unsafe to load.
        MissingDependencyError: PyTorch, or what runs an exported network, is needed and not installed.
    """
    system = find(name)
    weights = system.default_weights() if weights is None else find_weights(weights)
    if weights is not None and is_exported(weights):
        return _load_exported(system, weights, str(device), precision, options)
    if precision not in PRECISIONS:
        raise OptionError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
    checked = check_options(system.options, options, f"{name}: ")
    _import_torch(f"{name}: {weights or 'without weights'}")
    tensors, metadata = (None, {}) if weights is None else read_weights(system, weights)
    return build(system, tensors, metadata, device, precision, checked)


def build(
    system: System,
    tensors: Mapping[str, Tensor] | None,
    metadata: Mapping[str, str],
    device: str | torch.device,
    precision: str,
    options: Mapping[str, Any],
) -> Segmenter:
    """A system from what `read_weights` gave, None for random weights, and all its options, checked; see `load`."""
    if tensors is None:
        warnings.warn(f"{system.name}: no weights given, so they are random and the masks mean nothing", stacklevel=3)
    segmenter = system.build(tensors, metadata, _device(device), precision, **options)
    segmenter.options, segmenter.shown_score = system.options, _shown_score(metadata)
    return segmenter


def _load_exported(system: System, path: Path, device: str, precision: str, given: Mapping[str, Any]) -> Segmenter:
    """A system on an exported network; what is not of the network runs on the CPU."""
    from vis_core.system import exported

    network = exported.read(path, device)
    options = check_options(system.options, network.options(system.name, precision, given), f"{system.name}: ")
    metadata = network.about["weights_metadata"]
    if system.build_exported is not None:
        try:
            segmenter = system.build_exported(network.runs, tuple(network.about["class_names"]), **options)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
    else:
        segmenter = _built_around(system, network, options)
    segmenter.runs_on = network.runs_on
    segmenter.options, segmenter.shown_score = system.options, _shown_score(metadata)
    return segmenter


def _built_around(system: System, network: ExportedNetwork, options: Mapping[str, Any]) -> Segmenter:
    """What of a system is not exported, on PyTorch, around exported graphs."""
    _import_torch(f"{system.name}: {network.path}, of which a part was not exported")
    import torch

    from vis_core.system.exported_tensors import use, zero_weights

    metadata = network.about["weights_metadata"]
    segmenter = system.build(zero_weights(network), metadata, torch.device("cpu"), "fp32", **options)
    use(segmenter, network)
    return segmenter


def _import_torch(what: str) -> None:
    """Import PyTorch, with the threads that were chosen before.

    Raises:
        MissingDependencyError: it is not installed.
    """
    from vis_core.nn.concurrency import load_torch

    try:
        load_torch()
    except ImportError as error:
        without = " and ".join(name for name, system in SYSTEMS.items() if system.build_exported is not None)
        raise MissingDependencyError(
            f"{what}: PyTorch is needed and not installed: pip install torch; without it, what 'vis export' made of "
            f"{without} can be run"
        ) from error


def _shown_score(metadata: Mapping[str, str]) -> float:
    """The running score that weights state for what is shown; 0 where they state none that can be."""
    try:
        score = float(metadata.get("shown_score", 0))
    except (TypeError, ValueError):
        return 0.0
    return score if 0 <= score <= 1 else 0.0


def find(name: str) -> System:
    """The catalogue's entry of that name.

    Raises:
        OptionError: there is none; the text names the nearest one.
    """
    if name not in SYSTEMS:
        raise OptionError(f"system {name!r} is unknown; {nearest(name, SYSTEMS)}")
    return SYSTEMS[name]


def convert(name: str, source: str | Path, target: str | Path, half: bool = False) -> int:
    """Write a published checkpoint, or weights of ours, as ``.safetensors``; returns the number of tensors.

    The network is built with the weights once, so that a file that was written is known to load.

    Args:
        name: of the system.
        source: the checkpoint.
        target: the file to write.
        half: store in 16 bits (float16), in half the space; they are float32 again when they are loaded.

    Raises:
        CheckpointError: the source does not fit the system.
        OSError: the target cannot be written.
    """
    system = find(name)
    if Path(target).suffix != ".safetensors":
        raise CheckpointError(f"{target}: weights are written as .safetensors")
    _import_torch(str(source))
    import torch

    from vis_core import checkpoints

    tensors, metadata = read_weights(system, Path(source))
    if half:
        tensors = {key: x.half() if x.dtype == torch.float32 else x for key, x in tensors.items()}
    defaults = {key: option.default for key, option in system.options.items()}
    system.build(tensors, metadata, torch.device("cpu"), "fp32", **defaults)
    metadata = {"licence": system.checkpoints_licence, **metadata, "format": checkpoints.FORMAT, "system": system.name}
    checkpoints.write_tensors(target, tensors, metadata)
    return len(tensors)


def read_weights(system: System, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of a weight file in a system's names, and what the file states.

    Raises:
        CheckpointError: the file is none of that system.
    """
    from vis_core import checkpoints

    tensors, metadata = checkpoints.read_tensors(path)
    if "format" in metadata:
        if metadata["format"] != checkpoints.FORMAT:
            raise CheckpointError(
                f"{path}: format {printable(metadata['format'], 60)!r} is not {checkpoints.FORMAT!r}, which this "
                "version reads"
            )
        if metadata.get("system") != system.name:
            raise CheckpointError(
                f"{path}: holds weights of {printable(metadata.get('system'), 60)!r}, not of {system.name!r}"
            )
        if path == system.default_weights():
            metadata = {"shown_score": str(system.shown_score), **metadata}
        return tensors, metadata
    if system.published and system.published.recognise(tensors.keys()):
        _log.warning("%s: published %s checkpoint; licence: %s", path, system.title, system.checkpoints_licence)
        try:
            return system.published.convert(tensors), metadata
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
    for other in SYSTEMS.values():
        if other.published and other.published.recognise(tensors.keys()):
            raise CheckpointError(f"{path}: is a published {other.title} checkpoint, load it as {other.name!r}")
    first = ", ".join(printable(key, 60) for key in list(tensors)[:5])
    raise CheckpointError(
        f"{path}: not a checkpoint of {system.title}: its {len(tensors)} keys (first: {first}) are neither the "
        f"published ones nor ours; published checkpoints: {system.checkpoints_source}"
    )


def _device(device: str | torch.device) -> torch.device:
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise OptionError(f"device {device!r} is unknown: {str(error).splitlines()[0]}") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise OptionError(f"device {str(device)!r}: torch {torch.__version__} finds no GPU; use 'cpu' or 'auto'")
    return chosen
