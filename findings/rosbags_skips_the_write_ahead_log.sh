#!/usr/bin/env bash
# rosbags 0.11.9: of a sqlite3 recording with a write-ahead log, the messages that the log holds are not read.
#
# `ros2 bag record -s sqlite3 --storage-preset-profile resilient` writes by SQLite's write-ahead log: the newest
# messages lie in *.db3-wal until SQLite moves them, every 1,000 pages (4 MiB) and when the recording is closed. While a
# recorder runs, or after a power cut (what the profile is for), SQLite itself reads them; rosbags opens the file as
# immutable, which tells SQLite to overlook the log, and gives fewer messages, without a word, than the metadata state.
# Small messages such as tracks may miss the last minutes. Where a *.db3-wal lies beside a recording that nobody writes
# any more, move the log into the file first: sqlite3 FILE 'PRAGMA wal_checkpoint(TRUNCATE)'. Then rosbags reads all.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install rosbags==0.11.9 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/recording" <<'PYTHON'
import sqlite3
import sys
from importlib.metadata import version
from pathlib import Path

from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

folder = Path(sys.argv[1])
store = get_typestore(Stores.ROS2_HUMBLE)
text = store.types["std_msgs/msg/String"]
with Writer(folder, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
    topic = writer.add_connection("/state", text.__msgtype__, typestore=store)
    for stamp in range(10):
        writer.write(topic, stamp, store.serialize_cdr(text(data="moving"), text.__msgtype__))
(file,) = folder.glob("*.db3")


def by_rosbags():
    with Reader(folder) as reader:
        return sum(1 for _ in reader.messages())


# Ten more as the resilient profile writes them, and the recorder still open.
recorder = sqlite3.connect(file)
recorder.execute("PRAGMA journal_mode=WAL")
recorder.execute("INSERT INTO messages(topic_id, timestamp, data) SELECT topic_id, timestamp + 10, data FROM messages")
recorder.commit()
metadata = folder / "metadata.yaml"
metadata.write_text(metadata.read_text().replace("message_count: 10", "message_count: 20"))
other = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
by_sqlite = other.execute("SELECT count(*) FROM messages").fetchone()[0]
other.close()
before = by_rosbags()
recorder.execute("PRAGMA wal_checkpoint(TRUNCATE)")
after = by_rosbags()
recorder.close()
print("rosbags", version("rosbags"), "sqlite", sqlite3.sqlite_version)
print("messages: by SQLite", by_sqlite, "by rosbags", before, "by rosbags after a checkpoint", after)
if (by_sqlite, before, after) != (20, 10, 20):
    raise SystemExit("this has changed")
PYTHON
