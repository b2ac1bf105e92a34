"""Association by motion: who is who among boxes that move, meet, vanish and flicker."""

from dataclasses import dataclass

import numpy as np
import pytest

from vis_core.masks import encode
from vis_core.structures import Frame
from vis_core.tracking.associator import Window
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.motion import Appearance, MotionAssociator, StreamClock, box_iou

IMAGE = np.zeros((60, 100, 3), np.uint8)


@dataclass
class Boxes:
    stamp: int
    boxes: np.ndarray
    scores: np.ndarray
    class_scores: np.ndarray


class Told(Appearance):
    """Says of the similarity what it is told, by default that nothing resembles anything."""

    def __init__(self):
        super().__init__()
        self.similar = None

    def associate(self, found, window, lifecycle):
        raise AssertionError

    def similarity(self, found, lifecycle):
        alive = lifecycle.alive
        return np.zeros((len(alive), len(found.boxes))) if self.similar is None else self.similar(alive, found.boxes)

    def remember(self, track_ids, found, window):
        pass


class Stream:
    """Detections in, track ids out, as a segmenter does it."""

    def __init__(self, birth=0.3, **options):
        self.appearance = Told()
        self.associator = MotionAssociator(self.appearance, birth, **options)
        self.lifecycle = TrackLifecycle(max_lost_frames=10)
        self.time = 0.0

    def step(self, boxes, scores=None, similarity=None, classes=None, elapsed=0.1):
        """Ids of the detections that stay, None for one that was dropped."""
        self.time += elapsed
        self.appearance.similar = similarity
        boxes = np.asarray(boxes, float).reshape(-1, 4)
        scores = np.full(len(boxes), 0.9) if scores is None else np.asarray(scores)
        classes = np.ones((len(boxes), 2)) if classes is None else np.asarray(classes, float)
        self.associator.forget(self.lifecycle.expire())
        found = Boxes(round(self.time * 1e9), boxes, np.asarray(scores, float), classes)
        window = Window(self.lifecycle.step, 1, IMAGE.shape[:2])
        rows, kept = self.associator.associate(found, window, self.lifecycle)
        now = self.lifecycle.step
        masks = [encode(np.ones(IMAGE.shape[:2], bool))] * len(kept)
        instances = self.lifecycle.update(Frame(IMAGE, now, now), kept, found.scores[rows], classes[rows], masks)
        out = [None] * len(boxes)
        for row, track_id in zip(rows, instances.track_ids[: len(kept)].tolist()):
            out[row] = track_id
        self.associator.remember(out, found, window)
        return out


def walker(x, y=20, width=6, height=16):
    return [x, y, x + width, y + height]


def test_neighbours_that_walk_keep_their_ids_whatever_the_order_of_detections():
    stream, random = Stream(), np.random.default_rng(0)
    first = stream.step([walker(10), walker(30), walker(50)])
    for t in range(1, 20):
        order = random.permutation(3)
        boxes = np.array([walker(10 + 2 * t), walker(30 + 2 * t), walker(50 + 2 * t)])[order]
        assert stream.step(boxes) == [first[i] for i in order]


def test_walkers_who_cross_keep_their_ids_by_their_velocity():
    stream = Stream()
    right, left = stream.step([walker(10, 20), walker(60, 23)])
    for t in range(1, 25):
        assert stream.step([walker(10 + 2 * t, 20), walker(60 - 2 * t, 23)]) == [right, left]


def test_where_frames_are_left_out_a_track_is_expected_further_on():
    stream = Stream()
    first = stream.step([walker(2), walker(14)])
    for t in range(1, 8):
        assert stream.step([walker(2 + 3 * t), walker(14 + 3 * t)]) == first
    # Four frames' way is that from one walker to the other.
    assert stream.step([walker(23 + 12), walker(35 + 12)], elapsed=0.4) == first


def test_the_pace_does_not_depend_on_how_many_frames_there_were():
    stream = Stream()
    first = stream.step([walker(2), walker(14)])
    at = 0
    for skipped in (1, 1, 1, 1, 1, 3, 1, 2, 3, 1, 4):
        at += skipped
        assert stream.step([walker(2 + 3 * at), walker(14 + 3 * at)], elapsed=0.1 * skipped) == first


def test_after_a_second_nothing_is_expected_further_on():
    stream = Stream()
    (walking,) = stream.step([walker(10)])
    for t in range(1, 8):
        stream.step([walker(10 + t)])
    assert stream.step([walker(17 + 10)], elapsed=60.0) == [walking]


