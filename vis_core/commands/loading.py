"""A segmenter from what stands on a command line: its system, weights, and options as texts."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from vis_core.commands.system_checks import check_choice, find_system, names_beginning_with
from vis_core.commands.terminal import screen, urgent
from vis_core.errors import InputError, OptionError, printable
from vis_core.files.weights_folder import find_weights

if TYPE_CHECKING:
    from vis_core.files.results_info import Origin
    from vis_core.system.option import Option
    from vis_core.system.segmenter import Segmenter

SystemName = Annotated[
    str, typer.Option(help="System, by its name in 'vis systems'.", autocompletion=names_beginning_with)
]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1...; of an exported network also tensorrt, or OpenVINO's GPU, NPU.")
]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16; an exported network has its own.")]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="Weights: .safetensors, a published .pth or .pkl, or what 'vis export' wrote (.onnx, _openvino_model). "
        "Without: the system's own, else random. A name alone is looked for in the folder VIS_WEIGHTS too.",
        callback=lambda weights: weights if weights is None else find_weights(weights),
    ),
]
OptionTexts = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", help="Option of the system; 'vis systems NAME' lists them."),
]
Overlay = Annotated[bool, typer.Option(help="Write a video with the tracks drawn in.")]
SaveMasks = Annotated[
    Literal["labels", "color"] | None,
    typer.Option(
        "--save-masks",
        metavar="[=labels|color]",
        help="Write PNGs under the names of the images. labels, or nothing: 16 bits, 0 = background, else the track "
        "id; color: to look at.",
    ),
]
Csv = Annotated[bool, typer.Option("--csv", help="Write tracks.csv: a row for each track in each frame.")]
Mot = Annotated[bool, typer.Option("--mot", help="Write mot.txt, in the form of MOTChallenge, and mot_classes.txt.")]
Quality = Annotated[
    bool, typer.Option("--quality", help="Better masks, several times slower; 'vis systems NAME' tells what it sets.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of the network.")]


def load_segmenter(
    name: str,
    weights: Path | None,
    device: str,
    precision: str,
    threads: int | None,
    texts: list[str],
    given: Mapping[str, Any],
) -> Segmenter:
    """A segmenter, from what stands on a command line; says so if its weights are random.

    Args:
        name: of the system.
        weights: weight file; None: the system's own, else random ones.
        device, precision: as of ``vis_core.load``.
        threads: of the network on a CPU; None: as many as the machine has.
        texts: options, each ``name=value``.
        given: options already parsed; None is left out.

    Raises:
        OptionError: an unknown system or option, or a value out of range.
        CheckpointError: the weights cannot be used.
    """
    options = check_segmenter(name, weights, device, precision, texts, given)
    from vis_core import catalog
    from vis_core.nn.concurrency import set_thread_count

    if threads is not None:
        set_thread_count(threads)
    with warnings.catch_warnings():
        if weights is None:
            warnings.simplefilter("ignore", UserWarning)
            warn_if_random(name, weights)
        return catalog.load(name, weights, device, precision, **options)


def check_segmenter(
    name: str, weights: Path | None, device: str, precision: str, texts: list[str], given: Mapping[str, Any]
) -> dict[str, Any]:
    """See, before a network is loaded, whether what stands on a command line can be right; returns the options.

    Raises:
        OptionError: an unknown system, option, device or precision, or a value out of range.
        InputError: the weights are no file.
    """
    options = {key: value for key, value in given.items() if value is not None}
    known = find_system(name).options
    for key, value in options_given(texts):
        options[key] = option_value(value, known[key]) if key in known else value
    check_choice(name, weights, device, precision, options)
    return options


def quality_options(name: str, texts: Iterable[str]) -> dict[str, Any]:
    """What ``--quality`` sets of a system's options, but for those that are given; it is told.

    Raises:
        OptionError: an unknown system.
    """
    given = dict(options_given(texts))
    known = {key: option for key, option in find_system(name).options.items() if option.quality is not None}
    changed = {key: option.quality for key, option in known.items() if key not in given}
    if not known:
        screen.print(f"[yellow]--quality[/] changes nothing: {escape(name)} has no slower way that is better")
    for key, value in changed.items():
        screen.print(f"[dim]--quality: {escape(f'{key}={value}, in place of {known[key].default}')}[/]")
    return changed


def weights_are_random(name: str, weights: Path | None) -> bool:
    """Whether a system would run with random weights: none are given, and it brings none of its own."""
    from vis_core import catalog

    return weights is None and catalog.find(name).default_weights() is None


def warn_if_random(name: str, weights: Path | None) -> None:
    """Say so if a system would run with random weights."""
    if weights_are_random(name, weights):
        urgent("[bold yellow]The weights are random[/]: masks, labels and tracks mean nothing. Give --weights.")


def class_names_of(name: str, weights: Path | None, texts: Iterable[str]) -> tuple[str, ...]:
    """The class names that a system would have; of the texts, options of others are passed over."""
    from vis_core import catalog

    known = catalog.find(name).options
    options = {key: option_value(text, known[key]) for key, text in options_given(texts) if key in known}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return catalog.load(name, weights, "cpu", "fp32", **options).class_names


def origin_of(
    name: str, weights: Path | None, given: Mapping[str, Any] | None = None, texts: Iterable[str] = ()
) -> Origin:
    """What the companion of results tells of a system: its name, weight file, and options as they were given."""
    from vis_core import catalog
    from vis_core.files.results_info import Origin

    options = {key: value for key, value in (given or {}).items() if value is not None}
    return Origin(name, weights or catalog.find(name).default_weights(), {**options, **dict(options_given(texts))})


def options_given(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Name and value of each ``--option``, as texts.

    Raises:
        OptionError: one is not written as ``name=value``.
    """
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise OptionError(f"--option {printable(text, 200)}: write it as name=value")
        yield name, value


def option_value(text: str, option: Option) -> Any:
    """What a text on the command line stands for; whether it fits is checked by the catalogue."""
    from vis_core.files.yaml_files import parse_yaml

    if option.kind is str and not option.optional:
        return text
    if text.lower() in ("none", "null"):
        return None
    if option.kind is tuple and not text.startswith("["):
        text = f"[{text}]"
    try:
        value = parse_yaml(text, "--option")
        return float(value) if option.kind is float and isinstance(value, str) else value
    except (InputError, ValueError):
        return text
