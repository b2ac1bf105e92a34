"""Scores of recorded streams: the recorded cases, rules one by one, and malformed streams."""

import copy
import gzip
import json
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vis_core.data.file_time import FILE_START
from vis_core.errors import InputError
from vis_core.evaluation import InputWarning, evaluate_stream
from vis_core.evaluation.reports.metrics_file import stream_metrics


def score(ground_truth, messages, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        return evaluate_stream(ground_truth, messages, **options)


@pytest.mark.parametrize("name", ["case_11_stream", "case_15_stream_messy"])
def test_recorded_stream_scores_as_recorded(load_case, tmp_path, name):
    case = load_case(name)
    path = tmp_path / "stream.jsonl"
    path.write_bytes(gzip.decompress((case.folder / "stream.jsonl.gz").read_bytes()))
    expected = dict(case.headline["expected"])
    found = stream_metrics(score(case.ground_truth, path), "gt", "stream")
    for policy in ("strict", "hold", "live", "answered"):
        for key, value in expected.pop(policy).items():
            assert found["policies"][policy]["summary"][key] == pytest.approx(value, abs=1e-12), (policy, key)
    first = expected.pop("time_to_first_detection_s")
    assert found["time_to_first_detection_s"].pop("per_track") == pytest.approx(first.pop("per_track"), abs=1e-12)
    assert found["time_to_first_detection_s"] == pytest.approx(first, abs=1e-12)
    assert found["latency_s"] == pytest.approx(expected.pop("latency_s"), abs=1e-12)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-12), key


SECOND = 10**9


def column(position):
    counts = [position * 10, 10, (9 - position) * 10]
    return {"size": [10, 10], "counts": counts if counts[-1] else counts[:-1]}


def truth(columns, **extra):
    """One track at a column in each frame, a frame a second from second 1."""
    return {
        "videos": [
            {"id": 1, "width": 10, "height": 10, "length": len(columns), "stamps": [SECOND * (i + 1) for i in range(4)]}
        ],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {
                "id": 1,
                "video_id": 1,
                "category_id": 1,
                "segmentations": [None if c is None else column(c) for c in columns],
                **extra,
            }
        ],
    }


def message(stamp, arrival, at, category=1, value=0.5, track_id=1):
    segmentation = None if at is None else column(at)
    track = {"track_id": track_id, "category_id": category, "score": value, "segmentation": segmentation}
    return {"stamp": int(stamp * SECOND), "arrival": int(arrival * SECOND), "tracks": [track]}


def test_strict_takes_the_stamp_hold_the_latest_stamp_live_the_latest_arrival():
    ground_truth = truth([0, 1, 2, 3])
    messages = [message(1, 2.5, 0), message(3, 3.2, 2)]
    policies = score(ground_truth, messages).policies
    ious = {name: part.matches[1][1].ious[0, 0] for name, part in policies.items()}
    assert ious["strict"] == 20 / 40  # frames 1 and 3 of 4 are right
    assert ious["hold"] == 20 / 60  # 0, 0, 2, 2
    assert ious["live"] == 0  # nothing, nothing, 0, 2: always late
    assert ious["answered"] == 1


def test_of_two_messages_with_one_stamp_the_later_in_the_file_counts():
    evaluation = score(truth([0, 1, 2, 3]), [message(1, 1.1, 9), message(1, 1.05, 0)])
    assert evaluation.policies["answered"].matches[1][1].ious[0, 0] == 1
    evaluation = score(truth([0, 1, 2, 3]), [message(1, 1.05, 0), message(1, 1.1, 9)])
    assert evaluation.policies["answered"].matches[1][1].ious[0, 0] == 0


def test_the_stream_of_a_recording_that_was_made_of_a_file_is_told_in_the_file_s_time():
    messages = [message(1, 2.5, 0), message(3, 3.2, 2)]
    later = [{**m, "stamp": m["stamp"] + FILE_START, "arrival": m["arrival"] + FILE_START} for m in messages]
    expected, found = score(truth([0, 1, 2, 3]), messages), score(truth([0, 1, 2, 3]), later)
    assert found.answered_frames == expected.answered_frames == 2
    for policy in ("strict", "hold", "live", "answered"):
        assert found.policies[policy].summary == expected.policies[policy].summary


def test_a_message_that_says_its_frame_is_found_by_it_whatever_the_stamps():
    """Stamps go back, are equal, are zero, or are another frame's."""
    right = [message(1, 1, 0), message(2, 2, 1), message(3, 3, 2), message(4, 4, 3)]
    expected = score(truth([0, 1, 2, 3]), right)
    for stamps in ([4, 3, 2, 1], [2, 2, 2, 2], [0, 0, 0, 0]):
        told = [{**item, "stamp": stamp * SECOND, "frame": f} for f, (item, stamp) in enumerate(zip(right, stamps))]
        found = score(truth([0, 1, 2, 3]), told)
        for policy in ("strict", "answered"):
            assert found.policies[policy].summary == expected.policies[policy].summary
        assert found.first_detection == expected.first_detection == {1: 0}
        assert (found.answered_frames, found.dropped_frames) == (4, 0)


