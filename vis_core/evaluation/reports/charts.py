"""Charts as inline SVG: lines over thresholds, bars by category. Colours come from the page's style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 480, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 24, 12, 52


def line_chart(
    title: str, x_title: str, x: Sequence[float], series: Mapping[str, Sequence[float]], *, dots: bool = False
) -> str:
    """Lines of values from 0 to 1 over a range of x.

    Args:
        title: for those who cannot see it.
        x_title: under the axis.
        x: ascending, as many as values.
        series: values by name; negative ones are unknown and left out.
        dots: mark every value.
    """
    low, high = x[0], x[-1]
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(value: float, score: float) -> tuple[float, float]:
        return _LEFT + inner_width * (value - low) / (high - low), _TOP + inner_height * (1 - score)

    parts = []
    for tick in range(0, 101, 25):
        _, y = at(low, tick / 100)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick}</text>')
    for step in range(6):
        value = low + (high - low) * step / 5
        position, _ = at(value, 0)
        parts.append(f'<text x="{position:.1f}" y="{_HEIGHT - _BOTTOM + 21}" text-anchor="middle">{value:.2f}</text>')
    parts.append(f'<text x="{_LEFT + inner_width / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>')
    for number, (name, values) in enumerate(series.items()):
        points = [at(value, score) for value, score in zip(x, values) if score >= 0]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        tip = f"<title>{escape(name)}</title>"
        parts.append(f'<polyline class="line s{number}" points="{path}">{tip}</polyline>')
        if dots:
            known = [(value, score) for value, score in zip(x, values) if score >= 0]
            for (value, score), (px, py) in zip(known, points):
                tip = f"<title>{escape(name)} at {value:.2f}: {100 * score:.1f}</title>"
                parts.append(f'<circle class="dot s{number}" cx="{px:.1f}" cy="{py:.1f}" r="3.5">{tip}</circle>')
    names = "".join(f'<span class="key s{number}">{escape(name)}</span>' for number, name in enumerate(series))
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return f'<figure><figcaption>{escape(title)}</figcaption>{svg}<div class="keys">{names}</div></figure>'


def bar_chart(title: str, rows: Mapping[str, Sequence[float]], names: Sequence[str]) -> str:
    """Horizontal bars of values from 0 to 1, several a row.

    Args:
        title: of the chart.
        rows: values by label; negative ones are unknown and shown as a dash.
        names: of the values of each row.
    """
    bars = []
    for label, values in rows.items():
        lines = []
        for number, (name, value) in enumerate(zip(names, values)):
            width = max(0.0, min(1.0, value)) * 100
            text = f"{100 * value:.1f}" if value >= 0 else "–"
            tip = escape(f"{label}: {name} {text}")
            bar = f'<i class="s{number}" style="width:{width:.2f}%"></i><b>{text}</b>'
            lines.append(f'<div class="bar" title="{tip}">{bar}</div>')
        bars.append(f'<div class="row"><span>{escape(label)}</span><div>{"".join(lines)}</div></div>')
    keys = "".join(f'<span class="key s{number}">{escape(name)}</span>' for number, name in enumerate(names))
    head = f"<figcaption>{escape(title)}</figcaption>"
    return f'<figure class="bars">{head}<div class="rows">{"".join(bars)}</div><div class="keys">{keys}</div></figure>'
