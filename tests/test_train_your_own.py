"""docs/train_your_own.md, typed as it stands: from two small sets to weights, answers and a score."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "train_your_own.md").read_text("utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def test_every_block_of_commands_is_one_that_is_tried_but_for_the_node():
    assert len(BLOCKS) == 6
    assert [i for i, block in enumerate(BLOCKS) if "ros2 " in block or "vis-ros " in block] == [5]


def test_the_links_lead_to_files():
    for target in re.findall(r"\]\(([^)#\s]+)\)", DOCUMENT):
        assert target.startswith("https://") or (ROOT / "docs" / target).exists(), target


@pytest.mark.slow
def test_the_commands_work_in_order(tmp_path):
    pytest.importorskip("lightning_fabric", reason="needs the extra 'train'")
    commands = Path(sys.executable).parent
    if not shutil.which("vis", path=commands):
        pytest.skip(f"no command 'vis' beside {sys.executable}")
    environment = {**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
    said = ""
    for block in BLOCKS[:5]:
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, f"{block}\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
        said += ran.stdout
    for what in ("my_data/sheet.png", "my_data/run/best.safetensors", "my_data/out/results.json"):
        assert (tmp_path / what).is_file(), what
    best = max(float(row["AP"]) for row in csv.DictReader((tmp_path / "my_data/run/evaluation.csv").open()))
    assert json.loads((tmp_path / "my_data/scores/metrics.json").read_text())["summary"]["AP"] == pytest.approx(best)
    for what in ("disc", "Written: my_data/sheet.png", "Checked", "HOTA"):
        assert what in said, what
