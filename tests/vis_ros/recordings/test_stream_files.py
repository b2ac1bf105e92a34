from __future__ import annotations

import io
import json

from tests.vis_core.files.test_results_writer import A, B, rows
from vis_ros.recordings.stream_files import write_stream_message


def test_a_line_of_a_stream_names_the_classes_that_are_known():
    stream = io.StringIO()
    write_stream_message(stream, rows(3, (1, 0, 0.9, A), (2, 5, 0.5, B)), 17, class_names={0: "person"})
    told = json.loads(stream.getvalue())
    assert (told["sequence"], told["arrival"]) == (3, 17)
    assert [track.get("class_name") for track in told["tracks"]] == ["person", None]
    assert [track["category_id"] for track in told["tracks"]] == [1, 6]
