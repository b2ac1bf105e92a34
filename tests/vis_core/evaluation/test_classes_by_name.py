"""Results whose companion tells the names of their classes: by name everywhere, ids alone without a companion."""

from __future__ import annotations

import json
import warnings
import zipfile

import pytest

from tests.vis_core.evaluation.test_class_agnostic import TRUTH, messages, results
from vis_core.data.vocabularies import YOUTUBE_VIS_2021
from vis_core.errors import InputError, OptionError
from vis_core.evaluation import InputWarning, compare, evaluate, evaluate_stream, read_ground_truth, read_results
from vis_core.evaluation.inputs.submission import pack
from vis_core.evaluation.reports.metrics_file import comparison_metrics, metrics, stream_metrics
from vis_core.files import results_info
from vis_core.files.results_info import Origin, ResultsInfo, SegmentedVideo, info_path, read_info, write_info

FULL = pytest.approx(1)


def truth(*names):
    """The ground truth with categories of these names, from id 1; its track is of the first."""
    return {**TRUTH, "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)]}


@pytest.fixture
def written(tmp_path):
    """Writes results of one category with a companion that has these categories."""

    def write(category, categories, name="results.json", content=None, **told):
        path = tmp_path / name
        content = results(category) if content is None else content
        text = "\n".join(map(json.dumps, content)) if path.suffix == ".jsonl" else json.dumps(content)
        path.write_text(text)
        if categories is not None:
            write_info(path, ResultsInfo(categories, **told))
        return path

    return write


def score(ground_truth, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        return evaluate(ground_truth, path, **options)


def test_ids_that_differ_are_matched_by_name(written):
    found = evaluate(truth("car", "person"), written(7, {7: "Car", 1: "person"}))
    assert found.summary["AP"] == FULL
    assert found.classes is not None and found.classes.without_category == found.classes.without_class == ()


def test_equal_ids_of_other_names_are_not_taken_for_each_other(written):
    found = score(truth("car", "person"), written(1, {1: "person", 2: "car"}))
    assert found.per_category[1]["AP"] == 0 and found.per_category[2]["IDs"] == 1


def test_without_a_companion_ids_are_taken_as_they_stand(written):
    path = written(1, None)
    found = evaluate(truth("car", "person"), path)
    assert (found.summary["AP"], found.classes) == (FULL, None)
    assert metrics(found, "gt", "r")["classes"] == {
        "by": "ids", "renamed": {}, "without_category": [], "without_class": [],
    }  # fmt: skip
    assert score(truth("car", "person"), path, categories={"1": "person"}).per_category[2]["IDs"] == 1


def test_classes_of_either_side_without_a_partner_are_told_and_kept(written):
    path = written(3, {1: "car", 3: "animal", 4: "lorry"})
    with pytest.warns(InputWarning) as told:
        found = evaluate(truth("car", "person", "dog"), path)
    texts = [str(item.message) for item in told]
    assert any("results [0]: class 'animal' is no category of the ground truth; dropped" in text for text in texts)
    assert any("no class is person, dog of the ground truth's categories" in text for text in texts)
    assert metrics(found, "gt", "r")["classes"] == {
        "by": "names", "renamed": {}, "without_category": ["animal", "lorry"], "without_class": ["person", "dog"],
    }  # fmt: skip
    assert (found.summary["AP"], found.summary["IDs"]) == (0, 0)


def test_none_in_common_is_an_error_unless_classes_are_paired_or_ignored(written):
    path = written(1, {1: "vehicle", 2: "animal"})
    with pytest.raises(InputError, match=r"results\.json: results: no class \(vehicle, animal\) .* \(car, person\)"):
        evaluate(truth("car", "person"), path)
    found = evaluate(truth("car", "person"), path, class_agnostic=True)
    assert (found.summary["AP"], metrics(found, "gt", "r")["classes"]["by"]) == (FULL, "none")
    found = score(truth("car", "person"), path, categories={"vehicle": "car"})
    assert (found.summary["AP"], found.classes.renamed) == (FULL, {"vehicle": "car"})
    read = read_results(path, read_ground_truth(truth("car", "person")))
    assert evaluate(truth("car", "person"), read, class_agnostic=True).summary["AP"] == FULL
    with pytest.raises(OptionError, match="give them to read_results"):
        evaluate(truth("car", "person"), read, categories={"vehicle": "car"})


def test_results_of_a_class_that_stands_for_none_are_dropped_unsaid(written):
    path = written(1, {1: "car", 2: "dog"})
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        found = evaluate(truth("car", "dog"), path, categories={"dog": "dog"})
    assert found.summary["AP"] == FULL
    assert score(truth("car", "dog"), path, categories={"car": ""}).summary["IDs"] == 0


def test_where_only_found_classes_are_known_none_in_common_is_told_and_scored(written):
    path = written(2, {2: "dog"}, complete=False)
    with (
        pytest.warns(InputWarning, match="class 'dog' is no category"),
        pytest.warns(InputWarning, match="no class is car"),
    ):
        assert evaluate(truth("car"), path).summary["AP"] == 0


def test_a_recorded_stream_is_matched_by_the_same_rule(written):
    path = written(None, {5: "CAR", 6: "dog"}, "stream.jsonl", messages(5))
    with pytest.warns(InputWarning, match="no class is person"):
        found = evaluate_stream(truth("car", "person"), path)
    assert found.policies["strict"].summary["AP"] == FULL
    assert stream_metrics(found, "gt", "s")["classes"]["without_class"] == ["person"]
    with pytest.raises(InputError, match=r"stream\.jsonl: results: no class \(CAR, dog\)"):
        evaluate_stream(truth("person"), path)
    assert evaluate_stream(truth("person"), path, class_agnostic=True).policies["strict"].summary["AP"] == FULL
    renamed = evaluate_stream(truth("person"), path, categories={"car": "person", "dog": ""})
    assert renamed.policies["strict"].summary["AP"] == FULL
    stray = written(None, {6: "dog"}, "other.jsonl", messages(5))
    with pytest.raises(InputError, match=r"line 1 tracks\[0\]: category_id 5 is none of those in other\.info\.json"):
        evaluate_stream(truth("dog"), stray)


def test_two_files_are_compared_each_by_its_own_names(written):
    paths = written(4, {4: "car"}, "a.json"), written(2, {2: "car", 1: "dog"}, "b.json")
    found = [score(truth("car", "person"), path) for path in paths]
    comparison = compare(*found, draws=0)
    assert comparison.overall["AP"].first == comparison.overall["AP"].second == FULL
    told = comparison_metrics(comparison, "gt", ("a.json", "b.json"))["classes"]
    assert [item["without_category"] for item in told] == [[], ["dog"]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"categories": [{"id": 9, "name": "car"}]}, r"results \[0\]: category_id 1 is none of those in results.info"),
        ({"videos": [{"id": 8, "name": "other"}]}, r"results \[0\]: video_id 7 is none of those in results.info.json"),
        ({"version": 2}, "version 2, but 1 is read"),
        ({"format": "other"}, "is none"),
        ({"categories": {"1": "car"}}, "categories: an object of 1 keys; give a list"),
        ({"categories": [{"id": "1", "name": "car"}]}, r'categories\[0\]: id "1" is not an integer'),
        ({"categories": [{"id": 1, "name": 3}]}, r"categories\[0\]: name 3 is not a text"),
        ({"categories": [{"id": 1, "name": "car"}] * 2}, r"categories\[1\]: id 1 stands twice"),
    ],
)
def test_a_companion_that_cannot_be_right_is_refused_in_words(written, change, said):
    path = written(1, {1: "car"}, videos=(SegmentedVideo(7, "street"),))
    companion = info_path(path)
    companion.write_text(json.dumps({**json.loads(companion.read_text()), **change}))
    with pytest.raises(InputError, match=said):
        evaluate(truth("car"), path)


