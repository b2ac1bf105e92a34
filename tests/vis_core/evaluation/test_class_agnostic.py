"""Evaluation that ignores the categories: readers, scores, streams, comparison and reports all know it."""

import warnings

import pytest

from vis_core.errors import OptionError
from vis_core.evaluation import InputWarning, compare, evaluate, evaluate_stream, read_mots, read_results
from vis_core.evaluation.evaluator import METRICS
from vis_core.evaluation.inputs.ground_truth import read_ground_truth
from vis_core.evaluation.reports.incidents import worst_incidents
from vis_core.evaluation.reports.report import write_report

SECOND = 10**9


def column(position):
    counts = [position * 10, 10, (9 - position) * 10]
    return {"size": [10, 10], "counts": counts if counts[-1] else counts[:-1]}


MASKS = [column(1), column(3), column(5)]
TRUTH = {
    "videos": [{"id": 7, "width": 10, "height": 10, "length": 3, "stamps": [SECOND, 2 * SECOND, 3 * SECOND]}],
    "categories": [{"id": 1, "name": "object"}],
    "annotations": [{"id": 1, "video_id": 7, "category_id": 1, "segmentations": MASKS}],
}


def results(category):
    return [{"video_id": 7, "category_id": category, "score": 0.9, "segmentations": MASKS}]


def messages(category):
    return [
        {
            "stamp": (i + 1) * SECOND,
            "arrival": (i + 1) * SECOND + SECOND // 50,
            "tracks": [{"track_id": 4, "category_id": category, "score": 0.9, "segmentation": mask}],
        }
        for i, mask in enumerate(MASKS)
    ]


def write_mots_text(folder, *identities):
    """A file with a mask a frame, each of an id and a class."""
    folder.mkdir()
    lines = [f"{frame} {identity} {kind} 2 2 04" for frame, (identity, kind) in enumerate(identities)]
    (folder / "a.txt").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("category", [0, 1, 3, 90])
def test_perfect_masks_of_any_category_are_perfect_and_nothing_is_said_of_categories(category):
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        evaluation = evaluate(TRUTH, results(category), METRICS, class_agnostic=True)
    wanted = {"AP": 1, "HOTA": 1, "MOTA": 1, "IDF1": 1, "GT_IDs": 1, "IDs": 1}
    assert {name: evaluation.summary[name] for name in wanted} == pytest.approx(wanted)
    assert evaluation.class_agnostic
    assert evaluation.warnings == ()


def test_a_wrong_mask_of_an_unknown_category_is_a_false_positive():
    wrong = {"video_id": 7, "category_id": 5, "score": 0.95, "segmentations": [column(9)] * 3}
    summary = evaluate(TRUTH, [wrong, *results(1)], ("ap", "clear"), class_agnostic=True).summary
    assert (summary["AP"], summary["CLR_FP"]) == (pytest.approx(0.5), 3)


@pytest.mark.parametrize("options", [{}, {"class_agnostic": True, "compat": True}])
def test_where_categories_count_and_in_the_official_tool_unknown_ones_are_dropped_with_a_warning(options):
    with pytest.warns(InputWarning, match="category_id 3 is not in the ground truth; dropped"):
        evaluation = evaluate(TRUTH, results(3), METRICS, **options)
    assert (evaluation.summary["AP"], evaluation.summary["IDs"]) == (0, 0)
    assert len(evaluation.warnings) == 1


@pytest.mark.parametrize("category", [1, 3])
@pytest.mark.parametrize("known", [[1], [1, 3]])
def test_a_stream_is_scored_and_first_detected_whatever_its_categories(category, known):
    ground_truth = {**TRUTH, "categories": [{"id": number, "name": str(number)} for number in known]}
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        evaluation = evaluate_stream(ground_truth, messages(category), class_agnostic=True)
    assert evaluation.policies["strict"].summary["AP"] == pytest.approx(1)
    assert evaluation.first_detection_summary == {"mean": 0.02, "median": 0.02, "never": 0}


