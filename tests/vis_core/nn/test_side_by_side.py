"""Two parts of a network at once: both results, without gradients, errors, and one thread."""

import threading

import pytest
import torch

from vis_core.nn.side_by_side import SideBySide


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
