"""What tests of several systems need."""

import shutil

import pytest


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory):
    """A folder for the weights of a module's tests: hundreds of megabytes, which go with the module."""
    folder = tmp_path_factory.mktemp("weights")
    yield folder
    shutil.rmtree(folder)
