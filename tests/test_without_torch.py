"""Without PyTorch an exported visolo-lite runs, in Python, commands and the node, and what needs PyTorch says so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import vis_core
from tests.vis_core.export.parity import video
from vis_core.models.visolo import LITE

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = {"score_threshold": 0.01, "birth_threshold": 0.0, "first_birth_threshold": 0.0, "max_instances": 5}

WITHOUT = """
import contextlib, io, json, sys
sys.modules["torch"] = None  # as where it is not installed

def told(module, *arguments):
    from importlib import import_module
    sys.argv, text, code = ["command", *arguments], io.StringIO(), 0
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            import_module(module).main()
        except SystemExit as end:
            code = end.code or 0
    return code, text.getvalue()

def vis(*arguments):
    return told("vis_core.commands.main", *arguments)
"""

ANSWERS = """
def answers(segmenter, folder):
    import vis_core
    with vis_core.open_video(folder) as frames:
        return [
            [x.track_ids.tolist(), x.scores.tolist(), x.boxes.tolist(), [[*m.box, *m.runs.tolist()] for m in x.masks]]
            for x in segmenter.run(frames)
        ]
"""


def run(program, folder, *arguments):
    """What a program prints as JSON in a process of its own that has no PyTorch."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "400"}
    command = [sys.executable, "-c", WITHOUT + program, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A visolo-lite on a backbone of a few convolutions, exported."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    import torch

    from vis_core.export import export_segmenter
    from vis_core.models.visolo.network import VISOLONetwork
    from vis_core.models.visolo.segmenters import visolo_lite
    from vis_core.models.visolo.torch_grid import TorchGrid
    from vis_core.nn.input_transform import InputTransform

    class Backbone(torch.nn.Module):
        channels = (8, 12, 16)

        def __init__(self):
            super().__init__()
            widths, strides = (3, *self.channels), (4, 2, 2)
            self.stages = torch.nn.ModuleList(torch.nn.Conv2d(*widths[i : i + 2], 5, strides[i], 2) for i in range(3))

        def forward(self, images):
            maps = [images]
            for stage in self.stages:
                maps.append(stage(maps[-1]).relu())
            return maps[1:]

    network = VISOLONetwork(Backbone(), 3, 64, 64, place=True, grid=(4, 6), skip_blocks=False)
    network.initialise(torch.Generator().manual_seed(1))
    network.eval().requires_grad_(False)
    size = (64, 96)
    options = {name: option.default for name, option in LITE.options.items() if name not in ("input_size", "views")}
    grid = TorchGrid(network, torch.float32, InputTransform(size))
    segmenter = visolo_lite(grid, ("a", "b", "c"), **{**options, **OPTIONS})
    path = tmp_path_factory.mktemp("exported") / "lite.onnx"
    stated = {"system": "visolo-lite", "options": {"input_size": size, "views": 1}}
    export_segmenter(segmenter, path, frames=video(length=2), stated=stated)
    return path


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    for frame in video(length=4, size=(72, 100)):
        cv2.imwrite(str(folder / f"{frame.index}.png"), frame.image[..., ::-1])
    return folder


PYTHON = """
import vis_core
segmenter = vis_core.load("visolo-lite", sys.argv[1], **json.loads(sys.argv[2]))
assert segmenter.network is None and segmenter.runs_on["precision"] == "fp32"
print(json.dumps(answers(segmenter, sys.argv[3])))
"""


def test_an_exported_visolo_lite_answers_as_the_same_file_with_pytorch_installed(exported, frames, tmp_path):
    found = run(ANSWERS + PYTHON, tmp_path, exported, json.dumps(OPTIONS), frames)
    namespace: dict = {}
    exec(ANSWERS, namespace)
    expected = namespace["answers"](vis_core.load("visolo-lite", exported, **OPTIONS), frames)
    assert found == expected and any(ids for ids, *_ in found)


COMMAND = """
options = [f"--option={name}={value}" for name, value in json.loads(sys.argv[2]).items()]
arguments = ("segment", sys.argv[3], "--system", "visolo-lite", "--out", "out", "--threads", "1")
right = vis(*arguments, "--weights", sys.argv[1], *options)
wrong = vis(*arguments, "--force")
from vis_core.nn.concurrency import thread_count
print(json.dumps([right, wrong, thread_count(), "scipy" in sys.modules]))
"""


def test_vis_segment_runs_it_and_says_what_other_weights_need(exported, frames, tmp_path):
    (code, told), (wrong, reason), threads, scipy = run(
        COMMAND, tmp_path, exported, json.dumps(OPTIONS), frames / "0.png"
    )
    assert (code, threads, scipy) == (0, 1, False), told
    assert json.loads((tmp_path / "out" / "results.json").read_text())
    assert wrong == 2 and "Traceback" not in reason
    assert "PyTorch is needed and not installed: pip install torch" in reason and "visolo-lite" in reason


NODE = """
from vis_ros.node.parameters import all_parameters, default_of
from vis_ros.node.preparation import make_segmenter, return_memory, running_on, warm_up
import vis_core
values = {name: default_of(option) for name, option in all_parameters("visolo-lite").items()}
values |= {"weights": sys.argv[1], "input_size": (64, 96), "threads": 1}
segmenter = make_segmenter(values, vis_core.load, None)
warm_up(segmenter)
return_memory()
print(json.dumps([running_on(segmenter), len(segmenter.step(__import__("numpy").zeros((48, 64, 3), "uint8")))]))
"""


def test_the_node_is_made_ready_with_it(exported, tmp_path):
    state, answers = run(NODE, tmp_path, exported)
    assert state == {"device": "ONNX Runtime CPUExecutionProvider", "precision": "fp32"} and answers == 1


def test_another_exported_system_says_what_is_missing(exported, tmp_path):
    import onnx

    model = onnx.load(exported)
    for entry in model.metadata_props:
        if entry.key == "vis_export":
            entry.value = json.dumps({**json.loads(entry.value), "system": "minvis", "options": {}})
    onnx.save(model, tmp_path / "other.onnx")
    program = 'print(json.dumps(vis("segment", sys.argv[1], "--system", "minvis", "--weights", "other.onnx")))'
    image = tmp_path / "0.png"
    cv2.imwrite(str(image), np.zeros((16, 16, 3), np.uint8))
    code, reason = run(program, tmp_path, image)
    assert code == 2 and "Traceback" not in reason
    assert "other.onnx, of which a part was not exported: PyTorch is needed and not installed" in reason


COMMANDS = (
    ("--help",),
    ("systems",),
    ("systems", "video-knet-online"),
    ("weights",),
    ("evaluate", "results.json", "--ground-truth", "truth.json"),
    ("inspect", "truth.json"),
)


def test_commands_that_need_no_network_need_no_pytorch(tmp_path):
    segmentation = {"size": [4, 4], "counts": [5, 2, 9]}
    truth = {
        "videos": [{"id": 1, "height": 4, "width": 4, "length": 1, "file_names": ["a/0.jpg"]}],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [
            {"id": 1, "video_id": 1, "category_id": 1, "iscrowd": 0, "areas": [2], "height": 4, "width": 4,
             "bboxes": [[1, 1, 1, 2]], "segmentations": [segmentation]}
        ],
    }  # fmt: skip
    results = [{"video_id": 1, "category_id": 1, "score": 0.9, "segmentations": [segmentation]}]
    (tmp_path / "a").mkdir()
    cv2.imwrite(str(tmp_path / "a" / "0.jpg"), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    program = f"print(json.dumps([vis(*arguments) for arguments in {COMMANDS!r}]))"
    for arguments, (code, told) in zip(COMMANDS, run(program, tmp_path)):
        assert code == 0, f"vis {' '.join(arguments)}: {told}"


def test_the_installation_without_pytorch_names_all_else_that_is_needed():
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    stated = re.search(r"--no-deps vis_ros\npip install (.*?)\nvis ", (ROOT / "docs" / "deploy.md").read_text(), re.S)
    left_out = {"torch", "safetensors", "scipy"}
    needed = [text for text in declared["dependencies"] if re.split("[<>=]", text)[0] not in left_out]
    needed += [text for text in declared["optional-dependencies"]["onnx"] if text.startswith("onnxruntime>")]
    assert re.findall("'([^']+)'", stated[1]) == needed
