"""Whether an exported network answers as the system that it was made from does."""

from importlib import import_module
from unittest.mock import patch

from torch import Tensor

from vis_core.data.synthetic import synthetic_video
from vis_core.export import export_segmenter
from vis_core.export.onnx_graphs import traced
from vis_core.export.proof import prove
from vis_core.system.exported import read
from vis_core.system.exported_tensors import use


def video(seed=0, length=6, size=(64, 96)):
    frames = synthetic_video(seed, length, size)
    return [frames.frame(i) for i in range(length)]


def assert_same_answers(plain, exported, frames):
    """In float32: scores within 1e-4, masks at an IoU of 0.999, ids equal over the whole clip."""
    proof = prove(list(plain.run(frames, prefetch=False)), list(exported.run(frames)))
    proof.check()
    assert proof.instances


def exported_beside(make, *paths, frames=()):
    """A segmenter, and for each path another of its make, which runs on what the first was exported to; traced once."""
    plain, others, models = make(), [make() for _ in paths], {}

    def traced_once(name, graph):
        if name not in models:
            models[name] = traced(name, graph)
        return models[name]

    with patch.object(import_module("vis_core.export.export"), "traced", traced_once):
        for other, path in zip(others, paths):
            export_segmenter(plain, path, "onnx" if path.suffix == ".onnx" else "openvino", frames=frames)
            use(other, read(path, "cpu"))
    return plain, *others


def on_its_pieces(segmenter):
    """A segmenter that runs the pieces that an export of it holds, as they are before they are traced."""

    def run_of(module):
        def run(*inputs):
            found = module(*inputs)
            return (found,) if isinstance(found, Tensor) else found

        return run

    graphs = segmenter.model.graphs()
    segmenter.model.use_exported({name: run_of(graph.module) for name, graph in graphs.items()})
    return segmenter
