"""Which floating-point type a network runs in."""

from __future__ import annotations

import torch

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def compute_type(precision: str, device: torch.device) -> torch.dtype:
    """The type for ``fp32``, ``bf16``, ``fp16``, or for ``auto``: bfloat16 where the device is fast at it.

    Args:
        precision: as in `vis_core.load`.
        device: where the network runs.
    """
    if precision != "auto":
        return _TYPES[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type == "cpu" and _has_fast_bfloat16():
        return torch.bfloat16
    return torch.float32


def exact_type(precision: str) -> torch.dtype:
    """The type of what shows in masks where it is rounded: as asked, and float32 for ``auto``, whatever the device."""
    return _TYPES["fp32" if precision == "auto" else precision]


def _has_fast_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16: AMX tiles, or the AVX-512 dot product."""
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, name)()) for name in tests if hasattr(torch.cpu, name))
