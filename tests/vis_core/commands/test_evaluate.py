"""The command ``vis evaluate``, as its users run it."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vis_core.evaluation import evaluate

_ROOT = Path(__file__).parents[3]


def vis(*arguments, columns=100):
    return subprocess.run(
        [sys.executable, "-c", "from vis_core.commands.main import main; main()", *map(str, arguments)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1"},
    )


@pytest.fixture
def files(sound_pair, tmp_path):
    paths = tmp_path / "ground_truth.json", tmp_path / "results.json"
    for path, content in zip(paths, sound_pair, strict=True):
        path.write_text(json.dumps(content))
    return paths


def test_evaluate_shows_tables_and_writes_all_scores(files, sound_pair, tmp_path):
    done = vis("evaluate", files[1], "--ground-truth", files[0], "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    expected = evaluate(*sound_pair, ("ap", "hota", "clear", "identity"))
    for text in (f"{100 * expected.summary['AP50']:.1f}", "HOTA", "IDF1", "class_2 (2)", "video_005 (5)"):
        assert text in done.stdout
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (written["schema"], written["version"]) == ("vis_core.evaluation", 1)
    assert written["summary"] == dict(expected.summary)
    assert [row["id"] for row in written["per_category"]] == [1, 2, 3]
    assert written["per_category"][1]["AP"] == expected.per_category[2]["AP"]
    assert written["per_video"][1] == {"id": 5, "name": "video_005", **expected.per_video[5]}
    assert len(written["curves"]["AP_at_iou"]) == 10
    assert written["curves"]["AP_at_iou"][0] == pytest.approx(expected.summary["AP50"])
    assert len(written["curves"]["precision_at_recall"]["all_iou"]) == 101
    assert len(written["curves"]["HOTA_at_alpha"]) == 19
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.json", "report.html"]


def test_the_schema_document_names_every_key(files, tmp_path):
    vis("evaluate", files[1], "--ground-truth", files[0], "--out", tmp_path)
    written = json.loads((tmp_path / "metrics.json").read_text())
    document = (_ROOT / "docs" / "metrics_schema.md").read_text()
    keys = {*written, *written["summary"], *written["curves"], *written["options"]}
    assert {key for key in keys if f"`{key}`" not in document} == set()


def test_only_the_metrics_asked_for_are_computed(files, tmp_path):
    done = vis("evaluate", files[1], "--ground-truth", files[0], "--metrics", "identity", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "metrics.json").read_text())["summary"]
    assert "IDF1" in summary
    assert not {"AP", "HOTA", "MOTA"} & set(summary)


def test_a_faulty_file_ends_with_its_errors_and_writes_nothing(files, sound_pair, tmp_path):
    files[1].write_text(json.dumps([{**sound_pair[1][0], "score": "high", "video_id": 3}]))
    done = vis("evaluate", files[1], "--ground-truth", files[0], "--out", tmp_path / "out")
    assert done.returncode == 2
    assert 'results [0]: score "high"' in done.stderr
    assert "results [0]: video_id 3" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_warning_is_shown_and_kept_in_the_file(files, sound_pair, tmp_path):
    files[1].write_text(json.dumps([{**sound_pair[1][0], "category_id": 99}]))
    done = vis("evaluate", files[1], "--ground-truth", files[0], "--out", tmp_path, "--jobs", "2")
    assert done.returncode == 0
    assert "category_id 99 is not in the ground truth" in done.stderr
    (warning,) = json.loads((tmp_path / "metrics.json").read_text())["warnings"]
    assert "results [0]: category_id 99" in warning


def test_an_unknown_metric_is_refused(files):
    done = vis("evaluate", files[1], "--ground-truth", files[0], "--metrics", "ap,mota")
    assert done.returncode == 2
    assert "mota not known; choose of ap, hota, clear, identity" in done.stderr


def test_a_recorded_stream_is_scored_under_each_policy(load_case, tmp_path):
    case = load_case("case_11_stream")
    for name in ("ground_truth.json", "stream.jsonl"):
        (tmp_path / name).write_bytes(gzip.decompress((case.folder / f"{name}.gz").read_bytes()))
    done = vis(
        *("evaluate", tmp_path / "stream.jsonl", "--ground-truth", tmp_path / "ground_truth.json"),
        *("--stream", "--out", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    for text in ("strict", "hold", "live", "answered", "0.145 s", "80.03"):
        assert text in done.stdout
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["schema"] == "vis_core.evaluation.stream"
    expected = case.headline["expected"]["live"]["AP"]
    assert written["policies"]["live"]["summary"]["AP"] == pytest.approx(expected, abs=1e-12)
    document = (_ROOT / "docs" / "metrics_schema.md").read_text()
    assert {key for key in written if f"`{key}`" not in document} == set()


def test_submit_writes_a_zip_beside_the_results(files):
    done = vis("submit", files[1], "--split", "ovis", "--videos", files[0])
    assert done.returncode == 0, done.stderr
    assert "6 tracks in 2 videos" in done.stdout
    assert files[1].with_suffix(".zip").exists()
    refused = vis("submit", files[1], "--split", "coco")
    assert refused.returncode == 2
    assert "ytvis2019" in refused.stderr


def test_two_files_are_put_side_by_side(files, sound_pair, tmp_path):
    better = tmp_path / "better.json"
    better.write_text(json.dumps([{**r, "category_id": 2 if r["video_id"] == 2 else 1} for r in sound_pair[1]]))
    done = vis(
        *("evaluate", "--compare", files[1], better, "--ground-truth", files[0], "--draws", "20"),
        *("--out", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    for text in ("B - A", "HOTA", "class_2 (2)", "20 draws"):
        assert text in done.stdout
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    expected = [evaluate(sound_pair[0], path).summary["AP"] for path in (files[1], better)]
    assert [written["overall"]["AP"][key] for key in ("first", "second")] == expected
    document = (_ROOT / "docs" / "metrics_schema.md").read_text()
    assert {key for key in (*written, *written["overall"]["AP"]) if f"`{key}`" not in document} == set()


@pytest.mark.parametrize("arguments", [(1, 1), (1, "--compare"), (1, 1, "--compare", "--stream")])
def test_the_number_of_files_must_fit(files, arguments):
    given = [files[1] if item == 1 else item for item in arguments]
    done = vis("evaluate", *given, "--ground-truth", files[0])
    assert done.returncode == 2
    assert "--compare" in done.stderr


def test_folders_of_mots_text_are_scored(tmp_path):
    for name in ("gt", "results"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("1 2000 2 2 2 4\n")
    done = vis("evaluate", tmp_path / "results", "--ground-truth", tmp_path / "gt", "--first-frame", "1")
    assert done.returncode == 0, done.stderr
    assert "pedestrian" not in done.stderr
    assert "HOTA" in done.stdout


def test_what_the_report_cannot_show_is_told(files, tmp_path):
    done = vis("evaluate", files[1], "--ground-truth", files[0], "--out", tmp_path / "out", "--images", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not shown in the report" in done.stdout
    assert "no such file" in done.stdout
    assert "Worst identity switches" not in (tmp_path / "out" / "report.html").read_text()
