"""Speed and memory of the evaluation beside the tools that it replaces, on data made here.

    python benchmarks/evaluation.py [--rounds 3] [--sets base,hd,long] [--quick]

The peers: for AP a plain formulation (pair by pair, two ``merge`` calls a frame, loops over tracks, as the official
YouTube-VIS evaluator works), for HOTA, CLEAR and Identity the packages ``trackeval`` and ``motrics``, installed from
PyPI into a temporary folder; one that cannot be installed is left out, and named. First the numbers are compared; then
every measurement is a process of its own, which reads the files, scores them and tells its CPU time (imports not
counted) and its peak memory. Rounds are interleaved; the least counts. Other work on the machine disturbs CPU time
less than seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
from evaluation_sets import SETS, make_set
from pycocotools import mask as coco_mask

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

TRACK_METRICS = ("hota", "clear", "identity")
PEERS = {"trackeval": "trackeval", "motrics": "motrics==0.3.0"}


def plain_average_precision(ground_truth: Path, results: Path) -> np.ndarray:
    """Precision ``[10, 101, K, 4, 3]`` by loops over videos, categories, thresholds, results and tracks."""
    truth, entries = json.loads(ground_truth.read_text()), json.loads(results.read_text())
    sizes = {video["id"]: (video["height"], video["width"]) for video in truth["videos"]}
    categories = sorted(category["id"] for category in truth["categories"])
    tracks, found = {}, {}
    for track in truth["annotations"]:
        size = sizes[track["video_id"]]
        track["segmentations"] = [s and coco_mask.frPyObjects(s, *size) for s in track["segmentations"]]
        areas = [area for area in track["areas"] if area]
        track["area"] = np.array(areas).mean() if areas else 0
        tracks.setdefault((track["video_id"], track["category_id"]), []).append(track)
    for entry in entries:
        areas = [area for area in (s and coco_mask.area(s) for s in entry["segmentations"]) if area]
        entry["area"] = np.array(areas).mean() if areas else 0
        found.setdefault((entry["video_id"], entry["category_id"]), []).append(entry)
    for key, items in found.items():
        order = np.argsort([-item["score"] for item in items], kind="stable")
        found[key] = [items[i] for i in order[:100]]
    ious = {key: _plain_ious(items, tracks.get(key, [])) for key, items in found.items()}
    ranges = ((0, 1e10), (0, 128**2), (128**2, 256**2), (256**2, 1e10))
    recalls = np.linspace(0, 1, 101)
    precision = -np.ones((10, 101, len(categories), 4, 3))
    for k, category in enumerate(categories):
        keys = [(v, category) for v in sorted(sizes) if (v, category) in tracks or (v, category) in found]
        for a, (low, high) in enumerate(ranges):
            matched = [_plain_match(found.get(key, []), tracks.get(key, []), ious.get(key), low, high) for key in keys]
            for m, limit in enumerate((1, 10, 100)):
                if not matched:
                    continue
                scores = np.concatenate([item[0][:limit] for item in matched])
                order = np.argsort(-scores, kind="stable")
                hit = np.concatenate([item[1][:, :limit] for item in matched], axis=1)[:, order]
                ignored = np.concatenate([item[2][:, :limit] for item in matched], axis=1)[:, order]
                count = sum(item[3] for item in matched)
                if not count:
                    continue
                right = np.cumsum(hit & ~ignored, axis=1).astype(float)
                wrong = np.cumsum(~hit & ~ignored, axis=1).astype(float)
                for t in range(10):
                    values = (right[t] / (wrong[t] + right[t] + np.spacing(1))).tolist()
                    for i in range(len(values) - 1, 0, -1):
                        values[i - 1] = max(values[i - 1], values[i])
                    at = np.searchsorted(right[t] / count, recalls, side="left")
                    precision[t, :, k, a, m] = [values[i] if i < len(values) else 0 for i in at]
    return precision


def _plain_ious(results: list, tracks: list) -> np.ndarray:
    out = np.zeros((len(results), len(tracks)))
    for i, result in enumerate(results):
        for j, track in enumerate(tracks):
            shared, united = 0.0, 0.0
            for one, other in zip(result["segmentations"], track["segmentations"]):
                if one and other:
                    shared += coco_mask.area(coco_mask.merge([one, other], True))
                    united += coco_mask.area(coco_mask.merge([one, other], False))
                elif one or other:
                    united += coco_mask.area(one or other)
            out[i, j] = shared / united if united else 0
    return out


def _plain_match(results: list, tracks: list, ious: np.ndarray | None, low: float, high: float) -> tuple:
    ignore = [track["iscrowd"] or not low <= track["area"] <= high for track in tracks]
    order = np.argsort(ignore, kind="stable")
    hit = np.zeros((10, len(results)), bool)
    ignored = np.zeros((10, len(results)), bool)
    for t, threshold in enumerate(np.linspace(0.5, 0.95, 10)):
        taken = set()
        for d in range(len(results)):
            best, match = min(threshold, 1 - 1e-10), -1
            for g in order:
                if g in taken and not tracks[g]["iscrowd"]:
                    continue
                if match > -1 and not ignore[match] and ignore[g]:
                    break
                if ious[d, g] < best:
                    continue
                best, match = ious[d, g], g
            if match > -1:
                taken.add(match)
                hit[t, d], ignored[t, d] = True, ignore[match]
    outside = np.array([not low <= result["area"] <= high for result in results], bool)
    ignored |= ~hit & outside
    scores = np.array([result["score"] for result in results])
    return scores, hit, ignored, len(tracks) - int(np.sum(ignore))


def trackeval_scores(ground_truth: Path, results: Path) -> dict:
    """What trackeval answers, by sequence and class."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import trackeval
    with tempfile.TemporaryDirectory() as folder:
        split, tracker = "youtube_vis_benchmark", Path(folder) / "trackers" / "youtube_vis_benchmark" / "ours" / "data"
        (Path(folder) / "gt" / split).mkdir(parents=True)
        tracker.mkdir(parents=True)
        (Path(folder) / "gt" / split / "ground_truth.json").symlink_to(ground_truth)
        (tracker / "results.json").symlink_to(results)
        quiet = {"PRINT_CONFIG": False}
        with contextlib.redirect_stdout(io.StringIO()):
            data = trackeval.datasets.YouTubeVIS(
                {
                    **quiet,
                    "GT_FOLDER": f"{folder}/gt/",
                    "TRACKERS_FOLDER": f"{folder}/trackers/",
                    "SPLIT_TO_EVAL": "benchmark",
                }
            )
            evaluator = trackeval.Evaluator(
                {
                    **quiet,
                    **dict.fromkeys(("PRINT_RESULTS", "TIME_PROGRESS", "OUTPUT_SUMMARY"), False),
                    **dict.fromkeys(("OUTPUT_DETAILED", "PLOT_CURVES"), False),
                    "LOG_ON_ERROR": None,
                }
            )
            metrics = [trackeval.metrics.HOTA(quiet), trackeval.metrics.CLEAR(quiet), trackeval.metrics.Identity(quiet)]
            scores, _ = evaluator.evaluate([data], metrics)
    return scores["YouTubeVIS"]["ours"]


