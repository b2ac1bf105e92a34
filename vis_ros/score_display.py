"""What is shown of the scores on a recording."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from vis_core.commands.score_tables import print_partnerless
from vis_core.commands.tables import show


def print_scores(metrics: dict[str, Any], random: bool) -> None:
    """The content of a recording's ``metrics.json``; ``random``: the weights were."""
    from vis_ros.recordings.bag_evaluation import SCORES

    print_partnerless(metrics["classes"]["without_category"], metrics["classes"]["without_class"])
    scores = metrics["scores"]
    cells = {name: _cell(name, scores[name]) for name in SCORES}
    cells["frames"] = f"{metrics['pairing']['paired']}/{metrics['pairing']['frames']}"
    _print_row(cells, "random weights" if random else None)
    if "spatial" in metrics:
        _report_space(metrics["spatial"])
    if metrics["mode"] == "live":
        cells = {name: str(metrics[name]) for name in ("sent", "received", "dropped")}
        for name, value in metrics["latency_ms"].items():
            cells[f"latency {name}"] = "-" if value is None else f"{value:.0f} ms"
        _print_row(cells, None)
        _report_stream(metrics["stream"])


def _report_space(spatial: dict[str, Any]) -> None:
    """Errors of what has a place in space: median and 95th percentile."""
    cells = {
        "objects matched": f"{spatial['matched']}/{spatial['objects']}",
        "placed": str(spatial["placed"]),
        "id switches": str(spatial["id_switches"]),
    }
    for name, unit in (("position", "m"), ("velocity", "m/s"), ("size", "m")):
        errors = spatial[f"{name}_{unit.replace('/', '_')}"]
        told = "-" if errors is None else f"{errors['median']:.3f}, {errors['p95']:.3f} {unit}"
        cells[f"{name} median, p95"] = told
    _print_row(cells, None)


def _report_stream(stream: dict[str, Any]) -> None:
    """What was known when: scores by the message that a frame takes, and how soon tracks were found."""
    cells: dict[str, str] = {}
    for policy, scores in stream["policies"].items():
        cells |= {f"{name} {policy}": _cell(name, scores["summary"][name]) for name in ("AP", "HOTA")}
    _print_row(cells, None)
    first, switches = stream["time_to_first_detection_s"], stream["id_switches_per_minute"]
    cells = {
        "answered a second": "-" if stream["rate_hz"] is None else f"{stream['rate_hz']:.1f}",
        "id switches a minute": "-" if switches is None else f"{switches:.1f}",
        "first detection after": "-" if first["median"] is None else f"{first['median']:.2f} s",
        "never detected": str(first["never"]),
    }
    _print_row(cells, None)


def _cell(name: str, value: float) -> str:
    """A score in percent, a count as it is; '-' where there is nothing to find."""
    if name == "IDSW":
        return f"{value:.0f}"
    return "-" if value == -1 and name.startswith("A") else f"{100 * value:.1f}"


def _print_row(cells: dict[str, str], title: str | None) -> None:
    table = Table(title=title)
    for name in cells:
        table.add_column(name, justify="right")
    table.add_row(*cells.values())
    show(table)
