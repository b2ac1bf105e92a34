"""Instances that are pasted into clips: what they hide, where they come from, and where they stand."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from tests.vis_core.data.annotated import coco, rectangle
from tests.vis_core.data.drawn_clips import (
    BLUE,
    PASTING,
    RED,
    SIZE,
    THREE,
    assert_masks_cover_their_colours,
    clips,
    drawn,
)
from vis_core.data.annotation_files import read_annotations
from vis_core.data.augmentation import NO_AUGMENTATION
from vis_core.data.sources import open_sources


def pasted_clips(tmp_path, base, seeds=20, **options):
    donor = coco(tmp_path / "donor", {"boxes": [("blue", (20, 15, 40, 30))]})
    source = clips(coco(tmp_path / "base", base), PASTING, donors=[donor], **options)
    for seed in range(seeds):
        yield drawn(source, seed)


def test_pasted_instances_hide_what_they_cover_and_are_identities_of_their_own(tmp_path):
    pasted = hidden = 0
    for clip in pasted_clips(tmp_path, {"boxes": THREE[:2]}):
        assert_masks_cover_their_colours(clip)
        assert (clip.masks.sum(0) <= 1).all()
        pasted += int((clip.labels == BLUE).sum())
        whole = rectangle(SIZE, THREE[0][1])
        for mask in clip.masks[clip.labels == RED, 0]:
            assert not (mask & ~whole).any()
            hidden += mask.sum() < whole.sum()
    assert pasted > 20 and hidden > 3


def test_pasted_instances_cover_crowds_too(tmp_path):
    covered = 0
    for clip in pasted_clips(tmp_path, {"boxes": [("red", (10, 8, 60, 44))], "crowds": (0,)}):
        (ignored,) = clip.ignore_masks[clip.ignore_labels == RED]
        assert not (ignored & clip.masks.any(0)).any()
        assert_masks_cover_their_colours(clip)
        covered += ignored[0].sum() < 60 * 44
    assert covered > 10


def test_an_instance_of_which_next_to_nothing_is_visible_is_ignored(tmp_path):
    """Less than a twelfth of its own area beside what was pasted over it, or a few pixels at the picture's edge."""
    remains = 0
    for clip in pasted_clips(tmp_path, {"boxes": [("red", (30, 20, 20, 20))]}, seeds=250, frames=1):
        areas = clip.masks.sum((2, 3))
        assert areas[clip.labels == RED].min(initial=400) >= 32 and areas.min(initial=12) >= 12
        remains += RED in clip.ignore_labels
    assert remains


def test_crowds_are_never_pasted(tmp_path):
    donor = coco(tmp_path / "donor", {"boxes": [("blue", (20, 15, 40, 30))], "crowds": (0,)})
    source = clips(coco(tmp_path / "base", {"boxes": THREE[:1]}), PASTING, donors=[donor])
    assert all(drawn(source, seed).labels.tolist() == [RED] for seed in range(10))


def test_instances_are_pasted_from_one_set_into_another(tmp_path):
    one = read_annotations(coco(tmp_path / "one", {"boxes": THREE[:1]}))
    other = read_annotations(coco(tmp_path / "other", {"boxes": [("blue", (10, 10, 40, 30))]}))
    first, second = open_sources([one, other], 2, SIZE, PASTING)
    assert len(first) == len(second) == 1
    assert {label for seed in range(10) for label in drawn(first, seed).labels} == {RED, BLUE}
    assert {label for seed in range(10) for label in drawn(second, seed).labels} == {RED, BLUE}


def test_sets_give_what_is_pasted_by_their_shares(tmp_path):
    one = read_annotations(coco(tmp_path / "one", {"boxes": THREE[:1]}))
    other = read_annotations(coco(tmp_path / "other", {"boxes": [("blue", (10, 10, 40, 30))]}))
    none = read_annotations(coco(tmp_path / "none", {"boxes": []}))

    def pasted(*shares):
        _, second, _ = open_sources([one, other, none], 2, SIZE, PASTING, shares)
        labels = np.concatenate([drawn(second, seed).labels[1:] for seed in range(60)])
        return (labels == BLUE).mean()

    assert pasted(1, 0, 1) == 0 and pasted(0, 1, 1) == 1
    assert 0.4 < pasted() < 0.6 and 0.7 < pasted(1, 4, 9) < 0.9


def test_what_is_pasted_can_be_put_onto_what_is_there(tmp_path):
    path = coco(tmp_path / "one", {"boxes": [("red", (4, 4, 20, 20))]})
    donor = coco(tmp_path / "other", {"boxes": [("blue", (10, 10, 40, 40))]})
    meets = {}
    for touch in (0.0, 1.0):
        source = clips(path, replace(NO_AUGMENTATION, copy_paste=1.0, touch=touch), donors=[donor])
        sides, found = [], []
        for seed in range(60):
            clip = drawn(source, seed)
            if clip.labels.tolist() == [RED, BLUE]:
                red, blue = (mask[0].astype(np.uint8) for mask in clip.masks)
                sides.append(max(cv2.boundingRect(blue)[2:]))
                found.append((cv2.dilate(red, np.ones((5, 5), np.uint8)) & blue).any())
        meets[touch] = np.mean(found)
        assert touch == 0 or (np.median(sides) > 12 and max(sides) <= 20 * np.exp(0.3) + 2)
    assert meets[0.0] < 0.4 and meets[1.0] > 0.6


def test_what_is_pasted_in_company_stands_beside_its_own_kind_and_moves_with_it(tmp_path):
    boxes = {"boxes": [("red", (20, 20, 8, 20)), ("blue", (50, 8, 16, 16))]}
    path, donor = coco(tmp_path / "one", boxes), coco(tmp_path / "other", {"boxes": [("red", (30, 10, 10, 40))]})
    moving = replace(NO_AUGMENTATION, motion=0.3, copy_paste=1.0, touch=1.0, company=1.0)
    source, seen = clips(path, moving, donors=[donor]), 0
    for seed in range(60):
        clip = drawn(source, seed)
        if clip.labels.tolist() != [RED, BLUE, RED] or not clip.masks.any((2, 3)).all():
            continue
        (first, _, second) = (
            np.array([cv2.boundingRect(mask.astype(np.uint8)) for mask in one]) for one in clip.masks
        )  # x, y, w, h in each frame
        if (first[:, :2] < 2).any() or (second[:, :2] < 2).any() or (second[:, 2:] < 4).any():
            continue  # cut by the edge of the picture
        bottoms = first[:, 1] + first[:, 3], second[:, 1] + second[:, 3]
        if max(bottoms[0].max(), bottoms[1].max()) > SIZE[0] - 2 or (second[:, 0] + second[:, 2] > SIZE[1] - 2).any():
            continue
        seen += 1
        assert abs(bottoms[0] - bottoms[1]).max() <= 4
        assert abs(np.diff(first[:, 1]) - np.diff(second[:, 1])).max() <= 1
        assert 0.7 < second[0, 3] / 20 < 1.3
    assert seen > 8
