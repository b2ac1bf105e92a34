"""The demo: a real clip through the real node, and answers with known faults to a score.

    python -m vis_ros.demo --out demo --video street.mp4 --weights visolo.safetensors

Everything that it makes is left in the output folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from glob import escape as escape_pattern
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import numpy.typing as npt
import typer
import yaml
from rich.markup import escape
from rich.table import Table

from vis_core.commands.interrupts import ended_in_order
from vis_core.commands.system_checks import check_choice
from vis_core.commands.tables import show
from vis_core.commands.terminal import Force, check_inputs, output, say
from vis_core.data.file_time import dated
from vis_core.data.synthetic import SyntheticVideo, synthetic_video
from vis_core.errors import InputError, OptionError, VisError
from vis_core.files.outputs import output_folder
from vis_core.structures import Frame, Instances
from vis_core.video.images import write_image
from vis_core.video.opening import open_video
from vis_core.video.overlay import contact_sheet, draw_overlay
from vis_core.video.writer import VideoWriter
from vis_ros.demo.clip import APT_MEMBER, PIP_MEMBER, ClipError, fetch_clip
from vis_ros.demo.score import FAULTS, write_scene
from vis_ros.recordings.bag_writer import write_bag
from vis_ros.recordings.bags import ImageBag

Image = npt.NDArray[np.uint8]

_SCENE_SEED, _SCENE_LENGTH, _SCENE_SIZE = 6, 60, (270, 480)
_PICTURES = 6
_RANDOM = "random weights: the masks mean nothing"
# A small network input, so that a CPU keeps up with the clip; thresholds at which random weights give few
# instances, as trained ones do, with masks that fall into parts instead of covering the whole picture.
_RANDOM_PARAMETERS: dict[str, Any] = {
    "input_size": [192, 336],
    "score_threshold": 0.9999,
    "mask_threshold": 0.9999999,
    "max_instances": 5,
}


def main() -> None:
    """Entry point: an error of ours is told in one message, with exit code 2 where it is the user's, else 1."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the node does: idle threads leave the cores to others
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(demo)
    try:
        with ended_in_order():  # and with it the node's process
            app(prog_name="python -m vis_ros.demo")
    except (VisError, OSError) as error:
        output.print(f"[bold red]demo:[/] {escape(str(error))}")
        sys.exit(2 if isinstance(error, (InputError, OptionError)) else 1)


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("demo"),
    video: Annotated[Path | None, typer.Option(help="Your own video; default: a clip is fetched.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights of the system; default: its own, else random.")] = None,
    system: Annotated[str, typer.Option(help="Segmentation system.")] = "visolo-lite",
    frames: Annotated[int, typer.Option(min=2, max=3000, help="Frames taken from the video's beginning.")] = 100,
    width: Annotated[int, typer.Option(min=64, max=3840, help="Wider frames are shrunk to this width.")] = 640,
    force: Force = False,
) -> None:
    """Run the node on a real clip through real ROS topics, and score answers to a synthetic scene."""
    check_choice(system, weights, "auto", "auto")
    check_inputs(video)
    with output_folder(out, "demo", _outputs(video), force=force, tell=say) as folder:
        made = _make(folder.path, out / "clip", video, weights, system, frames, width)
    output.print("\n[bold]Made:[/]")
    for path in made:
        output.print(f"  {escape(str(folder.final(path)))}")


def _outputs(video: Path | None) -> list[str]:
    """What a run may write, as patterns."""
    names = ["scene", *(Path(member).stem for member in (APT_MEMBER, PIP_MEMBER))] if video is None else [video.stem]
    of_clip = [f"{escape_pattern(name)}{end}" for name in names for end in ("_bag/*", "_overlay.*", ".png")]
    return ["demo.yaml", "synthetic/**/*", *of_clip]


def _make(
    out: Path, clips: Path, video: Path | None, weights: Path | None, system: str, frames: int, width: int
) -> list[Path]:
    """All of the demo; returns what it wrote."""
    from vis_core.catalog import find

    random = weights is None and find(system).default_weights() is None
    parameters = dict(_RANDOM_PARAMETERS) if random else {}
    if weights is not None:
        parameters["weights"] = str(weights.resolve())
    made = [_write_parameters(out / "demo.yaml", system, parameters)]
    if random:
        output.print(f"[bold yellow]{_RANDOM.capitalize()}.[/] Give --weights to see real ones.")
    scene = synthetic_video(_SCENE_SEED, _SCENE_LENGTH, _SCENE_SIZE)
    clip = _clip(clips, video)
    taken: Iterable[Frame] = (scene.frame(t) for t in range(len(scene)))
    if clip is not None:
        taken = _taken(clip, frames, width)
    made += _through_topics(taken, out, "scene" if clip is None else clip.stem, system, parameters, random)
    return made + _to_score(scene, out)


def _clip(folder: Path, video: Path | None) -> Path | None:
    """The clip to use: the user's, else one that is fetched; None where none can be had."""
    if video is not None:
        return video
    try:
        return fetch_clip(folder, lambda text: output.print(escape(text)))
    except ClipError as error:
        output.print(f"[yellow]no clip could be fetched[/] ({escape(str(error))})")
        output.print("going on with the synthetic scene alone; `make demo VIDEO=street.mp4` takes a video of yours")
        return None


def _taken(clip: Path, count: int, width: int) -> Iterator[Frame]:
    """The first frames of a video, at most so wide."""
    with open_video(clip) as video:
        height = video.size[0]
        small = min(width, video.size[1])
        size = (small, max(1, round(height * small / video.size[1])))
        output.print(
            f"{escape(clip.name)}: {video.size[1]}x{height} at {video.fps:g} frames/s; "
            f"its first frames, at most {count}, are taken at {size[0]}x{size[1]}"
        )
        for frame in islice(video, count):
            image = np.asarray(cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA), np.uint8)
            yield Frame(image, frame.stamp, frame.index)


