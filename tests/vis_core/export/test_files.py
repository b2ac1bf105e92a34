"""Exported networks as files: what they hold, and what is refused."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from vis_core import catalog
from vis_core.data.synthetic import synthetic_video
from vis_core.errors import CheckpointError, ExportError, InputError, OptionError
from vis_core.export import export
from vis_core.export.proof import prove
from vis_core.nn.graphs import Graph
from vis_core.nn.runtimes import exported_path, is_exported, onnx_providers
from vis_core.system import exported, exported_tensors
from vis_core.system.clip import ClipModel

ABOUT = {
    "format": exported.FORMAT,
    "system": "visolo",
    "class_names": ["cup"],
    "options": {"input_size": [8, 12]},
    "precision": "fp32",
    "weights": {"a": ["float32", [2, 3], None], "grid": ["int64", [2], [4, 5]]},
    "weights_metadata": {},
    "graphs": {name: {"inputs": ["image"], "outputs": [name], "precision": "fp32"} for name in ("frame", "window")},
}


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, image):
        return self.second(self.first(image).relu())


@pytest.fixture(scope="module")
def graph():
    pytest.importorskip("onnxruntime")
    return Graph(Twice(), {"image": torch.rand(1, 3, 8, 12)}, ("frame",), {"image": {2: "height"}}, ("second",))


@pytest.fixture(scope="module")
def traced(graph):
    pytest.importorskip("onnxscript")
    from vis_core.export.onnx_graphs import traced

    return traced("frame", graph)


def written(traced, path, **changes):
    from onnx import ModelProto

    from vis_core.export.onnx_graphs import write_onnx

    frame, window = (ModelProto.FromString(traced.SerializeToString()) for _ in range(2))
    window.graph.output[0].name = window.graph.node[-1].output[0] = "window"
    write_onnx(path, {"frame": frame, "window": window}, {**ABOUT, **changes})
    return path


def test_one_onnx_file_holds_every_graph_and_what_is_stated(traced, graph, tmp_path):
    network = exported.read(written(traced, tmp_path / "a.onnx"), "cpu")
    assert network.about == ABOUT
    for size in (8, 20):
        image = torch.rand(1, 3, size, 12)
        for name in ("frame", "window"):
            (found,) = exported_tensors.on_tensors(network.runs[name])(image)
            torch.testing.assert_close(found, graph.module(image), rtol=1e-5, atol=1e-5)
    weights = exported_tensors.zero_weights(network)
    assert weights["a"].shape == (2, 3) and weights["grid"].tolist() == [4, 5]
    assert network.options("visolo", "auto", {"max_instances": 3}) == {"max_instances": 3, "input_size": (8, 12)}


def test_a_file_that_is_none_of_ours_or_states_what_cannot_be_is_refused(traced, tmp_path):
    (tmp_path / "torn.onnx").write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match=r"torn\.onnx: ONNX Runtime"):
        exported.read(tmp_path / "torn.onnx", "cpu")
    (tmp_path / "foreign.onnx").write_bytes(traced.SerializeToString())
    with pytest.raises(CheckpointError, match="was not written by 'vis export'"):
        exported.read(tmp_path / "foreign.onnx", "cpu")
    graphs = {"frame": {**ABOUT["graphs"]["frame"], "inputs": ["picture"]}}
    for changes, words in (
        ({"format": "vis-export-9"}, "format 'vis-export-9' is not"),
        ({"precision": "int4"}, "precision: int4"),
        ({"graphs": {}}, "graphs: {}"),
        ({"graphs": graphs}, r"graph 'frame' has inputs \['image'\], and states \['picture'\]"),
        ({"graphs": {**ABOUT["graphs"], "third": {}}}, "graphs: {'frame'"),
        ({"graphs": {**ABOUT["graphs"], "third": ABOUT["graphs"]["frame"]}}, "graph 'third' is missing"),
    ):
        with pytest.raises(CheckpointError, match=words):
            exported.read(written(traced, tmp_path / "odd.onnx", **changes), "cpu")
    for stated in (3, ["float99", [1], None], ["float32", [-1], None], ["int64", [9], [1]]):
        network = exported.read(written(traced, tmp_path / "odd.onnx", weights={"a": stated}), "cpu")
        with pytest.raises(CheckpointError, match=r"odd\.onnx: what it states of its weights"):
            exported_tensors.zero_weights(network)
    (tmp_path / "empty_openvino_model").mkdir()
    with pytest.raises(CheckpointError, match=r"about\.json: No such file"):
        exported.read(tmp_path / "empty_openvino_model", "cpu")


def test_a_network_in_8_bits_keeps_the_parts_in_float32_that_it_is_told_to(traced, graph):
    from vis_core.export.onnx_graphs import nodes_within
    from vis_core.export.quantisation import quantised

    excluded = nodes_within(traced, graph.float32)
    assert [node.op_type for node in traced.graph.node if node.name in excluded] == ["Conv"]
    images = [(torch.rand(1, 3, 8, 12),) for _ in range(4)]
    (model,) = quantised({"frame": traced}, {"frame": graph}, {"frame": excluded}, lambda: {"frame": images}).values()
    kinds = {x.name: x.data_type for x in model.graph.initializer}
    weights = [kinds.get(node.input[1]) for node in model.graph.node if node.op_type == "Conv"]
    assert weights == [None, 1]  # from 8 bits; float32
    from vis_core.nn.runtimes import onnx_session

    (found,) = onnx_session(model.SerializeToString(), "cpu", 1)(images[0][0].numpy())
    wanted = graph.module(images[0][0]).detach().numpy()
    assert 0 < np.abs(found - wanted).max() < 0.05


def test_what_stays_in_float32_reads_what_was_not_rounded_for_its_neighbour():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from vis_core.export.onnx_graphs import nodes_within, traced
    from vis_core.export.quantisation import quantised
    from vis_core.nn.runtimes import onnx_session

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.narrow, self.wide = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, image):
            shared = image.relu()
            return self.narrow(shared), self.wide(shared)

    image = torch.randn(1, 3, 8, 12)
    graph = Graph(Both(), {"image": image}, ("narrow", "wide"), float32=("wide.",))
    model = traced("frame", graph)
    excluded = {"frame": nodes_within(model, graph.float32)}
    (model,) = quantised({"frame": model}, {"frame": graph}, excluded, lambda: {"frame": [(image,)]}).values()
    found = onnx_session(model.SerializeToString(), "cpu", 1)(image.numpy())
    apart = [np.abs(x - y.detach().numpy()).max() for x, y in zip(found, graph.module(image))]
    assert apart[0] > 1e-4 and apart[1] < 1e-6


def test_openvino_runs_the_same_graph(traced, graph, tmp_path):
    pytest.importorskip("openvino")
    from vis_core.export.openvino_graphs import converted, write_openvino

    folder = tmp_path / "a_openvino_model"
    graphs = {"frame": ABOUT["graphs"]["frame"]}
    for _ in range(2):  # the second in place of the first
        write_openvino(folder, {"frame": converted(traced)}, {**ABOUT, "graphs": graphs})
    assert sorted(path.name for path in folder.iterdir()) == ["about.json", "frame.bin", "frame.xml"]
    network = exported.read(folder, "cpu")
    assert network.runs["frame"].device.startswith("OpenVINO CPU")
    image = torch.rand(1, 3, 16, 12)
    (found,) = exported_tensors.on_tensors(network.runs["frame"])(image)
    torch.testing.assert_close(found, graph.module(image), rtol=1e-5, atol=1e-5)
    with pytest.raises(OptionError, match="device 'npu': OpenVINO finds CPU"):
        exported.read(folder, "npu")


def test_a_device_chooses_the_execution_provider():
    everything = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    cpu, cuda, tensorrt = (everything[i] for i in (2, 1, 0))
    assert onnx_providers("auto", [cpu]) == onnx_providers("cpu", everything) == [cpu]
    assert onnx_providers("auto", everything) == [cuda, cpu]
    assert onnx_providers("cuda:1", everything) == [(cuda, {"device_id": 1}), cpu]
    assert onnx_providers("tensorrt", everything) == [(tensorrt, {"device_id": 0}), (cuda, {"device_id": 0}), cpu]
    with pytest.raises(OptionError, match=r"has no CUDAExecutionProvider.*vis_ros\[gpu\]"):
        onnx_providers("cuda", [cpu])
    with pytest.raises(OptionError, match="device 'mps'"):
        onnx_providers("mps", everything)


def test_what_is_exported_is_told_by_its_name(tmp_path):
    for form, name in (("onnx", "a.b.onnx"), ("openvino", "a.b_openvino_model")):
        assert exported_path(tmp_path / "a.b", form) == exported_path(tmp_path / name, form) == tmp_path / name
        assert is_exported(tmp_path / name)
    assert not is_exported("lite.safetensors")


def test_a_proof_tells_scores_masks_and_identities_apart():
    truth = synthetic_video(0, 4, (64, 96), objects=3).instances()
    same = prove(truth, truth)
    same.check()
    assert same.instances == sum(sum(mask.area > 0 for mask in x.masks) for x in truth)
    renumbered = [x.__class__(**{**fields(x), "track_ids": x.track_ids + 7}) for x in truth]
    assert prove(truth, renumbered).ids_equal
    swapped = [
        *renumbered[:-1],
        renumbered[-1].__class__(**{**fields(renumbered[-1]), "track_ids": truth[-1].track_ids}),
    ]
    proof = prove(truth, swapped)
    assert not proof.ids_equal and proof.mask_iou == 1
    with pytest.raises(ExportError, match="'ids_equal': False"):
        proof.check()
    lower = [x.__class__(**{**fields(x), "scores": x.scores * 0.9}) for x in truth]
    assert prove(truth, lower).score_difference == pytest.approx(0.1, abs=1e-6)
    fewer = [x[np.arange(len(x)) > 0] for x in truth]
    assert prove(truth, fewer).unmatched == len(truth)


def fields(instances):
    return {name: getattr(instances, name) for name in instances.__dataclass_fields__}


def test_a_system_that_names_no_graphs_cannot_be_exported():
    class Model(ClipModel):
        def encode(self, frame): ...

        def segment(self, clip, window): ...

    with pytest.raises(ExportError, match="Model: this system cannot be exported"):
        Model().graphs()


def vis(*arguments):
    from vis_core.commands.main import app

    app([str(x) for x in arguments], standalone_mode=False)


def test_weights_are_found_by_their_name_and_read_once(narrow_visolo, tmp_path, monkeypatch):
    monkeypatch.setenv("VIS_WEIGHTS", str(tmp_path))
    (tmp_path / "mine.safetensors").write_bytes(narrow_visolo.read_bytes())
    read, read_weights = [], catalog.read_weights
    monkeypatch.setattr(catalog, "read_weights", lambda system, path: read.append(path) or read_weights(system, path))
    with pytest.raises(OptionError, match="score_threshold: not part of the graphs"):
        export("visolo", "mine", tmp_path / "mine.onnx", "onnx", options={"score_threshold": 0.5})
    assert read == [tmp_path / "mine.safetensors"]


def test_the_command_refuses_at_once_what_cannot_be(tmp_path):
    for arguments, error, words in (
        (("--format", "tensorrt"), OptionError, "--format tensorrt: is none of onnx, openvino"),
        (("--precision", "fp16"), OptionError, "--precision fp16: is none of fp32, bf16, int8"),
        (("--precision", "int8"), OptionError, "--calibrate DATA"),
        (("--batch", 2), OptionError, "--batch 2"),
        (("--weights", tmp_path / "none.pth"), InputError, "no such weight file"),
    ):
        with pytest.raises(error, match=re.escape(words)):
            vis("export", "visolo-lite", "--output", tmp_path / "lite", *arguments)
    (tmp_path / "lite.onnx").write_bytes(b"mine")
    with pytest.raises(InputError, match="--force"):
        vis("export", "visolo-lite", "--output", tmp_path / "lite")
    assert (tmp_path / "lite.onnx").read_bytes() == b"mine"


def test_frames_to_calibrate_on_are_taken_evenly_from_all_videos(tmp_path):
    from vis_core.commands.export import frames_of
    from vis_core.data.synthetic import write_youtube_vis

    path = write_youtube_vis([synthetic_video(seed, 6, (32, 48)) for seed in range(3)], tmp_path)
    frames = frames_of(path, None, 6)
    assert len(frames) == 6 and [frame.index for frame in frames] == list(range(6))
    assert not np.array_equal(frames[0].image, frames[2].image)
