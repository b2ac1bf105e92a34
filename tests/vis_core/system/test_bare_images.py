"""Images without stamps, as users have them: counted, RGB or BGR, one by one or as a stream."""

from __future__ import annotations

import numpy as np
import pytest

from tests.vis_core.system.test_driver import clips, frame, moving, seen
from vis_core.errors import InputError
from vis_core.structures import Frame

INTERVAL = 40_000_000


def images(count):
    return [f.image for f in moving(count)]


def times(answers):
    return [(x.index, x.stamp) for x in answers]


def test_images_are_counted_from_the_last_reset_on():
    segmenter = clips(1)
    assert [times(segmenter.step(image)) for image in images(3)] == [[(i, i * INTERVAL)] for i in range(3)]
    segmenter.reset()
    assert times(segmenter.step(images(1)[0])) == [(0, 0)]


def test_an_image_after_a_frame_is_the_next_one():
    segmenter = clips(1)
    segmenter.step(Frame(images(1)[0], stamp=1_000, index=7))
    assert times(segmenter.step(images(1)[0])) == [(8, 1_000 + INTERVAL)]


def test_an_image_of_another_size_is_counted_on():
    segmenter = clips(1)
    segmenter.step(images(1)[0])
    assert times(segmenter.step(np.zeros((20, 30, 3), np.uint8))) == [(1, INTERVAL)]


@pytest.mark.parametrize("prefetch", [True, False])
def test_a_stream_of_images_is_answered_as_one_of_frames(prefetch, monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    expected = list(clips(3, 2).run(moving(5)))
    answers = list(clips(3, 2).run(np.stack(images(5)), prefetch))
    assert times(answers) == [(i, i * INTERVAL) for i in range(5)]
    assert [seen(x).boxes.tolist() for x in answers] == [seen(x).boxes.tolist() for x in expected]


def test_one_buffer_may_hold_all_images_of_a_stream(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)

    def camera():
        buffer = np.zeros_like(images(1)[0])
        for image in images(5):
            buffer[:] = image
            yield buffer

    expected = list(clips(1).run(images(5)))
    assert [seen(x).boxes.tolist() for x in clips(1).run(camera(), prefetch=True)] == [
        seen(x).boxes.tolist() for x in expected
    ]


@pytest.mark.parametrize("way", ["step", "run"])
def test_images_of_opencv_are_told_by_bgr(way):
    red = frame(0, (200, 3)).image.copy()
    red[..., 1:] = 0
    segmenter = clips(1)
    for image, bgr in ((red, False), (red[..., ::-1], True)):
        (answer,) = segmenter.step(image, bgr=bgr) if way == "step" else segmenter.run([image], bgr=bgr)
        assert seen(answer).boxes.tolist() == [[3, 2, 8, 8]]
    (answer,) = segmenter.step(red[..., ::-1])
    assert not len(seen(answer))


def test_answers_know_the_names_of_their_classes():
    (answer,) = clips(1).step(frame(0, (200, 3), (50, 10)))
    assert answer.class_names == ("dark", "light") and answer.names == ("light", "dark")


def test_what_cannot_be_an_image_is_told_after_the_answers_before_it():
    answers = clips(1).run([images(1)[0], "street.mp4"])
    assert next(answers).index == 0
    with pytest.raises(InputError, match=r"frame 1: .* got str; vis_core.open_video"):
        next(answers)
    with pytest.raises(InputError, match=r"single one is for step\(image\)"):
        next(clips(1).run(images(1)[0]))
    with pytest.raises(InputError, match="a Frame holds RGB"):
        clips(1).step(frame(3), bgr=True)
