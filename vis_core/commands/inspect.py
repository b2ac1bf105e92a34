"""The command ``vis inspect``; it imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from vis_core.commands.reading import Orientation
from vis_core.commands.tables import show
from vis_core.commands.terminal import Force, check_inputs, output, say, screen, tell_error
from vis_core.data.faults import MASK_SKIPPED
from vis_core.errors import InputError, OptionError
from vis_core.files.outputs import check_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vis_core.data.annotations import AnnotatedSet
    from vis_core.data.faults import Finding
    from vis_core.data.inspection import ClassFacts, SetFacts

_MAX_ROWS = 100


def inspect(
    annotations: Annotated[
        Path,
        typer.Argument(metavar="DATA.json", help="Annotation file: COCO (images), or YouTube-VIS or OVIS (videos)."),
    ],
    images: Annotated[
        Path | None, typer.Option(help="Folder that holds its images. Without: looked for beside the file.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Picture to write: frames with masks, ids and class names (.png, .jpg).")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="NAME,NAME...", help="Classes to look at, as a training names them.")
    ] = None,
    categories: Annotated[
        str | None,
        typer.Option(
            help="Categories that stand for a class: 'sedan=vehicle,dog=animal', or 'coarse' "
            "(COCO, YouTube-VIS, OVIS -> person, vehicle, animal)."
        ),
    ] = None,
    check_images: Annotated[
        bool, typer.Option("--check-images", help="Read every image: damaged ones and other sizes are named.")
    ] = False,
    orientation: Orientation = "auto",
    force: Force = False,
) -> None:
    """Look at a data set before training on it: what it holds, and what is wrong in it.

    Every mask is checked, and every image looked for. What is faulty is counted and named; training leaves it out (exit
    code 0), and a line says so where 'vis evaluate' refuses the file. Exit code 1: the file is not of a form that is
    read, or nothing in it can be used, or none of its images.
    """
    import warnings

    from vis_core.data.annotation_files import read_annotations
    from vis_core.data.inspection import facts_of, faulty_images
    from vis_core.files.findings import InputWarning

    if sheet is not None and sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise OptionError(f"--sheet {sheet}: give a name that ends with .png or .jpg")
    check_inputs(annotations, images)
    if sheet is not None:
        check_file(sheet, force, say)
    names = None if classes is None else [name.strip() for name in classes.split(",") if name.strip()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)  # the same is told as a table
            annotated = read_annotations(annotations, images, names, _categories(categories), orientation)
        if not annotated.items:
            raise InputError(f"{annotations}: holds no {'video' if annotated.videos else 'image'}")
    except InputError as error:
        _fail(str(error))
    facts = facts_of(annotated)
    _print_set(annotated, facts)
    _print_classes(annotated, facts)
    faulty, examples = faulty_images(annotated, check_images)
    _print_findings(annotated.findings, faulty, examples)
    _print_refusal(annotated)
    if names is not None and not any(part.instances or part.crowds for part in facts.classes):
        _fail(f"{annotations}: no annotation is of a class of {names}; without --classes all categories are shown")
    if faulty == facts.frames:
        _fail(f"{annotations}: none of its images can be read; give their folder by --images")
    if sheet is not None:
        _write_sheet(annotated, sheet)


def _categories(text: str | None) -> dict[str, str] | str | None:
    """What --categories stands for: pairs, or the name of a mapping."""
    if text is None or "=" not in text:
        return text
    pairs = [pair.partition("=") for pair in text.split(",")]
    for name, equals, wanted in pairs:
        if not (name.strip() and equals and wanted.strip()):
            raise OptionError(f"--categories {text}: write it as name=class,name=class")
    return {name.strip(): wanted.strip() for name, _, wanted in pairs}


def _fail(text: str) -> NoReturn:
    tell_error(InputError(text))
    raise typer.Exit(1)


def _print_set(annotated: AnnotatedSet, facts: SetFacts) -> None:
    """What the set is as a whole."""
    what = "videos" if annotated.videos else "images"
    rows = {what: str(facts.items)}
    if annotated.videos:
        rows["frames"] = f"{facts.frames}; {_range(facts.lengths.tolist())} a video"
    sizes = [f"{width}x{height} ({count})" for (height, width), count in facts.sizes.most_common(4)]
    more = f" and {len(facts.sizes) - 4} more" if len(facts.sizes) > 4 else ""
    rows["sizes"] = ", ".join(sizes) + more
    if annotated.orientation:
        rows["orientation"] = annotated.orientation
    rows["labelled completely"] = f"{facts.complete} {what}, {facts.items - facts.complete} in part"
    rows["without any object"] = f"{facts.empty} {what}"
    licences = [f"{name or 'not stated'} ({count})" for name, count in facts.licences.most_common(8)]
    if annotated.licence:
        licences.insert(0, annotated.licence)
    rows["licences"] = ", ".join(licences)
    table = Table(title=escape(str(annotated.path)), title_justify="left", show_header=False)
    table.add_column()
    table.add_column()
    for name, text in rows.items():
        table.add_row(name, escape(text))
    show(table)


def _print_classes(annotated: AnnotatedSet, facts: SetFacts) -> None:
    """What is labelled of each class."""
    from vis_core.data.inspection import IMAGE_SIDES, VIDEO_SIDES

    small, large = VIDEO_SIDES if annotated.videos else IMAGE_SIDES
    what = "videos" if annotated.videos else "images"
    columns = [what, "instances", "small", "medium", "large", "crowds", "in part"]
    if annotated.videos:
        columns[2:2] = ["masks", "frames seen", "come back"]
    table = Table(
        "class",
        caption=f"small: under {small}x{small} pixels, large: from {large}x{large}; "
        f"in part: {what} in which not every object of the class is labelled",
        caption_justify="left",
    )
    for name in columns:
        table.add_column(name, justify="right")
    shown = [part for part in facts.classes if part.items] or list(facts.classes)
    for part in shown[:_MAX_ROWS]:
        table.add_row(escape(part.name), *_cells(part, annotated.videos))
    show(table)
    if len(shown) > _MAX_ROWS:
        output.print(f"... and {len(shown) - _MAX_ROWS} more classes")
    unused = [part.name for part in facts.classes if not part.items]
    if unused and len(shown) < len(facts.classes):
        more = f" and {len(unused) - 20} more" if len(unused) > 20 else ""
        output.print(f"Without any annotation: {escape(', '.join(unused[:20]))}{more}")


def _cells(part: ClassFacts, videos: bool) -> list[str]:
    cells = [part.items, part.instances, *part.sizes, part.crowds, part.incomplete]
    texts = [str(value) if value else "-" for value in cells]
    if videos:
        texts[2:2] = [str(part.masks), _range(part.lengths), str(part.returning or "-")]
    return texts


def _print_findings(findings: Sequence[Finding], faulty: int, examples: list[str]) -> None:
    """What is wrong, counted, the first few by name."""
    rows = [(found.kind, found.count, list(found.examples)) for found in findings]
    if faulty:
        rows.append(("image not readable", faulty, examples))
    if not rows:
        output.print("Nothing is wrong in it.")
        return
    table = Table("finding", title="Findings", title_justify="left", show_lines=True)
    table.add_column("count", justify="right")
    table.add_column("the first")
    for kind, count, texts in rows:
        table.add_row(escape(kind), str(count), escape("\n".join(texts)))
    show(table)


def _print_refusal(annotated: AnnotatedSet) -> None:
    """Say so where an evaluation refuses the file, whose scores would be wrong without what training leaves out."""
    import warnings

    from vis_core.evaluation.inputs.ground_truth import read_ground_truth
    from vis_core.files.findings import InputWarning

    reasons = [found.examples[0] for found in annotated.findings if found.kind == MASK_SKIPPED]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)
            read_ground_truth(annotated.path, masks=False)  # they have been read for the tables
    except InputError as error:
        reasons = [line.strip() for line in str(error).removeprefix(f"{annotated.path}: ").splitlines()]
    if reasons:
        output.print(f"'vis evaluate' refuses it as ground truth: {escape(' '.join(reasons[:2]))}")


def _write_sheet(annotated: AnnotatedSet, path: Path) -> None:
    from vis_core.data.sheets import draw_sheet
    from vis_core.video.images import write_image

    try:
        drawn = draw_sheet(annotated)
    except InputError as error:
        _fail(str(error))
    for text in drawn.faults[:5]:
        screen.print(f"[yellow]not shown:[/] {escape(text)}")
    if drawn.missing:
        screen.print(f"[yellow]no place on the sheet for:[/] {escape(', '.join(drawn.missing))}")
    write_image(path, drawn.image)
    what = "videos" if annotated.videos else "images"
    output.print(f"Written: {escape(str(path))} ({drawn.shown} of {len(annotated.items)} {what})")


def _range(values: Sequence[int]) -> str:
    """Least to greatest of some counts, with the median."""
    if not values:
        return "-"
    low, high = min(values), max(values)
    middle = sorted(values)[len(values) // 2]
    return str(low) if low == high else f"{low} to {high} (median {middle})"
