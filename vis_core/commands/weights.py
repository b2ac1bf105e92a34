"""The commands ``vis weights``: what is published, fetched when it is asked for, and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vis_core.commands.examples import examples
from vis_core.commands.published_files import PublishedFile, find_published, published_files
from vis_core.commands.tables import show
from vis_core.commands.terminal import Force, output, say, screen
from vis_core.errors import CheckpointError, InputError, OptionError
from vis_core.files.outputs import check_file
from vis_core.files.weights_folder import VARIABLE, find_weights, weights_folder

if TYPE_CHECKING:
    from vis_core.files.download import Digests, Expected
    from vis_core.system.entry import System

app = typer.Typer(pretty_exceptions_enable=False)

_LIMIT = 8 << 30
"""Most bytes of a file that is fetched: several times the largest of the list."""
_NOT_STATED = "not stated"


@app.callback(
    invoke_without_command=True,
    epilog=examples(
        ("vis weights", "vis weights --system tevit", "vis segment street.mp4 --system tevit --weights tevit_msgshift")
    ),
)
def weights(
    context: typer.Context,
    system: Annotated[str | None, typer.Option(help="Of this system alone.")] = None,
) -> None:
    """Published checkpoints: lists them with licence, size, address and SHA-256; fetches one; checks one.

    Nothing is fetched unasked. A file in the folder that VIS_WEIGHTS names is found by its name wherever weights are
    asked for: --weights tevit_msgshift.
    """
    if context.invoked_subcommand is not None:
        return
    from vis_core import catalog

    entries = catalog.SYSTEMS.values() if system is None else [catalog.find(system)]
    for entry in entries:
        _list(entry)
    stated = "" if weights_folder().is_dir() else ", which is not there yet"
    output.print(f"Folder of weights ({VARIABLE}): {escape(str(weights_folder()))}{stated}")


@app.command(epilog=examples(("vis weights get tevit_msgshift", "vis weights get tevit_msgshift --accept-licence")))
def get(
    name: Annotated[str, typer.Argument(help="Checkpoint, by its name in 'vis weights'.")],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read the licence that is shown, and agree to it.")
    ] = False,
    folder: Annotated[Path | None, typer.Option(help="Folder to write to. Without: that of VIS_WEIGHTS.")] = None,
    force: Force = False,
) -> None:
    """Fetch a published checkpoint: its licence is shown first, the file checked before it takes its place.

    What was cut off or interrupted goes on where it ended.
    """
    file = find_published(name)
    target = (folder or weights_folder()) / file.name

    from vis_core import catalog

    _show_files([file], f"{file.name}: for {file.system}; {catalog.find(file.system).checkpoints_licence}")
    if not accept_licence:
        raise OptionError(
            f"{file.name}: nothing was fetched. It is under its authors' licence, shown above and told on "
            f"{published_files()[file.system].page}; if you agree, add --accept-licence"
        )
    check_file(target, force, say)

    from vis_core.files.download import download

    def accept(path: Path) -> None:
        try:
            fits = file.system in _systems_of(path)
        except CheckpointError as error:
            reason = str(error).replace(str(path), "it")
            raise CheckpointError(f"{file.download}: what came was not kept: {reason}") from error
        if not fits:
            raise CheckpointError(f"{file.download}: what came is no checkpoint of {file.system}; it was not kept")

    try:
        with _progress(file.name) as progress:
            digests = download(file.download, target, _LIMIT, _expected(file), accept, progress)
    except InputError as error:
        raise InputError(
            f"{error}\nBy hand: open {file.address}, save the file as {target}, then: vis weights check {target}"
        ) from error
    except KeyboardInterrupt:
        say("What came stays; the same command goes on from there.")
        raise
    output.print(f"Written: {escape(str(target))}")
    _show_digests(file, digests)


@app.command(epilog=examples(("vis weights check tevit_msgshift", "vis weights check ~/Downloads/tevit_msgshift.pth")))
def check(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Weight file, or the name of one in the folder.")],
) -> None:
    """Check a weight file, however it came: whole, of a known system, and the one that was published under its name."""
    path = find_weights(path)
    file = _listed(path.name)

    from vis_core.commands.system_checks import check_weights

    check_weights(path)

    from vis_core import catalog
    from vis_core.files.download import digests_of

    digests = digests_of(path)
    if file is not None and (fault := _expected(file).fault(digests)):
        raise InputError(f"{path}: is not the file that was published as {file.name}: {fault}; fetch it again")
    found = _systems_of(path)
    if not found:
        raise CheckpointError(f"{path}: its keys are of no system here; 'vis systems' tells where checkpoints are")
    if file is not None and file.system not in found:
        raise CheckpointError(f"{path}: is a checkpoint of {' or '.join(found)}, not of {file.system}")
    output.print(f"{escape(str(path))}: a checkpoint of {' or '.join(found)}")
    for system in found:
        output.print(f"licence ({system}): {escape(catalog.find(system).checkpoints_licence)}")
    _show_digests(file, digests)


def _list(entry: System) -> None:
    """What is published of a system."""
    title = f"{entry.name}: {entry.checkpoints_licence}"
    known = published_files().get(entry.name)
    own = entry.default_weights()
    if known is None and own is None:
        output.print(f"[bold]{escape(title)}[/]\n  {escape(entry.checkpoints_source)}")
    elif known is None or own is not None:
        from vis_core.files.download import digests_of

        assert own is not None
        digests = digests_of(own)
        table = _table(title)
        sums = f"SHA-256 {digests.sha256}"
        table.add_row(entry.name, "-", entry.title, _size(digests.size), f"part of this package: {own}", sums)
        show(table)
    elif known.files:
        _show_files(list(known.files), title)
    else:
        output.print(f"[bold]{escape(title)}[/]\n  {escape(known.page)}")
    if known is not None and known.note:
        output.print(f"  {escape(known.note)}")
    output.print()


def _table(title: str) -> Table:
    table = Table("name", "AP", title=escape(title))
    for heading in ("of", "size", "address", "sums"):
        table.add_column(heading)
    return table


def _show_files(files: list[PublishedFile], title: str) -> None:
    table = _table(title)
    for file in files:
        here = find_weights(file.name)
        at = file.address if here == Path(file.name) else f"{file.address}\nhere: {here}"
        size = _NOT_STATED if file.size is None else _size(file.size)
        of = f"{file.data}, {file.network}" + (f" ({file.note})" if file.note else "")
        table.add_row(*map(escape, (file.stem, str(file.ap), of, size, at, _sums(file))))
    show(table)


def _sums(file: PublishedFile) -> str:
    md5 = "" if file.md5 is None else f"; MD5 begins with {file.md5}"
    return f"SHA-256 {file.sha256 or _NOT_STATED}{md5}"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _show_digests(file: PublishedFile | None, digests: Digests) -> None:
    """Size and sums of a file, and by which of them it was told to be the published one."""
    told = [] if file is None else [name for name in ("size", "sha256", "md5") if getattr(file, name) is not None]
    by = "its keys" if not told else f"its keys and what its authors state: {', '.join(told)}"
    output.print(f"{digests.size} bytes, SHA-256 {digests.sha256}\nknown by {by}")


def _expected(file: PublishedFile) -> Expected:
    from vis_core.files.download import Expected

    return Expected(file.size, file.sha256, file.md5)


def _listed(name: str) -> PublishedFile | None:
    try:
        return find_published(name)
    except OptionError:
        return None


def _systems_of(path: Path) -> list[str]:
    """Names of the systems that weights are of, by what they say themselves, or by their keys.

    Raises:
        CheckpointError: it is no weight file.
    """
    from vis_core import catalog, checkpoints

    tensors, metadata = checkpoints.read_tensors(path)
    if metadata.get("format") == checkpoints.FORMAT:
        return [name for name in catalog.SYSTEMS if name == metadata.get("system")]
    known = {name: entry.published for name, entry in catalog.SYSTEMS.items()}
    return [name for name, published in known.items() if published and published.recognise(tensors.keys())]


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on a terminal; elsewhere a line each tenth of the file."""
    if not screen.is_terminal:
        tenths: list[int] = [0]

        def line(done: int, total: int | None) -> None:
            if total and done * 10 // total > tenths[0]:
                tenths[0] = done * 10 // total
                say(f"{name}: {_size(done)} of {_size(total)}")

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