def test_results_of_a_video_that_has_another_id_in_the_ground_truth_are_refused(written):
    videos = [{**TRUTH["videos"][0], "id": i, "file_names": [f"{name}/{t}.jpg" for t in range(3)]}
              for i, name in ((7, "a"), (8, "b"))]  # fmt: skip
    for name, wrong in (("b", True), ("a", False), ("c", False)):
        path = written(1, {1: "car"}, videos=(SegmentedVideo(7, name, file_names=(f"/data/{name}/0.jpg",)),))
        if wrong:
            with pytest.raises(InputError, match=r"video_id 7 is of /data/b/0\.jpg, which is video 8 of the ground"):
                evaluate({**truth("car"), "videos": videos}, path)
        else:
            assert evaluate({**truth("car"), "videos": videos}, path).summary["AP"] == FULL


def test_a_companion_is_read_within_bounds_and_told_if_cut_off(written, monkeypatch):
    path = written(1, {1: "car"})
    text = info_path(path).read_text()
    info_path(path).write_text(text[:-20])
    with pytest.raises(InputError, match=r"results\.info\.json: companion of the results: not JSON"):
        evaluate(truth("car"), path)
    info_path(path).write_text(text)
    monkeypatch.setattr(results_info, "_MAX_BYTES", 100)
    with pytest.raises(InputError, match="remove it to go by category ids"):
        evaluate(truth("car"), path)


