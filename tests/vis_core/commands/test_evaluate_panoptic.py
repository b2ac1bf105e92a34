"""``vis evaluate --panoptic``, as its users run it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.vis_core.evaluation.plain_panoptic import CLASSES, random_video, write
from vis_core.evaluation import evaluate_panoptic

ROOT = Path(__file__).parents[3]


def vis(*arguments):
    return subprocess.run(
        [sys.executable, "-c", "from vis_core.commands.main import main; main()", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
    )


@pytest.fixture
def files(tmp_path):
    """Folders of ground truth and of results, and the file of the classes."""
    rng = np.random.default_rng(21)
    for i in range(2):
        for name, images in zip(("truth", "result"), random_video(rng)):
            write(tmp_path / name / f"video_{i}", images)
    classes = [{"id": n, "name": name, "isthing": int(n in CLASSES.things)} for n, name in CLASSES.names.items()]
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    return tmp_path / "truth", tmp_path / "result", tmp_path / "classes.json"


def test_it_shows_tables_and_writes_all_scores(files, tmp_path):
    truth, result, classes = files
    done = vis(
        *("evaluate", result, "--ground-truth", truth, "--panoptic", classes, "--out", tmp_path / "out"),
        *("--windows", "1,2", "--spacing", "2", "--jobs", "2"),
    )
    assert done.returncode == 0, done.stderr
    with pytest.warns():
        expected = evaluate_panoptic(truth, result, CLASSES, windows=(1, 2), spacing=2)
    shown = " ".join(done.stdout.split())
    for text in (
        f"{100 * expected.summary['STQ']:.1f}",
        "AQ",
        "VPQ_2",
        "VPQ by frames of a window, spacing 2",
        "car (7), thing",
        "video_1",
    ):
        assert text in shown
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (written["schema"], written["version"]) == ("vis_core.evaluation.panoptic", 1)
    assert written["summary"] == dict(expected.summary)
    assert written["options"] == {"classes": str(classes), "windows": [1, 2], "spacing": 2}
    assert written["per_category"][3] == {"id": 7, "name": "car", "isthing": 1, **expected.per_category[7]}
    assert written["per_video"] == [{"name": name, **row} for name, row in expected.per_video.items()]
    assert written["class_areas"] == expected.class_areas.tolist()
    assert written["warnings"] == list(expected.warnings)
    document = (ROOT / "docs" / "metrics_schema.md").read_text()
    keys = {*written, *written["options"], *(re.sub(r"_\d", "_N", name) for name in written["summary"])}
    assert {key for key in keys if f"`{key}`" not in document} == set()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["metrics.json"]


def test_the_classes_of_kitti_step_and_vipseg_are_known(tmp_path):
    write(tmp_path / "v", np.full((1, 2, 2), 11 << 16 | 1))
    done = vis("evaluate", tmp_path, "--ground-truth", tmp_path, "--panoptic", "kitti-step", "--windows", "1")
    assert done.returncode == 0 and "person (11), thing" in done.stdout
    done = vis("evaluate", tmp_path, "--ground-truth", tmp_path, "--panoptic", "vipseg", "--windows", "1")
    assert done.returncode == 2 and "class 11 (grass) is stuff, but has instance number 1" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--panoptic", "kitti"), "kitti is no file; give one, or one of kitti-step, vipseg"),
        (("--panoptic", "kitti-step", "--metrics", "ap"), "--panoptic: does not go with --compare, --stream"),
        (("--panoptic", "kitti-step", "--stream"), "does not go with"),
        (("--panoptic", "kitti-step", "--windows", "1,x"), "windows: '1,x' is not whole numbers with commas"),
        (("--panoptic", "kitti-step", "--windows", "0"), "windows: 0; give numbers of frames"),
    ],
)
def test_options_that_do_not_fit_are_refused(files, arguments, text):
    done = vis("evaluate", files[1], "--ground-truth", files[0], *arguments)
    assert done.returncode == 2 and text in " ".join(done.stderr.split())
