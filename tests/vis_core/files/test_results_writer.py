from __future__ import annotations

import errno
import json
import os
import subprocess
import tracemalloc

import numpy as np
import pytest

from vis_core import masks
from vis_core.errors import InputError
from vis_core.files.results_writer import ResultsWriter
from vis_core.structures import Instances, TrackState

SIZE = (20, 30)


def rows(index, *tracks):
    """Instances of tracks (id, label, running score, foreground or None)."""
    found = []
    for _, _, _, area in tracks:
        dense = np.zeros(SIZE, np.uint8)
        if area is not None:
            dense[area] = 1
        found.append(masks.encode(dense))
    n = len(found)
    return Instances(
        stamp=index,
        index=index,
        size=SIZE,
        track_ids=[t[0] for t in tracks],
        labels=[t[1] for t in tracks],
        scores=np.zeros(n),
        track_scores=[t[2] for t in tracks],
        boxes=np.zeros((n, 4)),
        masks=tuple(found),
        states=np.full(n, TrackState.TRACKED),
        ages=np.zeros(n),
        first_seen=np.zeros(n),
        last_seen=np.zeros(n),
    )


A, B = np.s_[2:9, 3:12], np.s_[10:15, 20:29]


def dense(segmentation):
    return masks.from_coco(segmentation).dense()


def test_a_track_becomes_one_entry_with_a_segmentation_for_each_frame(tmp_path):
    with ResultsWriter(tmp_path / "results.json") as writer:
        writer.add(4, 0, rows(0, (1, 0, 0.9, A)))
        writer.add(4, 2, rows(2, (1, 1, 0.75, B), (2, 0, 0.3, A)))
        writer.add(4, 3, rows(3))
        writer.finish_video(4, 5)
    first, second = json.loads((tmp_path / "results.json").read_text())
    assert (first["video_id"], first["track_id"], first["category_id"], first["score"]) == (4, 1, 2, 0.75)
    assert second["score"] == float(np.float32(0.3))
    assert [s is None for s in first["segmentations"]] == [False, True, False, True, True]
    assert [s is None for s in second["segmentations"]] == [True, True, False, True, True]
    expected = np.zeros(SIZE, bool)
    expected[B] = True
    np.testing.assert_array_equal(dense(first["segmentations"][2]), expected)
    assert first["segmentations"][2]["size"] == [20, 30]
    assert isinstance(first["segmentations"][2]["counts"], str)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results.json"]


def test_a_frame_in_which_a_track_has_no_pixel_is_null_but_sets_its_score(tmp_path):
    with ResultsWriter(tmp_path / "r.json") as writer:
        writer.add(1, 0, rows(0, (1, 0, 0.9, A), (2, 0, 0.8, None)))
        writer.add(1, 1, rows(1, (1, 0, 0.5, None), (2, 0, 0.8, None)))
        assert writer.track_count(1) == 1
    (entry,) = json.loads((tmp_path / "r.json").read_text())
    assert entry["score"] == 0.5
    assert entry["segmentations"][1] is None


def test_lost_and_ended_rows_leave_the_score_of_when_the_track_was_last_seen(tmp_path):
    lost = rows(1, (1, 1, 0.2, None))
    lost = Instances(**{name: getattr(lost, name) for name in lost.__slots__} | {"states": [TrackState.LOST]})
    with ResultsWriter(tmp_path / "r.json") as writer:
        writer.add(1, 0, rows(0, (1, 0, 0.9, A)))
        writer.add(1, 1, lost)
    (entry,) = json.loads((tmp_path / "r.json").read_text())
    assert (entry["score"], entry["category_id"]) == (float(np.float32(0.9)), 1)


def test_no_detection_gives_an_empty_list(tmp_path):
    with ResultsWriter(tmp_path / "r.json") as writer:
        writer.add(1, 0, rows(0))
        writer.finish_video(1, 9)
    assert json.loads((tmp_path / "r.json").read_text()) == []


def test_videos_may_be_interleaved_and_share_track_ids(tmp_path):
    with ResultsWriter(tmp_path / "r.json", category_ids=[11, 22]) as writer:
        for position in range(3):
            for video in (8, 3):
                writer.add(video, position, rows(position, (1, video == 3, 0.5, A if video == 3 else B)))
    entries = json.loads((tmp_path / "r.json").read_text())
    assert [(e["video_id"], e["category_id"]) for e in entries] == [(8, 11), (3, 22)]
    assert all(len(e["segmentations"]) == 3 and None not in e["segmentations"] for e in entries)


