"""Tracks are shown from when they were sure enough to their end."""

from __future__ import annotations

import numpy as np
import pytest

from vis_core import catalog, masks
from vis_core.structures import Instances, TrackState
from vis_core.tracking.shown import ShownTracks


def instances(track_ids, track_scores, states=None):
    n = len(track_ids)
    return Instances(
        stamp=0,
        index=0,
        size=(4, 4),
        track_ids=np.array(track_ids),
        labels=np.zeros(n),
        scores=np.full(n, 0.9),
        track_scores=np.array(track_scores),
        boxes=np.zeros((n, 4)),
        masks=tuple(masks.encode(np.eye(4, dtype=np.uint8)) for _ in range(n)),
        states=np.full(n, TrackState.TRACKED) if states is None else np.array(states),
        ages=np.zeros(n),
        first_seen=np.zeros(n),
        last_seen=np.zeros(n),
    )


def test_a_track_is_shown_from_when_its_running_score_is_reached_and_stays_when_it_falls():
    shown = ShownTracks(0.4)
    seen = [shown(instances([1, 2], [first, 0.3])).track_ids.tolist() for first in (0.3, 0.4, 0.2)]
    assert seen == [[], [1], [1]]


def test_of_a_shown_track_alone_it_is_told_that_it_is_lost_and_that_it_ended():
    shown = ShownTracks(0.4)
    shown(instances([1, 2], [0.5, 0.3]))
    for state in (TrackState.LOST, TrackState.ENDED):
        assert shown(instances([1, 2], [0.5, 0.5], [state, state])).track_ids.tolist() == [1]
    assert not shown._shown


def test_a_score_of_zero_shows_all_whatever_their_state_and_changes_nothing():
    given = instances([1, 2], [0.0, 0.5], [TrackState.LOST, TrackState.TRACKED])
    assert ShownTracks(0)(given) is given


@pytest.mark.parametrize("score", [0.4, 0.1, 0.7])
def test_a_score_that_is_just_reached_counts_in_single_precision(score):
    assert len(ShownTracks(score)(instances([1], [np.float32(score)]))) == 1


def test_what_the_shipped_weights_are_shown_with_goes_with_them(tmp_path):
    own = catalog.load("visolo-lite", device="cpu", precision="fp32")
    copy = tmp_path / "lite.safetensors"
    catalog.convert("visolo-lite", catalog.find("visolo-lite").default_weights(), copy)
    assert own.shown_score == catalog.load("visolo-lite", copy).shown_score == own.another().shown_score == 0.4


@pytest.mark.parametrize("stated", ["", "much", "nan", "-1", "7"])
def test_weights_that_state_nothing_that_can_be_are_shown_whole(stated):
    assert catalog._shown_score({"shown_score": stated}) == catalog._shown_score({}) == 0