def test_a_message_that_says_it_is_no_frame_is_none_though_a_frame_has_its_stamp():
    messages = [{**message(1, 1.1, 0), "frame": 0}, {**message(1, 1.2, 9), "frame": -1}]
    evaluation = score(truth([0, 1, 2, 3]), messages)
    assert evaluation.answered_frames == 1
    assert evaluation.policies["answered"].matches[1][1].ious[0, 0] == 1


@pytest.mark.parametrize("frame", [4, -2, 1.0, None, "1", True])
def test_a_frame_that_the_video_does_not_have_is_refused(frame):
    with pytest.raises(InputError, match=r"stream line 1: frame .* is no position in a video of 4 frames"):
        score(truth([0, 1, 2, 3]), [{**message(1, 1, 0), "frame": frame}])


def test_messages_that_only_a_stamp_of_zero_tells_apart_are_refused():
    score(truth([0, 1, 2, 3]), [message(0, 1, 0), message(2, 2, 1)])
    with pytest.raises(InputError, match=r"stream line 3: stamp 0 as in line 1: .*its frame"):
        score(truth([0, 1, 2, 3]), [message(0, 1, 0), message(2, 2, 1), message(0, 2, 1)])


@pytest.mark.parametrize(
    ("stamps", "arrivals", "late"), [((0, 0, 0), (91, 92, 94), 0), ((7, 7, 8), (7.2, 7.2, 8.2), 0.2)]
)
def test_where_stamps_repeat_sequence_numbers_tell_the_frames(stamps, arrivals, late):
    """The third of four frames was not answered."""
    kept = (0, 1, 3)
    told = [message(*times, k) | {"sequence": k} for k, *times in zip(kept, stamps, arrivals)]
    with pytest.warns(InputWarning, match="stamps repeat; there are as many sequence numbers as frames"):
        found = evaluate_stream(truth([0, 1, 2, 3]), told)
    expected = score(truth([0, 1, 2, 3]), [message(k + 1, k + 1 + late, k) for k in kept])
    for policy in ("strict", "hold", "live", "answered"):
        assert found.policies[policy].summary == expected.policies[policy].summary
    assert found.first_detection == pytest.approx(expected.first_detection)
    assert found.latency == pytest.approx(expected.latency)
    assert (found.answered_frames, found.dropped_frames) == (3, 1)


@pytest.mark.parametrize("numbers", [(0, 1), (3, 0), (3, 3), (0, 4), (-1, 3), (0, "3"), (0, None)])
def test_sequence_numbers_that_cannot_be_those_of_the_frames_are_not_taken_as_such(numbers):
    with pytest.raises(InputError, match="stamp 0 as in line 1"):
        score(truth([0, 1, 2, 3]), [message(0, 5, 0) | {"sequence": number} for number in numbers])


def test_messages_with_one_stamp_are_told():
    with pytest.warns(InputWarning, match="stream line 2: stamp 1000000000 as in line 1: .*last counts"):
        evaluate_stream(truth([0, 1, 2, 3]), [message(1, 1, 0), message(1, 2, 0)])


def test_of_two_messages_that_arrived_together_live_takes_the_later_stamp():
    messages = [message(2, 3, 2), message(1, 3, 9)]
    assert score(truth([None, None, 2, None]), messages).policies["live"].matches[1][1].ious[0, 0] == 0.5


def test_category_and_score_come_from_all_messages():
    messages = [message(1, 1, 0, 2, 0.9), message(2, 2, 1, 1, 0.5), message(3, 3, 2, 1, 0.5), message(9, 9, 0, 1, 0.1)]
    matches = score(truth([0, 1, 2, 3]), messages).policies["strict"].matches[1][1]
    assert matches.scores.tolist() == [pytest.approx(0.5)]
    tie = [message(1, 1, 0, 2, 0.5), message(2, 2, 1, 1, 0.5)]
    assert score(truth([0, 1, 2, 3]), tie).policies["strict"].matches[1][1].scores.size == 1


def test_first_detection_waits_for_category_and_overlap():
    ground_truth = truth([None, 1, 2, 3])
    messages = [message(2, 2.1, 1, category=2), message(3, 3.5, 9), message(4, 4.25, 3)]
    evaluation = score(ground_truth, messages)
    assert evaluation.first_detection == {1: pytest.approx(2.25)}
    assert evaluation.first_detection_summary == {"mean": 2.25, "median": 2.25, "never": 0}
    never = score(ground_truth, messages[:2])
    assert never.first_detection_summary == {"mean": None, "median": None, "never": 1}
    assert score(truth([0, 1, 2, 3], iscrowd=1), messages).first_detection == {}


