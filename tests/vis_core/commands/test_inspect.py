"""The command ``vis inspect``: its counts, its exit codes, and the sheet on which people judge masks."""

from __future__ import annotations

import json
import re
import sys

import cv2
import numpy as np
import pytest

from tests.vis_core.data.annotated import COLOURS, coco, write_json, youtube_vis
from vis_core.commands import main as cli
from vis_core.commands import terminal
from vis_core.data.annotation_files import read_annotations
from vis_core.data.inspection import facts_of, faulty_images
from vis_core.data.sheets import draw_sheet
from vis_core.data.synthetic import synthetic_video, write_youtube_vis
from vis_core.errors import InputError
from vis_core.video.overlay import track_color

BOXES = [("red", (5, 5, 20, 20)), ("red", (5, 35, 50, 20)), ("blue", (50, 5, 20, 20))]
AMBER = np.array([255, 190, 60])


@pytest.fixture
def inspect(monkeypatch, capsys):
    """Runs ``vis inspect`` in this process; gives what it printed to stdout and to stderr, blanks as one."""

    def run(*arguments, code=0):
        for console in (terminal.output, terminal.screen):
            monkeypatch.setattr(console, "_color_system", None)
            monkeypatch.setattr(console, "_width", 400)
        monkeypatch.setattr(sys, "argv", ["vis", "inspect", *map(str, arguments)])
        monkeypatch.setattr("warnings.showwarning", terminal.show_warning)
        for name in ("OMP_WAIT_POLICY", "OPENCV_LOG_LEVEL", "OPENCV_FFMPEG_LOGLEVEL"):
            monkeypatch.setenv(name, "x")
        with pytest.raises(SystemExit) as caught:
            cli.main()
        printed = capsys.readouterr()
        assert (caught.value.code or 0) == code, printed
        return tuple(re.sub(r"\s+", " ", text) for text in printed)

    return run


def row(printed, first):
    """The cells of the table row that begins with a text."""
    (found,) = re.findall(rf"[│|] ({re.escape(first)} [│|].*?) [│|](?= [│|└├+])", printed + " |")
    return [cell.strip() for cell in re.split("[│|]", found)][1:]


def changed(path, change):
    """The file after a change of its content."""
    content = json.loads(path.read_text())
    change(content)
    return write_json(path, content)


# Counts


def test_facts_of_images_are_counted(tmp_path):
    path = coco(
        tmp_path,
        {"boxes": BOXES, "license": 1},
        {"boxes": [("red", (10, 0, 33, 33)), ("green", (0, 0, 9, 60))], "crowds": (1,), "labelled_categories": [1]},
        {"size": (120, 100), "boxes": [("red", (0, 0, 98, 99))]},
        {},
        licenses=[{"id": 1, "name": "CC0"}],
    )
    facts = facts_of(read_annotations(path))
    assert (facts.items, facts.frames, facts.empty, facts.complete) == (4, 4, 1, 3)
    assert facts.sizes == {(60, 80): 3, (120, 100): 1} and facts.licences == {"": 3, "CC0": 1}
    red, green, blue = facts.classes
    # 20x20 and 50x20 are small, 33x33 is medium, 98x99 is large.
    assert (red.items, red.instances, red.masks, red.sizes, red.crowds, red.incomplete) == (3, 4, 4, [2, 1, 1], 0, 0)
    assert (green.items, green.instances, green.sizes, green.crowds, green.incomplete) == (1, 0, [0, 0, 0], 1, 1)
    assert (blue.items, blue.instances, blue.sizes, blue.incomplete) == (1, 1, [1, 0, 0], 1)


@pytest.mark.parametrize(("side", "place"), [(31, 0), (32, 1), (95, 1), (96, 2)])
def test_sizes_change_where_coco_says(tmp_path, side, place):
    path = coco(tmp_path, {"size": (100, 100), "boxes": [("red", (0, 0, side, side))]})
    assert facts_of(read_annotations(path)).classes[0].sizes[place] == 1


