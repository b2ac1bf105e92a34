"""What is wrong on a command line is told before torch is loaded: names, options, inputs, places to write to."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vis_core.commands.command_line import write_frames

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import contextlib, importlib, io, json, os, sys
results = []
for module, *arguments in json.load(sys.stdin):
    sys.argv, told, code = ["command", *arguments], io.StringIO(), None
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        try:
            importlib.import_module(module).main()
        except SystemExit as end:
            code = end.code
    results.append([code, "torch" in sys.modules, told.getvalue()])
print(json.dumps(results))
"""

VIS, VIS_ROS, DEMO = "vis_core.commands.main", "vis_ros.cli", "vis_ros.demo.__main__"

SEGMENT = (VIS, "segment", "{frames}", "--out", "{new}")
CONVERT = (VIS, "convert", "visolo", "{weights}", "{new}.safetensors")
BAG = (VIS_ROS, "evaluate-bag", "{bag}", "--ground-truth", "{json}", "--out", "{new}")
TRAIN = (VIS, "train", "{config}", "output={new}")

CASES = [
    ((*SEGMENT, "--system", "visolo-lit"), "system 'visolo-lit' is unknown; did you mean 'visolo-lite'?"),
    ((*SEGMENT, "--option", "max_instance=3"), "max_instance: unknown option; did you mean 'max_instances'?"),
    ((*SEGMENT, "--option", "input_size=7,7"), "input_size[0]: 7"),
    ((*SEGMENT, "--score-threshold", "2"), "score_threshold: 2.0 is not in [0, 1]"),
    ((*SEGMENT, "--device", "gpu"), "device 'gpu' is unknown; give auto, cpu, cuda or cuda:1"),
    ((*SEGMENT, "--precision", "fp8"), "precision 'fp8' is none of auto, fp32, bf16, fp16"),
    ((*SEGMENT, "--weights", "none.pth"), "none.pth: no such weight file"),
    ((*SEGMENT, "--weights", "{frames}"), "frames: is a folder, not a weight file"),
    ((VIS, "segment", "none.mp4", "--out", "{new}"), "none.mp4: no such file, folder or camera"),
    ((VIS, "segment", "{frames}", "--out", "{old}"), "results.json: is there already; --force replaces"),
    ((VIS, "segment", "{frames}", "--out", "/proc/none"), "/proc/none: cannot be written to"),
    ((VIS, "segment", "{frames}", "--out", "{file}"), "file.txt: cannot be written to"),
    ((VIS, "systems", "visolo-lit"), "did you mean 'visolo-lite'?"),
    ((VIS, "convert", "viso", "{weights}", "{new}.safetensors"), "system 'viso' is unknown"),
    ((VIS, "convert", "visolo", "none.pth", "{new}.safetensors"), "none.pth: no such weight file"),
    ((VIS, "convert", "visolo", "{weights}", "{new}.pth"), "weights are written as .safetensors"),
    ((VIS, "convert", "visolo", "{weights}", "{weights}"), "w.safetensors: is there already; --force replaces it"),
    ((VIS, "convert", "visolo", "{weights}", "/proc/none/w.safetensors"), "cannot be written to"),
    ((VIS, "convert", "visolo", "{weights}", "{file}/w.safetensors"), "cannot be written to: Not a directory"),
    ((VIS, "evaluate", "none.json", "--ground-truth", "{json}"), "none.json: no such file or folder"),
    ((VIS, "evaluate", "{json}", "--ground-truth", "none.json"), "none.json: no such file or folder"),
    ((VIS, "evaluate", "{json}", "--ground-truth", "{json}", "--out", "{old}"), "metrics.json: is there already"),
    ((VIS, "evaluate", "{json}", "--ground-truth", "{json}", "--out", "{file}"), "file.txt: cannot be written to"),
    ((VIS, "submit", "{json}", "--split", "ovi"), "--split: 'ovi' is unknown; did you mean 'ovis'?"),
    ((VIS, "submit", "none.json", "--split", "ovis"), "none.json: no such file or folder"),
    ((VIS, "submit", "{json}", "--split", "ovis", "--out", "{file}"), "file.txt: is there already; --force"),
    ((VIS, "inspect", "none.json"), "none.json: no such file or folder"),
    ((VIS, "inspect", "{json}", "--sheet", "{png}"), "0.png: is there already; --force replaces it"),
    ((VIS, "inspect", "{json}", "--sheet", "/proc/none/a.png"), "cannot be written to"),
    ((*TRAIN, "system=visolo-lit"), "did you mean 'visolo-lite'?"),
    ((*TRAIN, "options.wdth=3"), "options.wdth: unknown option"),
    ((*TRAIN, "evaluation.options.x=3"), "evaluation.options.x: unknown option"),
    ((*TRAIN, "initial_weights=none.pth"), "none.pth: no such weight file"),
    ((*TRAIN, "data.0.annotations=none.json"), "none.json: no such file or folder"),
    ((*TRAIN, "stps=3"), "stps: unknown key; did you mean 'steps'?"),
    ((VIS, "train", "none.yaml"), "none.yaml"),
    ((VIS, "train", "{config}", "output=/proc/none"), "/proc/none: cannot be written to"),
    ((VIS, "train", "{config}", "output={file}"), "file.txt: cannot be written to"),
    ((VIS_ROS, "make-bag", "none.mp4", "{new}"), "none.mp4: no such file, folder or camera"),
    ((VIS_ROS, "make-bag", "{frames}", "{old}"), "old: is there already; --force replaces"),
    ((VIS_ROS, "make-bag", "{frames}", "/proc/none/bag"), "cannot be written to"),
    ((*BAG, "--system", "visolo-lit"), "did you mean 'visolo-lite'?"),
    ((*BAG, "--option", "x=3"), "x: unknown option"),
    ((*BAG, "--weights", "none.pth"), "none.pth: no such weight file"),
    ((VIS_ROS, "evaluate-bag", "none", "--ground-truth", "{json}"), "none: no such file or folder"),
    ((VIS_ROS, "evaluate-bag", "{bag}", "--ground-truth", "none.json"), "none.json: no such file or folder"),
    ((*BAG[:-1], "{old}"), "metrics.json (and 1 more): is there already; --force replaces"),
    ((VIS_ROS, "record", "{file}"), "file.txt: is there already; --force replaces it"),
    ((VIS_ROS, "record", "/proc/none/a.jsonl"), "cannot be written to"),
    ((DEMO, "--out", "{new}", "--system", "visolo-lit"), "did you mean 'visolo-lite'?"),
    ((DEMO, "--out", "{new}", "--weights", "none.pth"), "none.pth: no such weight file"),
    ((DEMO, "--out", "{new}", "--video", "none.mp4"), "none.mp4: no such file or folder"),
    ((DEMO, "--out", "{old}"), "demo.yaml: is there already; --force replaces"),
    ((DEMO, "--out", "{file}"), "file.txt: cannot be written to"),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """What the arguments name: inputs that are there, outputs that are, and one that is not."""
    folder = tmp_path_factory.mktemp("places")
    write_frames(folder / "frames", 1)
    for name in ("file.txt", "bag.db3", "w.safetensors", "0.png"):
        (folder / name).write_text("")
    (folder / "data.json").write_text("[]")
    (folder / "old").mkdir()
    for name in ("results.json", "metrics.json", "demo.yaml"):
        (folder / "old" / name).write_text("mine")
    data = {"annotations": str(folder / "data.json")}
    config = {"system": "visolo-lite", "classes": ["a"], "data": [data], "output": str(folder / "run")}
    (folder / "config.yaml").write_text(json.dumps(config))
    names = {"frames": "frames", "file": "file.txt", "bag": "bag.db3", "weights": "w.safetensors", "png": "0.png"}
    names |= {"json": "data.json", "old": "old", "config": "config.yaml", "new": "new"}
    return folder, {key: str(folder / name) for key, name in names.items()}


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def answers(places):
    """Exit code, whether torch is loaded by then, and what was told, of all cases in one process."""
    folder, names = places
    before = content(folder)
    cases = [[argument.format(**names) for argument in arguments] for arguments, _ in CASES]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "400"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, cwd=folder, env=environment, input=json.dumps(cases), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert content(folder) == before
    return json.loads(done.stdout)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_what_the_user_got_wrong_is_told_before_torch_is_loaded(answers, number):
    (code, loaded, told), message = answers[number], CASES[number][1]
    assert message in re.sub(r"\s+", " ", told)
    assert (code, loaded) == (2, False) and "Traceback" not in told
