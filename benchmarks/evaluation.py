"""Speed and memory of the evaluation beside the tools that it replaces, on data made here.

    python benchmarks/evaluation.py [--rounds 3] [--sets base,hd,long]

The peers: for AP a plain formulation (pair by pair, two ``merge`` calls a frame, loops over tracks, as the official
YouTube-VIS evaluator works), for HOTA, CLEAR and Identity the package ``trackeval``, installed from PyPI into a
temporary folder. First the numbers are compared; then every measurement is a process of its own, which reads the files,
scores them and tells its seconds (imports not counted) and its peak memory. Rounds are interleaved; the least counts.
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
import time
import warnings
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

TRACK_METRICS = ("hota", "clear", "identity")
# Videos, frames, height, width, tracks a video, results a video.
SETS = {
    "base": (60, 40, 180, 320, 4.5, 33.2),
    "hd": (12, 40, 720, 1280, 4.5, 33.2),
    "long": (600, 40, 180, 320, 4.5, 33.2),
}
CATEGORIES = 20


def make_set(folder: Path, name: str, seed: int = 0) -> tuple[Path, Path]:
    """Write ground truth and results of wobbling blobs that drift, with results shifted, torn and invented."""
    videos, frames, height, width, tracks, results = SETS[name]
    random = np.random.default_rng(seed)
    ground_truth = {
        "videos": [],
        "categories": [{"id": k + 1, "name": f"class_{k + 1}"} for k in range(CATEGORIES)],
        "annotations": [],
    }
    entries = []
    for number in range(1, videos + 1):
        folder_name = f"video_{number:04d}"
        names = [f"{folder_name}/{frame:05d}.jpg" for frame in range(frames)]
        size = {"width": width, "height": height, "length": frames}
        ground_truth["videos"].append({"id": number, "file_names": names, **size})
        true = []
        for _ in range(max(1, random.poisson(tracks))):
            blob = _blob(random, height, width)
            masks = _masks(random, blob, frames, height, width, gap=0.1)
            category = int(random.integers(1, CATEGORIES + 1))
            true.append((blob, category))
            plain = [None if mask is None else _uncompressed(mask) for mask in masks]
            areas = [None if mask is None else int(coco_mask.area(mask)) for mask in masks]
            ground_truth["annotations"].append(
                {
                    "id": len(ground_truth["annotations"]) + 1,
                    "video_id": number,
                    "category_id": category,
                    "iscrowd": 0,
                    "height": height,
                    "width": width,
                    "segmentations": plain,
                    "areas": areas,
                    "bboxes": [None] * frames,
                }
            )
        for _ in range(random.poisson(results)):
            if random.random() < 0.7:
                blob, category = true[random.integers(len(true))]
                blob = blob + random.normal(0, 0.03, blob.shape) * np.array([height, width, height, width, 0, 0, 0])
                category = category if random.random() < 0.6 else int(random.integers(1, CATEGORIES + 1))
            else:
                blob, category = _blob(random, height, width), int(random.integers(1, CATEGORIES + 1))
            masks = _masks(random, blob, frames, height, width, gap=0.2)
            text = [None if m is None else {"size": m["size"], "counts": m["counts"].decode()} for m in masks]
            entries.append(
                {"video_id": number, "category_id": category, "score": float(random.random()), "segmentations": text}
            )
    paths = folder / f"{name}_ground_truth.json", folder / f"{name}_results.json"
    for path, content in zip(paths, (ground_truth, entries)):
        path.write_text(json.dumps(content))
    return paths


def _blob(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Centre y and x, speed y and x over the video, radius, phase, wobble."""
    centre = random.uniform(0, 1, 2) * (height, width)
    speed = random.normal(0, 0.15, 2) * (height, width)
    return np.array([*centre, *speed, random.uniform(0.05, 0.25) * height, random.uniform(0, 6.28), 0.15])


def _masks(random: np.random.Generator, blob: np.ndarray, frames: int, height: int, width: int, gap: float) -> list:
    first, last = sorted(random.integers(0, frames, 2)) if random.random() < 0.3 else (0, frames - 1)
    masks = []
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    for frame in range(frames):
        if not first <= frame <= last or random.random() < gap:
            masks.append(None)
            continue
        y, x = blob[:2] + blob[2:4] * frame / frames
        radius = blob[4] * (1 + blob[6] * np.sin(3 * angles + blob[5] + frame / 5) + random.normal(0, 0.02, 40))
        points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1).clip(0, (width, height))
        mask = coco_mask.frPyObjects([points.ravel().tolist()], height, width)[0]
        masks.append(mask if coco_mask.area(mask) else None)
    return masks