def test_a_stream_of_an_unknown_category_detects_nothing_where_categories_count():
    with pytest.warns(InputWarning, match="category_id 3"):
        evaluation = evaluate_stream(TRUTH, messages(3))
    assert evaluation.policies["strict"].summary["AP"] == 0
    assert evaluation.first_detection_summary["never"] == 1


def test_mots_text_of_another_class_is_scored(tmp_path):
    truth = write_mots_text(tmp_path / "gt", (2001, 2), (2001, 2))
    found = write_mots_text(tmp_path / "results", (1001, 1), (1001, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        summary = evaluate(*read_mots(truth, found), METRICS, class_agnostic=True).summary
    assert [summary[name] for name in ("AP", "HOTA", "MOTA")] == pytest.approx([1, 1, 1])


def test_an_id_of_mots_text_that_changes_its_class_is_one_track(tmp_path):
    truth = write_mots_text(tmp_path / "gt", (5, 2), (5, 2), (5, 2), (5, 2))
    found = write_mots_text(tmp_path / "results", (7, 1), (7, 1), (7, 2), (7, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        pair = read_mots(truth, found, class_agnostic=True)
        summary = evaluate(*pair, ("clear", "identity"), class_agnostic=True).summary
    assert (summary["IDSW"], summary["IDF1"], summary["IDs"]) == (0, 1, 1)


def test_regions_to_ignore_in_results_are_no_results(tmp_path):
    truth = write_mots_text(tmp_path / "gt", (1001, 1))
    found = write_mots_text(tmp_path / "results", (10000, 10))
    with pytest.warns(InputWarning, match="class 10 marks regions to ignore"):
        summary = evaluate(*read_mots(truth, found), ("clear",), class_agnostic=True).summary
    assert (summary["IDs"], summary["CLR_FP"]) == (0, 0)


def test_two_files_are_compared_only_if_both_ignore_the_categories():
    first = evaluate(TRUTH, results(3), METRICS, class_agnostic=True)
    assert compare(first, evaluate(TRUTH, results(0), METRICS, class_agnostic=True)).overall[
        "AP"
    ].second == pytest.approx(1)
    with pytest.raises(OptionError, match="one evaluation ignores the categories"):
        compare(first, evaluate(TRUTH, results(1), METRICS))


def test_incidents_know_results_of_unknown_categories(tmp_path):
    truth = read_ground_truth(TRUTH)
    found = read_results(results(3), truth)
    assert worst_incidents(truth, found, class_agnostic=True) == []
    (miss,) = worst_incidents(truth, found)
    assert (miss.kind, miss.count) == ("miss", 3)
    switched = [{**results(3)[0], "segmentations": [column(1), None, None]}]
    switched.append({**results(8)[0], "segmentations": [None, column(3), column(5)]})
    (switch,) = worst_incidents(truth, read_results(switched, truth), class_agnostic=True)
    assert (switch.kind, switch.frame) == ("switch", 1)


def test_the_page_says_that_categories_were_ignored(tmp_path):
    for ignored in (True, False):
        path = tmp_path / f"{ignored}.html"
        evaluation = evaluate(TRUTH, results(1), class_agnostic=ignored)
        write_report(evaluation, path, ground_truth="truth.json", results="results.json")
        assert ("categories ignored" in path.read_text()) == ignored


def test_the_recorded_files_are_perfect(shared):
    folder = shared / "cases" / "reports" / "03-class-agnostic"
    if not folder.is_dir():
        pytest.skip("the recorded files are absent")
    for name in ("res_coco.json", "res_cat0.json"):
        assert evaluate(folder / "uvo_gt.json", folder / name, class_agnostic=True).summary["AP"] == pytest.approx(1)
    for truth, name in (("uvo_gt_stamps", "stream_coco"), ("two_gt_stamps", "stream_two")):
        found = evaluate_stream(folder / f"{truth}.json", folder / f"{name}.jsonl", class_agnostic=True)
        assert found.policies["strict"].summary["AP"] == pytest.approx(1)
        assert found.first_detection_summary["never"] == 0