def test_results_that_changed_since_the_companion_was_written_are_told(written):
    path = written(1, {1: "car"})
    path.write_text(path.read_text() + "\n\n")
    with pytest.warns(InputWarning, match=r"the file has changed since results\.info\.json was written"):
        assert evaluate(truth("car"), path).summary["AP"] == FULL


def test_a_companion_tells_what_made_the_results(tmp_path):
    path, weights = tmp_path / "results.json", tmp_path / "w.safetensors"
    path.write_text("[]")
    weights.write_bytes(b"weights")
    video = SegmentedVideo(3, "street", (4, 6), 2, 25.0, ("a.jpg", "b.jpg"), (0, 40))
    made = ResultsInfo.of_classes({0: "car", 1: "dog"}, None, Origin("visolo", weights, {"views": "4"}))
    write_info(path, made.of_videos(video))
    told = json.loads(info_path(path).read_text())
    assert told.pop("tool").startswith("vis_core ")
    assert told == {
        "format": "vis_core.results",
        "version": 1,
        "results": {"name": "results.json", "bytes": 2},
        "system": "visolo",
        "weights": {
            "name": "w.safetensors",
            "sha256": "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
        },
        "options": {"views": "4"},
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "dog"}],
        "class_names": [
            {"label": 0, "name": "car", "category_id": 1},
            {"label": 1, "name": "dog", "category_id": 2},
        ],
        "complete": True,
        "videos": [
            {
                "id": 3, "name": "street", "height": 4, "width": 6, "length": 2, "fps": 25.0,
                "file_names": ["a.jpg", "b.jpg"], "stamps": [0, 40],
            }
        ],
    }  # fmt: skip
    assert read_info(path).categories == {1: "car", 2: "dog"}


def test_names_of_hours_of_images_are_left_out_rather_than_not_read(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    path.write_text("[]")
    monkeypatch.setattr(results_info, "_MAX_BYTES", 4000)
    write_info(path, ResultsInfo({1: "car"}, videos=(SegmentedVideo(1, "a", file_names=("f.jpg",) * 500),)))
    assert "file_names" not in json.loads(info_path(path).read_text())["videos"][0]
    assert read_info(path).categories == {1: "car"}


# Submissions


def packed(path):
    with zipfile.ZipFile(path) as archive:
        return [entry["category_id"] for entry in json.loads(archive.read("results.json"))]


def test_a_model_of_other_classes_is_refused_by_a_server_s_check(written, tmp_path):
    path = written(1, {1: "person", 2: "vehicle", 3: "animal"})
    with pytest.raises(InputError, match=r"classes that ytvis2021 does not have: vehicle, animal; pair them with"):
        pack(path, "ytvis2021", tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()
    pack(path, "ytvis2021", tmp_path / "out.zip", categories={"vehicle": "car", "animal": ""})
    assert packed(tmp_path / "out.zip") == [26]


def test_ids_of_a_submission_follow_the_names_of_the_split(written, tmp_path):
    by_2019 = {1: "person", 8: "dog", 21: "motorbike"}
    pack(written(21, by_2019), "ytvis2021", tmp_path / "out.zip")
    assert packed(tmp_path / "out.zip") == [YOUTUBE_VIS_2021.index("motorbike") + 1]
    both = [*results(8), *results(21)]
    pack(written(8, by_2019, content=both), "ytvis2021", tmp_path / "out.zip", categories={"dog": ""})
    assert packed(tmp_path / "out.zip") == [YOUTUBE_VIS_2021.index("motorbike") + 1]
    with pytest.raises(InputError, match=r"category_id 5 is none of those in results\.info\.json"):
        pack(written(5, by_2019), "ytvis2021", tmp_path / "out.zip")
