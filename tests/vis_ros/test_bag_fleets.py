"""Several recordings of one command: what each of its processes is asked, and the scores over all of them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from vis_core import masks
from vis_core.commands import fleet
from vis_core.commands.fleet_processes import Answer
from vis_core.data.synthetic import synthetic_video, write_youtube_vis
from vis_core.evaluation import evaluate
from vis_ros import cli
from vis_ros.bag_fleets import score_figures

LENGTH = 4


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    """Names of recordings, which are folders with nothing in them, and the ground truth of videos of these names."""
    folder = tmp_path_factory.mktemp("nights")
    videos = [synthetic_video(seed, LENGTH, (48, 64), name=f"night{seed}") for seed in range(3)]
    for video in videos:
        (folder / "bags" / video.name).mkdir(parents=True)
    truth = write_youtube_vis(videos, folder / "truth")
    return SimpleNamespace(bags=f"{folder}/bags/*", truth=truth, videos=videos)


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs a command with what stands for its processes; returns its exit code and what they were asked."""

    def call(answer, *words):
        asked = []

        def run_here(works, count, threads, received, on_end):
            for work in works:
                asked.append(work)
                on_end(work, answer(work))

        monkeypatch.setattr(fleet, "run_here", run_here)
        with pytest.raises(SystemExit) as ended:
            cli.main([*map(str, words), "--out", str(tmp_path / "out")])
        return SimpleNamespace(code=ended.value.code or 0, asked=asked, said=" ".join(capsys.readouterr().err.split()))

    return call


def written(nights, work):
    """Results of a recording: half of the objects of its video, and one that is not there."""
    number = next(i for i, video in enumerate(nights.videos) if video.name == work.folder.name)
    objects = nights.videos[number].object_image
    nothing = np.zeros(objects.shape, bool)
    nothing[:, :5, :5] = True
    rows = []
    for item, found in enumerate([*(objects == i + 1 for i in range(0, objects.max(), 2)), nothing]):
        segmentations = [masks.to_coco(masks.encode(mask)) if mask.any() else None for mask in found]
        rows.append(
            {"video_id": number + 1, "category_id": 1, "score": 0.9 - 0.1 * item, "segmentations": segmentations}
        )
    work.folder.mkdir(parents=True)
    (work.folder / "results.json").write_text(json.dumps(rows))
    return rows


def test_the_scores_over_all_recordings_are_those_of_one_set_of_videos(nights, run, tmp_path):
    rows = []

    def answer(work):
        rows.extend(written(nights, work))
        return Answer(0, "", {"frames": LENGTH, "paired": LENGTH, "HOTA": 0.5})

    done = run(answer, "evaluate-bag", nights.bags, "--ground-truth", nights.truth, "--class-agnostic", "--jobs", 3)
    assert done.code == 0, done.said
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    expected = evaluate(str(nights.truth), rows, ("ap", "hota", "clear", "identity"), class_agnostic=True)
    assert content["scores"] == dict(expected.summary) and 0 < content["scores"]["HOTA"] < 1
    main = {name: expected.summary[name] for name in ("AP", "HOTA", "MOTA", "IDF1", "IDSW")}
    assert content["all"] == {"frames": 3 * LENGTH, "paired": 3 * LENGTH, **main}
    assert [one["state"] for one in content["inputs"]] == ["done"] * 3


def test_each_recording_is_asked_for_the_video_of_its_name_and_a_failed_one_does_not_count(nights, run, tmp_path):
    rows = []

    def answer(work):
        if work.folder.name == "night1":
            return Answer(2, "no images")
        rows.extend(written(nights, work))
        return Answer(0, "", {"frames": LENGTH, "HOTA": 0.5})

    done = run(answer, "evaluate-bag", nights.bags, "--ground-truth", nights.truth, "--class-agnostic", "--live")
    assert done.code == 1 and "night1: no images" in done.said
    for number, work in enumerate(done.asked):
        words = " ".join(work.command)
        assert f"evaluate-bag --ground-truth {nights.truth} --live --class-agnostic --video {number + 1} " in words
        assert "--domain" not in words and words.endswith(f"/bags/night{number}")
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert [one["state"] for one in content["inputs"]] == ["done", "failed", "done"]
    assert content["scores"]["GT_IDs"] == sum(nights.videos[i].object_image.max() for i in (0, 2))


def test_what_cannot_be_right_is_told_before_any_work(nights, run, tmp_path):
    def never(work):
        raise AssertionError

    def refused(*words):
        done = run(never, *words)
        assert done.code == 2 and not done.asked
        return done.said

    truth = ("--ground-truth", nights.truth)
    assert "--video 1: is for one recording" in refused("evaluate-bag", nights.bags, *truth, "--video", 1)
    assert "matches no file" in refused("evaluate-bag", f"{nights.bags}/*.mcap", *truth)
    other = tmp_path / "elsewhere"
    other.mkdir()
    assert "no single video 'elsewhere'" in refused("evaluate-bag", nights.bags, other, *truth)
    assert "--jobs: is for several inputs" in refused("segment-bag", other, "--jobs", 2)


def test_segment_bag_asks_the_same_of_each_recording(nights, run, tmp_path):
    def answer(work):
        return Answer(0, "", {"frames": 4, "skipped": 1, "tracks": 2, "seconds": 0.5})

    done = run(answer, "segment-bag", nights.bags, "--bag", "--save-masks", "--option", "views=1", "--max-frames", 4)
    assert done.code == 0, done.said
    assert all(
        " --bag " in " ".join(work.command) and "--max-frames 4" in " ".join(work.command) for work in done.asked
    )
    content = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert content["all"] == {"frames": 12, "skipped": 3, "tracks": 6, "seconds": 1.5}


def test_a_score_that_is_no_number_is_told_as_none():
    scores = {"AP": float("nan"), "HOTA": 0.5, "MOTA": 0.1, "IDF1": 0.2, "IDSW": 3.0}
    metrics = {"scores": scores, "pairing": {"frames": 4, "paired": 3}}
    assert score_figures(metrics) == {"frames": 4, "paired": 3, **scores, "AP": None}
