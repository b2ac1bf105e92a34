"""The blocks of docs/python.md run, in their order, on what the page says lies in the folder."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from vis_core.data.synthetic import synthetic_video, write_youtube_vis

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


def test_every_block_runs(tmp_path, monkeypatch, capsys):
    video = synthetic_video(0, length=3, size=(90, 160), name="street")
    truth = json.loads(write_youtube_vis([video], tmp_path).read_text())
    (tmp_path / "frames" / "street").rename(tmp_path / "moved")
    (tmp_path / "frames").rmdir()
    (tmp_path / "moved").rename(tmp_path / "frames")
    results = [
        {**{key: a[key] for key in ("video_id", "category_id", "segmentations")}, "score": 0.9, "track_id": a["id"]}
        for a in truth["annotations"]
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    writer = cv2.VideoWriter(str(tmp_path / "street.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (160, 90))
    for image in video.frames:
        writer.write(np.ascontiguousarray(image[..., ::-1]))
    writer.release()
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 10
    names: dict = {}
    for block in blocks:
        if "to_supervision" not in block or find_spec("supervision"):
            exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert printed.count("<Instances of frame ") == 3
    assert "('person', 'vehicle', 'animal') 0" in printed
    assert "vis_core.open_video opens files and cameras" in printed
    assert names["evaluation"].summary["AP"] == 1
    assert [x.index for x in names["answers"]] == [0, 1, 2]
    assert (tmp_path / "drawn.jpg").is_file()