def test_of_two_answers_to_one_position_the_later_counts(tmp_path):
    with ResultsWriter(tmp_path / "r.json") as writer:
        writer.add(1, 0, rows(0, (1, 0, 0.5, A)))
        writer.add(1, 0, rows(0, (1, 0, 0.5, B)))
    (entry,) = json.loads((tmp_path / "r.json").read_text())
    assert dense(entry["segmentations"][0])[B].all()


def test_wrong_input_is_refused_by_name(tmp_path):
    with ResultsWriter(tmp_path / "r.json", category_ids=[1]) as writer:
        with pytest.raises(InputError, match="video 5: position -1"):
            writer.add(5, -1, rows(0))
        with pytest.raises(InputError, match="label 1, but there are 1"):
            writer.add(5, 0, rows(0, (1, 1, 0.5, A)))
        with pytest.raises(InputError, match="track 1: score nan"):
            writer.add(5, 0, rows(0, (1, 0, np.nan, A)))
        writer.add(5, 6, rows(6))
        with pytest.raises(InputError, match="length 6, but there was a frame 6"):
            writer.finish_video(5, 6)


def test_the_rows_are_on_disk_as_soon_as_a_frame_is_added(tmp_path):
    writer = ResultsWriter(tmp_path / "r.json")
    writer.add(1, 0, rows(0, (1, 0, 0.5, A), (2, 0, 0.5, B)))
    lines = [json.loads(line) for line in (tmp_path / "r.json.rows.jsonl").read_text().splitlines()]
    assert [(line["position"], line["track_id"]) for line in lines] == [(0, 1), (0, 2)]
    assert dense(lines[1]["segmentation"])[B].all()
    assert not (tmp_path / "r.json").exists()
    writer.close()
    writer.close()


def test_an_old_file_is_replaced_only_by_a_whole_new_one(tmp_path, monkeypatch):
    (tmp_path / "r.json").write_text("old")
    writer = ResultsWriter(tmp_path / "r.json")
    writer.add(1, 0, rows(0, (1, 0, 0.5, A)))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ResultsWriter, "_write_entries", full)
    with pytest.raises(OSError, match=r"r\.json\.rows\.jsonl, one JSON line a mask") as caught:
        writer.close()
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "r.json").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.json", "r.json.rows.jsonl"]
    assert len((tmp_path / "r.json.rows.jsonl").read_text().splitlines()) == 1


def test_a_frame_cut_by_a_full_disk_leaves_the_rows_of_the_frames_before(tmp_path):
    """On a real file system of 64 kB."""
    small = tmp_path / "small"
    small.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small]).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        rng = np.random.default_rng(0)
        writer = ResultsWriter(small / "r.json")
        added = 0
        with pytest.raises(OSError, match="No space left") as caught:  # noqa: PT012
            while True:
                noise = rng.random(SIZE) < 0.5
                writer.add(1, added, rows(added, *[(i, 0, 0.5, noise) for i in range(1, 8)]))
                added += 1
        assert caught.value.errno == errno.ENOSPC
        assert added > 5
        lines = [json.loads(line) for line in (small / "r.json.rows.jsonl").read_text().splitlines()]
        assert [line["position"] for line in lines] == [i for i in range(added) for _ in range(7)]
        with pytest.raises(OSError, match="what was found is in"):
            writer.close()
        subprocess.run(["mount", "-o", "remount,size=1m", small], check=True)
        assert len((small / "r.json.rows.jsonl").read_text().splitlines()) == 7 * added
    finally:
        subprocess.run(["umount", small], check=True)


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path):
    answer = rows(0, (1, 0, 0.5, A), (2, 0, 0.5, B))
    with ResultsWriter(tmp_path / "r.json") as writer:
        for position in range(50):
            writer.add(1, position, answer)
        tracemalloc.start()
        try:
            for position in range(50, 3000):
                writer.add(1, position, answer)
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown < 20_000
        assert writer.bytes_to_come > 3000 * 2 * 100
    assert [len(e["segmentations"]) for e in json.loads((tmp_path / "r.json").read_text())] == [3000, 3000]