def motrics_scores(ground_truth: Path, results: Path) -> dict:
    """HOTA, CLEAR and Identity by motrics, by video and category."""
    import motrics

    truth, entries = json.loads(ground_truth.read_text()), json.loads(results.read_text())
    lengths = {video["id"]: video["length"] for video in truth["videos"]}
    # Of tracks and of results the numbers and the masks, frame by frame.
    classes: dict[tuple[int, int], tuple[list, ...]] = {}
    for side, items in enumerate((truth["annotations"], entries)):
        for number, item in enumerate(items):
            key = item["video_id"], item["category_id"]
            if key not in classes:
                classes[key] = tuple([[] for _ in range(lengths[item["video_id"]])] for _ in range(4))
            numbers, masks = classes[key][2 * side : 2 * side + 2]
            for frame, mask in enumerate(item["segmentations"]):
                if mask:
                    numbers[frame].append(number)
                    masks[frame].append(mask)
    scores = {}
    for key, (tracks, track_masks, found, found_masks) in classes.items():
        ious = [motrics.mask_iou_matrix(*pair) for pair in zip(track_masks, found_masks)]
        scores[key] = (
            motrics.compute_hota_from_similarity(tracks, found, ious),
            motrics.compute_clear_from_similarity(tracks, found, ious),
            motrics.compute_identity_from_similarity(tracks, found, ious),
        )
    return scores


