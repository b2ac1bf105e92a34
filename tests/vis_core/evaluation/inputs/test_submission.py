"""Packing a result file for a benchmark server."""

import copy
import json
import zipfile

import pytest

from vis_core.errors import InputError, OptionError
from vis_core.evaluation import evaluate
from vis_core.evaluation.inputs.submission import pack


@pytest.fixture
def files(sound_pair, tmp_path):
    """Result file, JSON of the split without labels, zip to write."""
    ground_truth, results = sound_pair
    paths = tmp_path / "mine.json", tmp_path / "valid.json", tmp_path / "out" / "results.zip"
    paths[0].write_text(json.dumps(results))
    paths[1].write_text(json.dumps({"videos": ground_truth["videos"]}))
    return paths


def packed_entries(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["results.json"]
        return json.loads(archive.read("results.json"))


@pytest.mark.parametrize("split", ["ytvis2019", "ytvis2021", "ovis"])
def test_the_zip_holds_the_same_tracks_in_its_root(files, sound_pair, split):
    told = pack(files[0], split, files[2], files[1]).warnings
    assert told == ()
    assert packed_entries(files[2]) == sound_pair[1]
    assert [path.name for path in files[2].parent.iterdir()] == ["results.zip"]


def test_run_lengths_are_compressed_and_scores_become_floats(files, sound_pair):
    results = copy.deepcopy(sound_pair[1])
    results[0]["segmentations"][0]["counts"] = [1850, 5, 34, 7, 32, 8, 32, 8, 32, 8, 32, 8, 33, 7, 33, 6, 265]
    results[0]["score"] = 1
    results[0]["track_id"] = 4
    files[0].write_text(json.dumps(results))
    pack(files[0], "ytvis2019", files[2], files[1])
    first = packed_entries(files[2])[0]
    assert isinstance(first["segmentations"][0]["counts"], str)
    assert isinstance(first["score"], float)
    assert set(first) == {"video_id", "category_id", "score", "segmentations"}
    assert dict(evaluate(sound_pair[0], packed_entries(files[2])).summary) == dict(
        evaluate(sound_pair[0], results).summary
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda r: r[1].update(category_id=0), "results [1]: category_id 0 is not one of the split, 1 to 25"),
        (lambda r: r[1].update(category_id=26), "results [1]: category_id 26 is not one of the split, 1 to 25"),
        (lambda r: r[2].update(video_id=77), "results [2]: video_id 77"),
        (lambda r: r[2].update(score="0.5"), 'results [2]: score "0.5"'),
        (lambda r: r[3]["segmentations"].pop(), "results [3]: segmentations has 2 entries"),
        (lambda r: r[3]["segmentations"][1].update(size=[1, 2]), "results [3] frame 1: size [1, 2]"),
        (lambda r: r.clear(), "empty"),
    ],
)
@pytest.mark.parametrize("with_split", [True, False])
def test_what_the_server_would_refuse_is_an_error(files, sound_pair, change, named, with_split):
    results = copy.deepcopy(sound_pair[1])
    change(results)
    files[0].write_text(json.dumps(results))
    if not with_split and "video_id 77" in named:
        pytest.skip("without the split no video is unknown")
    with pytest.raises(InputError) as caught:
        pack(files[0], "ovis", files[2], files[1] if with_split else None)
    assert named in str(caught.value)
    assert not files[2].exists()


def test_without_the_split_it_says_what_went_unchecked(files, sound_pair):
    (warning,) = pack(files[0], "ytvis2021", files[2]).warnings
    assert "not compared with the split" in warning
    assert packed_entries(files[2]) == sound_pair[1]


def test_an_unknown_split_is_refused(files):
    with pytest.raises(OptionError, match="ytvis2022"):
        pack(files[0], "ytvis2022", files[2])


@pytest.mark.parametrize("content", ["{}", "[3]", '[{"video_id": 1}]', '[{"video_id": 1, "segmentations": 3}]', "[[]]"])
def test_any_content_is_packed_or_refused(files, content):
    files[0].write_text(content)
    with pytest.raises(InputError, match="results"):
        pack(files[0], "ovis", files[2])
