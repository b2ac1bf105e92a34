"""Nothing in a table is cut: headings, names, numbers and addresses are whole on any terminal, and in a pipe."""

from __future__ import annotations

import json
import re

import pytest
from rich.markup import escape
from rich.table import Table

from vis_core.catalog import SYSTEMS
from vis_core.commands import inspect as data_commands
from vis_core.commands import main, tables, terminal, weights
from vis_core.commands.published_files import published_files
from vis_core.commands.score_tables import print_evaluation
from vis_core.data.synthetic import synthetic_video, write_youtube_vis
from vis_core.evaluation import evaluate

WIDTHS = (60, 80, 200, None)
"""Columns of a terminal; None: a pipe."""

ADDRESS = (
    "https://example.org/a/very/long/path/of/a/zoo/ytvis_2019/video_maskformer2_swin_large_bs16/model_final_c5c739.pkl"
)


@pytest.fixture(params=WIDTHS, ids=lambda width: f"{width} columns" if width else "pipe")
def shown(request, monkeypatch, capsys):
    """Gives what was printed, without colours; to a terminal of that width."""
    if request.param:
        monkeypatch.setattr(terminal.output, "_width", request.param)
        monkeypatch.setattr(terminal.output, "_force_terminal", True)
    return lambda: re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)


def test_each_heading_name_and_address_is_whole(shown):
    table = Table("name", "published checkpoints", "address", title="what there is [of it]")
    table.add_column("id switches", justify="right")
    table.add_row("tevit_msgshift", "of the authors, as they say themselves in a long text", ADDRESS, "123456789")
    table.add_row(escape("[odd] name with blanks"), "", "-", "1")
    tables.show(table)
    text = shown()
    for whole in ("published checkpoints", "address", "id switches", ADDRESS, "123456789", "tevit_msgshift"):
        assert whole in text
    assert "[odd] name with blanks" in text
    assert re.sub(r"[\s│┃]+", " ", text).count("say themselves in a") == 1 or "│" in text


def test_rows_stand_side_by_side_where_they_fit(shown):
    table = Table("name")
    table.add_column("AP", justify="right")
    table.add_row("a", "1.0")
    tables.show(table)
    assert re.search(r"a +│ +1\.0", shown())


@pytest.mark.parametrize("width", [64, 65, 75, 90, 200])
def test_lines_of_a_table_are_no_longer_than_the_terminal(width, monkeypatch, capsys):
    monkeypatch.setattr(terminal.output, "_width", width)
    table = Table("name", "text", "more text")
    table.add_row("a_name", "words " * 30, "other words " * 9)
    tables.show(table)
    lines = capsys.readouterr().out.splitlines()
    assert "│" in lines[-2]
    assert max(map(len, lines)) <= width


def test_the_names_and_checkpoints_of_all_systems_are_whole(shown):
    main.systems()
    text = shown()
    for name, system in SYSTEMS.items():
        assert name in text
        for word in (*system.checkpoints_source.split(), *" ".join(system.figures.values()).split()):
            assert word in text, word


def test_names_and_addresses_of_published_checkpoints_are_whole(shown):
    for entry in SYSTEMS.values():
        weights._list(entry)
    text = shown()
    for entry in published_files().values():
        assert entry.page in text or entry.files
        assert all(file.stem in text and file.address in text for file in entry.files)


def test_the_options_of_a_system_are_whole(shown):
    main.systems("visolo-lite")
    text = shown()
    for name, option in SYSTEMS["visolo-lite"].options.items():
        assert name in text
        assert all(word in text for word in option.description.split())


def test_scores_with_long_names_of_classes_are_whole(shown, tmp_path):
    video = synthetic_video(0, length=3, size=(48, 64))
    truth = write_youtube_vis([video], tmp_path)
    print_evaluation(evaluate(truth, [], ("ap", "hota")))
    text = shown()
    assert all(f" {name} " in text for name in ("AP", "AP50", "AR100", "occurring classes", "HOTA"))


def test_what_inspect_shows_of_a_file_with_long_names_is_whole(shown, tmp_path):
    long = "a_class_of_one_very_long_word_that_no_terminal_column_would_hold_without_a_break_of_it"
    path = write_youtube_vis([synthetic_video(0, length=3, size=(48, 64))], tmp_path)
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = long
    path.write_text(json.dumps(content))
    data_commands.inspect(path)
    text = shown()
    headings = ("videos", "instances", "masks", "frames seen", "come back", "medium", "crowds", "in part")
    assert all(name in text for name in (long, str(path), *headings, "labelled completely"))
