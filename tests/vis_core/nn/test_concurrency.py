"""Two parts of a network at once: both results, without gradients, errors, and one thread."""

import os
import subprocess
import sys
import threading
from copy import deepcopy

import pytest
import torch

from vis_core.nn.concurrency import Prefetcher, SideBySide, set_thread_count, thread_count


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_both_run_without_gradients_and_in_two_threads_if_there_are(threads):
    def part():
        return torch.is_inference_mode_enabled(), threading.get_ident()

    first, second = SideBySide()(part, part)
    assert first == (True, threading.get_ident())
    assert second[0] and (second[1] == first[1]) == (threads == 1)
    assert torch.get_num_threads() == threads and not torch.is_inference_mode_enabled()


def test_they_run_at_once():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    meeting = threading.Barrier(2, timeout=30)
    try:
        assert sorted(SideBySide()(meeting.wait, meeting.wait)) == [0, 1]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("faulty", [0, 1])
def test_an_error_of_either_is_raised_and_the_next_call_works(threads, faulty):
    def fails():
        raise ValueError("no")

    beside, ended = SideBySide(), []
    parts = [lambda: ended.append(1), lambda: ended.append(1)]
    parts[faulty] = fails
    with pytest.raises(ValueError, match="no"):
        beside(*parts)
    assert threads == 1 or ended == [1]
    assert beside(lambda: 1, lambda: "a") == (1, "a")


def test_what_was_begun_is_taken_once_and_by_the_very_item():
    made = []

    def function(item):
        made.append((item[0], torch.is_inference_mode_enabled(), threading.get_ident()))
        return item[0]

    ahead, items = Prefetcher(function), [["a"], ["b"], ["c"], ["d"]]
    assert ahead.take(items[0]) is None
    ahead.begin(items[1])
    ahead.begin(items[2])  # while the one before is at work
    assert (ahead.take(["b"]), ahead.take(items[1]), ahead.take(items[1])) == (None, "b", None)
    ahead.begin(items[3])
    assert (ahead.take(items[3]), ahead.take(items[2])) == ("d", "c")
    assert [entry[:2] for entry in made] == [("b", True), ("c", True), ("d", True)]
    assert threading.get_ident() not in [entry[2] for entry in made]


def test_no_more_than_two_items_are_remembered():
    ahead, items = Prefetcher(lambda item: item[0]), [[i] for i in range(4)]
    for item in items:
        ahead.begin(item)
    assert [ahead.take(item) for item in items] == [None, None, 2, 3]


def test_an_error_is_raised_where_the_item_is_taken():
    def fails(item):
        raise ValueError("no")

    ahead, item = Prefetcher(fails), ["a"]
    ahead.begin(item)
    with pytest.raises(ValueError, match="no"):
        ahead.take(item)
    assert ahead.take(item) is None


def test_a_copy_runs_both_in_a_thread_of_its_own(threads):
    both = SideBySide()
    assert both(lambda: 1, lambda: 2) == deepcopy(both)(lambda: 1, lambda: 2) == (1, 2)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from vis_core.nn.concurrency import Prefetcher, SideBySide, set_thread_count, thread_count
found = [thread_count()]
set_thread_count(3)
ahead, item = Prefetcher(lambda item: item[0]), ["a"]
ahead.begin(item)
print(*found, thread_count(), ahead.take(item), *SideBySide()(lambda: 1, lambda: 2))
"""


def test_without_torch_the_threads_are_those_of_the_environment_until_they_are_chosen():
    environment = {**os.environ, "OMP_NUM_THREADS": "5"}
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["5", "3", "a", "1", "2"], done.stderr


def test_with_torch_the_threads_are_its_own(threads):
    assert thread_count() == threads
    set_thread_count(3 - threads)
    assert torch.get_num_threads() == thread_count() == 3 - threads
