"""MOTS text: both sides count frames from the same number, and masks of a frame do not overlap."""

import warnings

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from vis_core.errors import InputError
from vis_core.evaluation import InputWarning, evaluate, read_ground_truth, read_mots, write_mots
from vis_core.evaluation.inputs.tracks import Result, Video

HEIGHT, WIDTH = 20, 60


def block(left, width=6):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[5:15, left : left + width] = 1
    return coco_mask.encode(mask)["counts"].decode()


def write(folder, name="0002", first=0, left=2, step=8, frames=range(6), at=0):
    """A block that moves ``step`` pixels a frame, in the frames named, of which the file counts the first as ``first``.

    ``at`` moves what it shows by frames.
    """
    folder.mkdir(exist_ok=True)
    lines = [f"{i + first} 2001 2 {HEIGHT} {WIDTH} {block(left + step * (i + at))}" for i in frames]
    (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder


def score(*folders, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        return evaluate(*read_mots(*folders, **options), ("hota", "clear")).summary


@pytest.mark.parametrize(("truth_first", "first", "shift"), [(1, 0, r"n\+1"), (0, 1, "n-1"), (0, 40, "n-40")])
@pytest.mark.parametrize("step", [0, 1, 8])
def test_the_same_tracks_counted_from_another_number_are_refused_with_both_ranges(
    tmp_path, truth_first, first, shift, step
):
    truth = write(tmp_path / "gt", first=truth_first, step=step)
    found = write(tmp_path / "results", first=first, step=step)
    ranges = f"frames {first} to {first + 5}, but the ground truth .*gt/0002.txt has frames {truth_first} to"
    with pytest.raises(InputError, match=rf"results/0002\.txt: results: {ranges} {truth_first + 5}; .* {shift} "):
        read_mots(truth, found)


def test_one_number_that_does_not_fit_the_option_is_refused(tmp_path):
    truth, found = write(tmp_path / "gt", first=1), write(tmp_path / "results", first=0)
    with pytest.raises(InputError, match=r"results/0002\.txt: results line 1: frame 0; frames count from 1"):
        read_mots(truth, found, first_frame=1)


@pytest.mark.parametrize("first", [0, 1])
def test_tracks_counted_alike_are_perfect(tmp_path, first):
    folders = write(tmp_path / "gt", first=first), write(tmp_path / "results", first=first)
    assert score(*folders)["HOTA"] == pytest.approx(1)
    assert score(*folders, first_frame=first)["MOTA"] == 1


@pytest.mark.parametrize(
    "frames",
    [range(5), range(1, 6), range(2, 4), range(1, 7), range(-1, 5), range(-1, 7)],
    ids=["misses the end", "misses the begin", "misses both", "one late", "one early", "longer at both ends"],
)
@pytest.mark.parametrize("step", [1, 4])
def test_results_that_begin_or_end_elsewhere_but_show_what_is_there_are_scored(tmp_path, frames, step):
    truth = write(tmp_path / "gt", first=1, left=10, step=step)
    found = write(tmp_path / "results", first=1, left=10, step=step, frames=frames)
    assert score(truth, found)["CLR_TP"] == len(set(frames) & set(range(6)))


def test_something_still_that_is_found_a_frame_late_and_lost_a_frame_late_is_scored_with_a_warning(tmp_path):
    truth = write(tmp_path / "gt", first=1, step=0)
    found = write(tmp_path / "results", first=1, step=0, frames=range(1, 7))
    with pytest.warns(InputWarning, match=r"frames 2 to 7, but .* frames 1 to 6.*same number\?"):
        assert evaluate(*read_mots(truth, found), ("clear",)).summary["CLR_TP"] == 5


def test_results_that_also_miss_some_frames_are_refused_where_the_masks_leave_no_doubt(tmp_path):
    truth = write(tmp_path / "gt", first=1)
    with pytest.raises(InputError, match=r"frames 0 to 3, but .* frames 1 to 6"):
        read_mots(truth, write(tmp_path / "results", first=0, frames=range(4)))


def test_where_the_masks_leave_a_doubt_both_ranges_are_told(tmp_path):
    truth = write(tmp_path / "gt", first=1, step=1)
    found = write(tmp_path / "results", first=0, step=1, frames=range(4))
    with pytest.warns(InputWarning, match=r"frames 0 to 3, but .* frames 1 to 6.*same number\?"):
        evaluate(*read_mots(truth, found), ("clear",))


def test_one_sequence_of_many_that_is_shifted_is_told(tmp_path):
    for name in ("0001", "0002", "0003"):
        write(tmp_path / "gt", name)
        write(tmp_path / "results", name, first=int(name == "0003"))
    with pytest.warns(InputWarning, match=r"0003\.txt: results: frames 1 to 6, but .* frames 0 to 5") as told:
        evaluate(*read_mots(tmp_path / "gt", tmp_path / "results"), ("clear",))
    assert len(told) == 1


def test_sides_without_a_common_frame_are_told(tmp_path):
    truth, found = write(tmp_path / "gt"), write(tmp_path / "results", first=50, frames=range(3))
    with pytest.warns(InputWarning, match=r"frames 50 to 52, but .* frames 0 to 5; no frame has masks of both"):
        evaluate(*read_mots(truth, found), ("clear",))


def test_sequences_without_results_are_told(tmp_path):
    for name in ("0001", "0002", "0003"):
        write(tmp_path / "gt", name)
    found = write(tmp_path / "results", "0002")
    with pytest.warns(InputWarning, match=r"no 0001\.txt \(2 of 3 sequences are missing\)"):
        evaluate(*read_mots(tmp_path / "gt", found), ("clear",))
    for name in ("0001", "0003"):
        write(found, name, frames=())
    assert score(tmp_path / "gt", found)["CLR_FN"] == 12


def test_folders_of_one_file_each_are_compared_by_name_and_files_are_taken_as_given(tmp_path):
    truth, found = write(tmp_path / "gt", "0002"), write(tmp_path / "results", "0005")
    with pytest.raises(InputError, match=r"0005\.txt has no ground truth"):
        read_mots(truth, found)
    assert score(truth / "0002.txt", found / "0005.txt")["HOTA"] == pytest.approx(1)


def test_a_length_of_a_sequence_that_is_not_there_is_refused(tmp_path):
    folders = write(tmp_path / "gt"), write(tmp_path / "results")
    with pytest.raises(InputError, match=r'no 2\.txt, but lengths names "2"'):
        read_mots(*folders, lengths={"2": 6})


@pytest.mark.parametrize("side", ["gt", "results"])
@pytest.mark.parametrize("other", ["1001 1", "2002 2", "10000 10"])
def test_masks_of_a_frame_that_overlap_are_refused(tmp_path, side, other):
    folders = write(tmp_path / "gt", first=1), write(tmp_path / "results", first=1)
    path = tmp_path / side / "0002.txt"
    beside = f"2 {other} {HEIGHT} {WIDTH} {block(16)}\n"  # the block of frame 2 lies from 10 to 16
    path.write_text(path.read_text() + beside)
    assert read_mots(*folders, first_frame=1)[0].videos[1].length == 6
    path.write_text(path.read_text() + beside.replace(block(16), block(15, 1)).replace(other, "1077 1"))
    with pytest.raises(InputError, match=rf"{side}/0002\.txt: .* frame 2: id 2001 and id 1077 share 10 pixels"):
        read_mots(*folders, first_frame=1)


def test_tracks_that_overlap_are_not_written(tmp_path, sound_pair):
    mask = block(3).encode()
    areas = np.array([60])
    tracks = {1: [Result(i, 1, 0.5, (mask,), areas) for i in range(2)]}
    with pytest.raises(InputError, match=r"video a.* frame 0: tracks\[0\] and tracks\[1\] share 60 pixels"):
        write_mots(tmp_path, {1: Video(1, "a", (HEIGHT, WIDTH), 1)}, tracks)
    assert list(tmp_path.iterdir()) == []
    truth = read_ground_truth(sound_pair[0])
    write_mots(tmp_path, truth.videos, truth.tracks)
    assert len(list(tmp_path.iterdir())) == len(truth.videos)


def test_the_recorded_pairs_are_refused_or_perfect(shared):
    folder = shared / "cases" / "reports" / "04-mots-shifted"
    if not folder.is_dir():
        pytest.skip("the recorded files are absent")
    for first in (0, 1):
        assert score(folder / f"gt{first}", folder / f"res{first}")["HOTA"] == pytest.approx(1)
        with pytest.raises(
            InputError, match=f"frames {1 - first} to {6 - first}, but .* frames {first} to {5 + first}"
        ):
            read_mots(folder / f"gt{first}", folder / f"res{1 - first}")