def test_an_empty_stream_scores_zero(tmp_path):
    path = tmp_path / "stream.jsonl"
    path.write_text("")
    evaluation = score(truth([0, 1, 2, 3]), path)
    assert [part.summary["AP"] for part in evaluation.policies.values()] == [0, 0, 0, -1]
    assert (evaluation.answered_frames, evaluation.dropped_frames, evaluation.latency) == (0, 4, None)


def broken(change):
    messages = [message(1, 1, 0), message(2, 2, 1)]
    change(messages)
    return messages


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: m[1].pop("stamp"), ["line 2", "stamp is missing"]),
        (lambda m: m[1].update(arrival=1.5), ["line 2", "arrival 1.5"]),
        (lambda m: m[1].update(stamp=2**70), ["line 2", "stamp"]),
        (lambda m: m[0].update(tracks={}), ["line 1", "tracks"]),
        (lambda m: m.__setitem__(0, 7), ["line 1", "7"]),
        (lambda m: m[0]["tracks"].append(m[0]["tracks"][0]), ["line 1 tracks[1]", "track_id 1", "tracks[0]"]),
        (lambda m: m[0]["tracks"][0].update(track_id="x"), ["line 1 tracks[0]", "track_id", '"x"']),
        (lambda m: m[0]["tracks"][0].update(score=float("nan")), ["line 1 tracks[0]", "score", "NaN"]),
        (lambda m: m[0]["tracks"][0].pop("segmentation"), ["line 1 tracks[0]", "segmentation"]),
        (lambda m: m[1]["tracks"][0]["segmentation"].update(size=[9, 9]), ["line 2 tracks[0]", "size [9, 9]"]),
        (lambda m: m[1]["tracks"][0]["segmentation"].update(counts="~"), ["line 2 tracks[0]", "counts"]),
    ],
)
def test_a_malformed_stream_is_an_error_that_names_the_place(change, named):
    with pytest.raises(InputError) as caught:
        score(truth([0, 1, 2, 3]), broken(change))
    for text in named:
        assert text in str(caught.value)


def test_a_torn_line_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "stream.jsonl"
    path.write_text(json.dumps(message(1, 1, 0)) + "\n" + json.dumps(message(2, 2, 1))[:40])
    with pytest.raises(InputError, match=r"stream\.jsonl: stream line 2: not JSON"):
        score(truth([0, 1, 2, 3]), path)


def test_ground_truth_without_stamps_is_refused():
    ground_truth = copy.deepcopy(truth([0, 1, 2, 3]))
    del ground_truth["videos"][0]["stamps"]
    with pytest.raises(InputError, match="stamps"):
        score(ground_truth, [])


@pytest.mark.parametrize("messages", [[message(0.5, 0.7, 0)], [message(1, 0.7, 0)]])
def test_stamps_of_another_recording_or_clock_are_told(messages):
    with pytest.warns(InputWarning, match="another recording|clocks"):
        evaluate_stream(truth([0, 1, 2, 3]), messages)


def test_an_unknown_category_is_told_and_dropped():
    with pytest.warns(InputWarning, match="category_id 7"):
        evaluation = evaluate_stream(truth([0, 1, 2, 3]), [message(1, 1, 0, category=7)])
    assert evaluation.policies["strict"].summary["IDs"] == 0


stamps = st.one_of(st.integers(-1, 5).map(lambda s: s * SECOND), st.integers(), st.none(), st.floats(0, 9e9))
tracks = st.fixed_dictionaries(
    {},
    optional={
        "track_id": st.one_of(st.integers(0, 2), st.integers(), st.none()),
        "category_id": st.integers(0, 3),
        "score": st.one_of(st.floats(), st.floats(0, 1), st.none()),
        "segmentation": st.one_of(
            st.none(), st.integers(0, 9).map(column), st.dictionaries(st.sampled_from(["size", "counts"]), st.text())
        ),
    },
)
sound_tracks = st.builds(
    lambda i, c, s, at: {"track_id": i, "category_id": c, "score": s, "segmentation": None if at < 0 else column(at)},
    st.integers(0, 2),
    st.integers(0, 3),
    st.floats(0, 1),
    st.integers(-1, 9),
)
messages = st.one_of(
    st.fixed_dictionaries({}, optional={"stamp": stamps, "arrival": stamps, "tracks": st.lists(tracks, max_size=2)}),
    st.fixed_dictionaries(
        {
            "stamp": st.integers(0, 10).map(lambda s: s * SECOND // 2),
            "arrival": st.integers(0, 10).map(lambda s: s * SECOND // 2),
            "tracks": st.lists(sound_tracks, max_size=3, unique_by=lambda track: track["track_id"]),
        }
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(messages, max_size=5))
def test_any_stream_is_scored_or_refused(content):
    try:
        evaluation = score(truth([0, None, 2, 3]), content)
    except InputError as error:
        assert "stream" in str(error)  # noqa: PT017
        return
    for part in evaluation.policies.values():
        assert part.summary["AP"] == -1 or 0 <= part.summary["AP"] <= 1
        assert 0 <= part.summary["IDF1"] <= 1
    assert evaluation.answered_frames + evaluation.dropped_frames == 4