def test_facts_of_videos_are_counted(tmp_path):
    away = (0, 0, 0, 0)
    first = [[("red", (t, 5, 20, 20)), ("green", (50, 30, 20, 20) if t in (0, 2, 3) else away)] for t in range(6)]
    second = [[("green", (5, 5, 20, 20) if t < 2 else away)] for t in range(3)]
    facts = facts_of(read_annotations(youtube_vis(tmp_path, first, second)))
    assert (facts.items, facts.frames, facts.lengths.tolist(), facts.sizes) == (2, 9, [6, 3], {(60, 80): 2})
    red, green, blue = facts.classes
    assert (red.instances, red.masks, red.lengths, red.returning, red.items) == (1, 6, [6], 0, 1)
    assert (green.instances, green.masks, green.lengths, green.returning, green.items) == (2, 5, [3, 2], 1, 2)
    assert red.sizes == [1, 0, 0] and blue.instances == 0


# The command


def test_the_table_of_images_has_the_counts(inspect, tmp_path):
    path = coco(
        tmp_path,
        {"boxes": BOXES},
        {"boxes": [("red", (10, 0, 33, 33)), ("green", (0, 0, 9, 60))], "crowds": (1,), "labelled_categories": [1]},
        {},
    )
    out, _ = inspect(path)
    assert row(out, "images") == ["3"] and row(out, "sizes") == ["80x60 (3)"]
    assert row(out, "labelled completely") == ["2 images, 1 in part"]
    assert row(out, "without any object") == ["1 images"]
    #                        images, instances, small, medium, large, crowds, in part
    assert row(out, "red") == ["2", "3", "2", "1", "-", "-", "-"]
    assert row(out, "green") == ["1", "-", "-", "-", "-", "1", "1"]
    assert row(out, "blue") == ["1", "1", "1", "-", "-", "-", "1"]
    assert "Nothing is wrong in it." in out


def test_the_table_of_videos_has_the_counts(inspect, tmp_path):
    away = (0, 0, 0, 0)
    first = [[("red", (t, 5, 20, 20)), ("green", (50, 30, 20, 20) if t in (0, 2, 3) else away)] for t in range(6)]
    out, _ = inspect(youtube_vis(tmp_path, first, [[("green", (5, 5, 20, 20))]]))
    assert row(out, "videos") == ["2"] and row(out, "frames") == ["7; 1 to 6 (median 6) a video"]
    #                        videos, instances, masks, frames seen, come back, small, medium, large, crowds, in part
    assert row(out, "red") == ["1", "1", "6", "6", "-", "1", "-", "-", "-", "-"]
    assert row(out, "green") == ["2", "2", "4", "1 to 3 (median 3)", "1", "2", "-", "-", "-", "-"]
    assert "Without any annotation: blue" in out


def test_faults_are_counted_and_named_and_the_rest_is_shown(inspect, tmp_path):
    def change(content):
        content["annotations"][0]["segmentation"]["size"] = [1, 2]
        content["annotations"][1]["category_id"] = 9

    path = changed(coco(tmp_path, {"boxes": BOXES}, {"boxes": BOXES}), change)
    (tmp_path / "2.png").unlink()
    out, err = inspect(path)
    assert row(out, "mask skipped")[0] == "1" and "annotations[0]: size [1, 2], but" in out
    assert row(out, "annotation skipped")[0] == "1" and "annotations[1]: category_id 9 is not in categories" in out
    assert row(out, "image not readable")[0] == "1" and "2.png: no such file" in out
    assert row(out, "red")[:2] == ["1", "2"]
    assert "warning" not in err


def test_check_images_names_damaged_files_and_other_sizes(inspect, tmp_path):
    path = coco(tmp_path, *[{"boxes": BOXES}] * 4)
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    cv2.imwrite(str(tmp_path / "3.png"), np.zeros((60, 81, 3), np.uint8))
    out, _ = inspect(path)
    assert "Nothing is wrong in it." in out  # all files are there
    out, _ = inspect(path, "--check-images")
    assert row(out, "image not readable")[0] == "2"
    assert "2.png: cut off" in out and "3.png: 81x60 pixels, annotated as 80x60" in out


