"""Every unsound file is answered as it should be: an error, a warning, or accepted."""

import copy
import gzip
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from vis_core.errors import InputError
from vis_core.evaluation import InputWarning, evaluate

_CASES = Path(__file__).parents[3] / "parity" / "cases" / "evaluation" / "malformed"
ANSWERS = json.loads((_CASES / "index.json").read_text())["answers"]


@pytest.fixture(scope="module")
def variants():
    return json.loads(gzip.decompress((_CASES / "variants.json.gz").read_bytes()))


def answer(ground_truth, results, **options):
    """What evaluate answers: "error", "warning" or "accept", the text, and the evaluation."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            evaluation = evaluate(ground_truth, results, **options)
        except InputError as error:
            return "error", str(error), None
    assert all(issubclass(item.category, InputWarning) for item in caught)
    assert tuple(str(item.message) for item in caught) == evaluation.warnings
    return ("warning" if caught else "accept"), "\n".join(evaluation.warnings), evaluation


@pytest.mark.parametrize("expected", ANSWERS, ids=[item["name"] for item in ANSWERS])
def test_variant_is_answered_as_recommended(variants, tmp_path, expected):
    paths = {}
    for side in ("ground_truth", "results"):
        paths[side] = tmp_path / f"{side}.json"
        paths[side].write_text(variants[expected["name"]][side], encoding="utf-8")
    found, text, evaluation = answer(paths["ground_truth"], paths["results"])
    assert found == expected["answer"], text
    for name in expected["must_name"]:
        assert name in text
    if found == "error":
        assert str(paths[expected["in"]]) in text
    if found == "accept":
        assert np.isfinite(list(evaluation.summary.values())).all()


@pytest.mark.parametrize("name", ["r_counts_uncompressed", "r_utf8_bom", "r_extra_keys"])
def test_accepted_form_scores_as_the_plain_one(variants, sound_pair, tmp_path, name):
    path = tmp_path / "results.json"
    path.write_text(variants[name]["results"], encoding="utf-8")
    assert dict(evaluate(sound_pair[0], path).summary) == dict(evaluate(*sound_pair).summary)


@pytest.mark.parametrize("name", ["g_areas_missing", "g_iscrowd_missing"])
def test_missing_values_are_computed(variants, sound_pair, name):
    ground_truth = json.loads(variants[name]["ground_truth"])
    assert dict(evaluate(ground_truth, sound_pair[1]).summary) == dict(evaluate(*sound_pair).summary)


def test_all_errors_of_a_file_are_told_at_once_in_file_order(sound_pair):
    ground_truth, results = copy.deepcopy(sound_pair)
    results[5]["score"] = float("nan")
    results[0]["segmentations"][2]["counts"] = "ab"
    results[0]["segmentations"][1]["size"] = [1, 2]
    results[3]["video_id"] = "5"
    with pytest.raises(InputError) as caught:
        evaluate(ground_truth, results)
    lines = str(caught.value).splitlines()
    assert lines[0] == "4 errors:"
    places = ["results [0] frame 1: size", "results [0] frame 2: counts", "results [3]: video_id", "results [5]: score"]
    assert [line.strip().startswith(place) for line, place in zip(lines[1:], places, strict=True)] == [True] * 4


def test_at_most_twenty_errors_are_told_and_all_are_counted(sound_pair):
    results = [{**sound_pair[1][0], "score": None} for _ in range(57)]
    with pytest.raises(InputError) as caught:
        evaluate(sound_pair[0], results)
    lines = str(caught.value).splitlines()
    assert lines[0] == "57 errors (the first 20):"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [f"results [{i}]" for i in range(20)]


def test_what_depends_on_a_faulty_video_is_not_told_too(sound_pair):
    ground_truth = copy.deepcopy(sound_pair[0])
    ground_truth["videos"][0]["height"] = 0
    ground_truth["annotations"][3]["iscrowd"] = 7
    with pytest.raises(InputError) as caught:
        evaluate(ground_truth, sound_pair[1])
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert lines[0] == "2 errors:"
    assert lines[1].startswith("ground truth videos[0]: height 0")
    assert lines[2].startswith("ground truth annotations[3]: iscrowd 7")


def test_zero_runs_inside_do_not_change_a_score(sound_pair):
    ground_truth, results = copy.deepcopy(sound_pair)
    plain = evaluate(ground_truth, results).summary
    for entry in ground_truth["annotations"]:
        for segmentation in entry["segmentations"]:
            counts = segmentation["counts"]
            counts[1:2] = [counts[1] - 1, 0, 1]
            counts.append(0)
    found, text, evaluation = answer(ground_truth, results)
    assert found == "accept", text
    assert dict(evaluation.summary) == dict(plain)


def test_zero_runs_at_the_same_place_of_both_masks_do_not_change_a_score():
    ground_truth = {
        "videos": [{"id": 1, "width": 2, "height": 10, "length": 1}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {
                "id": 1,
                "video_id": 1,
                "category_id": 1,
                "segmentations": [{"size": [10, 2], "counts": [2, 2, 0, 4, 12]}],
            }
        ],
    }
    result = {"video_id": 1, "category_id": 1, "score": 0.5}
    shorter = [{**result, "segmentations": [{"size": [10, 2], "counts": [4, 0, 0, 4, 12]}]}]
    matches = evaluate(ground_truth, shorter).matches[1][1]
    assert matches.ious[0, 0] == 4 / 6


def test_numbers_of_numpy_are_as_good_as_those_of_a_file(sound_pair):
    results = [
        {
            **entry,
            "score": np.float32(0.25),
            "video_id": np.int64(entry["video_id"]),
            "segmentations": [{**s, "counts": s["counts"].encode()} for s in entry["segmentations"]],
        }
        for entry in sound_pair[1]
    ]
    plain = [{**entry, "score": 0.25} for entry in sound_pair[1]]
    assert dict(evaluate(sound_pair[0], results).summary) == dict(evaluate(sound_pair[0], plain).summary)


def test_compat_scores_the_common_frames_and_accepts_nan(sound_pair):
    ground_truth, results = copy.deepcopy(sound_pair)
    results[0]["segmentations"].pop()
    results[1]["score"] = float("nan")
    found, _, _ = answer(ground_truth, results)
    assert found == "error"
    found, text, evaluation = answer(ground_truth, results, compat=True)
    assert found == "warning"
    assert "results [1]: score NaN" in text
    # Only the two frames that the result has count, on both sides.
    shortened = copy.deepcopy(ground_truth)
    for side in (shortened["annotations"], results):
        for entry in side:
            entry["segmentations"] = [*entry["segmentations"][:2], None]
    shortened["annotations"] = [{k: v for k, v in a.items() if k != "areas"} for a in shortened["annotations"]]
    results[1]["score"] = 0.1
    _, _, expected = answer(shortened, results)
    row = expected.matches[2][2].scores.tolist().index(results[0]["score"])
    np.testing.assert_array_equal(evaluation.matches[2][2].ious[row], expected.matches[2][2].ious[row])


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 10_000, '"\\ud800"', "\x00"])
def test_hostile_json_is_an_error(sound_pair, tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="results"):
        evaluate(sound_pair[0], path)


def test_a_missing_file_is_an_error_that_names_it(sound_pair, tmp_path):
    with pytest.raises(InputError, match=r"nothing\.json"):
        evaluate(sound_pair[0], tmp_path / "nothing.json")


def test_a_polygon_with_an_endless_outline_is_refused(sound_pair):
    ground_truth = copy.deepcopy(sound_pair[0])
    ground_truth["annotations"][0]["segmentations"][0] = [[0, 0, 900_000, 0, 0, 900_000] * 3]
    with pytest.raises(InputError, match=r"annotations\[0\] frame 0: polygons with an outline of"):
        evaluate(ground_truth, sound_pair[1])


def test_the_evaluation_imports_neither_torch_nor_ros():
    code = (
        "import sys, vis_core.evaluation;"
        "sys.exit(' '.join(name for name in ('torch', 'rclpy', 'cv2') if name in sys.modules) or 0)"
    )
    root = Path(__file__).parents[4]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
