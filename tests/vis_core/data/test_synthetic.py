"""Synthetic videos: exact ground truth, the same for the same seed, readable as YouTube-VIS."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from vis_core import masks
from vis_core.data.synthetic import CLASS_NAMES, SyntheticVideo, synthetic_video, write_youtube_vis
from vis_core.errors import OptionError
from vis_core.structures import TrackState
from vis_core.video.opening import open_videos

SMALL = {"length": 24, "size": (96, 160)}


def test_the_same_arguments_give_the_same_video_and_another_seed_another():
    first, again, other = synthetic_video(3, **SMALL), synthetic_video(3, **SMALL), synthetic_video(4, **SMALL)
    for name in ("frames", "object_image", "labels", "stamps"):
        assert np.array_equal(getattr(first, name), getattr(again, name)), name
    assert not np.array_equal(first.frames, other.frames)


def test_frames_and_ground_truth_have_the_announced_shapes():
    video = synthetic_video(0, length=7, size=(48, 80), objects=4, fps=20)
    assert video.frames.shape == (7, 48, 80, 3) and video.frames.dtype == np.uint8
    assert video.object_image.shape == (7, 48, 80) and video.object_image.max() <= 4
    assert sorted(video.labels) == [0, 0, 1, 2]
    assert video.stamps.tolist() == [50_000_000 * t for t in range(7)]
    frame = video.frame(3)
    assert frame.stamp == 150_000_000 and frame.index == 3 and frame.size == video.size


def test_a_mask_covers_what_the_object_shows_and_nothing_else():
    """Without the object the picture differs inside its mask and, but for the blur's reach, nowhere else."""
    with_objects, ground = synthetic_video(5, objects=1, **SMALL), synthetic_video(5, objects=0, **SMALL)
    apart = 0
    for t in range(len(with_objects)):
        shown = with_objects.object_image[t] == 1
        difference = np.abs(with_objects.frames[t].astype(int) - ground.frames[t]).max(2)
        near = masks.encode(shown)
        reach = np.zeros_like(shown)
        x, y, width, height = near.box
        reach[max(y - 4, 0) : y + height + 4, max(x - 4, 0) : x + width + 4] = width > 0
        assert difference[~reach].max(initial=0) <= 8  # the noise of both
        apart += int((difference[shown] > 12).sum())
    assert apart > 0.7 * (with_objects.object_image == 1).sum()


def test_masks_of_one_frame_never_overlap_and_the_object_in_front_keeps_the_pixels():
    video = synthetic_video(5, **SMALL)
    tracks = [video.track(i) for i in range(len(video.labels))]
    for t in range(len(video)):
        stack = np.sum([track[t].dense() for track in tracks if track[t]], axis=0)
        assert stack.max() == 1


def test_the_last_object_is_whole_in_front_of_all_others():
    """A convex shape stays convex where it passes over others, and does not where they pass over it."""
    video = synthetic_video(1)
    assert [CLASS_NAMES[label] for label in video.labels[[0, -1]]] == ["box", "disc"]
    assert all(_solidity(mask) > 0.97 for mask in video.track(4) if mask)
    assert any(_solidity(mask) < 0.9 for mask in video.track(0) if mask)


def _solidity(mask):
    points, _ = cv2.findContours(mask.crop(), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = np.zeros_like(mask.crop())
    cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(points)), 1)
    return mask.area / hull.sum()


@pytest.mark.parametrize("seed", range(8))
def test_objects_cross_and_are_hidden_or_leave(seed):
    video = synthetic_video(seed, length=40, size=(180, 320))
    tracks = [video.track(i) for i in range(len(video.labels))]
    touching = any(
        a[t] and b[t] and _boxes_overlap(a[t].box, b[t].box)
        for i, a in enumerate(tracks)
        for b in tracks[:i]
        for t in range(len(video))
    )
    assert touching
    assert any(any(mask is None for mask in track) or _halves(track) for track in tracks)
    assert all(any(track) for track in tracks)


def _boxes_overlap(a, b):
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def _halves(track):
    areas = [mask.area for mask in track if mask]
    return min(areas) < max(areas) / 2


