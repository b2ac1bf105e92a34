"""What is drawn over videos, as it stands on a command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vis_core.video.drawing import Drawing

Draw = Annotated[
    str, typer.Option("--draw", help="What is drawn, with commas between: masks, boxes, labels, trails; or none.")
]
MinScore = Annotated[
    float | None,
    typer.Option(
        "--min-score",
        min=0,
        max=1,
        help="Draw tracks whose running score has reached this. Default: 0.4 with visolo-lite's own weights, else 0. "
        "results.json holds all.",
        show_default=False,
    ),
]
Classes = Annotated[
    str, typer.Option("--classes", help="Draw tracks of these classes alone, with commas between: person,vehicle.")
]
DRAWN = "masks,labels"
"""What is drawn unless told otherwise."""


def drawing_of(draw: str, min_score: float | None, classes: str) -> Drawing:
    """What is drawn, as it was asked for.

    Raises:
        OptionError: there is no such part of a drawing.
    """
    from vis_core.video.drawing import Drawing

    parts = () if draw == "none" else _names(draw)
    return Drawing(parts, min_score, _names(classes))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))
