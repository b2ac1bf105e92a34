import builtins
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from vis_core import masks
from vis_core.errors import InputError, MissingDependencyError
from vis_core.structures import Frame, Instances, TrackState


@pytest.fixture
def three() -> Instances:
    """Two overlapping squares and a lost track, in an image of 8 x 10."""
    first, second = np.zeros((8, 10), bool), np.zeros((8, 10), bool)
    first[1:4, 2:6] = True
    second[2:7, 4:9] = True
    packed = [masks.encode(first), masks.encode(second), masks.RunLengths((8, 10))]
    return Instances(
        stamp=5,
        index=1,
        size=(8, 10),
        track_ids=[7, 3, 4],
        labels=[0, 2, 1],
        scores=[0.9, 0.5, 0],
        track_scores=[0.8, 0.6, 0.4],
        boxes=[[2, 1, 6, 4], [4, 2, 9, 7], [0, 0, 0, 0]],
        masks=packed,
        states=[TrackState.TRACKED, TrackState.NEW, TrackState.LOST],
        ages=[3, 0, 9],
        first_seen=[2, 5, 0],
        last_seen=[5, 5, 3],
    )


def test_arrays_have_the_documented_types_and_cannot_be_written(three):
    assert three.track_ids.dtype == np.int64 and three.scores.dtype == np.float32
    assert three.boxes.shape == (3, 4) and three.states.dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        three.scores[0] = 1
    with pytest.raises(FrozenInstanceError):
        three.stamp = 1


def test_the_callers_array_stays_its_own(three):
    scores = np.ones(3, np.float32)
    made = Instances(**{**_parts(three), "scores": scores})
    scores[0] = 0.25
    assert made.scores[0] == 1


@pytest.mark.parametrize(
    ("rows", "ids"),
    [
        ([True, False, True], [7, 4]),
        ([2, 0], [4, 7]),
        (slice(1, None), [3, 4]),
        (np.array([], int), []),
        ([False] * 3, []),
        (1, [3]),
    ],
)
def test_rows_are_chosen_by_boolean_index_or_slice(three, rows, ids):
    chosen = three[np.array(rows) if isinstance(rows, list) else rows]
    assert chosen.track_ids.tolist() == ids
    assert len(chosen) == len(ids) == len(chosen.masks)
    assert chosen.stamp == three.stamp


def test_an_empty_list_chooses_nothing(three):
    assert len(three[[]]) == 0


def test_dense_masks_are_those_that_were_packed(three):
    dense = three.dense_masks()
    assert dense.shape == (3, 8, 10)
    assert dense.sum(axis=(1, 2)).tolist() == [12, 25, 0]


def test_the_label_image_gives_overlaps_to_the_earlier_row(three):
    labels = three.label_image()
    assert labels.dtype == np.uint16
    assert labels[3, 5] == 1 and labels[6, 8] == 2 and labels[0, 0] == 0
    assert (labels == 1).sum() == 12


def test_only_visible_rows_become_coco_results(three):
    results = three.to_coco()
    assert [r["track_id"] for r in results] == [7, 3]
    assert [r["category_id"] for r in results] == [1, 3]
    assert results[0]["bbox"] == [2, 1, 4, 3]
    assert masks.from_coco(results[1]["segmentation"]) == three.masks[1]
    assert [r["category_id"] for r in three.to_coco([10, 20, 30])] == [10, 30]


def test_supervision_is_asked_for_by_name_when_absent(three, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "supervision":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match="pip install supervision"):
        three.to_supervision()


def test_supervision_gets_the_visible_rows(three, monkeypatch):
    class Detections:
        def __init__(self, **given):
            self.__dict__ |= given

    class Module:
        pass

    Module.Detections = Detections
    monkeypatch.setitem(__import__("sys").modules, "supervision", Module)
    detections = three.to_supervision()
    assert detections.tracker_id.tolist() == [7, 3]
    assert detections.mask.shape == (2, 8, 10)
    assert detections.data["class_name"].tolist() == ["class 0", "class 2"]
    with pytest.raises(MissingDependencyError, match="no CompactMask"):
        three.to_supervision(compact=True)


def test_compact_masks_of_supervision_are_the_same_masks(three):
    supervision = pytest.importorskip("supervision")
    if not hasattr(supervision, "CompactMask"):
        pytest.skip(f"supervision {supervision.__version__} has no CompactMask")
    dense, compact = three.to_supervision(), three.to_supervision(compact=True)
    assert isinstance(compact.mask, supervision.CompactMask)
    assert np.array_equal(np.asarray(compact.mask), dense.mask)
    assert np.array_equal(dense.mask, three.dense_masks()[:2])
    assert len(three[[2]].to_supervision(compact=True)) == 0


def test_the_text_of_instances_is_one_line(three):
    named = replace(three, class_names=("person", "van"))
    assert repr(named) == "<Instances of frame 1 at 0.000 s, 10x8: person 7 0.90, class 2 3 0.50, van 4 LOST>"
    assert repr(three[[]]) == "<Instances of frame 1 at 0.000 s, 10x8: no tracks>"
    assert repr(three[[0] * 9]).endswith("class 0 7 0.90, and 4 more>")
    assert named[[0]].names == ("person",)


def test_instances_draw_themselves(three):
    image = np.full((8, 10, 3), 128, np.uint8)
    drawn = replace(three, class_names=("person", "van", "dog")).draw(image)
    assert drawn.shape == image.shape and (drawn != image).any() and (image == 128).all()
    with pytest.raises(InputError, match="of size"):
        three.draw(image[:4])


def test_arrays_of_unequal_length_are_refused(three):
    with pytest.raises(InputError, match="frame 1: scores"):
        Instances(**{**_parts(three), "scores": np.zeros(2)})


def _parts(instances):
    return {name: getattr(instances, name) for name in Instances.__dataclass_fields__}


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        None,
    ],
)
def test_a_frame_takes_only_rgb_bytes(image):
    with pytest.raises(InputError, match="frame 3"):
        Frame(image, 0, 3)


@pytest.mark.parametrize(
    ("image", "advice"),
    [
        ("street.mp4", "vis_core.open_video"),
        (np.zeros((4, 5), np.uint8), "numpy.stack"),
        (np.zeros((4, 5, 1), np.uint8), "numpy.stack"),
        (np.zeros((4, 5, 4), np.uint8), "image\\[..., :3\\]"),
        (np.zeros((3, 4, 5), np.uint8), "transpose"),
        (np.zeros((4, 5, 3), np.float32), "astype"),
    ],
)
def test_what_is_no_image_is_told_with_what_to_do(image, advice):
    with pytest.raises(InputError, match=f"must be uint8 .* got .*; .*{advice}"):
        Frame(image)
