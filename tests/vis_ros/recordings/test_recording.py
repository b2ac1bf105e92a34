"""What lies in and beside the files of a recording: read where it is sound, else told in words of its own."""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from tests.vis_ros.recordings.test_bags import (
    START,
    STORAGES,
    SUFFIX,
    frames,
    image_message,
    text_message,
    write_messages,
)
from vis_core.errors import InputError
from vis_ros.recordings.bag_writer import write_bag
from vis_ros.recordings.bags import IMAGE, ImageBag, typestore
from vis_ros.recordings.mcap_file import MAGIC

CAMERA = {"/image": (IMAGE, [image_message(START + i) for i in range(4)])}
LIMITS = (QosTime(0, 0), QosTime(0, 0), QosLiveliness.AUTOMATIC, QosTime(0, 0))
BINARY = bytes(range(128, 256))  # no UTF-8


def image_bytes(stamp: int) -> bytes:
    return bytes(typestore().serialize_cdr(image_message(stamp), IMAGE))


def text(content: str | bytes) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return struct.pack("<I", len(content)) + content


def record(operation: int, *content: bytes) -> bytes:
    joined = b"".join(content)
    return struct.pack("<BQ", operation, len(joined)) + joined


def write_mcap(
    path: Path,
    *,
    profile: str = "ros2",
    other: tuple[str, bytes, str] | None = None,
    compression: str | None = None,
    order: tuple[int, ...] = (0, 1, 2, 3),
    image_encoding: str = "cdr",
) -> Path:
    """An MCAP without a summary: four images, and a message of another channel (encoding, definition, of messages)."""
    records = record(3, struct.pack("<H", 1), text(IMAGE), text("ros2msg"), text("uint32 height"))
    records += record(4, struct.pack("<HH", 1, 1), text("/image"), text(image_encoding), text(b""))
    if other:
        encoding, definition, messages = other
        records += record(3, struct.pack("<H", 2), text("Position"), text(encoding), text(definition))
        records += record(4, struct.pack("<HH", 2, 2), text("/gps"), text(messages), text(text("a") + text("b")))
        records += record(5, struct.pack("<HIQQ", 2, 0, START, START), b"{}")
    for i in order:
        records += record(5, struct.pack("<HIQQ", 1, i, START + i, START + i), image_bytes(START + i))
    if compression is not None:
        head = struct.pack("<QQQI", START, START + 3, len(records), zlib.crc32(records))
        records = record(6, head, text(compression), struct.pack("<Q", len(records)), records)
    end = record(15, struct.pack("<I", 0)) + record(2, struct.pack("<QQI", 0, 0, 0))
    path.write_bytes(MAGIC + record(1, text(profile), text("test")) + records + end + MAGIC)
    return path


