"""``vis segment --save-panoptic``: every pixel of a frame, stuff too, in a form that can be scored."""

from __future__ import annotations

import numpy as np
import pytest

from tests.vis_core.commands.command_line import read_results, run, segment, write_frames
from tests.vis_core.evaluation.plain_panoptic import PanopticClasses
from tests.vis_core.fake_system import FakeSegmenter
from tests.vis_core.models.test_video_knet_online import frames_like, small_network, stream
from vis_core.commands.segment import segment_videos
from vis_core.evaluation import evaluate_panoptic
from vis_core.files.outputs import output_folder
from vis_core.files.panoptic_images import read_panoptic
from vis_core.video.images import write_image
from vis_core.video.opening import open_videos


class Panoptic(FakeSegmenter):
    """A map of classes of the last frame: sky above, road below, nothing on the left."""

    semantic_class_names = ("road", "vehicle", "sky", "person")

    def semantic_map(self):
        out = np.full((48, 64), 1, np.uint8)
        out[:20], out[:, :1] = 3, 0
        return out


def test_it_writes_things_over_the_map_and_the_evaluation_reads_it(tmp_path, monkeypatch, capfd):
    source, out = write_frames(tmp_path / "walk", 3), tmp_path / "out"
    run(monkeypatch, Panoptic(), *segment(source, out, "--save-panoptic", "--no-overlay"))
    images = [read_panoptic(out / "panoptic" / "walk" / f"{i:06d}.png") for i in range(3)]
    track = read_results(out)[0]["track_id"]
    assert images[2][15, 10] == 1 << 16 | track  # "vehicle", label 1, is class 1 of the map
    assert images[2][5, 40] == 2 << 16 and images[2][40, 40] == 0 and images[2][40, 0] == 255 << 16
    classes = PanopticClasses(dict(enumerate(Panoptic.semantic_class_names)), frozenset({1, 3}))
    found = evaluate_panoptic(out / "panoptic", out / "panoptic", classes, windows=(1, 2))
    assert {found.summary[name] for name in ("STQ", "VPQ_things", "VPQ_stuff")} == {1.0}
    assert "RGB PNGs: red = class, green * 256 + blue = track id" in " ".join(capfd.readouterr().out.split())


def test_old_images_are_not_mixed_with_new_ones(tmp_path, monkeypatch, capfd):
    source, out = write_frames(tmp_path / "walk", 1), tmp_path / "out"
    run(monkeypatch, Panoptic(), *segment(source, out, "--save-panoptic", "--no-overlay"))
    run(monkeypatch, Panoptic(), *segment(source, out, "--save-panoptic", "--no-overlay"), code=2)
    assert "000000.png (and 2 more): is there already; --force replaces" in " ".join(capfd.readouterr().err.split())


def without_maps():
    return FakeSegmenter()


def late():
    return Panoptic(delay=2)


def other_names():
    segmenter = Panoptic()
    segmenter.class_names = ("person", "lorry")
    return segmenter


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (without_maps, "--save-panoptic: this system tells instances alone, and no map of all classes"),
        (late, "this system tells instances alone"),
        (other_names, "class 'lorry' is none of the semantic map: road, vehicle, sky, person"),
    ],
)
def test_a_system_without_such_a_map_is_refused_before_anything_is_segmented(tmp_path, monkeypatch, capfd, make, text):
    source, out = write_frames(tmp_path / "walk", 2), tmp_path / "out"
    segmenter = make()
    segmenter.on_step = lambda frame: pytest.fail("a frame was segmented")
    run(monkeypatch, segmenter, *segment(source, out, "--save-panoptic"), code=2)
    assert text in " ".join(capfd.readouterr().err.split())
    assert not (out / "panoptic").exists()


def test_video_knet_gives_its_map_with_the_things_that_have_tracks(tmp_path):
    frames = frames_like(4)
    for frame in frames:
        write_image(tmp_path / "video" / f"{frame.index}.png", frame.image)
    network = small_network(2)
    with output_folder(tmp_path, "segment", ["panoptic/*/*.png"]) as folder:
        outcome = segment_videos(
            stream(network, score_threshold=0.0),
            open_videos(str(tmp_path / "video")),
            folder,
            overlay=False,
            save_panoptic=True,
        )
    assert outcome.error is None
    segmenter, numbered = stream(network, score_threshold=0.0), 0
    for frame in frames:
        (answer,) = segmenter.step(frame)
        image = read_panoptic(tmp_path / "panoptic" / "video" / f"{frame.index:06d}.png")
        expected = (segmenter.model.semantic_map() - np.uint8(1)).astype(np.int32) << 16
        for row in range(len(answer)):
            expected[answer.masks[row].dense()] = answer.labels[row] << 16 | answer.track_ids[row]
        np.testing.assert_array_equal(image, expected)
        numbered += ((image & 0xFFFF) > 0).any()
    assert numbered