def test_a_walker_behind_a_post_comes_back_as_the_same():
    stream = Stream()
    (walking,) = stream.step([walker(10)])
    for t in range(1, 8):
        stream.step([walker(10 + 2 * t)])
    for _ in range(4):
        assert stream.step(np.zeros((0, 4))) == []
    assert stream.step([walker(10 + 2 * 12)]) == [walking]


def test_who_comes_back_does_not_take_the_place_of_one_who_was_there():
    stream, pair, woman = Stream(), [20, 20, 32, 40], [26, 20, 32, 40]
    walking, gone = stream.step([pair, [14, 20, 24, 40]])
    for _ in range(3):
        assert stream.step([pair]) == [walking]
    # The pair as the one who is gone, and the woman as the pair, would be worth a little more together.
    together, apart = stream.step([pair, woman])
    assert together == walking and apart not in (walking, gone)
    assert stream.step([pair]) == [walking]


def test_who_has_just_begun_does_not_take_the_place_of_one_who_is_established():
    stream, pair, woman = Stream(), [20, 20, 32, 40], [24, 20, 32, 40]
    for _ in range(3):
        (walking,) = stream.step([pair])
    together, apart = stream.step([pair, woman])
    assert together == walking != apart
    # What is seen now is nearer to the woman, whose track is one frame old.
    assert stream.step([[23, 20, 32, 40]]) == [walking]


@pytest.mark.parametrize(("absent", "established"), [(3, True), (6, False)])
def test_who_comes_back_after_long_must_be_established_anew(absent, established):
    stream, pair, woman = Stream(), [20, 20, 32, 40], [24, 20, 32, 40]
    for _ in range(3):
        walking, gone = stream.step([pair, [30, 20, 38, 40]])
    for _ in range(absent):
        assert stream.step([pair]) == [walking]
    assert stream.step([pair, woman]) == [walking, gone]
    # Nearer to the one who came back.
    assert stream.step([[23, 20, 32, 40]]) == [gone if established else walking]


def test_doubtful_sightings_do_not_establish_a_track():
    stream, whole, piece = Stream(), [20, 20, 40, 40], [30, 20, 40, 40]
    for _ in range(3):
        (track,) = stream.step([whole])
    stream.step([whole, piece])
    for _ in range(4):
        assert stream.step([whole, piece], [0.9, 0.2])[0] == track
    # Nearer to the piece, which was surely seen but once.
    assert stream.step([[29, 20, 40, 40]]) == [track]


def test_of_two_tracks_that_fit_alike_the_older_one_goes_on():
    stream, whole = Stream(), [20, 20, 40, 40]
    for _ in range(10):
        (old,) = stream.step([whole])
    # A piece comes off, as sure as the whole, and stays until it is established too.
    for _ in range(4):
        assert stream.step([whole, [30, 20, 40, 40]])[0] == old
    # Both in one: exactly as near to the piece as to the whole, and it overlaps the piece a little more.
    assert stream.step([[26, 20, 40, 40]]) == [old]


def test_of_two_detections_that_fit_alike_the_surer_one_goes_on():
    stream = Stream()
    for _ in range(3):
        (track,) = stream.step([walker(20)])
    assert stream.step([walker(20, 22), walker(20, 18)], [0.4, 0.8])[1] == track


def test_a_pair_that_hardly_fits_is_none_however_old_the_track():
    stream = Stream()
    for _ in range(12):
        (track,) = stream.step([walker(10)])
    assert stream.step([walker(24)], [0.99]) != [track]


@pytest.mark.parametrize(("seen", "goes_on"), [(2, False), (3, True)])
def test_an_established_track_takes_what_fits_less(seen, goes_on):
    stream = Stream()
    for _ in range(seen):
        (track,) = stream.step([walker(10)])
    assert (stream.step([walker(19)]) == [track]) == goes_on


def test_a_doubtful_detection_continues_a_track_but_begins_none():
    stream = Stream(birth=0.5)
    assert stream.step([walker(10)], [0.3]) == [None]
    (sure,) = stream.step([walker(10)], [0.6])
    assert stream.step([walker(11), walker(70)], [0.2, 0.4]) == [sure, None]


RIDER, HORSE, EITHER = (0.8, 0.1), (0.1, 0.8), (0.5, 0.45)


