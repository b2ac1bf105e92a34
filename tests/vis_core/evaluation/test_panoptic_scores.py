"""STQ and VPQ: by hand, and equal to the papers' definitions on random videos."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.vis_core.evaluation import plain_panoptic as plain
from vis_core.errors import OptionError
from vis_core.evaluation import InputWarning, evaluate_panoptic
from vis_core.evaluation.metrics.panoptic import association, frame_overlaps, match_tubes, total

CAR, PERSON, ROAD, VOID = 7 << 16, 4 << 16, 0, 255 << 16
ROOT = Path(__file__).resolve().parents[3]


def score(folder, videos, **options):
    for i, (truth, result) in enumerate(videos):
        plain.write(folder / "truth" / f"v{i}", truth)
        plain.write(folder / "result" / f"v{i}", result)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        return evaluate_panoptic(folder / "truth", folder / "result", plain.CLASSES, **options)


@pytest.mark.parametrize("seed", range(12))
def test_scores_equal_the_definitions_on_random_videos(tmp_path, seed):
    rng = np.random.default_rng(seed)
    videos = [plain.random_video(rng) for _ in range(1 + seed % 4)]
    found = score(tmp_path, videos, windows=(1, 2, 4, 6))
    summary, per_category = plain.scores(videos, (1, 2, 4, 6))
    assert {key: found.summary[key] for key in summary} == pytest.approx(summary, abs=1e-12)
    assert found.per_category.keys() == per_category.keys()
    for number, expected in per_category.items():
        assert dict(found.per_category[number]) == pytest.approx(expected, abs=1e-12)
    for i, video in enumerate(videos):
        alone, _ = plain.scores([video], (1, 2, 4, 6))
        assert {key: found.per_video[f"v{i}"][key] for key in alone} == pytest.approx(alone, abs=1e-12)


def test_the_metrics_equal_the_definitions_on_many_more():
    rng = np.random.default_rng(100)
    seen = set()
    for _ in range(150):
        truth, result = plain.random_video(rng)
        result = np.where(result >> 16 == 255, VOID, result)
        frames = [frame_overlaps(*pair) for pair in zip(truth.astype(np.int32), result.astype(np.int32))]
        kept = association(total(frames), plain.CLASSES)
        _, quality, _, _ = plain.stq([(truth, result)])
        assert (kept.quality / kept.tracks if kept.tracks else -1) == pytest.approx(quality, abs=1e-12)
        for n in (1, 3):
            if len(frames) >= n:
                counts = {c: [0.0, 0, 0, 0] for c in plain.CLASSES.names}
                plain.match(plain.pixels(truth[:n]), plain.pixels(result[:n]), plain.CLASSES, counts)
                tubes = match_tubes(total(frames[:n]), plain.CLASSES)
                for i, (iou, matched, wrong, missed) in enumerate(counts.values()):
                    assert (tubes.matched[i], tubes.wrong[i], tubes.missed[i]) == (matched, wrong, missed)
                    assert tubes.iou[i] == pytest.approx(iou, abs=1e-12)
                    seen |= {("matched", matched > 0), ("wrong", wrong > 0), ("missed", missed > 0)}
    assert len(seen) == 6


def test_a_perfect_answer_has_full_scores(tmp_path):
    truth = np.full((4, 4, 6), ROAD)
    truth[:, 1:3, 1:3], truth[:, 2:, 4:], truth[:, 0] = CAR | 3, PERSON | 1, VOID
    found = score(tmp_path, [(truth, truth)])
    assert set(found.summary.values()) == {1.0, 4, 2}
    assert (found.summary["frames"], found.summary["GT_IDs"], found.summary["IDs"]) == (4, 2, 2)


def test_a_track_that_changes_its_number_halfway_has_half_the_association_and_no_tube(tmp_path):
    truth = np.full((2, 2, 4), ROAD)
    truth[:, :, :2] = CAR | 1
    result = truth.copy()
    result[1][result[1] == CAR | 1] = CAR | 2
    found = score(tmp_path, [(truth, result)], windows=(1, 2))
    assert found.summary["AQ"] == pytest.approx((4 * 0.5 + 4 * 0.5) / 8)
    assert found.summary["SQ"] == 1.0
    assert found.summary["STQ"] == pytest.approx(np.sqrt(0.5))
    assert (found.summary["VPQ_1_things"], found.summary["VPQ_2_things"]) == (1.0, 0.0)
    assert found.summary["VPQ"] == pytest.approx((1 + 0.5) / 2)


def test_association_does_not_ask_for_the_class_but_segmentation_does(tmp_path):
    truth = np.full((3, 2, 4), ROAD)
    truth[:, :, :2] = CAR | 1
    result = np.where(truth == CAR | 1, PERSON | 8, truth)
    found = score(tmp_path, [(truth, result)], windows=(1,))
    assert (found.summary["AQ"], found.summary["SQ"]) == (1.0, pytest.approx(1 / 3))
    assert (found.per_category[7]["IoU"], found.per_category[4]["IoU"], found.summary["VPQ_things"]) == (0, 0, 0)


def test_crowds_and_void_of_the_ground_truth_punish_no_answer_that_lies_on_them(tmp_path):
    truth = np.full((1, 2, 8), ROAD)
    truth[:, :, 2:4], truth[:, :, 4:6], truth[:, :, 6:] = CAR, VOID, CAR | 1
    result = truth.copy()
    result[:, :, 2:4], result[:, :, 4:6] = CAR | 5, PERSON | 6
    found = score(tmp_path, [(truth, result)], windows=(1,))
    assert {found.summary[name] for name in ("AQ", "SQ", "VPQ", "VPQ_things")} == {1.0}
    assert found.per_category[4] == {"IoU": -1, "VPQ": -1, "VPQ_1": -1}


def test_a_track_that_spreads_over_void_loses_association(tmp_path):
    truth = np.full((1, 1, 4), VOID)
    truth[..., :2] = CAR | 1
    found = score(tmp_path, [(truth, np.full((1, 1, 4), CAR | 1))], windows=(1,))
    assert (found.summary["AQ"], found.summary["SQ"], found.summary["VPQ"]) == (0.5, 1.0, 1.0)


def test_where_there_is_nothing_to_find_scores_are_minus_one(tmp_path):
    truth, result = np.full((1, 3, 3), VOID), np.full((1, 3, 3), ROAD)
    summary = score(tmp_path, [(truth, result)]).summary
    assert {value for name, value in summary.items() if name[0] in "SAV"} == {-1}
    only_stuff = score(tmp_path, [(result, result)]).summary
    assert [only_stuff[name] for name in ("STQ", "AQ", "SQ", "VPQ_1", "VPQ_1_things")] == [-1, -1, 1, 1, -1]


def test_windows_take_every_so_manieth_frame_by_the_spacing(tmp_path):
    videos = [plain.random_video(np.random.default_rng(seed)) for seed in range(8)]
    videos = [(truth, result) for truth, result in videos if len(truth) > 3]
    found = score(tmp_path, videos, windows=(1, 2), spacing=3).summary
    sparse, _ = plain.scores([(truth[::3], result[::3]) for truth, result in videos], (1, 2))
    dense, _ = plain.scores(videos, (1, 2))
    assert found["VPQ_1"] == pytest.approx(sparse["VPQ_1"]) and found["VPQ_2"] == pytest.approx(sparse["VPQ_2"])
    assert found["STQ"] == pytest.approx(dense["STQ"])
    assert abs(sparse["VPQ_2"] - dense["VPQ_2"]) > 0.01


def test_a_video_shorter_than_a_window_goes_without_it_and_that_is_told(tmp_path):
    truth = np.full((2, 2, 2), ROAD)
    for name in ("truth", "result"):
        plain.write(tmp_path / name / "short", truth)
    with pytest.warns(InputWarning, match="truth: ground truth short: its 2 frames hold no window of 3, 4; VPQ goes w"):
        found = evaluate_panoptic(tmp_path / "truth", tmp_path / "result", plain.CLASSES)
    assert [found.summary[f"VPQ_{n}"] for n in (1, 2, 3, 4)] == [1, 1, -1, -1] and found.summary["VPQ"] == 1


def test_threads_give_the_same_bits(tmp_path):
    rng = np.random.default_rng(9)
    videos = [plain.random_video(rng) for _ in range(5)]
    one, three = score(tmp_path, videos), score(tmp_path, videos, jobs=3)
    assert dict(one.summary) == dict(three.summary) and list(one.per_video) == list(three.per_video)
    assert one.warnings == three.warnings


def test_memory_is_flat_in_the_length_of_a_video(tmp_path):
    rng = np.random.default_rng(4)
    image = rng.choice([ROAD, CAR | 1, PERSON | 2, VOID], (60, 80)).repeat(4, 0).repeat(4, 1)
    peaks = {}
    for length in (6, 60):
        for name in ("truth", "result"):
            plain.write(tmp_path / str(length) / name / "v", [image] * length)
        score(tmp_path / "warm", [(image[None], image[None])])
        tracemalloc.start()
        evaluate_panoptic(tmp_path / str(length) / "truth", tmp_path / str(length) / "result", plain.CLASSES)
        peaks[length] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[60] < 1.1 * peaks[6]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"windows": ()}, "windows: ; give"),
        ({"windows": (1, 0)}, "windows: 1, 0"),
        ({"windows": (2, 2)}, "each once"),
        ({"spacing": 0}, "spacing: 0"),
        ({"jobs": 0}, "jobs: 0"),
        ({"classes": "cityscapes"}, "classes: cityscapes is no file; give one, or one of kitti-step, vipseg"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options, text):
    with pytest.raises(OptionError, match=text):
        evaluate_panoptic(tmp_path, tmp_path, **{"classes": plain.CLASSES, **options})


def test_it_needs_no_torch(tmp_path):
    plain.write(tmp_path / "v", np.full((1, 2, 2), ROAD))
    program = f"""
import sys
sys.modules["torch"] = None
from vis_core.evaluation import evaluate_panoptic
print(evaluate_panoptic({str(tmp_path)!r}, {str(tmp_path)!r}, "kitti-step", windows=[1]).summary["SQ"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, "1.0"), done.stderr
