"""Mask2Former-VIS: the published answers of recorded videos, and what holds of windows on any stream."""

import numpy as np
import pytest
import torch

from tests.costs import by_cost
from tests.vis_core.models.made_of_networks import mask2former_vis
from tests.vis_core.models.painted_queries import CLASSES, PaintedQueries, picture
from tests.vis_core.models.recorded_videos import RecordedVideo
from vis_core.errors import OptionError


def windows(network=None, **options):
    return mask2former_vis(network or PaintedQueries(), CLASSES, **options)


def run(segmenter, frames):
    return [*(x for f in frames for x in segmenter.step(f)), *segmenter.flush()]


def seen(instances):
    return instances[instances.visible]


def ids(answers):
    return [sorted(seen(x).track_ids.tolist()) for x in answers]


@pytest.mark.parametrize(("length", "stride"), [(5, 1), (5, 3), (2, 1)])
def test_ids_are_handed_over_though_other_queries_find_the_objects(length, stride):
    frames = [picture(i, (50, i), (200, 60 - i)) for i in range(20)]
    answers = run(windows(clip_length=length, stride=stride), frames)
    assert ids(answers) == [[1, 2]] * 20
    values = {}
    for instances, frame in zip(answers, frames):
        for track_id, mask in zip(instances.track_ids.tolist(), instances.masks):
            values.setdefault(track_id, set()).add(int(np.median(frame.image[..., 0][mask.dense()])))
    assert sorted(values.values()) == [{50}, {200}]


def test_objects_are_born_when_they_come_and_lost_when_they_go():
    frames = [picture(i, (50, 0), *([(200, 60)] if 3 <= i < 6 else [])) for i in range(12)]
    assert ids(run(windows(), frames)) == [[1]] * 3 + [[1, 2]] * 3 + [[1]] * 6


def test_each_frame_passes_backbone_and_pixel_decoder_once():
    network = PaintedQueries()
    run(windows(network, clip_length=5, stride=1), [picture(i, (50, i)) for i in range(12)])
    assert network.calls == {"pixel_features": 12, "frames": [1, 2, 3, 4] + [5] * 8}


def test_memory_does_not_grow_with_the_stream():
    segmenter, sizes = windows(clip_length=3, max_lost_frames=5), []
    for i in range(200):
        segmenter.step(picture(i, (1 + i // 3 % 200, i % 60)))  # an object is born and lost all the time
        sizes.append(segmenter.state_bytes())
    frame = 4 * 256 * (16 * 24 + 2 * 3 + 4 * 6 + 8 * 12)
    assert max(sizes[100:]) <= max(sizes[:100]) < 3 * frame + 100_000
    segmenter.reset()
    assert segmenter.state_bytes() < 10_000


def test_a_window_as_long_as_the_stream_answers_as_the_whole_clip_does():
    frames = [picture(i, (50, i), (200, 60 - i)) for i in range(5)]
    whole, window = run(windows(unbounded=True), frames), run(windows(clip_length=9, stride=8), frames)
    for a, b in zip(whole, window, strict=True):
        a, b = seen(a), seen(b)
        good = a[a.scores > 0.3]  # the whole clip is answered by the ten best pairs, whatever their scores
        assert sorted(good.track_scores.tolist()) == pytest.approx(sorted(b.track_scores.tolist()))
        assert sorted(m.box for m in good.masks) == sorted(m.box for m in b.masks)


def test_instances_under_the_threshold_are_not_answered():
    frames = [picture(0, (50, 0))]
    assert len(run(windows(PaintedQueries(probability=0.4), score_threshold=0.5), frames)[0]) == 0


def test_two_queries_that_find_one_object_are_one_instance():
    class Doubled(PaintedQueries):
        def _clip(self, mask):
            return tuple(x.repeat(2, 1) for x in super()._clip(mask))

    (instances,) = run(windows(Doubled()), [picture(0, (50, 0), (200, 60))])
    assert len(instances) == 2


@pytest.mark.parametrize(("length", "stride"), [(1, 1), (5, 5), (5, 7)])
def test_windows_that_share_no_frame_are_refused(length, stride):
    with pytest.raises(OptionError, match=f"stride: {stride} leaves windows of {length}"):
        windows(clip_length=length, stride=stride)


CASES = ["case_r50_clip5", "case_r50_odd", "case_swinb_t2", "case_swint_odd"]


@pytest.mark.parametrize("name", by_cost(CASES, "case_swinb_t2"))
def test_a_video_handed_over_whole_gives_the_published_results(name, shared, fill, weights_folder):
    video = RecordedVideo(shared / "parity" / "mask2former" / name, fill)
    segmenter = video.load("mask2former-vis", weights_folder, unbounded=True)
    for frame in video.frames():
        assert segmenter.step(frame) == []
    video.check_answers(segmenter.flush())


@torch.inference_mode()
def test_the_last_window_of_a_stream_that_it_holds_is_the_published_clip(shared, fill, weights_folder):
    video = RecordedVideo(shared / "parity" / "mask2former" / CASES[1], fill)
    segmenter = video.load("mask2former-vis", weights_folder, clip_length=9, stride=1, score_threshold=0)
    windows, segment = [], segmenter.model.segment
    segmenter.model.segment = lambda *asked: windows.append(asked) or segment(*asked)
    run(segmenter, video.frames())
    assert [len(clip) for clip, _ in windows] == [1, 2, 3, 4]
    segmenter.model.published = True
    video.check_clip(segment(*windows[-1]))