def test_the_json_holds_the_visible_masks_with_null_where_an_object_is_not_seen(tmp_path):
    videos = [synthetic_video(5, **SMALL), synthetic_video(6, **SMALL)]
    path = write_youtube_vis(videos, tmp_path)
    content = json.loads(path.read_text())
    assert [c["name"] for c in content["categories"]] == list(CLASS_NAMES)
    nulls = 0
    for entry in content["annotations"]:
        video = videos[entry["video_id"] - 1]
        shown = [
            i + 1
            for i, label in enumerate(video.labels)
            if label + 1 == entry["category_id"]
            and all((m is None) == (s is None) for m, s in zip(video.track(i), entry["segmentations"], strict=True))
        ]
        assert shown
        assert entry["iscrowd"] == 0
        for t, (segmentation, box, area) in enumerate(
            zip(entry["segmentations"], entry["bboxes"], entry["areas"], strict=True)
        ):
            if segmentation is None:
                nulls += 1
                assert box is None and area is None
                continue
            dense = coco_mask.decode({**segmentation, "counts": segmentation["counts"].encode()})
            assert any(np.array_equal(dense != 0, video.object_image[t] == value) for value in shown)
            assert area == dense.sum() == coco_mask.area({**segmentation, "counts": segmentation["counts"].encode()})
            assert box == list(map(float, masks.encode(dense).box))
    assert nulls > 0


@pytest.mark.parametrize(("suffix", "tolerance"), [(".png", 0), (".jpg", 5)])
def test_what_is_written_opens_as_videos_with_the_same_frames_and_stamps(tmp_path, suffix, tolerance):
    videos = [synthetic_video(1, length=4, size=(48, 80)), synthetic_video(2, length=3, size=(64, 64), fps=7)]
    path = write_youtube_vis(videos, tmp_path, suffix)
    assert not list(tmp_path.rglob("*.part"))
    for written, video in zip(open_videos(path), videos, strict=True):
        assert written.name == video.name and written.fps == video.fps
        frames = list(written)
        assert [f.stamp for f in frames] == video.stamps.tolist()
        for frame, image in zip(frames, video.frames, strict=True):
            assert np.abs(frame.image.astype(int) - image).mean() <= tolerance


def test_an_object_that_is_never_seen_has_no_annotation(tmp_path):
    video = synthetic_video(0, length=2, size=(48, 80), objects=2)
    hidden = SyntheticVideo(
        video.name, video.frames, np.where(video.object_image == 2, 0, video.object_image), *_rest(video)
    )
    content = json.loads(write_youtube_vis([hidden], tmp_path).read_text())
    assert [a["id"] for a in content["annotations"]] == [1]


def _rest(video):
    return video.labels, video.stamps, video.fps


def test_a_scene_without_objects_is_a_scene():
    video = synthetic_video(0, length=1, size=(32, 32), objects=0)
    assert len(video) == 1 and not video.object_image.any()


@pytest.mark.parametrize(
    "wrong", [{"length": 0}, {"size": (8, 64)}, {"size": (64, 10**6)}, {"objects": 256}, {"fps": 0.0}]
)
def test_a_value_out_of_range_is_an_error_that_names_it(wrong):
    with pytest.raises(OptionError, match=r"synthetic video: \w+ .* is not in"):
        synthetic_video(0, **wrong)


def test_two_videos_of_one_name_and_names_that_are_no_folder_are_refused(tmp_path):
    video = synthetic_video(0, length=1, size=(32, 32))
    with pytest.raises(OptionError, match="synthetic_0"):
        write_youtube_vis([video, video], tmp_path)
    with pytest.raises(OptionError, match="folder"):
        write_youtube_vis([synthetic_video(0, length=1, size=(32, 32), name="../out")], tmp_path)
    with pytest.raises(OptionError, match="bmp"):
        write_youtube_vis([video], tmp_path, ".bmp")


def test_its_answers_are_those_of_a_perfect_segmenter():
    video = synthetic_video(6)
    answers = video.instances()
    identities: dict[int, int] = {}
    lost = 0
    for t, answer in enumerate(answers):
        assert (answer.index, answer.stamp, answer.size) == (t, int(video.stamps[t]), video.size)
        seen = answer[answer.visible]
        assert set(np.unique(video.object_image[t])) - {0} == {
            _object_of(mask, video.object_image[t]) for mask in seen.masks
        }
        for track_id, label, mask in zip(seen.track_ids, seen.labels, seen.masks, strict=True):
            value = _object_of(mask, video.object_image[t])
            assert identities.setdefault(int(track_id), value) == value
            assert label == video.labels[value - 1]
        lost += int((answer.states == TrackState.LOST).sum())
    assert sorted(identities) == [1, 2, 3, 4, 5]
    assert lost > 0


def _object_of(mask, objects):
    (value,) = np.unique(objects[mask.dense()])
    assert np.array_equal(objects == value, mask.dense())
    return int(value)


def test_it_needs_no_torch():
    code = "import sys, vis_core.data.synthetic; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
