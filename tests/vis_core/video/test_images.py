"""Images written: as their names end, and without a word of what their kind does not know."""

import numpy as np
import pytest

from vis_core.errors import InputError
from vis_core.video.images import read_image, write_image

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["a.png", "deep/b.jpg", "c.JPEG"])
def test_an_image_is_written_as_its_name_ends_and_nothing_is_said(tmp_path, capfd, name):
    write_image(tmp_path / name, IMAGE)
    assert capfd.readouterr() == ("", "")
    found = read_image(tmp_path / name)
    assert found.shape == IMAGE.shape
    assert (found == IMAGE).all() == name.endswith(".png")


def test_a_kind_that_opencv_does_not_write_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.xyz: OpenCV writes no image of this kind"):
        write_image(tmp_path / "a.xyz", IMAGE)
    assert not list(tmp_path.iterdir())
