from __future__ import annotations

import pytest

from vis_core.errors import InputError
from vis_core.training.logs import CsvLog, Events


def rows(path):
    return path.read_text().splitlines()


def test_a_resumed_log_has_no_rows_after_its_step_and_no_torn_one(tmp_path):
    path = tmp_path / "log.csv"
    log = CsvLog(path, 0)
    for step in (2, 4, 6):
        log.append({"step": step, "loss": 1 / step})
    with path.open("a") as file:
        file.write("8,0.1")
    log = CsvLog(path, 4)
    assert rows(path) == ["step,loss", "2,0.5", "4,0.25"]
    log.append({"step": 5, "loss": 0.2})
    assert rows(path)[-1] == "5,0.2"


def test_a_log_of_which_nothing_is_left_begins_anew(tmp_path):
    path = tmp_path / "log.csv"
    CsvLog(path, 0).append({"step": 2, "loss": 1.0})
    CsvLog(path, 0).append({"step": 1, "other": "a, b"})
    assert rows(path) == ["step,other", '1,"a, b"']


def test_a_new_column_is_empty_in_the_rows_before(tmp_path):
    log = CsvLog(tmp_path / "log.csv", 0)
    log.append({"step": 1, "a": 1.0})
    log.append({"step": 2, "b": 2.0})
    assert rows(tmp_path / "log.csv") == ["step,a,b", "1,1,", "2,,2"]


def test_a_file_that_is_no_log_is_told_by_name(tmp_path):
    (tmp_path / "log.csv").write_text("what,is\nthis,?\n")
    with pytest.raises(InputError, match=r"log\.csv: is not the log"):
        CsvLog(tmp_path / "log.csv", 0)


def test_without_tensorboard_that_is_said_and_all_goes_on(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    told = []
    events = Events(tmp_path / "events", 0, told.append)
    events.scalars("train", {"loss": 1.0}, 1)
    events.pictures({}, 1)
    events.close()
    assert len(told) == 1 and "pip install" in told[0]
