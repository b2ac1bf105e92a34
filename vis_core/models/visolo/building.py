"""VISOLO's networks from their weights, on a device and in the form that runs fastest there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vis_core.checkpoints import load_tensors
from vis_core.errors import CheckpointError
from vis_core.models.visolo.lite_network import grid_of, lite_network, sizes_of
from vis_core.models.visolo.network import VISOLONetwork
from vis_core.models.visolo.shipped import CLASS_NAMES, GRID, GRID_KEY, MASK_WIDTH, NAME, WIDTH
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.precision import compute_type, exact_type
from vis_core.nn.prepacked_convolution import pack_convolutions
from vis_core.nn.winograd import use_winograd

_WIDTHS = range(64, 513, 64)  # bounded before anything is allocated: the size of a network grows with its square


def visolo_network(
    tensors: Mapping[str, Tensor] | None, device: torch.device, precision: str, convolution: str
) -> tuple[VISOLONetwork, torch.dtype]:
    """The network, and the type of its backbone; depth, class count and width are the tensors'.

    Args:
        tensors: in our names; None: a ResNet-50 for 40 classes, of width 256, with random weights.
        device: to run it on.
        precision: see `vis_core.load`.
        convolution: ``direct`` or ``winograd``, of the mask branch in float32 on a CPU.

    Raises:
        CheckpointError: the tensors do not fit.
    """
    depth, classes, width = 50, 40, 256
    if tensors is not None:
        prediction = tensors.get("category_post.pred.weight")
        if prediction is None or prediction.dim() != 4 or len(prediction) == 0 or prediction.shape[1] not in _WIDTHS:
            found = "missing" if prediction is None else f"of shape {list(prediction.shape)}"
            raise CheckpointError(
                f"visolo: category_post.pred.weight, which gives classes and width, is {found}; expected "
                "[classes, width, 3, 3] with a width that is a multiple of 64, up to 512"
            )
        classes, width = prediction.shape[:2]
        depth = 101 if any(key.startswith("backbone.res4.6.") for key in tensors) else 50
    network = VISOLONetwork(depth, classes, width)
    _fill(network, tensors, "visolo")
    network.backbone.fold_norms()
    dtype = _to_device(network, device, precision)
    exact = next(network.mask.refine2.parameters()).dtype == torch.float32
    if convolution == "winograd" and device.type == "cpu" and exact:
        use_winograd(network.mask)
    return network, dtype


def visolo_lite_network(
    tensors: Mapping[str, Tensor] | None, device: torch.device, precision: str
) -> tuple[VISOLONetwork, torch.dtype]:
    """As `visolo_network`; without tensors it has the sizes of the one that ships."""
    classes, width, mask_width, grid = len(CLASS_NAMES), WIDTH, MASK_WIDTH, GRID
    if tensors is not None:
        classes, width, mask_width = sizes_of(tensors)
        grid = grid_of(tensors)
        tensors = {key: x.float() for key, x in tensors.items() if key != GRID_KEY}
    network = lite_network(classes, width, mask_width, grid)
    _fill(network, tensors, NAME)
    dtype = _to_device(network, device, "fp32" if precision == "auto" and device.type == "cpu" else precision)
    return network, dtype


def _fill(network: VISOLONetwork, tensors: Mapping[str, Tensor] | None, name: str) -> None:
    """Give a network its weights, random ones if there are none."""
    if tensors is None:
        network.initialise(torch.Generator().manual_seed(0))
    else:
        load_tensors(network, tensors, name)
    network.eval().requires_grad_(False)


def _to_device(network: VISOLONetwork, device: torch.device, precision: str) -> torch.dtype:
    """Bring a network to its device and types; returns the backbone's.

    ``auto`` rounds only what does not show: in bfloat16 throughout, masks differ from float32's down to an IoU of 0.8,
    since the dynamic kernels amplify the rounding of the map that they are made from.
    """
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dtype = exact_type(precision)
    network.backbone.to(dtype)
    network.mask.to(dtype)
    if precision == "auto":
        network.mask.round_fine(compute_type(precision, device))
    for part in network.children():
        if not isinstance(part, ResNet):  # which packed would answer alike, but not to the last bit
            pack_convolutions(part)
    return dtype
