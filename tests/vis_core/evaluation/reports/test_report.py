"""The page report.html: what it shows, that it needs nothing else, and how it behaves in a browser."""

import copy
import html
import json
import re
import shutil
import subprocess
import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest

from vis_core.evaluation import InputWarning, evaluate, read_ground_truth, read_results
from vis_core.evaluation.evaluator import METRICS
from vis_core.evaluation.reports.incidents import worst_incidents
from vis_core.evaluation.reports.pictures import _answers, strip
from vis_core.evaluation.reports.report import incidents_part, write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


def score(ground_truth, results):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        return evaluate(ground_truth, results, METRICS)


def page_of(folder, ground_truth, results, **options):
    path = folder / "report.html"
    write_report(score(ground_truth, results), path, ground_truth="gt.json", results="mine.json", **options)
    return path


def column(position):
    counts = [position * 10, 10, (9 - position) * 10]
    return {"size": [10, 10], "counts": counts if counts[-1] else counts[:-1]}


@pytest.fixture
def scene(tmp_path):
    """One video with an identity switch at frame 2 and another track that is never found; its images."""
    names = [f"street/{frame}.png" for frame in range(4)]
    ground_truth = {
        "videos": [{"id": 1, "width": 10, "height": 10, "length": 4, "file_names": names}],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [
            {"id": 5, "video_id": 1, "category_id": 1, "segmentations": [column(i) for i in range(4)]},
            {"id": 6, "video_id": 1, "category_id": 1, "segmentations": [None, column(9), column(9), column(9)]},
        ],
    }
    entry = {"video_id": 1, "category_id": 1, "score": 0.5}
    results = [
        {**entry, "track_id": 31, "segmentations": [column(0), column(1), None, None]},
        {**entry, "track_id": 32, "segmentations": [None, None, column(2), column(3)]},
    ]
    for name in names:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / name), np.full((10, 10, 3), 90, np.uint8))
    return ground_truth, results, tmp_path / "images"


def test_the_page_shows_the_scores_and_needs_nothing_else(load_case, tmp_path):
    case = load_case("case_12_ovis")
    text = page_of(tmp_path, case.ground_truth, case.results).read_text()
    evaluation = score(case.ground_truth, case.results)
    for name in ("AP", "AP50", "HOTA", "IDF1", "AP_heavy"):
        assert f"<dt>{name.replace('_', ' ')}</dt><dd>{100 * evaluation.summary[name]:.1f}</dd>" in text
    for video in evaluation.videos.values():
        assert f">{video}</th>" in text
    assert text.count("<svg") == 3
    assert not re.search(r"https?:|src=\"(?!data:)|href=\"(?!data:)|@import|url\(", text)


def test_names_from_files_are_escaped(sound_pair, tmp_path):
    ground_truth = copy.deepcopy(sound_pair[0])
    hostile = '"><script>alert(1)</script>$title'
    ground_truth["categories"][0]["name"] = hostile
    for video in ground_truth["videos"]:
        video["file_names"] = [f"{hostile}{video['id']}/{frame}.jpg" for frame in range(3)]
    text = page_of(tmp_path, ground_truth, sound_pair[1]).read_text()
    assert "<script>alert" not in text
    assert html.escape(hostile) in text


def test_the_worst_switch_and_miss_are_found(scene):
    ground_truth, results, _ = scene
    truth = read_ground_truth(ground_truth)
    switch, miss = worst_incidents(truth, read_results(results, truth))
    assert (switch.kind, switch.track.id, switch.frame, switch.frames) == ("switch", 5, 2, (0, 1, 2, 3))
    assert [result.track_id for result in switch.results] == [31, 32]
    assert (miss.kind, miss.track.id, miss.frame, miss.count, miss.pixels) == ("miss", 6, 1, 3, 30)


def test_switches_are_as_many_as_the_score_says(load_case):
    for name in ("case_02_ties", "case_10_long"):
        case = load_case(name)
        truth = read_ground_truth(case.ground_truth)
        found = worst_incidents(truth, read_results(case.results, truth), max_count=10**6)
        counted = score(case.ground_truth, case.results).summary["IDSW"]
        assert sum(item.kind == "switch" for item in found) == counted


