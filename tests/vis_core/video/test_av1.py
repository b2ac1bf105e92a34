"""Reading AV1, which OpenCV's wheels open and do not decode."""

import struct
import sys
from fractions import Fraction

import numpy as np
import pytest

from tests.vis_core.video.container_files import write_video
from tests.vis_core.video.image_files import picture
from vis_core.errors import MissingDependencyError
from vis_core.video.opening import open_video

COUNT = 6
QUARTER_TURN = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)


@pytest.fixture(scope="module")
def av1_file(tmp_path_factory):
    """An MP4 in AV1 of ten frames a second, and its frames."""
    av = pytest.importorskip("av")
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("this PyAV encodes no AV1")
    frames = [np.roll(picture(0, (120, 160)), 3 * i, 1) for i in range(COUNT)]
    path = tmp_path_factory.mktemp("av1") / "street.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libsvtav1", rate=Fraction(10), options={"preset": "10", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path, frames


def turned(path, target):
    """The same file, said to be shown a quarter turn about."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    assert content[at : at + 4] == struct.pack(">i", 1 << 16)
    content[at : at + 36] = QUARTER_TURN
    target.write_bytes(content)
    return target


def difference(image, other):
    """Of two pictures, levels in the mean."""
    return np.abs(image.astype(int) - other).mean()


def test_its_frames_come_whole_with_their_times(av1_file):
    path, frames = av1_file
    with open_video(path) as video:
        assert (video.length, video.fps, video.size) == (COUNT, 10, (120, 160))
        for _ in range(2):  # it may be read again
            found = list(video)
            assert [frame.stamp for frame in found] == [100_000_000 * i for i in range(COUNT)]
            for frame, wanted in zip(found, frames):
                assert difference(frame.image, wanted) < difference(frame.image, np.roll(wanted, 3, 1)) / 2
        assert not video.skipped


def test_it_is_turned_as_opencv_turns_others(av1_file, tmp_path):
    path, (frame, *_) = av1_file
    write_video(tmp_path / "mp4v.mp4", COUNT, "mp4v")  # of the same frames
    quarters = []
    for number, source in enumerate((tmp_path / "mp4v.mp4", path)):
        with open_video(turned(source, tmp_path / f"{number}.mp4")) as video:
            image = next(iter(video)).image
        assert image.shape == (160, 120, 3)
        quarters.append(min((1, 3), key=lambda k: difference(image, np.rot90(frame, k))))
    assert quarters[0] == quarters[1]


def test_what_is_cut_off_gives_the_frames_that_are_there_and_says_so(av1_file, tmp_path):
    path, _ = av1_file
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    length = struct.unpack_from(">I", content, start - 8)[0] - 8
    content[start + length // 2 : start + length] = bytes(length - length // 2)
    (tmp_path / "damaged.mp4").write_bytes(content)
    with open_video(tmp_path / "damaged.mp4") as video, pytest.warns(UserWarning, match="does not decode|announces"):
        found = list(video)
    assert 0 < len(found) < COUNT
    assert video.skipped


def test_without_pyav_it_says_what_to_install(av1_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"street\.mp4: is AV1.*pip install av"):
        open_video(av1_file[0])
