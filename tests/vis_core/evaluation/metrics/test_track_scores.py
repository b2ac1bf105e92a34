"""HOTA, CLEAR and Identity against the values recorded from TrackEval, and against scenes done by hand."""

import threading
import warnings

import numpy as np
import pytest

from vis_core.errors import OptionError
from vis_core.evaluation import InputWarning, evaluate
from vis_core.evaluation.evaluator import flatten

TRACK_CASES = (
    "case_01_basic",
    "case_02_ties",
    "case_03_crowds",
    "case_04_missing_frames",
    "case_05_many_detections",
    "case_06_sizes",
    "case_08_empty_sides",
    "case_10_long",
)
COUNTS = {
    *("HOTA_TP", "HOTA_FN", "HOTA_FP"),
    *("CLR_TP", "CLR_FN", "CLR_FP", "IDSW", "MT", "PT", "ML", "Frag", "CLR_Frames"),
    *("IDTP", "IDFN", "IDFP"),
}
TRACK_METRICS = ("hota", "clear", "identity")


def score(ground_truth, results, metrics=TRACK_METRICS, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        return evaluate(ground_truth, results, metrics, **options)


@pytest.mark.parametrize("name", TRACK_CASES)
def test_every_value_is_the_official_one(load_case, name):
    case = load_case(name)
    evaluation = score(case.ground_truth, case.results)
    tracks = evaluation.tracks
    videos = {name: number for number, name in evaluation.videos.items()}
    categories = {name: number for number, name in evaluation.categories.items()}
    over_classes = {"cls_comb_cls_av": tracks.class_average, "cls_comb_det_av": tracks.detection_average}
    recorded = [key for key in case.expected if key.startswith("track/")]
    assert recorded
    for key in recorded:
        _, sequence, name_of_class, family, field = key.split("/")
        if name_of_class in over_classes:
            scores = over_classes[name_of_class]
        elif sequence == "COMBINED_SEQ":
            scores = tracks.by_class[categories[name_of_class]]
        else:
            scores = tracks.of(videos[sequence], categories[name_of_class])
        tolerance = 0 if field in COUNTS else 1e-12
        np.testing.assert_allclose(scores[family][field], case.expected[key], rtol=0, atol=tolerance, err_msg=key)


def test_the_headline_is_the_mean_over_the_thresholds(load_case):
    case = load_case("case_10_long")
    evaluation = score(case.ground_truth, case.results)
    averages = {
        "cls_comb_cls_av": evaluation.summary,
        "cls_comb_det_av": flatten(evaluation.tracks.detection_average),
    }
    for name, scores in averages.items():
        for family in ("HOTA", "CLEAR", "Identity"):
            for field, value in case.headline[name][family].items():
                assert scores[field] == pytest.approx(value, abs=1e-12)


def test_the_mean_over_occurring_classes_leaves_out_empty_ones(load_case):
    case = load_case("case_08_empty_sides")
    tracks = score(case.ground_truth, case.results).tracks
    occurring = {entry["category_id"] for entry in (*case.ground_truth["annotations"], *case.results)}
    assert 0 < len(occurring) < len(tracks.by_class)
    expected = np.mean([tracks.by_class[c]["Identity"]["IDF1"] for c in occurring])
    assert tracks.occurring_class_average["Identity"]["IDF1"] == pytest.approx(expected, abs=1e-12)
    assert tracks.class_average["Identity"]["IDF1"] < expected


def column(position, height=10, width=10):
    """Run lengths of one column of an image."""
    counts = [position * height, height, (width - position - 1) * height]
    return {"size": [height, width], "counts": counts if counts[-1] else counts[:-1]}


def scene(tracks, results):
    """A video in which each track and result is a list of columns, or None."""
    length = len(tracks[0])

    def masks(columns):
        return [None if c is None else column(c) for c in columns]

    ground_truth = {
        "videos": [{"id": 1, "width": 10, "height": 10, "length": length}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": i + 1, "video_id": 1, "category_id": 1, "segmentations": masks(t)} for i, t in enumerate(tracks)
        ],
    }
    entries = [
        {"video_id": 1, "category_id": 1, "score": 0.9 - i / 100, "segmentations": masks(r)}
        for i, r in enumerate(results)
    ]
    return score(ground_truth, entries).summary


def test_an_identity_that_changes_hands_is_a_switch_however_long_ago_it_was_seen():
    summary = scene([[0, 1, 2, 3, 4]], [[0, None, None, None, None], [None, None, None, None, 4]])
    assert (summary["IDSW"], summary["CLR_TP"], summary["CLR_FN"], summary["CLR_FP"]) == (1, 2, 3, 0)
    assert summary["MOTA"] == pytest.approx((2 - 0 - 1) / 5)
    assert (summary["IDTP"], summary["IDFN"], summary["IDFP"]) == (1, 4, 1)


def test_a_frame_without_results_does_not_end_a_track_that_is_followed():
    # The official tool passes over frames in which a side is empty.
    summary = scene([[0, 1, 2]], [[0, None, 2]])
    assert (summary["Frag"], summary["IDSW"], summary["CLR_FN"]) == (0, 0, 1)


def test_a_track_that_is_lost_beside_another_is_fragmented():
    summary = scene([[0, 1, 2], [9, 9, 9]], [[0, None, 2], [9, 9, 9]])
    assert (summary["Frag"], summary["IDSW"], summary["MT"], summary["PT"]) == (1, 0, 1, 1)


def test_perfect_tracks_score_one():
    summary = scene([[0, 1, 2], [5, None, 7]], [[5, None, 7], [0, 1, 2]])
    for name in ("HOTA", "DetA", "AssA", "LocA", "MOTA", "MOTP", "sMOTA", "IDF1", "MTR"):
        assert summary[name] == pytest.approx(1.0), name


def test_a_held_match_is_kept_over_a_slightly_better_one(sound_pair):
    # Both results cover the track; the second is better in the second frame, but the first was there before.
    wide, narrow = {"size": [10, 10], "counts": [0, 30, 70]}, {"size": [10, 10], "counts": [0, 20, 80]}
    ground_truth = {
        "videos": [{"id": 1, "width": 10, "height": 10, "length": 2}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [{"id": 1, "video_id": 1, "category_id": 1, "segmentations": [wide, wide]}],
    }
    entry = {"video_id": 1, "category_id": 1, "score": 0.5}
    results = [{**entry, "segmentations": [wide, narrow]}, {**entry, "segmentations": [narrow, wide]}]
    summary = score(ground_truth, results).summary
    assert (summary["IDSW"], summary["CLR_TP"], summary["CLR_FP"]) == (0, 2, 2)
    assert summary["MOTP"] == pytest.approx((1 + 2 / 3) / 2)


def test_class_agnostic_scores_tracks_as_one_class():
    summary = scene([[0, 1]], [[0, 1]])
    assert summary["HOTA"] == pytest.approx(1.0)
    ground_truth = {
        "videos": [{"id": 1, "width": 10, "height": 10, "length": 1}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [{"id": 1, "video_id": 1, "category_id": 1, "segmentations": [column(3)]}],
    }
    results = [{"video_id": 1, "category_id": 2, "score": 0.5, "segmentations": [column(3)]}]
    assert score(ground_truth, results).summary["HOTA"] == 0
    assert score(ground_truth, results, class_agnostic=True).summary["HOTA"] == pytest.approx(1.0)


@pytest.mark.parametrize("beside_a_thread", [False, True])
def test_several_processes_give_the_same_bits(load_case, beside_a_thread):
    case = load_case("case_08_empty_sides")
    metrics = ("ap", *TRACK_METRICS)
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    if beside_a_thread:  # then processes are not forked
        thread.start()
    try:
        one, three = (score(case.ground_truth, case.results, metrics, jobs=jobs) for jobs in (1, 3))
    finally:
        over.set()
    np.testing.assert_array_equal(one.curves.precision, three.curves.precision)
    assert dict(one.summary) == dict(three.summary)
    assert {k: dict(v) for k, v in one.per_video.items()} == {k: dict(v) for k, v in three.per_video.items()}


@pytest.mark.parametrize("metrics", [("ap", "mota"), (), "ap"])
def test_a_metric_that_does_not_exist_is_refused(sound_pair, metrics):
    with pytest.raises(OptionError, match="metrics"):
        evaluate(*sound_pair, metrics)
