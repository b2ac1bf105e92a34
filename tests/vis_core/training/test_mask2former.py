"""The trainer with MinVIS and Mask2Former-VIS: a step on synthetic videos, from a config file."""

from __future__ import annotations

import sys

import pytest
import yaml

from vis_core.commands import main as cli


@pytest.mark.parametrize(
    ("system", "frames"), [pytest.param("minvis", 1, marks=pytest.mark.slow), ("mask2former-vis", 2)]
)
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_a_step_of_the_trainer_works(system, frames, precision, content, tmp_path, monkeypatch, capsys):
    pytest.importorskip("lightning_fabric", reason="needs the extra 'train'")
    path = tmp_path / "train.yaml"
    changed = {
        "system": system,
        "options": {"queries": 10, "points": 64},
        "precision": precision,
        "batch": 2,
        "steps": 1,
        "clip": {"frames": frames, "size": [64, 96]},
        "optimizer": {
            "decay_norms": True,
            "clip_norm": 0.01,
            "groups": {"backbone": {"learning_rate": 0.1}, "norms_and_embeddings": {"weight_decay": 0.0}},
        },
    }
    path.write_text(yaml.safe_dump({**content, **changed}))
    monkeypatch.setattr(sys, "argv", ["vis", "train", str(path), "--check"])
    monkeypatch.setattr("warnings.showwarning", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert "Checked" in capsys.readouterr().out
