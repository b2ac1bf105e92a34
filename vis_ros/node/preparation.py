"""A segmenter made ready for a stream: loaded for the values of the parameters, warmed up, described; and let go."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vis_core.errors import OptionError, printable
from vis_core.nn.concurrency import set_thread_count
from vis_core.structures import Frame
from vis_ros.node.parameters import system_parameters
from vis_ros.node.stream import Log

if TYPE_CHECKING:
    from vis_core.system.segmenter import Segmenter

_WARM_UP_SIZE = (480, 640)
_BYTES_PER_PIXEL = 512
"""Of the network's input, what the first activations of the smallest systems take."""


def make_segmenter(values: Mapping[str, Any], load: Callable[..., Segmenter], log: Log) -> Segmenter:
    """Load a system; what it warns of is logged.

    Args:
        values: of all parameters, checked.
        load: makes the segmenter, as ``vis_core.load`` does.
        log: where warnings are written.

    Raises:
        VisError: the weights or an option cannot be used, or the network's input needs more memory than is free.
    """
    if values["threads"]:
        threads = min(values["threads"], os.cpu_count() or 1)
        if threads < values["threads"]:
            log.warning(f"threads: {values['threads']} are more than this machine has; {threads} are used")
        set_thread_count(threads)
    _check_memory(values)
    system, weights = values["system"], values["weights"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        segmenter = load(
            system,
            weights=Path(weights).expanduser() if weights else None,
            device=values["device"],
            precision=values["precision"],
            **{name: values[name] for name in system_parameters(system)},
        )
    for warning in caught:
        log.warning(printable(warning.message, 1000))
    return segmenter


def _check_memory(values: Mapping[str, Any]) -> None:
    """Refuse an input of the network that the machine cannot hold: a peer may ask for one.

    Raises:
        OptionError: it is such.
    """
    if "input_size" in values:
        name, (height, width) = "input_size", values["input_size"]
    elif values.get("short_side"):
        name, height = "short_side", values["short_side"]
        width = min(2 * height, values.get("longest_side") or 2 * height)
    else:
        return
    needed, free = height * width * _BYTES_PER_PIXEL, free_memory()
    if needed > free:
        raise OptionError(
            f"{name}: an input of {width}x{height} takes {needed >> 20} MiB at least, {free >> 20} MiB are free"
        )


def warm_up(segmenter: Segmenter) -> int:
    """Run a black frame, so that the first image meets no first-time cost; returns the highest track id it made."""
    frame = Frame(np.zeros((*_WARM_UP_SIZE, 3), np.uint8))
    answers = segmenter.run([frame])
    return max((int(answer.track_ids.max()) for answer in answers if len(answer)), default=0)


def running_on(segmenter: Segmenter) -> dict[str, str]:
    """Device and arithmetic of the network, for diagnostics."""
    if segmenter.runs_on is not None:
        return dict(segmenter.runs_on)
    weights = [] if segmenter.network is None else list(segmenter.network.parameters())
    return {
        "device": ", ".join(sorted({str(weight.device) for weight in weights})),
        "precision": ", ".join(sorted({str(weight.dtype).removeprefix("torch.") for weight in weights})),
    }


def free_memory() -> int:
    """Bytes of the machine's memory that may still be taken, as far as the system tells."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return sys.maxsize


def return_memory() -> None:
    """Give what was freed back to the system: the C library and torch would keep it for themselves."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
