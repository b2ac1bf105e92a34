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
from tests.vis_core.commands.command_line import bright_square, read_results, run, segment, write_frames
from tests.vis_core.fake_system import FakeSegmenter, catalog
from vis_core import masks
from vis_core.commands import main as cli
from vis_core.data.synthetic import synthetic_video, write_youtube_vis
from vis_core.system.option import Option
from vis_core.video.opening import open_video

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared" / "data"


@pytest.mark.parametrize("delay", [0, 3])
def test_segment_writes_results_overlay_and_masks(tmp_path, monkeypatch, capfd, delay):
    source, out = write_frames(tmp_path / "walk", 6, dark=[3]), tmp_path / "out"
    segmenter = FakeSegmenter(delay)
    run(monkeypatch, segmenter, *segment(source, out, "--save-masks"))
    first, second = read_results(out)
    assert [s is not None for s in first["segmentations"]] == [True, True, True, False, False, False]
    assert [s is not None for s in second["segmentations"]] == [False, False, False, False, True, True]
    assert (first["video_id"], first["category_id"], first["category_name"]) == (1, 2, "vehicle")
    assert first["score"] == pytest.approx(0.51)  # the running mean when last seen
    expected = bright_square(4)[:, :, 0] > 0
    np.testing.assert_array_equal(masks.from_coco(first["segmentations"][2]).dense(), expected)
    labels = [cv2.imread(str(out / "masks" / "walk" / f"{i:05d}.png"), cv2.IMREAD_UNCHANGED) for i in range(6)]
    assert all(image.dtype == np.uint16 and image.shape == (48, 64) for image in labels)
    np.testing.assert_array_equal(labels[2], expected * first["track_id"])
    np.testing.assert_array_equal(labels[5], (bright_square(10)[:, :, 0] > 0) * second["track_id"])
    frames = list(open_video(out / "overlay.mp4"))
    assert len(frames) == 6 and frames[0].size == (48, 64)
    assert frames[3].image.max() < 60 < frames[2].image.max()
    assert sorted(p.name for p in out.iterdir()) == ["masks", "overlay.mp4", "results.info.json", "results.json"]
    assert segmenter.resets == 1
    told = capfd.readouterr()
    assert "weights are random" in told.err
    assert re.search(r"walk\s*│\s*6\s*│\s*0\s*│\s*2\s*│", told.out)
    assert str(out / "overlay.mp4") in told.out.replace("\n", "")


def test_segment_takes_a_video_file_and_keeps_its_rate(tmp_path, monkeypatch):
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for i in range(8):
        writer.write(bright_square(2 * i))
    writer.release()
    run(monkeypatch, FakeSegmenter(), *segment(tmp_path / "a.avi", tmp_path / "out"))
    assert len(read_results(tmp_path / "out")[0]["segmentations"]) == 8
    with open_video(tmp_path / "out" / "overlay.mp4") as video:
        assert (video.fps, len(list(video))) == (10, 8)


def test_a_json_gives_one_overlay_a_video_and_results_of_its_declared_lengths(tmp_path, monkeypatch):
    write_frames(tmp_path / "frames" / "a", 3)
    write_frames(tmp_path / "frames" / "b", 2)
    common = {"width": 64, "height": 48}
    videos = [
        {"id": 5, "name": "../a b", "file_names": [f"a/{i:05d}.png" for i in range(3)], **common},
        {"id": 4, "name": "../a b", "file_names": [f"b/{i:05d}.png" for i in range(2)], **common},
    ]
    (tmp_path / "gt.json").write_text(json.dumps({"videos": videos}))
    run(
        monkeypatch,
        FakeSegmenter(),
        *segment(tmp_path / "gt.json", tmp_path / "out", "--max-frames", "2", "--save-masks"),
    )
    entries = read_results(tmp_path / "out")
    assert [(e["video_id"], len(e["segmentations"])) for e in entries] == [(5, 3), (4, 2)]
    assert entries[0]["segmentations"][2] is None
    assert entries[0]["track_id"] != entries[1]["track_id"]
    assert sorted(p.name for p in (tmp_path / "out" / "overlay").iterdir()) == ["a_b.mp4", "a_b_4.mp4"]
    assert sorted(p.name for p in (tmp_path / "out" / "masks").iterdir()) == ["a_b", "a_b_4"]


