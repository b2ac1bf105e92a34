"""What of a stream's tracks is drawn, and of which."""

from __future__ import annotations

import numpy as np
import pytest

from tests.vis_core.video.test_overlay import grey, instances_of
from vis_core.errors import OptionError
from vis_core.structures import TrackState
from vis_core.video.drawing import PARTS, Drawing, TrackDrawer
from vis_core.video.overlay import draw_overlay, track_color

SIZE = (200, 300)


def drawn(shapes, ids, drawing, **others):
    drawer = TrackDrawer(["person", "vehicle"], drawing)
    return drawer.draw(grey(), instances_of(SIZE, shapes, ids, **others))


@pytest.mark.parametrize("part", PARTS[:3])
def test_each_part_is_drawn_alone_where_it_belongs(part):
    out = drawn([(80, 60, 60, 100)], [7], Drawing((part,)))
    changed = (out != grey()).any(axis=2)
    inside, above = changed[90:130, 70:150], changed[50:78]
    assert inside.all() == (part == "masks") and inside.any() == (part == "masks")
    assert above.any() == (part == "labels")
    assert (out[80, 110] == track_color(7)).all() or part == "labels" or part == "masks"


def test_a_trail_leads_from_where_a_track_was_and_ends_with_it():
    drawer = TrackDrawer(["person"], Drawing(("trails",)))
    for x in (20, 80, 140):
        out = drawer.draw(grey(), instances_of(SIZE, [(80, x, 60, 40)], [7]))
    assert (out[139, 60:140] == track_color(7)).all(axis=1).all()
    assert not (out[:130] != 90).any() and not (out[:, :30] != 90).any()
    drawer.draw(grey(), instances_of(SIZE, [(80, 140, 60, 40)], [7], [TrackState.ENDED]))
    assert (drawer.draw(grey(), instances_of(SIZE, [(80, 140, 60, 40)], [7])) == grey()).all()


def test_classes_that_were_not_asked_for_are_not_drawn():
    one = drawn([(80, 60, 60, 60), (20, 200, 40, 40)], [1, 2], Drawing(classes=("vehicle",)), labels=[0, 1])
    other = drawn([(20, 200, 40, 40)], [2], Drawing(), labels=[1])
    assert (one[:, :190] == 90).all() and (one[30, 210] == other[30, 210]).all() and (one[30, 210] != 90).any()


def test_a_least_running_score_leaves_out_what_is_below_it():
    both = instances_of(SIZE, [(80, 60, 60, 60), (20, 200, 40, 40)], [1, 2])  # 0.9 and 0.5
    out = draw_overlay(grey(), both, ["person"], min_score=0.6)
    assert (out[:, 190:] == 90).all() and (out[100, 100] != 90).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Drawing(("mask",)), "draw: 'mask' is unknown; did you mean 'masks'"),
        (lambda: Drawing(min_score=2.0), "min_score: 2.0 is not in 0 to 1"),
        (lambda: TrackDrawer(["person"], Drawing(classes=("persn",))), "classes: 'persn' is unknown; did you mean"),
    ],
)
def test_what_cannot_be_drawn_is_told(make, message):
    with pytest.raises(OptionError, match=message):
        make()


def test_nothing_may_be_drawn():
    np.testing.assert_array_equal(drawn([(80, 60, 60, 60)], [1], Drawing(())), grey())
