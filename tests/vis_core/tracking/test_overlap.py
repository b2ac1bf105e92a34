"""Linking by the overlap of masks: the recorded hand-over, and what is linked and what is not."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from vis_core.tracking.associator import Window
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.overlap import OverlapAssociator

LIFECYCLE = TrackLifecycle()


@dataclass
class Clip:
    coarse_masks: torch.Tensor
    class_scores: np.ndarray


def one_hot(labels, classes=4):
    return np.eye(classes, dtype=np.float32)[labels]


def window(first, length=2):
    return Window(first, length, (40, 50))


@pytest.mark.parametrize(("left", "same"), [(1, True), (3, False)])
def test_masks_that_overlap_too_little_are_not_linked(left, same):
    associator = OverlapAssociator(0.5)
    before, now = torch.zeros(1, 2, 4, 20, dtype=torch.bool), torch.zeros(1, 2, 4, 20, dtype=torch.bool)
    before[:, 1, :, :6], now[:, 0, :, left : left + 6] = True, True
    associator.remember([7], Clip(before, one_hot([0])), window(4))
    found = Clip(now, one_hot([1]))
    assert list(associator.associate(found, window(5), LIFECYCLE)[1]) == ([7] if same else [None])
    # No frame is shared.
    assert list(associator.associate(Clip(before, one_hot([0])), window(6), LIFECYCLE)[1]) == [None]
    assert associator.nbytes() == 0


def test_with_same_label_what_changed_its_label_is_not_linked():
    masks = torch.ones(1, 2, 4, 20, dtype=torch.bool)
    for label, same in ((0, True), (1, False)):
        associator = OverlapAssociator(0.5, same_label=True)
        associator.remember([7], Clip(masks, one_hot([0])), window(4))
        assert list(associator.associate(Clip(masks, one_hot([label])), window(5), LIFECYCLE)[1]) == (
            [7] if same else [None]
        )


def test_labels_may_be_of_each_frame():
    masks = torch.ones(1, 2, 4, 20, dtype=torch.bool)
    associator = OverlapAssociator(0.5, same_label=True)
    associator.remember([7], Clip(masks, np.array([[[0.4, 0.5], [0.9, 0.1]]], np.float32)), window(4))
    found = Clip(masks, np.array([[[0.3, 0.5], [0.4, 0.5]]], np.float32))
    assert list(associator.associate(found, window(5), LIFECYCLE)[1]) == [None]  # 0 in the mean, then 1
    found = Clip(masks, np.array([[[0.6, 0.5], [0.4, 0.3]]], np.float32))
    assert list(associator.associate(found, window(5), LIFECYCLE)[1]) == [7]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_windows_are_linked_as_recorded(threshold, shared):
    folder = shared / "parity" / "efficientvis" / "case_8_handcrafted_linking"
    case = json.loads((folder / "case.json").read_text())
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")

    def clip(prefix, rows):
        masks = np.unpackbits(inputs[f"{prefix}masks"], axis=-1, count=50).astype(bool)
        return Clip(torch.from_numpy(masks[rows]), one_hot(inputs[f"{prefix}labels"][rows]))

    known = np.flatnonzero(inputs["previous_scores"] >= case["score_threshold"])
    found = np.flatnonzero(inputs["scores"] >= case["score_threshold"])
    associator = OverlapAssociator(threshold, same_label=True)
    associator.remember(inputs["previous_ids"][known].tolist(), clip("previous_", known), window(4))
    rows, continued = associator.associate(clip("", found), window(4), LIFECYCLE)
    assert list(rows) == list(range(len(found)))
    ids, new = np.full(len(inputs["scores"]), -1), case["first_new_id"]
    for row, track_id in zip(found, continued):
        ids[row], new = (new, new + 1) if track_id is None else (track_id, new)
    assert ids.tolist() == expected[f"ids_{threshold}"].tolist()
