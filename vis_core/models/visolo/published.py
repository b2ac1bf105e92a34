"""Keys of the published VISOLO checkpoints, and ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from vis_core.checkpoints import rename
from vis_core.errors import CheckpointError

_TABLE = (
    ("model.backbone.", "backbone."),
    ("model.Category_branch_pre.cat_pre_conv1.", "category_pre.conv1."),
    ("model.Category_branch_pre.conv_layers.cat_pre_conv2.", "category_pre.convs.0."),
    ("model.Category_branch_pre.conv_layers.cat_pre_conv3.", "category_pre.convs.2."),
    ("model.Category_branch_pre.cat_pre_conv4.", "category_pre.conv4."),
    ("model.Category_branch_post.conv_layers.cat_post_conv1.", "category_post.convs.0."),
    ("model.Category_branch_post.conv_layers.cat_post_conv2.", "category_post.convs.2."),
    ("model.Category_branch_post.conv_layers.cat_post_conv3.", "category_post.convs.4."),
    ("model.Category_branch_post.pred.", "category_post.pred."),
    ("model.Kernel_branch.conv_layers.kernel_conv1.", "kernel_pre.conv1."),
    ("model.Kernel_branch.conv_layers.kernel_conv2.", "kernel_pre.convs.0."),
    ("model.Kernel_branch.conv_layers.kernel_conv3.", "kernel_pre.convs.2."),
    ("model.Kernel_branch.conv_layers_post.kernel_conv4.", "kernel_post.convs.0."),
    ("model.Kernel_branch.conv_layers_post.kernel_conv5.", "kernel_post.convs.2."),
    ("model.Kernel_branch.pred.", "kernel_post.pred."),
    ("model.Mask_branch.convR4.", "mask.conv4."),
    ("model.Mask_branch.ResR4.", "mask.block4."),
    ("model.Mask_branch.RefR3.convSCF.", "mask.refine3.skip."),
    ("model.Mask_branch.RefR3.ResSCF.", "mask.refine3.skip_block."),
    ("model.Mask_branch.RefR3.ResF.", "mask.refine3.block."),
    ("model.Mask_branch.RefR2.convSCF.", "mask.refine2.skip."),
    ("model.Mask_branch.RefR2.ResSCF.", "mask.refine2.skip_block."),
    ("model.Mask_branch.RefR2.ResF.", "mask.refine2.block."),
    ("model.Mask_branch.convR1.", "mask.conv1."),
    ("model.Mask_branch.pred.", "mask.pred."),
    ("model.Tracking_branch.conv_layers_share.track_S_conv1.", "tracking.shared.0."),
    ("model.Tracking_branch.conv_layers_share.track_S_conv2.", "tracking.shared.2."),
    ("model.Tracking_branch.track_Q_conv1.", "tracking.query.0."),
    ("model.Tracking_branch.track_Q_conv2.", "tracking.query.1."),
    ("model.Tracking_branch.track_R_conv1.", "tracking.reference.0."),
    ("model.Tracking_branch.track_R_conv2.", "tracking.reference.1."),
    ("model.Memory_module.", "memory."),
)
_COPY, _ORIGINAL = "tracking_module.", "model.Tracking_branch."


def recognise(keys: Collection[str]) -> bool:
    """Whether a file with these keys is a published checkpoint of VISOLO."""
    return any(key.startswith("model.Kernel_branch.") for key in keys) and any(
        key.startswith("model.Memory_module.") for key in keys
    )


def convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published tensors under our names; the second copy of the tracking branch is dropped.

    Raises:
        CheckpointError: the two copies of the tracking branch differ.
    """
    kept = {}
    for key, value in tensors.items():
        if not key.startswith(_COPY):
            kept[key] = value
            continue
        original = tensors.get(_ORIGINAL + key[len(_COPY) :])
        if original is None or original.shape != value.shape or not torch.equal(original, value):
            raise CheckpointError(f"{key} differs from {_ORIGINAL}{key[len(_COPY) :]}, of which it should be a copy")
    return rename(kept, _TABLE)
