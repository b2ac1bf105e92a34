"""Recordings written and read, sound and damaged, without a ROS installation."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from vis_core.errors import InputError, OptionError
from vis_core.structures import Frame
from vis_core.video.sources import Skipped
from vis_ros.recordings.bag_writer import write_bag
from vis_ros.recordings.bags import COMPRESSED_IMAGE, IMAGE, ImageBag, serialised_stamp, typestore

ROOT = Path(__file__).resolve().parents[3]
STORAGES = ("sqlite3", "mcap")
SUFFIX = {"sqlite3": "db3", "mcap": "mcap"}
START = 1_700_000_000_123_456_789


def frames(count: int = 5, size: tuple[int, int] = (24, 32)) -> list[Frame]:
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    return [Frame(image, START + i * 33_333_333, i) for i, image in enumerate(images)]


def image_message(stamp: int = START, **changes: Any) -> Any:
    types = typestore().types
    header = types["std_msgs/msg/Header"](
        stamp=types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id="camera"
    )
    fields = {"height": 24, "width": 32, "encoding": "mono8", "is_bigendian": 0, "step": 32}
    fields["data"] = np.full(24 * 32, 7, np.uint8)
    return types[IMAGE](header=header, **{**fields, **changes})


def text_message() -> Any:
    return typestore().types["std_msgs/msg/String"](data="hello")


def write_messages(
    path: Path, topics: dict[str, tuple[str, list[Any]]], storage: str = "sqlite3", mode: str = "NONE"
) -> Path:
    """A recording of any messages, through the library alone; bytes are written as they are."""
    writer = Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()])
    writer.set_compression(CompressionMode[mode], CompressionFormat.ZSTD)
    with writer:
        for topic, (kind, content) in topics.items():
            connection = writer.add_connection(topic, kind, typestore=typestore())
            for i, message in enumerate(content):
                data = message if isinstance(message, bytes) else bytes(typestore().serialize_cdr(message, kind))
                writer.write(connection, START + i, data)
    return path


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "png"])
def test_what_is_written_is_read_pixel_for_pixel(tmp_path, storage, compression, encoding):
    sent = frames()
    topic = write_bag(sent, tmp_path / "bag", storage=storage, compression=compression, encoding=encoding)
    assert [file.suffix for file in (tmp_path / "bag").glob("bag.*")] == [f".{SUFFIX[storage]}"]
    with ImageBag(tmp_path / "bag") as bag:
        received = list(bag)
        assert bag.topics == (topic,)
        assert bag.stamps().tolist() == [frame.stamp for frame in sent]
        assert (bag.length, bag.size, bag.compressed) == (5, (24, 32), encoding == "png")
        assert bag.fps == pytest.approx(30, rel=1e-6)
    assert [(frame.stamp, frame.index) for frame in received] == [(frame.stamp, frame.index) for frame in sent]
    for frame, original in zip(received, sent, strict=True):
        np.testing.assert_array_equal(frame.image, original.image)


@pytest.mark.parametrize("storage", STORAGES)
def test_mono_and_jpeg_lose_only_what_they_must(tmp_path, storage):
    sent = Frame(np.full((24, 32, 3), (10, 120, 230), np.uint8), START, 0)
    write_bag([sent], tmp_path / "grey", encoding="mono8", storage=storage)
    write_bag([sent], tmp_path / "jpeg", encoding="jpeg", storage=storage)
    with ImageBag(tmp_path / "grey") as bag:
        np.testing.assert_array_equal(next(iter(bag)).image[..., 0], cv2.cvtColor(sent.image, cv2.COLOR_RGB2GRAY))
    with ImageBag(tmp_path / "jpeg") as bag:
        assert bag.topic.name == "/camera/image_raw/compressed"
        assert np.abs(next(iter(bag)).image.astype(int) - sent.image).max() <= 8


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("mode", ["NONE", "FILE", "MESSAGE"])
def test_recordings_of_other_tools_are_read_in_every_compression(tmp_path, storage, mode):
    path = write_messages(tmp_path / "bag", {"/image": (IMAGE, [image_message()] * 3)}, storage, mode)
    with ImageBag(path) as bag:
        assert [frame.image.mean() for frame in bag] == [7, 7, 7]


@pytest.mark.parametrize("storage", STORAGES)
def test_the_storage_file_alone_is_a_recording(tmp_path, storage):
    write_bag(frames(), tmp_path / "bag", storage=storage)
    with ImageBag(tmp_path / "bag" / f"bag.{SUFFIX[storage]}") as bag:
        assert len(list(bag)) == 5


@pytest.mark.parametrize("storage", STORAGES)
def test_a_recording_without_metadata_is_read_with_a_warning(tmp_path, storage):
    write_bag(frames(), tmp_path / "bag", storage=storage)
    (tmp_path / "bag" / "metadata.yaml").unlink()
    with pytest.warns(UserWarning, match=r"no metadata\.yaml"), ImageBag(tmp_path / "bag") as bag:
        assert len(list(bag)) == 5


def test_a_recording_is_read_again_from_its_beginning(tmp_path):
    write_bag(frames(), tmp_path / "bag")
    with ImageBag(tmp_path / "bag") as bag:
        next(iter(bag))
        assert [frame.index for frame in bag] == [0, 1, 2, 3, 4]


def test_a_message_gives_the_stamp_that_its_header_has(tmp_path):
    for stamp in (0, 1, START, (2**31 - 1) * 10**9):
        assert serialised_stamp(bytes(typestore().serialize_cdr(image_message(stamp), IMAGE))) == stamp
    with pytest.raises(InputError, match="no stamp"):
        serialised_stamp(b"\0\1\0\0")


# Which topic


@pytest.fixture
def several(tmp_path) -> Path:
    topics = {
        "/left": (IMAGE, [image_message()] * 2),
        "/right/compressed": (COMPRESSED_IMAGE, []),
        "/talk": ("std_msgs/msg/String", [text_message()]),
    }
    return write_messages(tmp_path / "several", topics)


LISTED = r"/left \(sensor_msgs/msg/Image, 2 messages\); .*/talk \(std_msgs/msg/String, 1 messages\)"


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        (None, "several topics of images, name one with --topic"),
        ("/rear", "no topic /rear"),
        ("talk", "topic /talk is of type std_msgs/msg/String, not of images"),
        ("/right/compressed", "topic /right/compressed has no message"),
    ],
)
def test_a_topic_that_cannot_be_read_is_an_error_that_lists_what_there_is(several, topic, text):
    with pytest.raises(InputError, match=f"{text}.*{LISTED}"):
        ImageBag(several, topic)


def test_a_topic_is_chosen_by_name(several):
    with ImageBag(several, "left") as bag:
        assert bag.topic.name == "/left"


def test_a_recording_without_images_lists_what_there_is(tmp_path):
    write_messages(tmp_path / "talk", {"/talk": ("std_msgs/msg/String", [text_message()])})
    with pytest.raises(InputError, match=r"no topic of images .*holds /talk \(std_msgs/msg/String, 1 messages\)"):
        ImageBag(tmp_path / "talk")


# Damage


@pytest.mark.parametrize("storage", STORAGES)
def test_an_empty_recording_says_so(tmp_path, storage):
    path = write_messages(tmp_path / "bag", {"/image": (IMAGE, [])}, storage)
    with pytest.raises(InputError, match=r"is empty.*holds /image \(sensor_msgs/msg/Image, 0 messages\)"):
        ImageBag(path)


@pytest.mark.parametrize("kept", [0, 5, 40, 300, 4096, 20_000, 50_000])
@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.filterwarnings("ignore:.*no metadata.yaml")
def test_a_recording_cut_off_anywhere_is_a_clear_error(tmp_path, storage, metadata, kept):
    write_bag(frames(30), tmp_path / "bag", storage=storage)
    file = tmp_path / "bag" / f"bag.{SUFFIX[storage]}"
    file.write_bytes(file.read_bytes()[:kept])
    if not metadata:
        (tmp_path / "bag" / "metadata.yaml").unlink()
    with pytest.raises(InputError, match="torn") as caught, ImageBag(tmp_path / "bag") as bag:
        bag.stamps()
    assert str(tmp_path / "bag") in str(caught.value)
    assert "recover" in str(caught.value)
    if metadata:
        assert "/camera/image_raw (sensor_msgs/msg/Image, 30 messages)" in str(caught.value)


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.filterwarnings("ignore:.*no metadata.yaml")
def test_of_a_cut_off_mcap_what_is_whole_is_read_with_a_word(tmp_path, compression, metadata):
    sent = frames(1200)  # more than one chunk
    write_bag(sent, tmp_path / "bag", storage="mcap", compression=compression)
    if not metadata:
        (tmp_path / "bag" / "metadata.yaml").unlink()
    file = tmp_path / "bag" / "bag.mcap"
    content = file.read_bytes()
    for kept, whole in ((len(content) * 2 // 3, False), (len(content) - 1, True)):
        file.write_bytes(content[:kept])
        with pytest.warns(UserWarning, match=r"bag\.mcap: is cut off .*the \d+ messages before are read"):
            bag = ImageBag(tmp_path / "bag")
        with bag:
            count = bag.length
            assert count == 1200 if whole else 0 < count < 1200
            assert bag.stamps().tolist() == [frame.stamp for frame in sent[:count]]
            assert bag.fps == pytest.approx(30, rel=1e-3)
            for frame, original in zip(bag, sent, strict=False):
                np.testing.assert_array_equal(frame.image, original.image)
    file.write_bytes(content[: len(content) // 2] + bytes(9999))  # room that the file system had taken, not filled
    with pytest.warns(UserWarning, match="is cut off"), ImageBag(file) as bag:
        assert 0 < bag.length < 1200 and len(list(bag)) == bag.length


def test_fewer_images_than_announced_are_an_error(tmp_path):
    write_bag(frames(), tmp_path / "bag")
    metadata = tmp_path / "bag" / "metadata.yaml"
    content = yaml.safe_load(metadata.read_text())
    content["rosbag2_bagfile_information"]["topics_with_message_count"][0]["message_count"] = 9
    metadata.write_text(yaml.safe_dump(content))
    with ImageBag(tmp_path / "bag") as bag, pytest.raises(InputError, match=r"announces 9 images.*holds 5"):
        bag.stamps()


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_text("hello"), lambda path: None])
def test_what_is_no_recording_is_refused(tmp_path, make):
    path = tmp_path / "street"
    make(path)
    with pytest.raises(InputError, match=r"street: (no such recording|no metadata\.yaml|is neither)"):
        ImageBag(path)


def test_a_bag_of_ros_1_is_named_as_such(tmp_path):
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(InputError, match=r"ROS 1 bag; `rosbags-convert"):
        ImageBag(tmp_path / "old.bag")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (image_message(START + 1, step=5), "step 5"),
        (image_message(START + 1, encoding="rgb9"), "encoding 'rgb9'"),
        (image_message(START + 1, data=np.zeros(9, np.uint8)), "9 bytes"),
        (image_message(START + 1, height=48, data=np.zeros(48 * 32, np.uint8)), "is 32x48, the first is 32x24"),
        (bytes(typestore().serialize_cdr(image_message(START + 1), IMAGE))[:40], "is no sensor_msgs/msg/Image"),
    ],
)
def test_a_bad_image_is_named_by_its_stamp_and_left_out(tmp_path, bad, reason):
    content = [image_message(START), bad, image_message(START + 2)]
    path = write_messages(tmp_path / "bag", {"/image": (IMAGE, content)})
    told: list[Skipped] = []
    with ImageBag(path) as bag:
        bag.on_skip = told.append
        assert [frame.index for frame in bag] == [0, 2]
    (skipped,) = told
    assert skipped.name == f"/image stamp {(START + 1) // 10**9}.{(START + 1) % 10**9:09d}"
    assert reason in skipped.reason


def test_a_recording_of_bad_images_only_says_why(tmp_path):
    path = write_messages(tmp_path / "bag", {"/image": (IMAGE, [image_message(encoding="32FC1")] * 2)})
    with pytest.raises(InputError, match=r"none of the 2 images of /image can be used; the first: encoding '32FC1'"):
        ImageBag(path)


@pytest.mark.parametrize("storage", STORAGES)
def test_reading_holds_only_a_few_images_in_memory(tmp_path, storage):
    one = 120 * 160 * 3
    write_bag(frames(400, (120, 160)), tmp_path / "bag", storage=storage)
    with ImageBag(tmp_path / "bag") as bag:
        tracemalloc.start()
        try:
            count = sum(1 for _ in bag)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert count == 400
    assert peak < 100 * one  # a chunk of MCAP is 1 MiB, 18 images


def test_reading_and_scoring_recordings_needs_no_ros(tmp_path):
    write_bag(frames(), tmp_path / "bag", encoding="jpeg")
    code = (
        "import sys\n"
        "for name in ('rclpy', 'vis_ros.msg', 'sensor_msgs', 'torch'):\n"
        "    sys.modules[name] = None\n"
        "from vis_ros import cli\nfrom vis_ros.recordings import bag_evaluation, bag_writer, bags\n"
        f"print(len(list(bags.ImageBag({str(tmp_path / 'bag')!r}))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("5\n", 0), done.stderr


def test_a_recording_of_sixteen_bits_is_read_by_one_range_that_is_found_or_given(tmp_path):
    def message(high: int) -> Any:
        values = np.linspace(7000, high, 24 * 32).round().astype("<u2")
        return image_message(encoding="16UC1", step=64, data=np.frombuffer(values.tobytes(), np.uint8))

    path = write_messages(tmp_path / "bag", {"/image": (IMAGE, [message(7500), message(8000)])})
    with pytest.raises(
        InputError, match=r"none of the 2 images .* 16-bit values from 7000 to 7500 .* auto or 7000,7500"
    ):
        ImageBag(path)
    with pytest.raises(OptionError, match="give auto, or MIN,MAX"):
        ImageBag(path, value_range="8000,7000")
    for value_range, told in (("7000,8000", "7000 to 8000"), ("auto", "found by the first images")):
        with ImageBag(path, value_range=value_range) as bag:
            first, second = (frame.image for frame in bag)
            again = [frame.image for frame in bag]
        assert told in bag.notes[0]
        np.testing.assert_array_equal(again, [first, second])
        assert 120 < first.max() < 135 and second.max() == 255