def _write_parameters(path: Path, system: str, parameters: Mapping[str, Any]) -> Path:
    content = {"/**": {"ros__parameters": {"system": system, **parameters}}}
    path.write_text(f"# The node's parameters in the demo.\n{yaml.safe_dump(content, sort_keys=False)}", "utf-8")
    return path


def _through_topics(
    frames: Iterable[Frame], out: Path, name: str, system: str, parameters: Mapping[str, Any], random: bool
) -> list[Path]:
    """A bag of the frames, played into the node; pictures of what came back, and a table. Returns what it wrote."""
    from vis_ros.recordings.node_process import NodeError
    from vis_ros.recordings.playback import Received, replay

    bag_path = out / f"{name}_bag"
    write_bag(dated(frames), bag_path, force=True)
    answers: dict[int, Instances] = {}
    names: dict[int, str] = {}

    def deliver(received: Received, latency: int) -> None:
        answers[received.instances.index] = received.instances
        names.update(received.class_names)

    output.print("\n[bold]The node, through real topics[/]")
    with closing(ImageBag(bag_path)) as bag:
        report = replay(bag, system, parameters, deliver, on_stage=lambda stage: output.print(f"  {stage}"))
        if not report.received:
            raise NodeError(f"{report.sent} images were sent and none was answered on /vis/instances")
        made = _draw(bag, answers, names, out / f"{name}_overlay.mp4", out / f"{name}.png", random)
        table = Table("", "", show_header=False)
        p50, p95 = report.latency(50), report.latency(95)
        tracks = {int(i) for answer in answers.values() for i in answer.track_ids[answer.visible]}
        per_frame = sum(int(answer.visible.sum()) for answer in answers.values()) / len(answers)
        for what, value in (
            ("images sent", f"{report.sent}, {bag.fps:.1f} a second, {bag.size[1]}x{bag.size[0]}"),
            ("answers received", f"{report.received}, {report.received / report.seconds:.1f} a second"),
            ("dropped", f"{report.dropped}, replaced by newer ones meanwhile"),
            ("latency p50, p95", f"{p50:.0f} ms, {p95:.0f} ms, image sent to answer received"),
            ("tracks", f"{len(tracks)}, {per_frame:.1f} instances a frame"),
        ):
            table.add_row(what, value)
    show(table)
    if random:
        output.print(f"[yellow]{_RANDOM.capitalize()}[/]; what counts here is that every part runs.")
    return [bag_path, *made]


def _draw(
    bag: ImageBag, answers: Mapping[int, Instances], names: Mapping[int, str], video: Path, sheet: Path, random: bool
) -> list[Path]:
    """An overlay video and a sheet of pictures of the frames that were answered."""
    class_names = [names.get(label, f"class {label}") for label in range(max(names, default=0) + 1)]
    answered = sorted(answers)
    chosen = {answered[round(i)] for i in np.linspace(0, len(answered) - 1, _PICTURES)}
    pictures, titles = [], []
    with VideoWriter(video, bag.fps) as writer:
        for frame in bag:
            if (instances := answers.get(frame.index)) is None:
                continue
            picture = draw_overlay(frame.image, instances, class_names)
            writer.write(_captioned(picture, _RANDOM) if random else picture, frame.stamp)
            if frame.index in chosen:
                pictures.append(picture)
                seconds = (frame.stamp - answers[answered[0]].stamp) / 1e9
                titles.append(f"{seconds:.1f} s" + (f", {_RANDOM}" if random else ""))
    write_image(sheet, contact_sheet(pictures, 3, titles))
    return [writer.path, sheet]


def _to_score(scene: SyntheticVideo, out: Path) -> list[Path]:
    """Answers to a scene with ground truth, scored as a user would. Returns what it wrote."""
    output.print("\n[bold]A score[/], of answers to a synthetic scene that are right but for what was put into them:")
    output.print(f"{FAULTS}. In the folder of the demo:")
    folder = out / "synthetic"
    truth, answers, picture = write_scene(scene, folder)
    scores = folder / "scores"
    _run(out, "evaluate", answers, "--ground-truth", truth, "--images", folder / "frames", "--out", scores)
    output.print("The page report.html shows the curves, and the exchange and the gap in pictures: open it.")
    return [truth, picture, scores / "report.html"]


def _run(folder: Path, *arguments: str | Path) -> None:
    """Run ``vis`` as a user would in the folder of the demo, showing the command."""
    texts = [str(a.relative_to(folder) if isinstance(a, Path) else a) for a in arguments]
    output.print(escape(f"$ vis {' '.join(texts)}"))
    sys.stdout.flush()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))}
    command = [sys.executable, "-c", "from vis_core.commands.main import main; main()", *texts]
    done = subprocess.run(command, env=environment, cwd=folder, check=False)  # noqa: S603 our own
    if done.returncode:
        raise VisError(f"`vis {texts[0]}` failed with exit code {done.returncode}")


_ROOT = str(Path(__file__).resolve().parents[2])


def _captioned(image: Image, text: str) -> Image:
    """The image with a line of text below it."""
    strip = np.full((24, image.shape[1], 3), 24, np.uint8)
    cv2.putText(strip, text, (6, 17), cv2.FONT_HERSHEY_DUPLEX, 0.5, (255, 210, 80), 1, cv2.LINE_AA)
    return np.concatenate((image, strip))


if __name__ == "__main__":
    main()