def test_the_first_few_faulty_images_are_named_and_all_counted(tmp_path):
    path = youtube_vis(tmp_path, [[("red", (5, 5, 20, 20))] for _ in range(9)])
    for t in range(7):
        (tmp_path / "frames" / "v1" / f"{t:05d}.png").unlink()
    count, examples = faulty_images(read_annotations(path, tmp_path / "frames"), decode=False)
    assert count == 7 and len(examples) == 5 and examples[0].endswith("v1/00000.png: no such file")


def test_classes_and_categories_are_those_of_a_training(inspect, tmp_path):
    path = coco(tmp_path, {"boxes": BOXES})
    out, _ = inspect(path, "--classes", "warm, green", "--categories", "red=warm, blue = warm")
    assert row(out, "warm")[:2] == ["1", "3"]
    _, err = inspect(path, "--classes", "violet", code=1)
    assert "no annotation is of a class of ['violet']" in err
    _, err = inspect(path, "--categories", "red=", code=2)
    assert "--categories red=: write it as name=class,name=class" in err
    _, err = inspect(path, "--categories", "course", code=2)
    assert "there is no mapping 'course'; known are coarse" in err


def test_coarse_shows_person_vehicle_and_animal_alone(inspect, tmp_path):
    names = [{"id": 1, "name": "sedan"}, {"id": 2, "name": "kerb"}, {"id": 3, "name": "Dog"}]
    path = coco(tmp_path, {"boxes": [*BOXES, ("green", (0, 0, 4, 4))]}, categories=names)
    out, _ = inspect(path, "--categories", "coarse")
    assert row(out, "vehicle")[:2] == ["1", "2"] and row(out, "animal")[:2] == ["1", "1"]
    assert "kerb" not in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "images is missing"),
        ("[]", "is it a result file?"),
        ('{"images": [], "categories": [], "annotations": []}', "holds no image"),
        ('{"videos": [], "categories": [], "annotations": []}', "holds no video"),
        ('{"images": [7], "categories": [], "annotations": []}', "images[0]: 7 instead of an object"),
    ],
)
def test_a_file_that_cannot_be_used_ends_with_1(inspect, tmp_path, text, message):
    path = tmp_path / "data.json"
    path.write_text(text)
    out, err = inspect(path, code=1)
    assert f"error: {path}: " in err and message in err and not out.strip()


def test_a_missing_file_ends_with_2(inspect, tmp_path):
    _, err = inspect(tmp_path / "none.json", code=2)
    assert "none.json: no such file or folder" in err


def test_images_that_are_elsewhere_end_with_1_and_their_folder_helps(inspect, tmp_path):
    path = coco(tmp_path / "pictures", {"boxes": BOXES}).rename(tmp_path / "data.json")
    out, err = inspect(path, code=1)
    assert row(out, "image not readable")[0] == "1"
    assert "none of its images can be read; give their folder by --images" in err
    inspect(path, "--images", tmp_path / "pictures")


# The sheet


def read_sheet(path):
    image = cv2.imread(str(path))
    assert image is not None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def cell(sheet, column, row, columns=1, size=(300, 400), strip=0):
    """The picture at a place of a sheet, by the sheet's own layout."""
    head = round(34 * max(0.4, size[1] / 900))
    top, left = 8 + row * (head + size[0] + strip + 8) + head, 8 + column * (size[1] + 8)
    return sheet[top : top + size[0], left : left + size[1]]


def tinted(colour, number):
    """A colour under the overlay's tint of a track."""
    return 0.58 * np.array(COLOURS[colour]) + 0.42 * np.array(track_color(number))


def share(picture, colour, tolerance=6):
    return (np.abs(picture.astype(float) - colour).max(-1) < tolerance).mean()


def test_the_sheet_shows_each_image_with_its_masks_painted(inspect, tmp_path):
    path = coco(tmp_path, {"boxes": [("red", (10, 10, 40, 40))]})
    out, _ = inspect(path, "--sheet", tmp_path / "out" / "sheet.png")
    assert f"Written: {tmp_path}/out/sheet.png (1 of 1 images)" in out
    picture = cell(read_sheet(tmp_path / "out" / "sheet.png"), 0, 0)
    assert picture.shape == (300, 400, 3)
    inside = picture[70:245, 60:240]  # the box, five times as large, within its outline, below its name
    assert share(inside, tinted("red", 1)) > 0.97
    outside = np.concatenate((picture[260:].reshape(-1, 3), picture[:, 260:].reshape(-1, 3)))[None]
    assert share(outside, (40, 40, 40)) > 0.99
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["sheet.png"]