def change_metadata(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = folder / "metadata.yaml"
    content = yaml.safe_load(file.read_text())
    change(content["rosbag2_bagfile_information"])
    file.write_text(yaml.safe_dump(content))


def stamps(path: Path, topic: str | None = None) -> list[int]:
    with ImageBag(path, topic) as bag:
        assert bag.stamps().tolist() == [frame.stamp for frame in bag]
        return [int(stamp) - START for stamp in bag.stamps()]


# Other channels beside the camera


@pytest.mark.parametrize("compression", [None, ""])
@pytest.mark.parametrize(
    "other", [("jsonschema", b"{}", "json"), ("protobuf", BINARY, "protobuf"), ("", b"", "json"), ("x", b"", "y")]
)
@pytest.mark.parametrize("profile", ["ros2", ""])
def test_channels_of_any_encoding_may_lie_beside_the_camera(tmp_path, profile, other, compression):
    path = write_mcap(tmp_path / "drive.mcap", profile=profile, other=other, compression=compression)
    assert stamps(path) == [0, 1, 2, 3]
    with ImageBag(path) as bag:
        assert [str(topic) for topic in bag.topics] == [
            f"/gps (Position in {other[2]}, 1 messages)",
            "/image (sensor_msgs/msg/Image, 4 messages)",
        ]
    with pytest.raises(InputError, match=f"topic /gps is of type Position in {other[2]}, not of images"):
        ImageBag(path, "gps")


@pytest.mark.parametrize("name", ["camera_alone", "camera_and_json", "camera_and_protobuf"])
def test_recorded_files_with_other_channels_are_read_whole(shared, name):
    file = shared / "cases" / "reports" / "14-mcap-other-channel" / f"{name}.mcap"
    if not file.exists():
        pytest.skip(f"needs {file}")
    with ImageBag(file) as bag:
        assert (bag.topic.name, len(list(bag))) == ("/cam/image_raw", 4)


def test_a_folder_whose_metadata_tells_of_another_encoding_is_read(tmp_path):
    folder = write_messages(tmp_path / "bag", CAMERA, "mcap")
    write_mcap(folder / "bag.mcap", other=("protobuf", BINARY, "protobuf"))
    other = {"name": "/gps", "type": "Position", "serialization_format": "protobuf", "offered_qos_profiles": []}
    change_metadata(
        folder, lambda told: told["topics_with_message_count"].append({"topic_metadata": other, "message_count": 1})
    )
    assert stamps(folder) == [0, 1, 2, 3]
    with pytest.raises(InputError, match="topic /gps is of type Position in protobuf"):
        ImageBag(folder, "/gps")


def test_images_in_another_encoding_are_told_with_it(tmp_path):
    path = write_mcap(tmp_path / "drive.mcap", image_encoding="json")
    with pytest.raises(InputError, match=r"no topic of images .*/image \(sensor_msgs/msg/Image in json, 4 messages\)"):
        ImageBag(path)


def test_messages_out_of_order_without_an_index_are_told_as_such(tmp_path):
    path = write_mcap(tmp_path / "drive.mcap", order=(0, 2, 1, 3))
    with (
        pytest.raises(InputError, match=r"has no index, .* out of order .*`mcap sort") as caught,
        ImageBag(path) as bag,
    ):
        list(bag)
    assert "torn" not in str(caught.value)


@pytest.mark.parametrize("image_encoding", ["cdr", ""])
@pytest.mark.parametrize("profile", ["", "foxglove", "x"])
def test_whatever_profile_an_mcap_states_its_images_are_read(tmp_path, profile, image_encoding):
    """Foxglove's writer states none unless it is told to."""
    assert stamps(write_mcap(tmp_path / "a.mcap", profile=profile, image_encoding=image_encoding)) == [0, 1, 2, 3]


def test_an_indexed_mcap_without_a_profile_is_read(tmp_path):
    file = write_messages(tmp_path / "bag", CAMERA, "mcap") / "bag.mcap"
    content = file.read_bytes()
    header = content[len(MAGIC) : content.index(b"ros2", len(MAGIC)) + 4]
    library = content[len(MAGIC) + len(header) :][: 4 + 32]
    (size,) = struct.unpack_from("<I", library)
    none = header[:9] + text("") + text(b"????" + library[4 : 4 + size])  # of the same length
    file.write_bytes(MAGIC + none + content[len(MAGIC) + len(header) + 4 + size :])
    assert file.stat().st_size == len(content) and b"ros2" not in file.read_bytes()[:40]
    assert stamps(file) == stamps(file.parent) == [0, 1, 2, 3]


# Names


def test_a_recording_may_lie_where_names_have_marks_of_addresses(tmp_path):
    folder = write_messages(tmp_path / "bag", CAMERA)
    assert stamps(folder.rename(tmp_path / "drive #1? 50%20")) == [0, 1, 2, 3]


def test_a_recording_is_not_written_where_sqlite_would_take_the_name_for_an_address(tmp_path):
    with pytest.raises(InputError, match=r"drive #1: .*# begins.*--storage mcap"):
        write_bag(frames(), tmp_path / "drive #1")
    assert list(tmp_path.iterdir()) == []
    write_bag(frames(), tmp_path / "drive #1", storage="mcap")
    write_bag(frames(), tmp_path / "at 50% speed")
    with ImageBag(tmp_path / "drive #1") as bag, ImageBag(tmp_path / "at 50% speed") as other:
        assert len(list(bag)) == len(list(other)) == 5


# Parts


@pytest.fixture(params=STORAGES)
def split(tmp_path, request) -> Path:
    """A recording in two parts."""
    suffix = SUFFIX[request.param]
    folder = write_messages(tmp_path / "bag", CAMERA, request.param)
    second = {"/image": (IMAGE, [image_message(START + 4 + i) for i in range(2)])}
    write_messages(tmp_path / "second", second, request.param)
    (folder / f"bag.{suffix}").rename(folder / f"bag_0.{suffix}")
    (tmp_path / "second" / f"second.{suffix}").rename(folder / f"bag_1.{suffix}")

    def name_both(told: dict[str, Any]) -> None:
        told["relative_file_paths"] = [f"bag_0.{suffix}", f"bag_1.{suffix}"]
        told["message_count"] = told["topics_with_message_count"][0]["message_count"] = 6

    change_metadata(folder, name_both)
    return folder


def test_parts_are_read_one_after_the_other(split):
    assert stamps(split) == [0, 1, 2, 3, 4, 5]


def test_parts_whose_channels_offer_another_qos_than_metadata_tells_are_read_by_topic(split):
    quality = [{"history": 1, "depth": 7, "reliability": 2, "durability": 2, "deadline": {"sec": 1, "nsec": 0}}]

    def offer(told: dict[str, Any]) -> None:
        (entry,) = told["topics_with_message_count"]
        entry["topic_metadata"]["offered_qos_profiles"] = yaml.safe_dump(quality) if told["version"] < 9 else quality

    change_metadata(split, offer)
    assert stamps(split) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("storage", STORAGES)
def test_publishers_that_offer_several_qos_make_one_topic(tmp_path, storage):
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin[storage.upper()])
    with writer:
        for number, depth in enumerate((5, 9)):
            quality = Qos(
                QosHistory.KEEP_LAST, depth, QosReliability.BEST_EFFORT, QosDurability.VOLATILE, *LIMITS, False
            )
            publisher = writer.add_connection("/image", IMAGE, typestore=typestore(), offered_qos_profiles=[quality])
            for i in (number, number + 2):
                writer.write(publisher, START + i, image_bytes(START + i))
    assert stamps(tmp_path / "bag") == [0, 1, 2, 3]
    with ImageBag(tmp_path / "bag") as bag:
        assert [str(topic) for topic in bag.topics] == ["/image (sensor_msgs/msg/Image, 4 messages)"]


