"""Two result files side by side."""

import copy
import warnings

import numpy as np
import pytest

from vis_core.errors import OptionError
from vis_core.evaluation import InputWarning, compare, evaluate
from vis_core.evaluation.comparison import _resampled
from vis_core.evaluation.evaluator import METRICS, flatten


def score(ground_truth, results):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        return evaluate(ground_truth, results, METRICS)


@pytest.mark.parametrize("name", ["case_08_empty_sides", "case_03_crowds", "case_12_ovis"])
def test_drawing_every_video_once_gives_the_scores_themselves(load_case, name):
    case = load_case(name)
    evaluation = score(case.ground_truth, case.results)
    drawn = _resampled(evaluation, np.ones((1, len(evaluation.videos)), np.int64))
    flat = flatten(evaluation.tracks.detection_average)
    for key, value in drawn.items():
        expected = evaluation.summary[key] if key.startswith("AP") else flat[key]
        assert value[0] == pytest.approx(expected, abs=1e-12), key
    assert set(drawn) >= {"AP", "AP50", "AP75", "HOTA", "MOTA", "IDF1"}


def test_drawing_a_video_twice_counts_it_twice(load_case):
    case = load_case("case_08_empty_sides")
    whole = score(case.ground_truth, case.results)
    weights = np.arange(len(whole.videos)) % 3
    drawn = _resampled(whole, weights[None])
    doubled = copy.deepcopy(case.ground_truth)
    doubled["videos"], doubled["annotations"], results = [], [], []
    for video, weight in zip(sorted(case.ground_truth["videos"], key=lambda v: v["id"]), weights, strict=True):
        for _ in range(weight):
            number = len(doubled["videos"]) + 1
            doubled["videos"].append({**video, "id": number})
            for track in case.ground_truth["annotations"]:
                if track["video_id"] == video["id"]:
                    identity = len(doubled["annotations"]) + 1
                    doubled["annotations"].append({**track, "id": identity, "video_id": number})
            results += [{**r, "video_id": number} for r in case.results if r["video_id"] == video["id"]]
    expected = score(doubled, results)
    flat = flatten(expected.tracks.detection_average)
    for key in ("HOTA", "DetA", "AssA", "MOTA", "sMOTA", "IDF1"):
        assert drawn[key][0] == pytest.approx(flat[key], abs=1e-12), key
    # Copies of a video have equal scores; an interval counts them as one step of the curve.
    assert drawn["AP50"][0] == pytest.approx(expected.summary["AP50"], abs=0.02)


def test_a_file_compared_with_itself_differs_by_nothing(load_case):
    case = load_case("case_10_long")
    evaluation = score(case.ground_truth, case.results)
    for item in compare(evaluation, evaluation, draws=20).overall.values():
        assert (item.difference, item.low, item.high, item.is_clear) == (0, 0, 0, False)


def test_results_made_worse_are_told_by_score_category_and_interval(load_case):
    case = load_case("case_02_ties")
    perfect = [
        {**{k: a[k] for k in ("video_id", "category_id", "segmentations")}, "score": 0.5}
        for a in case.ground_truth["annotations"]
    ]
    comparison = compare(score(case.ground_truth, perfect), score(case.ground_truth, case.results), draws=100)
    overall = comparison.overall["AP"]
    assert overall.first == 1
    assert overall.low <= overall.difference <= overall.high < 0
    assert overall.is_clear
    assert all(row["AP"].difference < 0 for row in comparison.per_category.values())
    again = compare(score(case.ground_truth, perfect), score(case.ground_truth, case.results), draws=100)
    assert dict(again.overall) == dict(comparison.overall)


def test_without_draws_there_is_no_interval(sound_pair):
    evaluation = score(*sound_pair)
    item = compare(evaluation, evaluation, draws=0).overall["AP"]
    assert (item.low, item.high, item.is_clear) == (None, None, False)


def test_of_one_video_there_is_no_interval(sound_pair):
    ground_truth, results = copy.deepcopy(sound_pair)
    number = ground_truth["videos"][0]["id"]
    ground_truth["videos"] = ground_truth["videos"][:1]
    ground_truth["annotations"] = [track for track in ground_truth["annotations"] if track["video_id"] == number]
    evaluation = score(ground_truth, [result for result in results if result["video_id"] == number])
    comparison = compare(evaluation, evaluation)
    assert comparison.draws == 0
    assert all((item.low, item.high) == (None, None) for item in comparison.overall.values())


def test_evaluations_of_different_ground_truths_are_refused(sound_pair, load_case):
    case = load_case("case_10_long")
    with pytest.raises(OptionError, match="different ground truths"):
        compare(score(*sound_pair), score(case.ground_truth, case.results))
