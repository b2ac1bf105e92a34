"""Images that EXIF turns: masks and pixels of every item agree, whichever way the labels were made."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from tests.vis_core.data.annotated import run_lengths
from tests.vis_core.video.image_files import with_orientation
from vis_core.commands.inspect import inspect
from vis_core.data.annotation_files import read_annotations
from vis_core.data.inspection import faulty_images
from vis_core.data.sheets import draw_sheet
from vis_core.errors import InputError, OptionError
from vis_core.files.findings import InputWarning

pytestmark = pytest.mark.filterwarnings("ignore::vis_core.files.findings.InputWarning")

RED, GROUND = (20, 20, 230), (60, 60, 60)  # as OpenCV orders them
BOX = (4, 4, 16, 12)  # of the red box in the stored pixels
IMAGES = {"quarter.jpg": (6, (48, 64)), "half.jpg": (3, (48, 64)), "square.jpg": (6, (64, 64))}


def shown_box(name: str) -> tuple[int, int, int, int]:
    """The box as a viewer shows it."""
    orientation, (height, width) = IMAGES[name]
    x, y, w, h = BOX
    return (height - y - h, x, h, w) if orientation == 6 else (width - x - w, height - y - h, w, h)


def write(folder, turned, names=tuple(IMAGES), polygons=True, swapped=False):
    """A set whose labels follow the stored pixels or the turned ones; swapped: its sizes the others."""
    images, annotations = [], []
    for number, name in enumerate(names, 1):
        orientation, (height, width) = IMAGES[name]
        picture = np.full((height, width, 3), GROUND, np.uint8)
        x, y, w, h = BOX
        picture[y : y + h, x : x + w] = RED
        data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
        (folder / name).write_bytes(with_orientation(data, orientation))
        x, y, w, h = shown_box(name) if turned else BOX
        size = (width, height) if turned and orientation == 6 else (height, width)
        mask = np.zeros(size, np.bool_)
        mask[y : y + h, x : x + w] = True
        polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        size = size[::-1] if swapped else size
        images.append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
        segmentation = polygon if polygons else run_lengths(mask)
        entry = {"id": number, "image_id": number, "category_id": 1, "bbox": [x, y, w, h], "iscrowd": 0}
        annotations.append({**entry, "area": w * h, "segmentation": segmentation})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "crate"}]}
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


def red(item) -> np.ndarray:
    image = item.image(0).astype(int)
    return image[..., 0] - image[..., 1] > 90


def agreement(item) -> float:
    """Share of the pixels, of mask or box, that both have."""
    mask, box = item.object_images(0)[0] > 0, red(item)
    return (mask & box).sum() / (mask | box).sum()


@pytest.mark.parametrize("polygons", [True, False])
@pytest.mark.parametrize("turned", [False, True])
def test_masks_lie_on_what_they_mark_whichever_way_the_labels_were_made(tmp_path, turned, polygons):
    annotated = read_annotations(write(tmp_path, turned, polygons=polygons))
    assert [agreement(item) > 0.95 for item in annotated.items] == [True] * 3
    way = "turned" if turned else "stored"
    assert annotated.orientation == (
        f"EXIF turns 3 of the images; by their sizes the labels follow 1 as {way}, "
        f"2 as {way}, which no size tells, as the others of the set"
    )
    assert faulty_images(annotated, decode=True) == (0, [])
    assert draw_sheet(annotated).shown == 3


def test_a_reader_without_a_table_is_warned(tmp_path):
    with pytest.warns(InputWarning, match=r"a\.json: EXIF turns 3 of the images"):
        read_annotations(write(tmp_path, False))


def test_a_square_alone_is_turned_as_viewers_do_and_what_is_given_decides(tmp_path):
    annotated = read_annotations(write(tmp_path, True, ["square.jpg"]))
    assert agreement(annotated.items[0]) > 0.95
    path = write(tmp_path, False, ["square.jpg", "half.jpg"])
    assert read_annotations(path).orientation.endswith("2 as turned, which no size tells, as viewers show them")
    assert [agreement(item) > 0.95 for item in read_annotations(path, orientation="stored").items] == [True] * 2
    with pytest.raises(OptionError, match="'up' is none of auto, stored, turned"):
        read_annotations(path, orientation="up")


@pytest.mark.parametrize("turned", [False, True])
def test_sizes_written_the_other_way_round_are_set_right_where_the_orientation_is_given(tmp_path, turned):
    path = write(tmp_path, turned, ["quarter.jpg"], swapped=True)
    assert agreement(read_annotations(path).items[0]) < 0.5  # what the file says is believed
    annotated = read_annotations(path, orientation="turned" if turned else "stored")
    assert agreement(annotated.items[0]) > 0.95


def test_a_size_that_fits_neither_way_is_an_error_that_names_exif_where_it_is_the_cause(tmp_path):
    path = write(tmp_path, False, ["quarter.jpg", "half.jpg"])
    content = json.loads(path.read_text())
    for entry in content["images"]:
        entry["height"] += 2
    path.write_text(json.dumps(content))
    quarter, half = read_annotations(path).items
    with pytest.raises(InputError, match=r"quarter\.jpg: .* annotated as 64x50; .*EXIF \(orientation 6\)"):
        quarter.image(0)
    with pytest.raises(InputError, match=r"64x48 pixels, annotated as 64x50$"):
        half.image(0)


def test_the_handed_case_is_read_rightly(shared):
    folder = shared / "cases" / "reports" / "05-exif"
    if not folder.is_dir():
        pytest.skip("needs ../shared/cases/reports")
    assert [agreement(item) > 0.9 for item in read_annotations(folder / "raw_space.json").items] == [True] * 3
    (swapped,) = read_annotations(folder / "swapped.json", orientation="turned").items
    assert agreement(swapped) > 0.9


def test_inspect_tells_of_images_that_exif_turns_and_takes_the_orientation(tmp_path, capsys):
    path = write(tmp_path, False)
    inspect(path, check_images=True)
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "orientation EXIF turns 3 of the images; by their sizes the labels follow 1 as stored" in told
    inspect(path, orientation="stored", sheet=tmp_path / "s.png")
    assert "orientation stored" in " ".join(capsys.readouterr().out.replace("│", " ").split())