def ours(ground_truth: Path, results: Path, metrics: tuple[str, ...], jobs: int = 1):
    """Our evaluation of the same files."""
    from vis_core.evaluation import evaluate

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return evaluate(ground_truth, results, metrics, jobs=jobs)


def compare(ground_truth: Path, results: Path, peers: list[str]) -> dict[str, int]:
    """Check that the numbers agree: AP bit for bit, track scores within 1e-12; count where motrics has others."""
    evaluation = ours(ground_truth, results, ("ap", *TRACK_METRICS))
    expected = plain_average_precision(ground_truth, results)
    if not np.array_equal(evaluation.curves.precision, expected):
        raise SystemExit("average precision differs from the plain formulation")
    counts = {"AP arrays": int(expected.size)}
    if "trackeval" in peers:
        counts["track values"] = _compare_tracks(evaluation, trackeval_scores(ground_truth, results))
    if "motrics" in peers:
        others = motrics_scores(ground_truth, results)
        mine = [evaluation.tracks.of(*key) for key in others]
        alike = [
            abs(float(np.mean(of_us["HOTA"]["HOTA"])) - hota.hota) < 1e-9
            and of_us["CLEAR"]["IDSW"] == clear.num_switches
            and of_us["Identity"]["IDTP"] == identity.idtp
            for of_us, (hota, clear, identity) in zip(mine, others.values())
        ]
        counts |= {"videos and classes": len(alike), "of these other in motrics": alike.count(False)}
    return counts


def _compare_tracks(evaluation, scores: dict) -> int:
    """How many values of trackeval were compared; stops at one that is another."""
    classes = {name: number for number, name in evaluation.categories.items()}
    averages = {
        "cls_comb_cls_av": evaluation.tracks.class_average,
        "cls_comb_det_av": evaluation.tracks.detection_average,
    }
    compared = 0
    for sequence, by_class in scores.items():
        for name, families in by_class.items():
            if name in averages:
                mine = averages[name]
            elif sequence == "COMBINED_SEQ":
                mine = evaluation.tracks.by_class[classes[name]]
            else:
                video = next(number for number, text in evaluation.videos.items() if text == sequence)
                mine = evaluation.tracks.of(video, classes[name])
            for family in ("HOTA", "CLEAR", "Identity"):
                for field, value in families[family].items():
                    worst = np.abs(np.asarray(mine[family][field]) - value).max()
                    if worst > 1e-12:
                        raise SystemExit(f"{sequence} {name} {family} {field}: {mine[family][field]} is not {value}")
                    compared += 1
    return compared


TASKS = {
    "ours: AP": lambda *paths: ours(*paths, ("ap",)),
    "plain AP": plain_average_precision,
    "ours: HOTA, CLEAR, Identity": lambda *paths: ours(*paths, TRACK_METRICS),
    "trackeval": trackeval_scores,
    "motrics": motrics_scores,
    "ours: all": lambda *paths: ours(*paths, ("ap", *TRACK_METRICS)),
    "ours: all, 2 processes": lambda *paths: ours(*paths, ("ap", *TRACK_METRICS), 2),
}


