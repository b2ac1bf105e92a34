"""Export of networks: to ONNX and to OpenVINO, with a proof of how near they are, in three precisions."""

from vis_core.export.export import export, export_segmenter

__all__ = ["export", "export_segmenter"]