def _uncompressed(mask: dict) -> dict:
    flat = coco_mask.decode(mask).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return {"size": mask["size"], "counts": [0, *runs] if flat[0] else runs}


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


def ours(ground_truth: Path, results: Path, metrics: tuple[str, ...], jobs: int = 1):
    """Our evaluation of the same files."""
    from vis_core.evaluation import evaluate

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return evaluate(ground_truth, results, metrics, jobs=jobs)


def compare(ground_truth: Path, results: Path) -> dict[str, int]:
    """Check that the numbers agree: AP bit for bit, counts exactly, track scores within 1e-12."""
    evaluation = ours(ground_truth, results, ("ap", *TRACK_METRICS))
    expected = plain_average_precision(ground_truth, results)
    if not np.array_equal(evaluation.curves.precision, expected):
        raise SystemExit("average precision differs from the plain formulation")
    scores = trackeval_scores(ground_truth, results)
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
    return {"AP arrays": int(expected.size), "track values": compared}


TASKS = {
    "ours: AP": lambda *paths: ours(*paths, ("ap",)),
    "plain AP": plain_average_precision,
    "ours: HOTA, CLEAR, Identity": lambda *paths: ours(*paths, TRACK_METRICS),
    "trackeval": trackeval_scores,
    "ours: all": lambda *paths: ours(*paths, ("ap", *TRACK_METRICS)),
    "ours: all, 2 processes": lambda *paths: ours(*paths, ("ap", *TRACK_METRICS), 2),
}


def measure(task: str, ground_truth: Path, results: Path) -> dict[str, float]:
    """Seconds of one task in this process, and the peak memory of the process (MiB)."""
    import vis_core.evaluation.evaluator  # noqa: F401

    if task == "trackeval":
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            import trackeval  # noqa: F401
    began = time.perf_counter()
    TASKS[task](ground_truth, results)
    seconds = time.perf_counter() - began
    # Not getrusage: what it tells outlives the exec of a parent's fork.
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return {"seconds": seconds, "mib": peak / 1024}


def install_trackeval(folder: Path) -> None:
    """Install the peer from PyPI, without what only its plots need."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), "trackeval"]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit("trackeval could not be installed from PyPI; is there a network?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sets", default="base,hd,long")
    parser.add_argument("--measure", nargs=3, metavar=("TASK", "GROUND_TRUTH", "RESULTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        task, ground_truth, results = arguments.measure
        print(json.dumps(measure(task, Path(ground_truth), Path(results))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        install_trackeval(folder / "peer")
        sys.path.insert(0, str(folder / "peer"))
        environment = {**os.environ, "PYTHONPATH": str(folder / "peer"), "OMP_NUM_THREADS": "1"}
        for name in arguments.sets.split(","):
            report(name, folder, environment, arguments.rounds if name == "base" else 1)


def report(name: str, folder: Path, environment: dict[str, str], rounds: int) -> None:
    """Make a set, compare the numbers, measure all tasks on it and print the table."""
    paths = make_set(folder, name)
    videos, frames, height, width, *_ = SETS[name]
    truth, entries = (json.loads(path.read_text()) for path in paths)
    counts = f"{len(truth['annotations'])} tracks, {len(entries)} results, {paths[1].stat().st_size / 1e6:.1f} MB"
    print(f"\n{name}: {videos} videos x {frames} frames at {height}x{width}, {counts}")
    del truth, entries
    if name != "long":
        print(f"  numbers agree: {compare(*paths)}")
    best: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for task in TASKS:
            if name == "long" and not task.startswith("ours"):
                continue
            done = subprocess.run(
                [sys.executable, __file__, "--measure", task, *map(str, paths)],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            found = json.loads(done.stdout.splitlines()[-1])
            before = best.get(task, found)
            best[task] = {key: min(found[key], before[key]) for key in found}
    for task, values in best.items():
        print(f"  {task:30s} {values['seconds']:7.2f} s   peak {values['mib']:6.0f} MiB")
    if "trackeval" in best:
        peers = best["plain AP"]["seconds"] + best["trackeval"]["seconds"]
        print(f"  peers together / ours: all = {peers / best['ours: all']['seconds']:.1f}x")
    print(f"  ours: all, per video: {1e3 * best['ours: all']['seconds'] / videos:.1f} ms")


if __name__ == "__main__":
    main()
