"""Average precision against the arrays recorded from the official tools."""

import warnings

import numpy as np
import pytest

from vis_core.evaluation import InputWarning, evaluate

AP_CASES = (
    "case_01_basic",
    "case_02_ties",
    "case_03_crowds",
    "case_04_missing_frames",
    "case_05_many_detections",
    "case_06_sizes",
    "case_07_formats",
    "case_08_empty_sides",
    "case_09_class_agnostic",
    "case_10_long",
    "case_12_ovis",
    "case_13_order",
    "case_14_id_zero_compat",
)


def run(case, **options):
    options.setdefault("class_agnostic", bool(case.headline.get("class_agnostic")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        return evaluate(case.ground_truth, case.results, ("ap",), **options)


@pytest.mark.parametrize("name", AP_CASES)
def test_arrays_are_bit_equal_to_the_official_ones(load_case, name):
    case = load_case(name)
    evaluation = run(case, compat="compat" in name)
    assert list(evaluation.categories) == ([-1] if "agnostic" in name else case.expected["ap/catIds"].tolist())
    for array in ("precision", "recall", "scores"):
        if f"ap/{array}" in case.expected:
            np.testing.assert_array_equal(getattr(evaluation.curves, array), case.expected[f"ap/{array}"])
    stats = np.array(list(evaluation.summary.values()))[: len(case.expected["ap/stats"])]
    np.testing.assert_allclose(stats, case.expected["ap/stats"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in AP_CASES if name != "case_12_ovis"])
def test_video_iou_is_bit_equal_to_the_official_one(load_case, name):
    case = load_case(name)
    evaluation = run(case)
    recorded = [key for key in case.expected if key.startswith("iou/")]
    assert recorded
    for key in recorded:
        _, video, category = key.split("/")
        np.testing.assert_array_equal(evaluation.matches[int(video)][int(category)].ious, case.expected[key])


def test_a_track_of_id_zero_counts_as_any_other_unless_compat(load_case):
    case = load_case("case_14_id_zero_compat")
    assert run(case).summary["AP"] > run(case, compat=True).summary["AP"]
    renumbered = {**case.ground_truth, "annotations": [dict(item) for item in case.ground_truth["annotations"]]}
    for annotation in renumbered["annotations"]:
        annotation["id"] += 1000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        expected = evaluate(renumbered, case.results).summary
    assert dict(run(case).summary) == dict(expected)


def test_perfect_results_score_one(sound_pair):
    ground_truth, _ = sound_pair
    results = [
        {
            "video_id": track["video_id"],
            "category_id": track["category_id"],
            "score": 0.5 + track["id"] / 100,
            "segmentations": track["segmentations"],
        }
        for track in ground_truth["annotations"]
    ]
    summary = evaluate(ground_truth, results).summary
    assert (summary["AP"], summary["AP50"], summary["AP75"], summary["AR10"]) == (1.0, 1.0, 1.0, 1.0)
    assert summary["AR1"] == 0.5  # two tracks of one category in each video


def test_an_empty_result_list_scores_zero(sound_pair):
    summary = evaluate(sound_pair[0], []).summary
    assert (summary["AP"], summary["AR100"], summary["APl"]) == (0.0, 0.0, -1.0)


def test_a_video_alone_scores_as_a_file_of_that_video(load_case):
    case = load_case("case_08_empty_sides")
    whole = run(case)
    checked = 0
    for video in case.ground_truth["videos"]:
        alone = {
            **case.ground_truth,
            "videos": [video],
            "annotations": [a for a in case.ground_truth["annotations"] if a["video_id"] == video["id"]],
        }
        results = [entry for entry in case.results if entry["video_id"] == video["id"]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)
            expected = evaluate(alone, results).summary
        assert whole.per_video[video["id"]]["AP"] == pytest.approx(expected["AP"], abs=1e-12)
        assert whole.per_video[video["id"]]["AP50"] == pytest.approx(expected["AP50"], abs=1e-12)
        checked += expected["AP"] >= 0
    assert checked >= 2


def test_the_score_of_a_category_is_the_mean_of_its_own_curves(load_case):
    case = load_case("case_03_crowds")
    evaluation = run(case)
    means = []
    for k, category in enumerate(evaluation.categories):
        values = case.expected["ap/precision"][:, :, k, 0, 2]
        if (values > -1).any():
            assert evaluation.per_category[category]["AP"] == pytest.approx(values[values > -1].mean(), abs=1e-12)
            means.append(evaluation.per_category[category]["AP"])
        else:
            assert evaluation.per_category[category]["AP"] == -1
    assert evaluation.summary["AP"] == pytest.approx(np.mean(means), abs=1e-12)


def test_coco_images_are_videos_of_one_frame(sound_pair):
    ground_truth, results = sound_pair
    images = {
        "images": [
            {"id": v["id"], "width": v["width"], "height": v["height"], "file_name": v["file_names"][0]}
            for v in ground_truth["videos"]
        ],
        "categories": ground_truth["categories"],
        "annotations": [
            {
                "id": a["id"],
                "image_id": a["video_id"],
                "category_id": a["category_id"],
                "iscrowd": 0,
                "area": a["areas"][0],
                "segmentation": a["segmentations"][0],
            }
            for a in ground_truth["annotations"]
        ],
    }
    image_results = [
        {
            "image_id": r["video_id"],
            "category_id": r["category_id"],
            "score": r["score"],
            "segmentation": r["segmentations"][0],
        }
        for r in results
    ]
    videos = {
        **ground_truth,
        "videos": [{**v, "length": 1, "file_names": v["file_names"][:1]} for v in ground_truth["videos"]],
        "annotations": [
            {**a} | {name: a[name][:1] for name in ("areas", "bboxes", "segmentations") if name in a}
            for a in ground_truth["annotations"]
        ],
    }
    video_results = [{**r, "segmentations": r["segmentations"][:1]} for r in results]
    as_images, as_videos = evaluate(images, image_results), evaluate(videos, video_results)
    assert dict(as_images.summary) == dict(as_videos.summary)
    assert as_images.summary["AP50"] >= 0
