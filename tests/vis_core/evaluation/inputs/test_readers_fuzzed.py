"""Whatever a file holds, it is read or refused with an InputError: never another exception, never a crash."""

import copy
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from vis_core.errors import InputError
from vis_core.evaluation import evaluate
from vis_core.evaluation.evaluator import METRICS
from vis_core.files import run_lengths
from vis_core.files.run_lengths import GOOD, CheckedTexts, decode_text, merge_zero_runs

_CASES = Path(__file__).parents[3] / "parity" / "cases" / "evaluation" / "malformed"
BASE = json.loads((_CASES / "index.json").read_text())["base"]

numbers = st.one_of(
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.sampled_from([2**31, 2**32, 2**63, 2**64, -1, 10**30, 1e300, 0.5]),
)
texts = st.one_of(st.text(max_size=6), st.text(alphabet="0123456789:;<=>?@PQ_`abno", max_size=12))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts, st.sampled_from(["no_occlusion", "size", "counts"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["size", "counts", "id", "score", "x"]), inner, max_size=3),
    ),
    max_leaves=8,
)


def places(tree, path=()):
    """All places of a JSON tree."""
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


PLACES = {side: [path for path in places(BASE[side]) if path] for side in ("ground_truth", "results")}


def changed(side, path, action, value):
    tree = copy.deepcopy(BASE[side])
    target = tree
    for key in path[:-1]:
        target = target[key]
    if action == "replace":
        target[path[-1]] = value
    elif action == "remove":
        del target[path[-1]]
    elif isinstance(target, list):
        target.insert(path[-1], copy.deepcopy(target[path[-1]]))
    else:
        target[str(value)[:10]] = target[path[-1]]
    return tree


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["ground_truth", "results"]),
    st.randoms(use_true_random=False),
    st.sampled_from(["replace", "replace", "replace", "remove", "double"]),
    values,
    st.booleans(),
)
def test_a_changed_file_is_scored_or_refused(side, random, action, value, compat):
    # Numbers deep in run lengths are most of the tree: choose the depth first.
    depth = random.choice(sorted({len(path) for path in PLACES[side]}))
    path = random.choice([path for path in PLACES[side] if len(path) == depth])
    files = {**BASE, side: changed(side, path, action, value)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            evaluation = evaluate(files["ground_truth"], files["results"], METRICS, compat=compat)
        except InputError as error:
            assert ("ground truth" if side == "ground_truth" else "results") in str(error)  # noqa: PT017
            return
    for name in ("AP", "AP50", "AR1", "AR100", "HOTA", "AssA", "LocA", "MOTP", "IDF1"):
        score = evaluation.summary[name]
        assert (score == -1 and name[0] == "A") or 0 <= score <= 1 + 1e-12
    assert np.isfinite(list(evaluation.summary.values())).all()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60))
def test_any_file_content_is_scored_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "results.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            evaluate(BASE["ground_truth"], path)
        except InputError as error:
            assert "results" in str(error)  # noqa: PT017


def check_texts(texts: list[bytes], pixels: np.ndarray) -> CheckedTexts:
    return run_lengths.check_texts(b"".join(texts), np.array([len(text) for text in texts], np.int64), pixels)


def encode_runs(masks: list[list[int]]) -> list[bytes]:
    runs = np.array([run for mask in masks for run in mask], np.int64)
    return run_lengths.encode_runs(runs, np.array([len(mask) for mask in masks], np.int64))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=20) | st.text(alphabet="0123456789:;<=>?@PQ_`abno", max_size=20), max_size=6))
def test_a_text_that_passes_is_what_pycocotools_reads(batch):
    batch = [item.encode() if isinstance(item, str) else item for item in batch]
    sums = check_texts(batch, np.zeros(len(batch), np.int64)).sums
    checked = check_texts(batch, sums)
    for text, status, area, total in zip(batch, checked.status, checked.areas, sums, strict=True):
        if status == GOOD and 0 < total < 10**6:
            assert int(coco_mask.area({"size": [int(total), 1], "counts": text})) == area
            runs = decode_text(text)
            assert runs.sum() == total
            assert runs[1::2].sum() == area


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_texts_of_pycocotools_are_read_back(height, width, data):
    pixels = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(pixels, np.uint8).reshape(height, width)
    encoded = coco_mask.encode(np.asfortranarray(mask))
    checked = check_texts([encoded["counts"]], np.array([height * width], np.int64))
    assert checked.status[0] == GOOD
    assert checked.areas[0] == mask.sum()
    runs = decode_text(encoded["counts"])
    np.testing.assert_array_equal(
        np.repeat(np.arange(runs.size) % 2, runs), mask.ravel(order="F"), err_msg=str(encoded["counts"])
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_merged_runs_are_the_same_mask_without_zeros_inside(runs):
    if not sum(runs):
        runs.append(1)
    before = np.array(runs, np.int64)
    after = merge_zero_runs(before)
    np.testing.assert_array_equal(
        np.repeat(np.arange(after.size) % 2, after), np.repeat(np.arange(before.size) % 2, before)
    )
    assert after[1:].all()
    (text,) = encode_runs([after.tolist()])
    assert not check_texts([text], np.array([after.sum()], np.int64)).zero_inside[0]


@pytest.mark.parametrize("text", [b"o", b"P", b"oooooooooooooooo0", b"0o", b"\xff", b"\x00", b"~"])
def test_texts_that_c_code_would_misread_are_refused(text):
    assert check_texts([text, b"1"], np.array([4, 1], np.int64)).status.tolist()[0] != GOOD
    assert check_texts([text, b"1"], np.array([4, 1], np.int64)).status.tolist()[1] == GOOD


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(0, 40) | st.integers(0, 2**24 - 1) | st.integers(0, 2**31 - 1), max_size=9), max_size=5
    )
)
def test_encoded_runs_are_the_texts_of_pycocotools(masks):
    texts = encode_runs(masks)
    assert len(texts) == len(masks)
    for runs, text in zip(masks, texts, strict=True):
        if not runs or sum(runs) >= 2**31:
            continue
        assert decode_text(text).tolist() == runs
        if max(runs) < 2**24:  # pycocotools allots six characters a run: of longer texts it writes past its buffer
            expected = coco_mask.frPyObjects({"size": [sum(runs), 1], "counts": runs}, sum(runs), 1)
            assert text == expected["counts"]
