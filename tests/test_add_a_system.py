"""A system that is in the catalogue is everywhere: in the commands, the node, its documentation, the launch files."""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import pytest
import yaml

import vis_core
from tests.stub_system import register
from vis_core.commands import main as cli


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    register(monkeypatch)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    for name in ("OPENCV_LOG_LEVEL", "OPENCV_FFMPEG_LOGLEVEL"):
        monkeypatch.setenv(name, "x")


def picture(number):
    image = np.zeros((48, 64, 3), np.uint8)
    image[10:30, number : number + 20] = 200
    return image


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(5):
        cv2.imwrite(str(folder / f"{number}.png"), picture(number))
    return folder


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["vis", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code or 0


def test_vis_systems_lists_it_and_its_options(monkeypatch, capfd):
    assert run(monkeypatch, "systems") == 0
    assert "\nstub\n" in capfd.readouterr().out
    assert run(monkeypatch, "systems", "stub") == 0
    shown = capfd.readouterr().out
    assert all(text in shown for text in ("clip_length", "brightness", "0 to 255", "max_lost_frames"))


@pytest.mark.filterwarnings("ignore:.*random")
def test_vis_segment_runs_it_and_answers_every_frame(monkeypatch, frames, tmp_path):
    arguments = ("--system", "stub", "--out", tmp_path / "out", "--option", "stride=1", "--save-masks")
    assert run(monkeypatch, "segment", frames, *arguments) == 0
    (result,) = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["category_id"] == 2 and all(result["segmentations"])
    assert len(list((tmp_path / "out" / "masks").rglob("*.png"))) == 5
    assert run(monkeypatch, "segment", frames, "--system", "stub", "--out", tmp_path / "b", "--option", "strid=1") == 2


def test_the_parameters_and_their_documentation_have_it():
    from vis_ros.node import parameters

    rows = [line for line in parameters.parameters_table().splitlines() if "| stub |" in line]
    assert [line.split("|")[1].strip(" `") for line in rows] == [
        "clip_length",
        "stride",
        "brightness",
        "max_lost_frames",
    ]
    assert "may be changed while it runs" in rows[2]
    shipped = yaml.safe_load(parameters.parameters_file("stub"))["/**"]["ros__parameters"]
    assert shipped["system"] == "stub" and shipped["brightness"] == 100
    assert "stub" in parameters.node_parameters()["system"].choices


@pytest.mark.filterwarnings("ignore:.*random")
def test_the_node_runs_it_and_takes_its_live_option(make_stage):
    pytest.importorskip("vis_ros.msg", reason="needs the built messages")
    stage = make_stage(vis_core.load, system="stub", device="cpu", stride=1, drop_policy="every_frame")
    stage.activate()
    message = stage.exchange(1.0)  # grey, of value 50
    assert message.system == "stub" and not message.tracks
    assert stage.peer.set_parameter("brightness", 20).successful
    assert [track.class_name for track in stage.exchange(2.0).tracks] == ["bright"]
    assert "clean it up first" in stage.peer.set_parameter("clip_length", 4).reason
    assert not stage.peer.set_parameter("brightness", 300).successful


def test_a_launch_file_of_its_name_and_a_parameter_file_start_it(described, tmp_path):
    from vis_ros.node import parameters

    file = tmp_path / "stub.launch.py"
    file.write_text(
        "from vis_ros.launching import segmenter_launch\n\n\n"
        "def generate_launch_description():\n    return segmenter_launch('stub')\n"
    )
    with pytest.raises(FileNotFoundError, match="system:=stub: there is no file"):
        described(file)
    (tmp_path / "config" / "stub.yaml").write_text(parameters.parameters_file("stub"))
    _, (node,) = described(file)
    path, overrides = node["parameters"]
    assert path == str(tmp_path / "config" / "stub.yaml") and overrides["system"] == "stub"
