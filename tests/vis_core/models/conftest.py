"""What tests of several systems need."""

import shutil

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread():
    """As the training steps were recorded: with two, single sums leave the tolerance on some CPUs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory):
    """A folder for the weights of a module's tests: hundreds of megabytes, which go with the module."""
    folder = tmp_path_factory.mktemp("weights")
    yield folder
    shutil.rmtree(folder)