def test_start_and_max_frames_choose_frames_and_keep_their_positions(tmp_path, monkeypatch):
    source = write_frames(tmp_path / "a", 6)
    run(
        monkeypatch,
        FakeSegmenter(),
        *segment(source, tmp_path / "out", "--start", "2", "--max-frames", "3", "--no-overlay"),
    )
    (entry,) = read_results(tmp_path / "out")
    assert [s is not None for s in entry["segmentations"]] == [False, False, True, True, True, False]
    assert not (tmp_path / "out" / "overlay.mp4").exists()


def test_a_broken_frame_is_told_by_name_and_null_in_the_results(tmp_path, monkeypatch, capfd):
    source = write_frames(tmp_path / "a", 5)
    (source / "00001.png").write_bytes(b"broken")
    run(monkeypatch, FakeSegmenter(), *segment(source, tmp_path / "out"))
    (entry,) = read_results(tmp_path / "out")
    assert [s is not None for s in entry["segmentations"]] == [True, False, True, True, True]
    told = capfd.readouterr()
    assert f"skipped {source / '00001.png'}: not a JPEG" in told.err.replace("\n", "")
    assert re.search(r"a\s*│\s*4\s*│\s*1\s*│", told.out)
    assert len(list(open_video(tmp_path / "out" / "overlay.mp4"))) == 5  # the frame before stands in its place


def test_many_broken_frames_are_all_listed_in_a_file(tmp_path, monkeypatch, capfd):
    source = write_frames(tmp_path / "a", 30)
    for i in range(1, 30):
        (source / f"{i:05d}.png").write_bytes(b"broken")
    run(monkeypatch, FakeSegmenter(), *segment(source, tmp_path / "out"))
    assert len((tmp_path / "out" / "skipped.txt").read_text().splitlines()) == 29
    assert capfd.readouterr().err.count("skipped ") == 20


def test_options_reach_the_system_in_their_types(tmp_path, monkeypatch):
    source, weights = write_frames(tmp_path / "a", 1), tmp_path / "w.pth"
    weights.touch()
    more = ["--score-threshold", "0.4", "--option", "input_size=64,96", "--option", "max_lost_frames=none"]
    fake = run(
        monkeypatch,
        FakeSegmenter(),
        *segment(source, tmp_path / "out", *more, "--weights", weights, "--device", "cpu", "--precision", "fp32"),
    )
    ((arguments, options),) = fake.calls
    assert arguments == ("fake", weights, "cpu", "fp32")
    assert options == {"score_threshold": 0.4, "input_size": [64, 96], "max_lost_frames": None}


@pytest.mark.parametrize(
    ("more", "given"),
    [
        ([], {}),
        (["--quality"], {"views": 4}),
        (["--quality", "--option", "views=2"], {"views": 2}),
    ],
)
def test_files_are_segmented_as_streams_are_and_quality_names_the_slow_way(tmp_path, monkeypatch, capfd, more, given):
    source, options = write_frames(tmp_path / "a", 1), {"views": Option("Views.", 1, 4, quality=4, default=1)}
    fake = run(monkeypatch, FakeSegmenter(), *segment(source, tmp_path / "out", *more), options=options)
    assert fake.calls[0][1] == given
    assert ("--quality: views=4, in place of 1" in capfd.readouterr().err) == (given == {"views": 4})
    told = json.loads((tmp_path / "out" / "results.info.json").read_text())["options"]
    assert {key: str(value) for key, value in told.items()} == {key: str(value) for key, value in given.items()}
    run(monkeypatch, FakeSegmenter(), "systems", "fake", options=options)
    assert "1; --quality: 4" in capfd.readouterr().out


def test_quality_says_where_it_changes_nothing(tmp_path, monkeypatch, capfd):
    source = write_frames(tmp_path / "a", 1)
    run(monkeypatch, FakeSegmenter(), *segment(source, tmp_path / "out", "--quality"))
    assert "--quality changes nothing: fake has no slower way" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["segment", "absent.mp4", "--out", "o", "--system", "fake"], "absent.mp4: no such file, folder or camera"),
        (["segment", "{folder}", "--out", "o", "--system", "faek"], "system 'faek' is unknown"),
        (
            ["segment", "{folder}", "--out", "o", "--system", "fake", "--option", "x"],
            "--option x: write it as name=value",
        ),
        (["segment", "{folder}", "--out", "o", "--system", "fake", "--start", "99"], "no frame was segmented"),
        (["systems", "faek"], "system 'faek' is unknown"),
    ],
)
def test_an_error_is_one_message_without_a_traceback_and_exit_code_2(tmp_path, monkeypatch, capfd, arguments, message):
    monkeypatch.chdir(tmp_path)
    folder = write_frames(tmp_path / "frames", 2)
    run(monkeypatch, FakeSegmenter(), *[a.format(folder=folder) for a in arguments], code=2)
    told = capfd.readouterr().err
    assert f"error: {message}" in told.replace("\n", " ")
    assert "Traceback" not in told