def test_in_the_first_frame_of_a_stream_less_begins_a_track():
    stream = Stream(first_birth_threshold=0.2)
    boxes = [walker(10), walker(40)]
    first = stream.step(boxes, [0.25, 0.15])
    assert first == [1, None]
    assert stream.step(boxes, [0.25, 0.25]) == [None, None]  # a doubtful track needs a sure detection to go on,
    assert stream.step(boxes, [0.35, 0.25]) == [2, None]  # and at once
    stream.lifecycle.reset()
    stream.associator.clear()
    assert stream.step(boxes, [0.25, 0.15]) == [3, None]
    assert stream.step(boxes, [0.35, 0.25]) == [3, None]
    assert stream.step(boxes, [0.25, 0.25]) == [3, None]  # now it is not doubtful any more
    stream.lifecycle.reset()
    stream.associator.clear()
    assert None not in stream.step(boxes, [0.25, 0.2])
    # One that asks more than the frames after it is none.
    assert Stream(birth=0.1, first_birth_threshold=0.2).step(boxes[:1], [0.15]) == [1]


def test_a_horse_does_not_go_on_as_its_rider():
    """The rider is unseen for a frame, in which the horse beneath is seen for the first time."""
    rider, horse = [20, 10, 40, 36], [14, 18, 46, 50]
    stream = Stream()
    assert stream.step([rider], classes=[RIDER]) == stream.step(
        [horse], classes=[RIDER]
    )  # it could be, but for the class
    stream = Stream()
    (riding,) = stream.step([rider], classes=[RIDER])
    (ridden,) = stream.step([horse], classes=[HORSE])
    assert ridden != riding
    assert stream.step([horse, rider], classes=[HORSE, RIDER]) == [ridden, riding]


def test_a_doubtful_detection_of_another_class_must_overlap_more():
    for classes, goes_on in ((HORSE, False), (RIDER, True)):
        stream = Stream()
        (riding,) = stream.step([[20, 10, 40, 36]], classes=[RIDER])
        assert stream.step([[22, 20, 42, 46]], [0.2], classes=[classes]) == [riding if goes_on else None]


def test_what_could_be_either_goes_on_as_what_it_was():
    stream = Stream()
    (seen,) = stream.step([walker(10)], classes=[RIDER])
    assert stream.step([walker(11)], classes=[EITHER]) == [seen]
    assert stream.step([walker(12)], [0.2], classes=[EITHER]) == [seen]
    assert stream.step([walker(13)], classes=[HORSE]) == [seen]  # where nothing else could be meant


def test_a_doubtful_detection_does_not_take_the_track_of_a_sure_one():
    stream = Stream(birth=0.5)
    (sure,) = stream.step([walker(10)])
    assert stream.step([walker(10), walker(11)], [0.2, 0.9]) == [None, sure]


def test_where_boxes_say_nothing_appearance_decides():
    stream = Stream()
    first, second = stream.step([walker(20), walker(28)])

    def swapped(alive, boxes):
        return np.array([[0.0, 1.0], [1.0, 0.0]])[[[first, second].index(i) for i in alive]]

    assert stream.step([walker(24), walker(24)], similarity=swapped) == [second, first]


def test_what_is_far_away_is_another_one_however_alike():
    stream = Stream()
    (first,) = stream.step([walker(5)])
    assert stream.step([walker(90)], similarity=lambda alive, boxes: np.ones((1, 1))) != [first]


def test_memory_follows_the_live_tracks_alone():
    stream = Stream()
    sizes = []
    for t in range(200):
        stream.step([walker(float(x), 20 * (t % 2)) for x in np.random.default_rng(t).uniform(0, 90, 3)])
        sizes.append(stream.associator.nbytes())
    assert max(sizes[100:]) <= max(sizes[20:100]) * 1.5
    assert set(stream.lifecycle.alive) >= set(stream.associator.remembered)


def test_the_clock_of_a_stream_goes_on_where_stamps_stand_still_or_are_set_back():
    clock = StreamClock()
    times = [clock.tick(stamp) for stamp in (10**18, 10**18, 10**18 + 4 * 10**8, 10**18 + 4 * 10**8, 5)]
    assert np.diff(times) == pytest.approx([0.1, 0.4, 0.4, 0.4])
    clock.begin_anew()
    assert clock.tick(2 * 10**18) - times[-1] == pytest.approx(0.4)


def test_boxes_overlap_as_areas_do():
    a, b = np.array([[0.0, 0, 4, 4]]), np.array([[2.0, 2, 6, 6], [4, 0, 8, 4], [0, 0, 4, 4], [1, 1, 1, 1]])
    assert box_iou(a, b)[0] == pytest.approx([4 / 28, 0, 1, 0])
