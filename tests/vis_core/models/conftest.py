"""What tests of several systems need."""

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread():
    """As the training steps were recorded: with two, single sums leave the tolerance on some processors."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