def test_a_part_that_was_renamed_is_named_with_what_lies_there(split):
    part = next(split.glob("bag_1.*"))
    part.rename(part.with_stem("afternoon"))
    with pytest.raises(
        InputError, match=rf"names {part.name}, not there \(of 2 parts\); beside it lies afternoon\..*put it back"
    ) as caught:
        ImageBag(split)
    assert "torn" not in str(caught.value)
    assert "recover" not in str(caught.value)


def test_a_part_that_is_missing_is_named(split):
    part = next(split.glob("bag_1.*"))
    part.unlink()
    with pytest.raises(InputError, match=rf"names {part.name}, not there .*is no other part; put it back.*reindex"):
        ImageBag(split)


def test_a_part_that_metadata_does_not_name_is_told(split):
    part = next(split.glob("bag_1.*"))

    def forget(told: dict[str, Any]) -> None:
        told["relative_file_paths"].pop()
        told["message_count"] = told["topics_with_message_count"][0]["message_count"] = 4

    change_metadata(split, forget)
    with pytest.warns(UserWarning, match=f"does not name {part.name}, so it is not read"):
        assert stamps(split) == [0, 1, 2, 3]


def test_parts_without_metadata_are_listed(split):
    (split / "metadata.yaml").unlink()
    with pytest.raises(InputError, match=r"no metadata\.yaml.*bag_0.*bag_1.*reindex.*or name one of the files"):
        ImageBag(split)


# Each thing that is not torn, in its own words


def of_ros1(folder: Path) -> None:
    write_mcap(folder / "bag.mcap", profile="ros1")


def of_brotli(folder: Path) -> None:
    write_mcap(folder / "bag.mcap", compression="brotli")


