"""MOTS text: read, written, scored; regions to ignore."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from vis_core.errors import InputError
from vis_core.evaluation import evaluate, read_ground_truth, read_mots, write_mots

HEIGHT, WIDTH, FRAMES = 30, 60, 12


def text_of(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def write_scene(folder, sequences=2, first_frame=0):
    """Bars that move to the right, with a region to ignore at the right edge; results miss, shift, swap and invent."""
    random = np.random.default_rng(7)
    for side in ("gt", "results"):
        (folder / side).mkdir(parents=True)
    for sequence in range(sequences):
        truth, found = [], []
        for frame in range(FRAMES):
            taken = np.zeros((HEIGHT, WIDTH), bool)
            guessed = np.zeros((HEIGHT, WIDTH), bool)
            region = np.zeros((HEIGHT, WIDTH), bool)
            region[:, 48:] = True
            number = frame + first_frame
            for track in range(4):
                left = 4 + 12 * track + frame // 3
                mask = np.zeros((HEIGHT, WIDTH), bool)
                mask[5 + 2 * track : 20 + 2 * track, left : left + 8] = True
                mask &= ~taken & ~region
                taken |= mask
                category = 1 + track % 2
                if mask.any() and random.random() > 0.1:
                    truth.append(f"{number} {category * 1000 + track} {category} {HEIGHT} {WIDTH} {text_of(mask)}")
                guess = np.roll(mask, int(random.integers(-2, 3)), axis=1) & ~guessed
                guessed |= guess
                if guess.any() and random.random() > 0.15:
                    other = track if frame < 6 or track > 1 else 1 - track
                    kind = category if random.random() > 0.1 else 3 - category
                    identity = kind * 1000 + other
                    found.append(f"{number} {identity} {kind} {HEIGHT} {WIDTH} {text_of(guess)}")
            truth.append(f"{number} 10000 10 {HEIGHT} {WIDTH} {text_of(region)}")
            invented = np.zeros((HEIGHT, WIDTH), bool)
            invented[10:20, 44 + frame % 8 : 54 + frame % 8] = True
            invented &= ~guessed
            found.append(f"{number} {1077} 1 {HEIGHT} {WIDTH} {text_of(invented)}")
        (folder / "gt" / f"{sequence:04d}.txt").write_text("\n".join(truth) + "\n")
        (folder / "results" / f"{sequence:04d}.txt").write_text("\n".join(found) + "\n")
    return folder / "gt", folder / "results"


# What trackeval 1.3.0 (KittiMOTS) answers to this scene.
RECORDED = {
    "car": {
        "HOTA": 0.4611994811665923,
        "AssA": 0.43233984224696304,
        "sMOTA": 0.351937984496124,
        "IDSW": 2,
        "CLR_FP": 9,
        "CLR_FN": 7,
        "IDF1": 0.6363636363636364,
    },
    "pedestrian": {
        "HOTA": 0.3342115251662274,
        "AssA": 0.31149908112325764,
        "sMOTA": 0.11780303030303031,
        "IDSW": 2,
        "CLR_FP": 11,
        "CLR_FN": 19,
        "IDF1": 0.5,
    },
}


@pytest.mark.parametrize("first_frame", [0, 1])
def test_scores_are_those_of_trackeval_with_regions_to_ignore(tmp_path, first_frame):
    ground_truth, results = read_mots(*write_scene(tmp_path, first_frame=first_frame), first_frame=first_frame)
    evaluation = evaluate(ground_truth, results, ("hota", "clear", "identity"))
    for number, name in evaluation.categories.items():
        for field, value in RECORDED[name].items():
            assert evaluation.per_category[number][field] == pytest.approx(value, abs=1e-12), (name, field)


def test_results_in_a_region_to_ignore_are_neither_right_nor_wrong(tmp_path):
    folders = write_scene(tmp_path)
    with_region = evaluate(*read_mots(*folders), ("clear",)).summary
    for path in folders[0].iterdir():
        kept = [line for line in path.read_text().splitlines() if " 10 " not in line]
        path.write_text("\n".join(kept))
    without = evaluate(*read_mots(*folders), ("clear",)).summary
    assert with_region["CLR_FP"] < without["CLR_FP"]
    assert with_region["CLR_TP"] == without["CLR_TP"]


def test_what_is_written_is_read_back(tmp_path, sound_pair):
    ground_truth = read_ground_truth(sound_pair[0])
    write_mots(tmp_path / "gt", ground_truth.videos, ground_truth.tracks, first_frame=1)
    lines = (tmp_path / "gt" / "video_002.txt").read_text().splitlines()
    assert [line.split()[:5] for line in lines[:2]] == [["1", "2000", "2", "40", "60"], ["1", "2001", "2", "40", "60"]]
    again, results = read_mots(tmp_path / "gt", tmp_path / "gt", first_frame=1)
    for video, number in zip(again.videos.values(), ground_truth.videos, strict=True):
        assert (video.size, video.length) == ((40, 60), 3)
        assert [t.masks for t in again.tracks[video.id]] == [t.masks for t in ground_truth.tracks[number]]
    scores = evaluate(again, results, ("hota", "identity")).tracks.detection_average
    assert scores["Identity"]["IDF1"] == 1
    assert np.mean(scores["HOTA"]["HOTA"]) == pytest.approx(1)


def test_lengths_say_how_many_frames_a_sequence_has(tmp_path):
    folders = write_scene(tmp_path)
    ground_truth, _ = read_mots(*folders, lengths={"0000": 20})
    assert [video.length for video in ground_truth.videos.values()] == [20, FRAMES]
    with pytest.raises(InputError, match=r"0000\.txt.*frame 5|frame 5.*the sequence has 5 frames"):
        read_mots(*folders, lengths={"0000": 5})


GOOD = "0 1000 1 2 2 4"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("0 1000 1 2 2", ["line 2", "frame id class height width rle"]),
        ("0 x 1 2 2 4", ["line 2"]),
        ("0 -1 1 2 2 4", ["line 2"]),
        ("99999999999 1000 1 2 2 4", ["line 2", "frame 99999999999"]),
        ("1 1001 1 2 3 4", ["line 2", "size 2 x 3", "2 x 2"]),
        ("1 1001 1 0 0 4", ["line 2", "size 0 x 0"]),
        (GOOD, ["line 2", "id 1000 stands twice in frame 0"]),
        ("1 1001 1 2 2 ~~", ["id 1001 frame 1", "counts"]),
        ("1 1001 1 2 2 5", ["id 1001 frame 1", "counts sum to 5"]),
        ("999999 1001 1 2 2 4\n" + "\n".join(f"0 {2000 + i} 1 2 2 4" for i in range(200)), ["more than can be scored"]),
    ],
)
@pytest.mark.parametrize("side", ["gt", "results"])
def test_a_malformed_line_is_an_error_that_names_it(tmp_path, line, named, side):
    for name in ("gt", "results"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(f"{GOOD}\n" + (f"{line}\n" if name == side else ""))
    with pytest.raises(InputError) as caught:
        read_mots(tmp_path / "gt", tmp_path / "results")
    for text in (f"{side}/a.txt", *named):
        assert text in str(caught.value)


def test_a_sequence_without_ground_truth_is_an_error_and_one_without_results_is_not(tmp_path):
    folders = write_scene(tmp_path)
    (folders[1] / "0001.txt").unlink()
    assert read_mots(*folders)[1].tracks[2] == ()
    (folders[1] / "0009.txt").write_text(GOOD)
    with pytest.raises(InputError, match=r"0009\.txt has no ground truth"):
        read_mots(*folders)


def test_classes_that_the_ground_truth_does_not_have_are_told(tmp_path):
    for name, line in (("gt", GOOD), ("results", "0 5000 5 2 2 4")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(line)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        evaluate(*read_mots(tmp_path / "gt", tmp_path / "results"), ("clear",))
    assert any("classes [5]" in str(item.message) for item in caught)


fields = st.one_of(
    st.integers(0, 3).map(str),
    st.sampled_from(["2", "4", "1000", "1001", "10", "10000", "-1", "x", "00", "99999999999999999999", "²"]),
    st.text(alphabet="0123456789:;<=>?@PQ_`abno", max_size=4),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(fields, min_size=5, max_size=7).map(" ".join), max_size=4), st.booleans())
def test_any_text_is_scored_or_refused(tmp_path, lines, of_results):
    for name in ("gt", "results"):
        (tmp_path / name).mkdir(exist_ok=True)
        text = "\n".join([GOOD, "1 1000 1 2 2 4", *(lines if of_results == (name == "results") else [])])
        (tmp_path / name / "a.txt").write_text(text, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            evaluation = evaluate(*read_mots(tmp_path / "gt", tmp_path / "results"), ("hota", "clear", "identity"))
        except InputError as error:
            assert "a.txt" in str(error)  # noqa: PT017
            return
    assert 0 <= evaluation.summary["IDF1"] <= 1


def test_a_folder_of_pngs_is_named(tmp_path):
    (tmp_path / "0002").mkdir()
    (tmp_path / "0002" / "000000.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds no \.txt file; PNGs of MOTS are not read: give its text"):
        read_mots(tmp_path, tmp_path)