def measure(task: str, ground_truth: Path, results: Path) -> dict[str, float]:
    """CPU seconds of one task in this process, and the peak memory of the process (MiB)."""
    import vis_core.evaluation.evaluator  # noqa: F401

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import_module({"trackeval": "trackeval", "motrics": "motrics"}.get(task, "msgspec"))
    began = _cpu_seconds()
    TASKS[task](ground_truth, results)
    seconds = _cpu_seconds() - began
    # Not getrusage: what it tells outlives the exec of a parent's fork.
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return {"seconds": seconds, "mib": peak / 1024}


def _cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def install_peers(folder: Path) -> list[str]:
    """Install the peers from PyPI, without what only their plots need; which of them there are."""
    there = []
    for name, requirement in PEERS.items():
        print(f"installing {requirement}", flush=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), requirement]
        if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode:
            print(f"{name} could not be installed from PyPI (is there a network?): left out", flush=True)
        else:
            there.append(name)
    return there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sets", default="base,hd,long", help=f"of {', '.join(SETS)}")
    parser.add_argument("--quick", action="store_true", help="one round of one small set")
    parser.add_argument("--measure", nargs=3, metavar=("TASK", "GROUND_TRUTH", "RESULTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        task, ground_truth, results = arguments.measure
        print(json.dumps(measure(task, Path(ground_truth), Path(results))))
        return
    sets, rounds = (["quick"], 1) if arguments.quick else (arguments.sets.split(","), arguments.rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peers = install_peers(folder / "peer")
        sys.path.append(str(folder / "peer"))
        paths = filter(None, (os.environ.get("PYTHONPATH"), str(folder / "peer")))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        for name in sets:
            report(name, folder, environment, 1 if name == "long" else rounds, peers)


def report(name: str, folder: Path, environment: dict[str, str], rounds: int, peers: list[str]) -> None:
    """Make a set, compare the numbers, measure all tasks on it and print the table."""
    print(f"\n{name}: making it", flush=True)
    paths = make_set(folder, name)
    videos, frames, height, width, *_ = SETS[name]
    truth, entries = (json.loads(path.read_text()) for path in paths)
    counts = f"{len(truth['annotations'])} tracks, {len(entries)} results, {paths[1].stat().st_size / 1e6:.1f} MB"
    print(f"{videos} videos x {frames} frames at {height}x{width}, {counts}", flush=True)
    del truth, entries
    if name != "long":
        print(f"numbers agree: {compare(*paths, peers)}", flush=True)
    best: dict[str, dict[str, float]] = {}
    absent = set(PEERS) - set(peers) | ({"plain AP", *PEERS} if name == "long" else set())
    for number in range(rounds):
        for task in [task for task in TASKS if task not in absent]:
            done = subprocess.run(
                [sys.executable, __file__, "--measure", task, *map(str, paths)],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"  round {number + 1}: {task:30s} {found['seconds']:7.2f} s", flush=True)
            before = best.get(task, found)
            best[task] = {key: min(found[key], before[key]) for key in found}
    print("  least CPU time, peak memory")
    for task, values in best.items():
        print(f"  {task:30s} {values['seconds']:7.2f} s   {values['mib']:6.0f} MiB")
    if "trackeval" in best:
        together = best["plain AP"]["seconds"] + best["trackeval"]["seconds"]
        print(f"  plain AP and trackeval / ours: all = {together / best['ours: all']['seconds']:.1f}")
    if "motrics" in best:
        ratio = best["ours: HOTA, CLEAR, Identity"]["seconds"] / best["motrics"]["seconds"]
        print(f"  ours: HOTA, CLEAR, Identity / motrics = {ratio:.2f}")
    print(f"  ours: all, {1e3 * best['ours: all']['seconds'] / videos:.1f} ms a video, {rounds} rounds")


if __name__ == "__main__":
    main()