def test_each_video_has_a_row_in_which_an_identity_keeps_its_colour(tmp_path):
    frames = [[("red", (10 + 2 * t, 20, 20, 20)), ("red", (50, 20, 20, 20))] for t in range(8)]
    sheet = draw_sheet(read_annotations(youtube_vis(tmp_path, frames, frames)))
    assert sheet.shown == 2 and not sheet.missing and not sheet.faults
    for line in range(2):
        for column in range(6):
            picture = cell(sheet.image, column, line)
            assert share(picture[125:180, 265:335], tinted("red", 2)) > 0.9
            left = 5 * (10 + 2 * round(column * 7 / 5))
            assert share(picture[125:180, left + 10 : left + 90], tinted("red", 1)) > 0.9


def test_crowds_are_hatched_and_named(tmp_path):
    path = coco(tmp_path, {"boxes": [("green", (10, 10, 50, 40))], "crowds": (0,)})
    picture = cell(draw_sheet(read_annotations(path)).image, 0, 0)
    hatched = np.abs(picture.astype(int) - AMBER).max(-1) < 8
    assert 0.12 < hatched[60:240, 60:110].mean() < 0.3 and hatched[:, 310:].mean() == 0
    plate = (picture == 0).all(-1)
    assert plate[60:240, 60:290].sum() > 600 and plate.sum() == plate[60:240, 60:290].sum()  # its name


def test_what_is_not_all_labelled_is_said_below_the_picture(tmp_path):
    plain = draw_sheet(read_annotations(coco(tmp_path / "a", {"boxes": BOXES})))
    partial = draw_sheet(read_annotations(coco(tmp_path / "b", {"boxes": BOXES, "labelled_categories": [1]})))
    strip = partial.image[-28:-8, 8:408]
    assert partial.image.shape[0] == plain.image.shape[0] + 20
    assert share(strip, AMBER, 40) > 0.02 and share(strip, (0, 0, 0)) > 0.6


def test_every_class_is_on_the_sheet_however_rare(tmp_path):
    many = [{"boxes": BOXES[:1]} for _ in range(60)]
    many[47] = {"boxes": [("green", (10, 10, 40, 40))]}
    sheet = draw_sheet(read_annotations(coco(tmp_path, *many)))
    assert sheet.shown == 30 and not sheet.missing
    cells = [cell(sheet.image, i % 6, i // 6) for i in range(30)]
    assert sum(share(picture[70:245, 60:240], tinted("green", 1)) > 0.9 for picture in cells) == 1


def test_classes_for_which_there_is_no_place_are_named(inspect, tmp_path):
    def change(content):
        content["categories"] = [{"id": i + 1, "name": f"class {i:02d}"} for i in range(74)]
        for i, annotation in enumerate(content["annotations"]):
            annotation["category_id"] = i + 1

    path = changed(coco(tmp_path, *[{"boxes": BOXES[:1]}] * 74), change)
    out, err = inspect(path, "--sheet", tmp_path / "sheet.jpg")
    assert "(72 of 74 images)" in out
    assert re.search(r"no place on the sheet for: class \d\d, class \d\d ?$", err)


def test_an_image_that_cannot_be_read_is_named_and_another_is_shown(inspect, tmp_path):
    path = coco(tmp_path, *[{"boxes": BOXES}] * 3)
    (tmp_path / "1.png").write_bytes(b"")
    out, err = inspect(path, "--sheet", tmp_path / "sheet.jpg")
    assert f"not shown: {tmp_path}/1.png: empty" in err and "(2 of 3 images)" in out
    assert read_sheet(tmp_path / "sheet.jpg").size


def test_a_set_whose_images_are_all_damaged_ends_with_1(inspect, tmp_path):
    path = coco(tmp_path, {"boxes": BOXES})
    (tmp_path / "1.png").write_bytes(b"")
    _, err = inspect(path, "--sheet", tmp_path / "sheet.png", code=1)
    assert "no image can be read; the first: " in err and "1.png: empty" in err
    assert not (tmp_path / "sheet.png").exists()
    _, err = inspect(path, "--check-images", code=1)
    assert "none of its images can be read" in err
    with pytest.raises(InputError, match="no image can be read"):
        draw_sheet(read_annotations(path))


def test_a_sheet_of_another_kind_is_refused_before_anything_is_read(inspect, tmp_path):
    out, err = inspect(coco(tmp_path, {"boxes": BOXES}), "--sheet", tmp_path / "sheet.gif", code=2)
    assert "sheet.gif: give a name that ends with .png or .jpg" in err and not out.strip()


def test_a_sheet_that_cannot_be_written_ends_with_2_and_names_it(inspect, tmp_path):
    (tmp_path / "file").write_text("")
    _, err = inspect(coco(tmp_path, {"boxes": BOXES}), "--sheet", tmp_path / "file" / "sheet.png", code=2)
    assert "sheet.png: cannot be written to: Not a directory" in err


def test_a_sheet_that_is_there_is_replaced_if_asked(inspect, tmp_path):
    data, sheet = coco(tmp_path, {"boxes": BOXES}), tmp_path / "sheet.png"
    sheet.write_bytes(b"mine")
    _, err = inspect(data, "--sheet", sheet, code=2)
    assert "sheet.png: is there already; --force replaces it" in err and sheet.read_bytes() == b"mine"
    inspect(data, "--sheet", sheet, "--force")
    assert sheet.read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (900, 2)])
