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

from vis_core.errors import printable
from vis_core.structures import Frame
from vis_ros.node.parameters import system_parameters
from vis_ros.node.worker import Log

if TYPE_CHECKING:
    from vis_core.system.segmenter import Segmenter

_WARM_UP_SIZE = (480, 640)


def make_segmenter(values: Mapping[str, Any], load: Callable[..., Segmenter], log: Log) -> Segmenter:
    """Load a system; what it warns of is logged.

    Args:
        values: of all parameters, checked.
        load: makes the segmenter, as ``vis_core.load`` does.
        log: where warnings are written.

    Raises:
        VisError: the weights or an option cannot be used.
    """
    if values["threads"]:
        import torch

        threads = min(values["threads"], os.cpu_count() or 1)
        if threads < values["threads"]:
            log.warning(f"threads: {values['threads']} are more than this machine has; {threads} are used")
        torch.set_num_threads(threads)
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


def warm_up(segmenter: Segmenter) -> int:
    """Run a black frame, so that the first image meets no first-time cost; returns the highest track id it made."""
    frame = Frame(np.zeros((*_WARM_UP_SIZE, 3), np.uint8))
    answers = segmenter.run([frame])
    return max((int(answer.track_ids.max()) for answer in answers if len(answer)), default=0)


def running_on(segmenter: Segmenter) -> dict[str, str]:
    """Device and arithmetic of the network, for diagnostics."""
    weights = list(segmenter.network.parameters())
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
