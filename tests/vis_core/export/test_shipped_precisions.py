"""What int8 costs a system whose weights ship, by the measure that its users have: AP."""

import json
from pathlib import Path

import pytest

from vis_core.evaluation import evaluate

POINTS = 0.5
THREADS = "2"


def vis(*arguments):
    from vis_core.commands.main import app

    app([str(x) for x in arguments], standalone_mode=False)


def scored(truth, images, out: Path, *options):
    """AP in points, as `vis segment` finds it."""
    vis("segment", truth, "--images", images, "--out", out, "--no-overlay", "--threads", THREADS, *options)
    found = 100 * evaluate(json.loads(truth.read_text()), json.loads((out / "results.json").read_text())).summary["AP"]
    print(f"{out.name}: AP {found:.1f}")  # of a test that fails, or with -s
    return found


@pytest.fixture
def complete(shared, tmp_path):
    """The validation images in which everything is labelled, as a file, and the folder of the images."""
    folder = shared / "data" / "coco_small"
    truth = json.loads((folder / "val.json").read_text())
    truth["images"] = [image for image in truth["images"] if not image["partial"]]
    ids = {image["id"] for image in truth["images"]}
    truth["annotations"] = [each for each in truth["annotations"] if each["image_id"] in ids]
    path = tmp_path / "val.json"
    path.write_text(json.dumps(truth))
    return path, folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_int8_keeps_the_ap_of_visolo_lite(complete, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    images = complete[1]
    calibrate = ("--calibrate", images / "train.json", "--images", images, "--frames", 40)
    vis("export", "visolo-lite", "--format", "openvino", "--precision", "int8", "-o", tmp_path / "lite", *calibrate)
    int8 = scored(*complete, tmp_path / "int8", "--weights", tmp_path / "lite_openvino_model")
    float32 = scored(*complete, tmp_path / "float32", "--precision", "fp32")
    assert float32 > 10, "the scores mean nothing"
    assert int8 >= float32 - POINTS