def test_images_of_odd_sizes_have_a_place(tmp_path, size):
    path = coco(tmp_path, {"size": size, "boxes": [("red", (0, 0, *size[::-1]))], "crowds": (0,)}, {"size": size})
    assert draw_sheet(read_annotations(path)).shown == 2


# Real and synthetic sets


def test_a_synthetic_set_is_in_order(inspect, tmp_path):
    videos = [synthetic_video(seed, length=4, size=(48, 64), objects=3, name=f"v{seed}") for seed in range(2)]
    out, _ = inspect(write_youtube_vis(videos, tmp_path), "--check-images", "--sheet", tmp_path / "sheet.jpg")
    assert row(out, "videos") == ["2"] and row(out, "frames") == ["8; 4 a video"]
    assert "Nothing is wrong in it." in out and "(2 of 2 videos)" in out


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("davis/val.json", {"person": ["4", "5", "147"], "vehicle": ["2", "2", "42"], "animal": ["4", "4", "147"]}),
        ("coco_small/val.json", {"person": ["98", "281"], "vehicle": ["25", "64"], "animal": ["26", "65"]}),
        ("pets/val.json", {"animal": ["30", "30"]}),
    ],
)
def test_real_sets_are_in_order_and_counted(inspect, shared, tmp_path, name, counts):
    out, _ = inspect(shared / "data" / name, "--sheet", tmp_path / "sheet.jpg")
    for category, expected in counts.items():
        assert row(out, category)[: len(expected)] == expected
    assert "Nothing is wrong in it." in out
    assert read_sheet(tmp_path / "sheet.jpg").std() > 30


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"category_id": 17}, "annotations[0]: category_id 17 is not in categories"),
        ({"segmentation": {"size": [80, 60], "counts": [4800]}}, "annotations[0]: size [80, 60], but"),
        ({"id": 2}, "annotations[1]: id 2 stands in annotations[0] too"),
    ],
)
def test_what_an_evaluation_refuses_is_said(inspect, tmp_path, change, reason):
    path = coco(tmp_path, {"boxes": BOXES}, {"boxes": BOXES})
    assert "vis evaluate" not in inspect(path)[0]
    out, _ = inspect(changed(path, lambda c: c["annotations"][0].update(change)))
    assert "'vis evaluate' refuses it as ground truth: " in out
    assert reason in out.partition("refuses it as ground truth: ")[2]
