"""Where there is no room left every writer says so in the same words, leaves what was there, and nothing half done."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PROGRAM = """
import io, json, resource, sys
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np

from vis_core import masks
from vis_core.commands.terminal import tell_error
from vis_core.structures import Frame, Instances, TrackState

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)


def instances(index):
    found = masks.encode(np.pad(noise[:20, :20, 0] > 127, (0, 180)))
    one = {"track_ids": np.ones(1, np.int64), "labels": np.zeros(1, np.int64), "scores": np.ones(1)}
    return Instances(
        stamp=index, index=index, size=(200, 200), **one, track_scores=np.ones(1),
        states=np.full(1, TrackState.TRACKED), first_seen=np.zeros(1, np.int64), last_seen=np.zeros(1, np.int64),
        masks=(found,), boxes=np.zeros((1, 4)), ages=np.zeros(1, np.int64),
    )


def results():
    from vis_core.files.results_writer import ResultsWriter

    with ResultsWriter(folder / "results.json") as writer:
        for index in range(50):
            writer.add(1, index, instances(index))


def metrics():
    from vis_core.evaluation.reports.metrics_file import write_json

    write_json({"curve": list(range(100_000))}, folder / "metrics.json")


def picture():
    from vis_core.video.images import write_image

    write_image(folder / "picture.png", noise)


def masks_of_a_frame():
    from vis_core.commands.mask_images import MaskImages

    MaskImages(folder, "labels").add(instances(0))


def panoptic():
    from vis_core.files.panoptic_writer import PanopticWriter

    PanopticWriter(folder, "video", [0]).add(0, noise[:, :, 0], instances(0))


def overlay():
    from vis_core.video.writer import VideoWriter

    with VideoWriter(folder / "overlay.mp4", 10) as writer:
        for index in range(20):
            writer.write(np.roll(noise, 7 * index, 0))


def weights():
    import torch

    from vis_core import checkpoints

    checkpoints.write_tensors(folder / "w.safetensors", {"x": torch.zeros(100_000)}, {})


def state():
    import torch

    from vis_core.training.state import save_state

    save_state(folder, {"model": torch.zeros(100_000)})


def bag(storage):
    from vis_ros.recordings.bag_writer import write_bag

    write_bag((Frame(noise, 10**9 + index, index) for index in range(9)), folder / "bag", storage=storage, force=True)


def stream():
    from vis_ros.recordings.stream_files import new_stream, write_stream_message

    with new_stream(folder / "stream.jsonl") as file:
        for index in range(50):
            write_stream_message(file, instances(index), index)


writers = {
    "results.json": results, "metrics.json": metrics, "picture.png": picture, "000000.png": masks_of_a_frame,
    "video/000000.png": panoptic, "overlay.mp4": overlay, "w.safetensors": weights, "state.pt": state,
    "bag": lambda: bag("sqlite3"), "bag mcap": lambda: bag("mcap"), "stream.jsonl": stream,
}
writer = writers[sys.argv[3]]
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
told = io.StringIO()
code = None
try:
    writer()
except OSError as error:
    code = error.errno
    with redirect_stderr(told):
        tell_error(error)
print(json.dumps([code, " ".join(told.getvalue().split())]))
"""

WRITERS = (
    *("results.json", "metrics.json", "picture.png", "000000.png", "video/000000.png", "overlay.mp4"),
    *("w.safetensors", "state.pt", "bag", "bag mcap", "stream.jsonl"),
)


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write(folder, name, limit):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "400"}
    command = [sys.executable, "-c", PROGRAM, str(folder), str(limit), name]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_that_finds_no_room_says_so_and_leaves_what_was_there(tmp_path, name):
    if name != "stream.jsonl":
        assert write(tmp_path, name, 0) == [None, ""]
    before = content(tmp_path)
    code, told = write(tmp_path, name, 64 if name == "000000.png" else 12_000)
    path = str(tmp_path / name.split(" ")[0])
    if name == "bag":  # SQLite tells no reason here
        assert code in (errno.EIO, errno.ENOSPC) and told.startswith("error: ") and path in told
    else:
        assert code == errno.EFBIG and told.startswith(f"error: a file may not grow so large: {path}: ")
    after = content(tmp_path)
    if name == "results.json":  # put together of the frames that found room
        (entry,) = json.loads(after.pop(name))
        assert 0 < len(entry["segmentations"]) < 50 and before.pop(name)
    elif name == "stream.jsonl":  # what came before stands, in whole lines
        *rows, _ = after.pop(name).decode().split("\n")
        assert rows and all(json.loads(row) for row in rows)
    assert after == before