def with_ros1_bag_inside(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    (folder / "old.bag").write_bytes(b"#ROSBAG V2.0\n")


def with_packed_part_alone(folder: Path) -> None:
    (folder / "metadata.yaml").unlink()
    (folder / "bag.mcap").rename(folder / "bag.mcap.zstd")


def set_to(key: str, value: Any) -> Callable[[Path], None]:
    return lambda folder: change_metadata(folder, lambda told: told.update({key: value}))


def content(name: str, data: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (of_ros1, r"bag\.mcap: is an MCAP of ROS 1 \(profile 'ros1'\).*rosbags-convert"),
        (of_brotli, r"bag\.mcap: its chunks are compressed by 'brotli', and zstd and lz4 are what is read"),
        (with_ros1_bag_inside, r"old\.bag is a ROS 1 bag; `rosbags-convert --src .*old\.bag --dst FOLDER`"),
        (with_packed_part_alone, r"holds bag\.mcap\.zstd; `zstd -d` unpacks"),
        (
            set_to("storage_identifier", "rocks"),
            "storage_identifier 'rocks' is not read, sqlite3 and mcap are.*convert",
        ),
        (set_to("version", 12), "is of version 12, and 9 is the newest that is read.*convert"),
        (set_to("compression_mode", "topic"), "compression_mode 'topic' is not read"),
        (
            lambda folder: change_metadata(
                folder, lambda told: told.update(compression_mode="message", compression_format="lz4")
            ),
            "compression_format 'lz4' is not read, zstd is",
        ),
        (set_to("relative_file_paths", []), "names no file; `ros2 bag reindex"),
        (set_to("message_count", 0), r"is empty, says metadata\.yaml, but 4 messages are there.*reindex"),
        (set_to("duration", 5), r"metadata\.yaml: is not as rosbag2 writes it.*reindex"),
        (
            lambda folder: change_metadata(folder, lambda told: told.pop("version")),
            "rosbag2 writes it: lacks 'version'",
        ),
        (content("metadata.yaml", b""), r"metadata\.yaml: is not as rosbag2 writes it"),
        (content("metadata.yaml", b"a: [1,"), r"metadata\.yaml: is not as rosbag2 writes it"),
        (content("bag.mcap", b"#ROSBAG V2.0\n"), r"bag\.mcap: is a ROS 1 bag"),
        (content("bag.mcap", b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS keeps; `git lfs pull`"),
        (content("bag.mcap", b"hello"), r"bag\.mcap: is neither a rosbag2 folder nor .*begins with b'hello'"),
    ],
)
def test_what_is_whole_but_not_read_is_told_in_its_own_words(tmp_path, spoil, words):
    folder = write_messages(tmp_path / "bag", CAMERA, "mcap")
    spoil(folder)
    with pytest.raises(InputError, match=words) as caught:
        ImageBag(folder)
    assert str(tmp_path / "bag") in str(caught.value)
    assert "torn" not in str(caught.value)
    assert "recover" not in str(caught.value)


def test_an_sqlite_file_of_something_else_is_told_with_its_tables(tmp_path):
    with sqlite3.connect(tmp_path / "notes.db3") as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    with pytest.raises(InputError, match=r"notes\.db3: is an SQLite file but no rosbag2.*this has notes"):
        ImageBag(tmp_path / "notes.db3")


def test_a_file_that_may_not_be_read_is_told_so(tmp_path, monkeypatch):
    folder = write_messages(tmp_path / "bag", CAMERA)

    def forbid(path: Path, *args: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", forbid)
    with pytest.raises(InputError, match=r"cannot be read: .*Permission denied") as caught:
        ImageBag(folder / "bag.db3")
    assert "torn" not in str(caught.value)


@pytest.mark.parametrize(("written", "named"), [("mcap", "db3"), ("sqlite3", "mcap")])
def test_a_storage_file_is_known_by_what_it_begins_with(tmp_path, written, named):
    folder = write_messages(tmp_path / "bag", CAMERA, written)
    assert stamps((folder / f"bag.{SUFFIX[written]}").rename(tmp_path / f"drive.{named}")) == [0, 1, 2, 3]


def test_a_file_of_zeros_is_torn(tmp_path):
    (tmp_path / "drive.mcap").write_bytes(bytes(5000))
    with pytest.raises(InputError, match=r"torn: drive\.mcap begins with zeros.*recover"):
        ImageBag(tmp_path / "drive.mcap")


def test_a_topic_that_is_announced_but_not_there_is_told(tmp_path):
    folder = write_messages(tmp_path / "bag", {"/talk": ("std_msgs/msg/String", [text_message()])})
    absent = {"name": "/image", "type": IMAGE, "serialization_format": "cdr", "offered_qos_profiles": []}
    change_metadata(
        folder, lambda told: told["topics_with_message_count"].append({"topic_metadata": absent, "message_count": 3})
    )
    with pytest.raises(InputError, match=r"announces 3 images of /image but holds 0; `ros2 bag reindex"):
        ImageBag(folder)
