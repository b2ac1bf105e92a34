from __future__ import annotations

import csv

import pytest

from tests.vis_core.files.test_results_writer import A, B, rows
from vis_core.files.appended import AppendedFile
from vis_core.files.track_tables import CSV_COLUMNS, TrackTable, write_mot_classes

NAMES = ("person", 'van, "big"')


def table(path, names=()):
    return TrackTable(path, "street", NAMES, lambda label: 10 * label + 10, names)


def test_a_csv_has_a_row_with_the_class_s_name_for_each_track_that_is_seen_in_a_frame(tmp_path):
    written = table(tmp_path / "tracks.csv", ["b/7.jpg", "b/8.jpg"])
    written.add(rows(0, (1, 0, 0.9, A), (2, 1, 0.5, B), (3, 0, 0.5, None)))
    written.add(rows(1, (1, 0, 0.75, A)))
    written.close()
    with (tmp_path / "tracks.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert tuple(read[0]) == CSV_COLUMNS
    assert [(row["frame"], row["file"], row["track_id"], row["class_name"]) for row in read] == [
        ("0", "b/7.jpg", "1", "person"),
        ("0", "b/7.jpg", "2", NAMES[1]),
        ("1", "b/8.jpg", "1", "person"),
    ]
    assert [read[1][key] for key in ("video", "category_id", "x", "y", "width", "height", "area")] == [
        *("street", "20", "20", "10", "9", "5", "45")
    ]
    assert float(read[0]["track_score"]) == pytest.approx(0.9)


def test_the_form_of_motchallenge_counts_from_1_and_names_its_classes_beside(tmp_path):
    written = table(tmp_path / "mot.txt")
    written.add(rows(4, (7, 1, 0.5, B)))
    written.close()
    write_mot_classes(tmp_path / "mot_classes.txt", NAMES, lambda label: label + 1)
    assert (tmp_path / "mot.txt").read_text() == "5,7,21,11,9,5,0.0000,20,-1,-1\n"
    assert (tmp_path / "mot_classes.txt").read_text() == '1,person\n2,"van, ""big"""\n'


def test_a_video_without_tracks_has_a_table_without_rows(tmp_path):
    for name in ("tracks.csv", "mot.txt"):
        written = table(tmp_path / name)
        written.add(rows(0))
        written.close()
    assert (tmp_path / "tracks.csv").read_text() == ",".join(CSV_COLUMNS) + "\n"
    assert (tmp_path / "mot.txt").read_text() == ""


def test_an_appended_file_goes_on_from_what_is_kept(tmp_path):
    (tmp_path / "a").write_bytes(b"one two torn")
    file = AppendedFile(tmp_path / "a", 8)
    file.append(b"three")
    assert (file.end, (tmp_path / "a").read_bytes()) == (13, b"one two three")
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.append(b"four")