def test_incidents_are_shown_as_pictures(scene, tmp_path):
    ground_truth, results, images = scene
    truth = read_ground_truth(ground_truth)
    part, failed = incidents_part(truth, read_results(results, truth), images)
    assert failed == []
    assert "identity switch at frame 2: track 31 becomes track 32" in part
    assert "cup 6 of street: missed in 3 frames from frame 1" in part
    assert part.count("data:image/jpeg;base64,") == 4 + 3
    assert part in page_of(tmp_path, ground_truth, results, incidents=part).read_text()


def test_what_was_found_under_another_class_is_shown_in_the_place_of_a_miss(scene):
    ground_truth, results, images = scene
    ground_truth["categories"].append({"id": 2, "name": "bowl"})
    other = {"video_id": 1, "category_id": 2, "score": 0.1, "track_id": 33}
    results.append({**other, "segmentations": [None, column(9), column(9), column(9)]})
    truth = read_ground_truth(ground_truth)
    (miss,) = (item for item in worst_incidents(truth, read_results(results, truth)) if item.kind == "miss")
    drawn = _answers(read_results(results, truth).tracks[1], miss)
    assert [result.track_id for result in drawn] == [33, 31, 32]  # what covers it first, then others of its class
    pictures = [strip(miss, read_results(some, truth), images, truth.categories) for some in (results, results[:2])]
    assert pictures[0] != pictures[1]


def test_an_image_that_is_missing_is_told_and_the_rest_is_shown(scene):
    ground_truth, results, images = scene
    (images / "street" / "0.png").unlink()
    truth = read_ground_truth(ground_truth)
    part, failed = incidents_part(truth, read_results(results, truth), images)
    assert "missed in 3 frames" in part
    assert "identity switch at" not in part
    assert [str(images / "street" / "0.png") in text for text in failed] == [True]


def test_an_image_outside_the_folder_is_not_shown(scene):
    ground_truth, results, images = scene
    truth = read_ground_truth(ground_truth)
    for number, video in truth.videos.items():
        names = tuple(str(images / name) for name in video.file_names)
        truth = replace(truth, videos={**truth.videos, number: replace(video, file_names=names)})
    part, failed = incidents_part(truth, read_results(results, truth), images)
    assert "data:image" not in part and failed
    assert all("leaves the folder of the images" in text for text in failed)


PROBE = """
<script>
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("load", () => {
  const table = document.getElementById("videos");
  const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
  const heads = [...table.tHead.rows[0].cells];
  const press = (title) => {
    const head = heads.find((each) => each.textContent === title);
    head.firstElementChild.click();
    return [names(), head.getAttribute("aria-sort")];
  };
  const found = { first: press("HOTA"), second: press("HOTA"), names: press("video"), errors };
  const frame = document.createElement("iframe");
  frame.style.width = "390px";
  frame.onload = () => {
    const inner = frame.contentDocument.documentElement;
    found.phone = [inner.scrollWidth, inner.clientWidth];
    found.desktop = [document.documentElement.scrollWidth, document.documentElement.clientWidth];
    const out = document.createElement("pre");
    out.id = "probe";
    out.textContent = JSON.stringify(found);
    document.body.append(out);
  };
  frame.srcdoc = PAGE;
  document.body.append(frame);
});
</script>
"""


@needs_browser
def test_in_a_browser_tables_sort_nothing_overflows_and_the_console_is_silent(load_case, tmp_path):
    case = load_case("case_08_empty_sides")
    path = page_of(tmp_path, case.ground_truth, case.results)
    text = path.read_text()
    quoted = json.dumps(text).replace("</", "<\\/")
    path.write_text(text + PROBE.replace("PAGE", quoted))
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--enable-logging=stderr", "--window-size=1280,900", "--virtual-time-budget=10000", "--dump-dom"),
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "CONSOLE" not in done.stderr
    found = json.loads(html.unescape(re.search(r'<pre id="probe">(.*?)</pre>', done.stdout).group(1)))
    assert found["errors"] == []
    evaluation = score(case.ground_truth, case.results)
    hota = {evaluation.videos[number]: row["HOTA"] for number, row in evaluation.per_video.items()}
    names, order = found["first"]
    assert order == "descending"
    assert [hota[name] for name in names] == sorted(hota.values(), reverse=True)
    names, order = found["second"]
    assert order == "ascending"
    assert [hota[name] for name in names] == sorted(hota.values())
    assert found["names"] == [sorted(hota), "ascending"]
    assert found["phone"][0] <= found["phone"][1] <= 390
    assert found["desktop"][0] <= found["desktop"][1]
