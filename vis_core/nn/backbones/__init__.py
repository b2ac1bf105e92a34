"""Backbones: images in, feature maps at several strides out."""

from vis_core.nn.backbones.resnet import ResNet

__all__ = ["ResNet"]
