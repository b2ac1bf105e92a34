"""Published files of both Video K-Nets, as mmdetection writes them, by the commands that a user has."""

import logging
import sys

import pytest
import torch

import vis_core
from tests.vis_core.models.recorded_video_knet import Case, FilledWeights
from vis_core.commands import main as cli
from vis_core.errors import CheckpointError
from vis_core.models.video_knet import published
from vis_core.structures import Frame

FILES = {"video-knet": "clip_r50", "video-knet-online": "online_kitti_r50"}
CASES = {"video-knet": "clip_r50", "video-knet-online": "online_kitti"}
CLASSES = {"video-knet": 40, "video-knet-online": 2}
OPTIONS = {"video-knet": {"input_size": (64, 96)}, "video-knet-online": {}}


@pytest.fixture(scope="module")
def files(shared, fill, tmp_path_factory):
    """A published file of each system."""
    folder, weights, made = tmp_path_factory.mktemp("published"), FilledWeights(shared, fill), {}
    for system, name in FILES.items():
        made[system] = folder / f"{name}.pth"
        meta = {"mmdet_version": "2.18.0", "CLASSES": ("person", "car"), "epoch": 12}
        torch.save({"meta": meta, "state_dict": weights.tensors(name)}, made[system])
    return made


def answer(segmenter, image):
    """Masks and labels that it finds in an image."""
    (found,) = segmenter.run([Frame(image, 0, 0)])
    return found.masks, found.labels.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("system", FILES)
def test_a_published_file_loads_as_it_is_and_once_converted(
    system, shared, files, tmp_path, monkeypatch, caplog, capfd
):
    options = {**OPTIONS[system], "score_threshold": 0.0, "device": "cpu"}
    with caplog.at_level(logging.WARNING):
        segmenter = vis_core.load(system, files[system], **options)
    assert "licence" in caplog.text
    assert len(segmenter.class_names) == CLASSES[system]
    image = Case(shared, CASES[system]).inputs["images"][0]
    expected = answer(segmenter, image)
    assert expected[0]
    wanted = published.convert(torch.load(files[system], weights_only=True)["state_dict"])
    key = "frame_stages.2.fc_cls.weight"
    assert torch.equal(segmenter.network.state_dict()[key], wanted[key])

    target = tmp_path / "ours.safetensors"
    monkeypatch.setattr(sys, "argv", ["vis", "convert", system, str(files[system]), str(target)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert f"{len(wanted)} tensors" in capfd.readouterr().out
    assert answer(vis_core.load(system, target, **options), image) == expected


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        ("video-knet", "video-knet-online"),
        ("video-knet-online", "video-knet"),
        ("tevit", "video-knet"),
        ("efficientvis", "video-knet-online"),
        ("minvis", "video-knet"),
    ],
)
def test_a_file_under_another_system_s_name_is_refused_with_its_own(asked, held, files):
    with pytest.raises(CheckpointError, match=f"load (it|them) as '{held}'"):
        vis_core.load(asked, files[held], device="cpu")


def test_a_clip_system_s_kernels_are_linked_live_if_asked(files):
    segmenter = vis_core.load("video-knet-online", files["video-knet"], device="cpu", association="kernel")
    assert len(segmenter.class_names) == 40 and segmenter.network.stuff == 0
