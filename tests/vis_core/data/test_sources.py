"""Training clips: what the masks, labels and ignored regions of a clip promise about its pictures."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from tests.vis_core.data.annotated import COLOURS, GROUND, coco, rectangle, write_image, youtube_vis
from tests.vis_core.data.drawn_clips import (
    BLUE,
    GREEN,
    ONLY_GEOMETRY,
    PASTING,
    RED,
    SIZE,
    THREE,
    assert_masks_cover_their_colours,
    clips,
    drawn,
    of_colour,
)
from vis_core.data.annotation_files import read_annotations
from vis_core.data.augmentation import NO_AUGMENTATION, Augmentation
from vis_core.data.sources import balanced, open_sources
from vis_core.data.synthetic import synthetic_video, write_youtube_vis
from vis_core.errors import InputError


def test_a_clip_without_variation_is_the_image_itself(tmp_path):
    clip = drawn(clips(coco(tmp_path, {"boxes": THREE})), 0)
    assert clip.images.shape == (3, *SIZE, 3) and clip.images.dtype == np.uint8
    assert clip.masks.shape == (3, 3, *SIZE) and clip.masks.dtype == np.bool_
    assert clip.labels.tolist() == [RED, GREEN, BLUE] and clip.exhaustive.tolist() == [True] * 3
    assert clip.ignore_masks.shape == (0, 3, *SIZE) and clip.ignore_labels.shape == (0,)
    for label, (name, box) in enumerate(THREE):
        assert (clip.masks[label] == rectangle(SIZE, box)).all()
        assert (clip.images[:, rectangle(SIZE, box)] == COLOURS[name]).all()


@pytest.mark.parametrize("source_size", [(60, 80), (360, 480), (37, 200)], ids=["as large", "larger", "wide"])
def test_masks_cover_exactly_their_objects_however_the_camera_moves(tmp_path, source_size):
    scale = np.array([source_size[1] / 80, source_size[0] / 60] * 2)
    boxes = [(name, tuple(int(v) for v in np.rint(scale * box))) for name, box in THREE]
    source = clips(coco(tmp_path, {"size": source_size, "boxes": boxes}), ONLY_GEOMETRY)
    seen = 0
    for seed in range(30):
        clip = drawn(source, seed)
        assert_masks_cover_their_colours(clip)
        assert len(set(clip.labels.tolist())) == len(clip.labels)  # one mask for one object in all frames
        seen += len(clip.labels)
    assert seen > 45


def test_masks_lie_on_their_objects_to_a_fraction_of_a_pixel(tmp_path):
    """Rounding to the nearest pixel is no shift: over many clips the centres of mask and colour agree."""
    grid = np.indices(SIZE)
    for size in ((60, 80), (480, 640)):
        k = size[0] // 60
        path = coco(tmp_path / str(k), {"size": size, "boxes": [("red", (30 * k, 20 * k, 20 * k, 20 * k))]})
        source = clips(path, replace(ONLY_GEOMETRY, zoom=(0.9, 1.2)))
        shifts = []
        for seed in range(25):
            clip = drawn(source, seed)
            for t, image in enumerate(clip.images):
                excess = image[..., RED] - image[..., GREEN].astype(float)
                share = np.where(excess > 20, excess / 210, 0)  # how much of a pixel the object covers
                if not share[[0, -1]].any() and not share[:, [0, -1]].any():
                    shifts.append([(grid * m).sum((1, 2)) / m.sum() for m in (share, clip.masks[0, t])])
        y, x = np.diff(shifts, axis=1)[:, 0].mean(0)
        assert len(shifts) > 40 and abs(x) < 0.1 and abs(y) < 0.1


def test_camera_moves_between_the_frames_of_an_image(tmp_path):
    source = clips(coco(tmp_path, {"boxes": THREE}), replace(ONLY_GEOMETRY, zoom=(1.0, 1.0)))
    moved = [(clip.images[0] != clip.images[1]).any() for clip in (drawn(source, seed) for seed in range(5))]
    assert all(moved)


def test_a_mirrored_clip_has_mirrored_masks_and_the_same_labels(tmp_path):
    path = coco(tmp_path, {"boxes": THREE})
    plain, mirrored = drawn(clips(path), 0), drawn(clips(path, replace(NO_AUGMENTATION, flip=1.0)), 0)
    assert np.array_equal(mirrored.images, plain.images[:, :, ::-1])
    assert np.array_equal(mirrored.masks, plain.masks[..., ::-1])
    assert np.array_equal(mirrored.labels, plain.labels)


def test_what_a_crop_leaves_out_is_no_instance_of_the_clip(tmp_path):
    source = clips(coco(tmp_path, {"boxes": THREE}), replace(NO_AUGMENTATION, zoom=(0.4, 0.4)))
    counts = set()
    for seed in range(30):
        clip = drawn(source, seed)
        assert_masks_cover_their_colours(clip)
        assert clip.masks.any((1, 2, 3)).all()
        counts.add(len(clip.labels))
    assert 1 in counts and len(counts) > 1


def test_beyond_the_image_there_is_a_border_without_objects(tmp_path):
    path = coco(tmp_path, {"boxes": [("red", (0, 0, 80, 60))]})  # the object fills the picture
    clip = drawn(clips(path, replace(NO_AUGMENTATION, zoom=(2.0, 2.0))), 0)
    share = clip.masks.mean()
    assert 0.15 < share < 0.35
    assert_masks_cover_their_colours(clip)


def test_the_same_generator_gives_the_same_clip_and_another_another(tmp_path):
    videos = [synthetic_video(seed, length=6, size=(48, 64), objects=3, name=f"v{seed}") for seed in range(2)]
    path = write_youtube_vis(videos, tmp_path)
    everything = Augmentation(mosaic=0.4, erase=0.4, copy_paste=2.0)
    first, again = clips(path, everything, size=(40, 56)), clips(path, everything, size=(40, 56))
    for seed in range(12):
        if seed % 3 == 0:
            drawn(again, 100 + seed)  # what was drawn before leaves no trace
        a, b = drawn(first, seed, seed % 2), drawn(again, seed, seed % 2)
        for field in fields(a):
            assert np.array_equal(getattr(a, field.name), getattr(b, field.name)), field.name
    assert not np.array_equal(drawn(first, 0).images, drawn(first, 1).images)


# Videos


def test_identities_of_a_video_stay_with_their_objects(tmp_path):
    frames = [[("red", (5 * t, 10, 14, 12)), ("red", (60 - 5 * t, 34, 14, 12)), ("blue", (30, 0, 9, 9))]
              for t in range(10)]  # fmt: skip
    source = clips(youtube_vis(tmp_path, frames), ONLY_GEOMETRY)
    compared = 0
    for seed in range(15):
        clip = drawn(source, seed)
        assert_masks_cover_their_colours(clip)
        upper = [  # the two red ones never change places: one is above the other in the picture of the camera's start
            [np.nonzero(mask)[0].mean() for mask in masks if mask.any()] for masks in clip.masks[clip.labels == RED]
        ]
        if len(upper) == 2 and all(len(rows) == 3 for rows in upper):
            assert max(upper[0]) < min(upper[1])
            compared += 1
    assert compared > 3


def test_an_object_that_is_away_in_a_frame_has_an_empty_mask_there(tmp_path):
    there, away = ("green", (50, 20, 20, 20)), ("green", (0, 0, 0, 0))
    frames = [[("red", (5, 5, 20, 20)), there if t % 2 else away] for t in range(12)]
    source = clips(youtube_vis(tmp_path, frames), frames=4)
    mixed = 0
    for seed in range(10):
        clip = drawn(source, seed)
        assert_masks_cover_their_colours(clip)
        seen = clip.masks[clip.labels == GREEN].any((2, 3))
        mixed += seen.any() and not seen.all()
        assert clip.masks[clip.labels == RED].any((2, 3)).all()
    assert mixed


def test_frames_of_a_clip_lie_close_together(tmp_path):
    path = youtube_vis(tmp_path, [[("red", (5, 5, 9, 9))] for _ in range(100)])
    for t in range(100):  # a picture tells its number
        write_image(tmp_path / "frames" / "v1" / f"{t:05d}.png", np.full((*SIZE, 3), 2 * t, np.uint8))
    source = clips(path, frames=5)
    numbers = np.array([drawn(source, seed).images[:, 0, 0, 0] // 2 for seed in range(60)]).astype(int)
    assert np.ptp(numbers, axis=1).max() < 40
    assert numbers.min() < 10 and numbers.max() > 89  # from the whole video
    assert len({tuple(row) for row in numbers.tolist()}) == 60


# What is not an instance


def test_a_sliver_is_ignored_and_no_instance(tmp_path):
    clip = drawn(clips(coco(tmp_path, {"boxes": [("red", (5, 5, 3, 3)), ("green", (30, 30, 4, 4))]})), 0)
    assert clip.labels.tolist() == [GREEN] and clip.ignore_labels.tolist() == [RED]
    assert (clip.ignore_masks[0] == rectangle(SIZE, (5, 5, 3, 3))).all()


def test_a_crowd_is_a_region_to_ignore_for_its_class(tmp_path):
    path = coco(tmp_path, {"boxes": THREE, "crowds": (1,)})
    clip = drawn(clips(path), 0)
    assert clip.labels.tolist() == [RED, BLUE] and clip.ignore_labels.tolist() == [GREEN]
    assert (clip.ignore_masks[0] == rectangle(SIZE, THREE[1][1])).all()
    assert clip.exhaustive.all()
    for seed in range(20):
        clip = drawn(clips(path, ONLY_GEOMETRY), seed)
        assert GREEN not in clip.labels
        assert_masks_cover_their_colours(clip)


def test_instances_beyond_what_a_clip_holds_are_ignored_not_forgotten(tmp_path):
    boxes = [("red", (10 * (i % 16), 10 * (i // 16), 6, 6)) for i in range(140)]
    clip = drawn(clips(coco(tmp_path, {"size": (90, 160), "boxes": boxes}), size=(90, 160)), 0)
    assert len(clip.labels) == 120
    covered = clip.masks.any(0) | clip.ignore_masks.any(0)
    assert np.array_equal(covered, of_colour(clip.images, RED))
    assert not (clip.masks.any(0) & clip.ignore_masks.any(0)).any()


def test_an_object_that_is_annotated_twice_is_one_instance(tmp_path):
    path = coco(tmp_path, {"boxes": THREE})
    content = json.loads(path.read_text())
    content["annotations"].append({**content["annotations"][0], "id": 99})
    path.write_text(json.dumps(content))
    clip = drawn(clips(path), 0)
    assert sorted(clip.labels.tolist()) == [RED, GREEN, BLUE] and len(clip.ignore_labels) == 0


def test_an_item_without_any_object_gives_a_clip_without_instances(tmp_path):
    path = coco(tmp_path, {})
    clip = drawn(clips(path, Augmentation(mosaic=0.5)), 0)
    assert clip.masks.shape == (0, 3, *SIZE) and clip.labels.shape == (0,) and clip.exhaustive.all()


def test_what_is_not_labelled_everywhere_is_told_by_class(tmp_path):
    path = coco(tmp_path, {"boxes": THREE, "labelled_categories": [1, 3]})
    for augmentation in (NO_AUGMENTATION, PASTING):
        assert drawn(clips(path, augmentation), 0).exhaustive.tolist() == [True, False, True]


# Obstacles


def test_an_instance_hidden_in_all_frames_leaves_and_remains_are_ignored(tmp_path):
    """An obstacle is put in front of a small object: it is seen, or all but hidden, or gone."""
    path = coco(tmp_path, {"boxes": [("red", (36, 26, 8, 8))]})
    source = clips(path, replace(NO_AUGMENTATION, erase=1.0))
    outcomes = {"seen": 0, "remains": 0, "gone": 0}
    for seed in range(400):
        clip = drawn(source, seed)
        shown = (clip.images[0] == COLOURS["red"]).all(-1)
        if not shown.any():
            outcomes["gone"] += 1
            assert len(clip.labels) == 0 and len(clip.ignore_labels) == 0
        elif len(clip.labels) == 0:
            outcomes["remains"] += 1
            assert shown.sum() < 12 and clip.ignore_labels.tolist() == [RED]
            assert (clip.ignore_masks[0] == shown).all()
        else:
            outcomes["seen"] += 1
            assert (clip.masks[0] == shown).all() and shown.sum() >= 12
    assert all(outcomes.values()), outcomes


def test_an_obstacle_covers_crowds_and_instances_alike(tmp_path):
    path = coco(tmp_path, {"boxes": [("red", (5, 5, 34, 50)), ("blue", (41, 5, 34, 50))], "crowds": (0,)})
    source = clips(path, replace(NO_AUGMENTATION, erase=1.0))
    for seed in range(10):
        clip = drawn(source, seed)
        assert (clip.images == clip.images[0]).all()
        for regions, name in ((clip.ignore_masks, "red"), (clip.masks, "blue")):
            assert np.array_equal(regions[0], (clip.images == COLOURS[name]).all(-1))


# Mosaics


def test_a_mosaic_keeps_labels_and_masks(tmp_path):
    path = coco(tmp_path, {"boxes": THREE}, {"boxes": THREE[::-1]}, {"boxes": THREE[:1], "crowds": (0,)})
    many = 0
    for augmentation in (replace(NO_AUGMENTATION, mosaic=1.0), replace(ONLY_GEOMETRY, mosaic=1.0)):
        source = clips(path, augmentation)
        for seed in range(12):
            clip = drawn(source, seed)
            assert_masks_cover_their_colours(clip)
            assert clip.exhaustive.all()
            many += len(clip.labels) > 3
    assert many > 8


def test_in_a_mosaic_what_one_part_does_not_label_is_ignored_in_that_part_alone(tmp_path):
    """The parts tell by their ground which image they are of: one has not all red objects labelled."""
    partial = {"boxes": [("red", (10, 10, 20, 20))], "ground": (120, 120, 120), "labelled_categories": [2, 3]}
    path = coco(tmp_path, partial, {"boxes": THREE})
    source = clips(path, replace(NO_AUGMENTATION, mosaic=1.0))
    for seed in range(12):
        clip = drawn(source, seed)
        image = clip.images[0]
        assert clip.exhaustive.all() and set(clip.ignore_labels.tolist()) == {RED}
        (ignored,) = clip.ignore_masks[:, 0]
        assert ignored[(image == 120).all(-1)].all() and not ignored[(image == GROUND).all(-1)].any()
        assert not (ignored & clip.masks[:, 0].any(0)).any()


# Several sets, and what cannot be read


def test_items_of_rare_classes_weigh_more(tmp_path):
    red, blue = ("red", (10, 10, 40, 30)), ("blue", (70, 10, 40, 30))
    annotated = read_annotations(coco(tmp_path, *({"boxes": boxes} for boxes in ([red], [red], [red, blue], []))))
    assert balanced(annotated, 0).tolist() == [1, 1, 1, 1]
    assert balanced(annotated, 1).tolist() == pytest.approx([4 / 3, 4 / 3, 4, 1])
    assert balanced(annotated, 0.5).tolist() == pytest.approx([(4 / 3) ** 0.5, (4 / 3) ** 0.5, 2, 1])


@pytest.mark.parametrize(("name", "kind"), [("images", "image"), ("videos", "video")])
def test_a_set_without_items_is_refused(tmp_path, name, kind):
    path = tmp_path / "empty.json"
    path.write_text(json.dumps({name: [], "annotations": [], "categories": [{"id": 1, "name": "red"}]}))
    with pytest.raises(InputError, match=rf"empty\.json: holds no {kind}"):
        open_sources([read_annotations(path)], 2, SIZE, NO_AUGMENTATION)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "cut off: a PNG"),
        (lambda path: path.write_bytes(b"not an image"), "not a JPEG, PNG"),
        (lambda path: write_image(path, np.zeros((30, 40, 3), np.uint8)), "40x30 pixels, annotated as 80x60"),
    ],
    ids=["missing", "cut off", "no image", "other size"],
)
def test_an_image_that_cannot_be_used_is_named(tmp_path, spoil, text):
    path = coco(tmp_path, {"boxes": THREE})
    spoil(tmp_path / "1.png")
    for augmentation in (NO_AUGMENTATION, replace(NO_AUGMENTATION, mosaic=1.0)):
        with pytest.raises(InputError, match=rf"1\.png: .*{text}"):
            drawn(clips(path, augmentation), 0)


def test_clips_of_the_real_sets_have_masks_of_every_class(shared):
    names = ("person", "vehicle", "animal")
    sets = [read_annotations(shared / "data" / name, class_names=names) for name in ("davis/val.json", "pets/val.json")]
    labels = set()
    for source in open_sources(sets, 2, (128, 224), Augmentation(mosaic=0.3)):
        for seed in range(6):
            clip = source.clip(seed % len(source), np.random.default_rng(seed))
            assert clip.images.shape == (2, 128, 224, 3)
            assert clip.masks.shape[1:] == (2, 128, 224) and clip.masks.any((1, 2, 3)).all()
            assert (clip.masks.sum(0) <= 1).all()
            labels.update(clip.labels.tolist())
    assert labels == {0, 1, 2}