def test_masks_of_an_earlier_run_are_not_mixed_with_new_ones(tmp_path, monkeypatch, capfd):
    source = write_frames(tmp_path / "a", 2)
    run(monkeypatch, FakeSegmenter(), *segment(source, tmp_path / "out", "--save-masks"))
    before = (tmp_path / "out" / "results.json").read_bytes()
    run(monkeypatch, FakeSegmenter(), *segment(source, tmp_path / "out", "--save-masks"), code=2)
    assert "is there already; --force replaces" in capfd.readouterr().err
    assert (tmp_path / "out" / "results.json").read_bytes() == before


def test_an_output_folder_that_cannot_be_made_is_told(tmp_path, monkeypatch, capfd):
    (tmp_path / "file").write_text("")
    run(monkeypatch, FakeSegmenter(), *segment(write_frames(tmp_path / "a", 1), tmp_path / "file"), code=2)
    assert "file: cannot be written to" in capfd.readouterr().err


def test_help_and_the_module_load_neither_torch_nor_opencv():
    script = (
        "import sys\nfrom vis_core.commands import main as cli\nsys.argv = ['vis', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    print(sorted({'torch', 'cv2'} & set(sys.modules)))\n"
    )
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "segment" in told and "convert" in told and "systems" in told
    assert told.rstrip().endswith("[]")


def test_idle_threads_are_told_to_sleep_before_torch_is_loaded(tmp_path):
    script = (
        "import os, sys\nfrom vis_core.commands import main as cli\nsys.argv = ['vis', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)\n"
    )
    for given, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
        environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
        command = [sys.executable, "-c", script]
        told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
        assert told.rstrip().endswith(f"{expected} False")


def test_systems_lists_the_catalogue_and_a_system_s_options(monkeypatch, capfd):
    run(monkeypatch, FakeSegmenter(), "systems")
    listed = capfd.readouterr().out
    assert "fake" in listed and "Apache-2.0" in listed and "AP: 0.0" in listed
    run(monkeypatch, FakeSegmenter(), "systems", "fake")
    options = capfd.readouterr().out
    assert "score_threshold" in options and "0.0 to 1.0" in options and "or none" in options


def test_nothing_in_the_list_of_systems_is_cut_short_in_a_narrow_terminal():
    from vis_core.catalog import SYSTEMS

    command = [sys.executable, "-c", "from vis_core.commands.main import main; main()", "systems"]
    environment = os.environ | {"COLUMNS": "80"}
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert "…" not in told and [name for name in SYSTEMS if name not in told] == []


def test_convert_tells_what_it_wrote(tmp_path, monkeypatch, capfd):
    fake = catalog(FakeSegmenter())
    target = tmp_path / "b.safetensors"
    (tmp_path / "a.pth").touch()
    fake.convert = lambda system, source, out, half: out.write_bytes(bytes(2_000_000)) and 357
    monkeypatch.setitem(sys.modules, "vis_core.catalog", fake)
    monkeypatch.setattr(vis_core, "catalog", fake, raising=False)
    monkeypatch.setattr(sys, "argv", ["vis", "convert", "fake", str(tmp_path / "a.pth"), str(target)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code
    assert "357 tensors, 2.0 MB" in capfd.readouterr().out


def test_without_system_and_weights_those_that_ship_run(tmp_path):
    video = write_youtube_vis([synthetic_video(0, 2, (96, 160))], tmp_path / "scene")
    arguments = ["segment", video, "--out", tmp_path / "out", "--threads", "1"]
    command = [sys.executable, "-c", "from vis_core.commands.main import main; main()", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "random" not in done.stderr
    assert isinstance(read_results(tmp_path / "out"), list)


@pytest.mark.slow
def test_visolo_runs_on_a_video_with_random_weights(tmp_path):
    pytest.importorskip("vis_core.models.visolo", reason="VISOLO is not built in")
    source = SHARED / "clips" / "person_and_dog.mp4"
    if not source.exists():
        pytest.skip("the data folder ../shared/data is absent")
    arguments = segment(source, tmp_path, "--max-frames", "3", "--option", "input_size=64,96", "--threads", "1")
    command = [sys.executable, "-c", "from vis_core.commands.main import main; main()", *map(str, arguments)]
    command[command.index("fake")] = "visolo"
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "weights are random" in done.stderr
    assert isinstance(read_results(tmp_path), list)
    assert len(list(open_video(tmp_path / "overlay.mp4"))) == 3
