"""Recordings scored on a Ray cluster, of which a node dies in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vis_core.data.synthetic import synthetic_video, write_youtube_vis
from vis_ros.recordings.bag_writer import write_bag

ROOT = Path(__file__).resolve().parents[3]
COUNT, LENGTH = 3, 8
SMALL = ("input_size=64,96", "views=1", "score_threshold=0.05", "birth_threshold=0.05", "first_birth_threshold=0.05")
FIGURES = ("AP", "HOTA", "MOTA", "IDF1", "IDSW")


def scored(folder, *arguments, on_line=lambda line: None):
    """Run the command on all recordings of a folder; returns its scores by input, and what it said."""
    out = folder / "-".join(("out", *(Path(word).name for word in arguments if word.startswith("--"))))
    program = [sys.executable, "-c", "from vis_ros.cli import main; main()", "evaluate-bag", "bags/*", "--force"]
    program += [
        "--ground-truth",
        "truth/instances.json",
        "--class-agnostic",
        "--threads",
        "1",
        "--out",
        str(out),
        *arguments,
    ]
    program += [word for option in SMALL for word in ("--option", option)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(program, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    said = []
    for line in process.stderr:
        said.append(line)
        on_line(line)
    assert process.wait() == 0, "".join(said)
    content = json.loads((out / "metrics.json").read_text())
    rows = {one["input"]: {name: one[name] for name in FIGURES} for one in content["inputs"]}
    results = {path.parent.name: path.read_text() for path in out.glob("*/results.json")}
    return rows, content["scores"], results, "".join(said)


@pytest.fixture
def nights(tmp_path):
    """Recordings, and their ground truth."""
    videos = [synthetic_video(seed, LENGTH, (96, 160), name=f"night{seed}") for seed in range(COUNT)]
    for video in videos:
        write_bag((video.frame(t) for t in range(LENGTH)), tmp_path / "bags" / video.name)
    write_youtube_vis(videos, tmp_path / "truth")
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_cluster_that_loses_a_node_scores_as_one_process_does(nights, monkeypatch, tmp_path_factory):
    pytest.importorskip("ray", reason="needs Ray: pip install 'vis_ros[ray]'")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the nodes' processes
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    rows, together, results, _ = scored(nights)
    assert sorted(rows) == [f"bags/night{i}" for i in range(COUNT)] and len(results) == COUNT

    settings = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**settings, "include_dashboard": False})
    dies = cluster.add_node(**settings)
    killed = threading.Event()

    def kill(line):
        if line.startswith("done") and not killed.is_set():  # one input is done, and the node is at work on another
            killed.set()
            cluster.remove_node(dies, allow_graceful=False)

    try:
        clustered = scored(nights, "--ray", cluster.address, on_line=kill)
    finally:
        cluster.shutdown()
    assert killed.is_set() and "placed anew" in clustered[3]
    assert clustered[:3] == (rows, together, results)
    ends = [line for line in clustered[3].splitlines() if line.startswith("done")]
    assert sorted(line.split()[1].rstrip(":") for line in ends) == sorted(rows)  # none twice
