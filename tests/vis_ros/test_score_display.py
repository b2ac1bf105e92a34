"""What is shown of the scores on a recording: nothing is cut, on a narrow terminal neither."""

from __future__ import annotations

import pytest

from vis_core.commands import terminal
from vis_ros.recordings.bag_evaluation import SCORES
from vis_ros.score_display import print_scores

METRICS = {
    "mode": "live",
    "classes": {"without_category": ["a_rather_long_name_of_a_class", "boat"], "without_class": []},
    "scores": dict.fromkeys(SCORES, 0.5),
    "pairing": {"paired": 1234, "frames": 2345},
    **dict.fromkeys(("sent", "received", "dropped"), 100),
    "latency_ms": {"p50": 123.0, "p95": 1234.0, "p99": None},
    "stream": {
        "policies": {key: {"summary": {"AP": 0.25, "HOTA": 0.5}} for key in ("causal", "latest")},
        "time_to_first_detection_s": {"median": 0.5, "never": 3},
        "id_switches_per_minute": 2.0,
        "rate_hz": 9.5,
    },
}


@pytest.mark.parametrize("width", [60, 80, 200, None])
def test_each_heading_and_figure_is_whole(width, monkeypatch, capsys):
    monkeypatch.setattr(terminal.output, "_width", width)
    monkeypatch.setattr(terminal.output, "_force_terminal", width is not None)
    print_scores(METRICS, random=True)
    text = capsys.readouterr().out
    headings = (*SCORES, "latency p50", "AP causal", "HOTA latest", "id switches a minute", "first detection after")
    assert all(whole in text for whole in (*headings, "1234/2345", "1234 ms", "a_rather_long_name_of_a_class", "boat"))
