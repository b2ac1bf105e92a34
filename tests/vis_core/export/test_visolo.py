"""VISOLO and visolo-lite, exported: the same answers, and what a file refuses."""

import json

import numpy as np
import pytest

import vis_core
from tests.vis_core.export.parity import assert_same_answers, video
from vis_core.errors import CheckpointError, ExportError, OptionError
from vis_core.export import export
from vis_core.system.exported import read

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
SIZE = (64, 96)


@pytest.fixture(scope="module")
def onnx(narrow_visolo, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "narrow.onnx"
    export("visolo", narrow_visolo, path, "onnx", options={"input_size": SIZE})
    return path


def test_an_onnx_file_answers_as_the_weights_that_it_was_made_from(onnx, narrow_visolo):
    plain = vis_core.load("visolo", narrow_visolo, "cpu", "fp32", input_size=SIZE)
    exported = vis_core.load("visolo", onnx)
    assert exported.network is None
    assert_same_answers(plain, exported, video(length=8))
    assert_same_answers(plain, exported, video(1, 4, (100, 80)))  # another size of image


def test_options_that_are_no_part_of_the_graphs_are_chosen_when_a_file_is_loaded(onnx):
    exported = vis_core.load("visolo", onnx, score_threshold=1.0)
    assert not any(len(answer) for answer in exported.run(video(length=2)))


def test_a_file_refuses_what_contradicts_it(onnx):
    with pytest.raises(OptionError, match=r"input_size=\(96, 96\).*narrow.onnx was exported with input_size"):
        vis_core.load("visolo", onnx, input_size=(96, 96))
    with pytest.raises(ExportError, match="exported already"):
        vis_core.load("visolo", onnx).model.graphs()
    with pytest.raises(OptionError, match="exported with fp32"):
        vis_core.load("visolo", onnx, precision="bf16")
    with pytest.raises(CheckpointError, match="exported 'visolo', not 'visolo-lite'"):
        vis_core.load("visolo-lite", onnx)
    with pytest.raises(OptionError, match=r"device 'cuda'.*vis_ros\[gpu\]"):
        vis_core.load("visolo", onnx, device="cuda")


def test_a_file_whose_graphs_are_not_what_it_states_is_refused_when_it_is_loaded(onnx, tmp_path):
    from onnx import load, save

    model = load(onnx)
    (entry,) = (x for x in model.metadata_props if x.key == "vis_export")
    about = json.loads(entry.value)
    graphs = {"frame": about["graphs"]["frame"]}
    for changes, words in (
        ({"class_names": ["cup"]}, r"gives scores \(5, \d+\), and states 1 classes"),
        ({"options": {"input_size": [96, 96]}}, r"takes images \(1, 3, 64, 96\), and states input_size \(96, 96\)"),
        ({"graphs": graphs}, "graph 'window', which is to give category_scores, mask_kernels, is missing"),
    ):
        entry.value = json.dumps({**about, **changes})
        save(model, tmp_path / "odd.onnx")
        with pytest.raises(CheckpointError, match=f"odd.onnx: {words}"):
            vis_core.load("visolo", tmp_path / "odd.onnx")
    with pytest.raises(CheckpointError, match="does not run: ONNX Runtime"):
        read(onnx, "cpu").runs["frame"](np.zeros((1, 3, 8, 8), np.float32))


def test_streams_over_one_exported_network_are_independent(onnx):
    first = vis_core.load("visolo", onnx)
    second = first.another()
    frames = video(length=3)
    for frame in frames:
        (one,), (other,) = first.step(frame), second.step(frame)
        assert one.scores.tolist() == other.scores.tolist()
