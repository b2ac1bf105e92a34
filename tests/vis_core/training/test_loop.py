"""The training loop with a system that trains in milliseconds, in this process."""

from __future__ import annotations

import csv
import json
import multiprocessing

import numpy as np
import pytest
import torch

from vis_core import catalog
from vis_core.checkpoints import read_tensors
from vis_core.errors import InputError, OptionError, VisError
from vis_core.evaluation import evaluate
from vis_core.training import loop
from vis_core.training.evaluation import Scores
from vis_core.training.run_folder import begin_anew, locked
from vis_core.training.state import load_state


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def weights(path):
    return read_tensors(path)[0]


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


class AfterSteps:
    """Asks for a stop in the n-th step."""

    def __init__(self, count):
        self.count = count

    def __call__(self):
        self.count -= 1
        return self.count <= 0


def test_a_run_that_was_stopped_goes_on_bit_for_bit(config, trained, tmp_path):
    whole, parts = (
        config(output=str(tmp_path / "whole"), log_every=3),
        config(output=str(tmp_path / "parts"), log_every=3),
    )
    trained(whole)
    assert trained(parts, stop_asked=AfterSteps(4)).step == 4
    assert trained(parts, stop_asked=AfterSteps(1)).step == 5
    assert trained(parts).step == 8
    assert equal(weights(whole.output / "last.safetensors"), weights(parts.output / "last.safetensors"))
    rows = [[{**row, "clips_per_second": ""} for row in read(c.output / "log.csv")] for c in (whole, parts)]
    assert rows[0] == rows[1] and [row["step"] for row in rows[0]] == ["3", "6", "8"]
    states = [load_state(c.output) for c in (whole, parts)]
    assert equal(states[0]["average"], states[1]["average"]) and equal(states[0]["model"], states[1]["model"])
    assert not equal(states[0]["average"], states[0]["model"])


def test_the_log_holds_means_of_every_part_and_its_columns_add_up(config, trained):
    each, mean = config(output="each"), config(output="mean", log_every=4)
    trained(each)
    trained(mean)
    single, meant = read(each.output / "log.csv"), read(mean.output / "log.csv")
    names = ["step", "learning_rate", "pixels", "size", "total", "gradient_norm", "clips_per_second"]
    assert list(single[0]) == names and [row["step"] for row in meant] == ["4", "8"]
    for i, row in enumerate(meant):
        for name in ("pixels", "size", "total", "gradient_norm"):
            expected = np.mean([float(r[name]) for r in single[4 * i : 4 * i + 4]])
            assert float(row[name]) == pytest.approx(expected, rel=1e-5)
        assert float(row["total"]) == pytest.approx(float(row["pixels"]) + float(row["size"]), rel=1e-5)
    rates = [float(row["learning_rate"]) for row in single]
    assert rates[:3] == pytest.approx([0.01 / 3, 0.02 / 3, 0.01]) and rates[-1] < 0.001


def test_a_batch_in_parts_gives_the_losses_of_the_whole_batch(config, trained):
    options = {"options": {"dropout": 0.0}}
    whole, parts = config(output="whole", **options), config(output="parts", accumulate=4, **options)
    trained(whole)
    trained(parts)
    for a, b in zip(read(whole.output / "log.csv"), read(parts.output / "log.csv")):
        assert {k: float(v) for k, v in b.items() if k != "clips_per_second"} == pytest.approx(
            {k: float(v) for k, v in a.items() if k != "clips_per_second"}, rel=1e-4
        )


def test_bfloat16_trains_with_master_weights_in_float32(config, trained):
    low = config(precision="bf16", steps=20, options={"dropout": 0.0})
    trained(low)
    rows = read(low.output / "log.csv")
    assert float(rows[-1]["total"]) < float(rows[0]["total"])
    assert {x.dtype for x in load_state(low.output)["model"].values()} <= {torch.float32, torch.int64}
    full = config(output="full", steps=20, options={"dropout": 0.0})
    trained(full)
    first = [float(read(c.output / "log.csv")[0]["pixels"]) for c in (low, full)]
    assert first[0] == pytest.approx(first[1], rel=0.02) and first[0] != first[1]


def test_clipping_bounds_the_gradient_and_the_log_tells_its_norm_before(config, trained):
    constant = {"kind": "constant", "warm_up": 0}
    made = {}
    for norm in (None, 1e-6):
        settings = {"learning_rate": 0.01, "weight_decay": 0.0, "clip_norm": norm}
        run = config(output=f"norm {norm}", optimizer=settings, schedule=constant, options={"dropout": 0.0}, steps=1)
        trained(run)
        made[norm] = float(read(run.output / "log.csv")[0]["gradient_norm"])
        moments = load_state(run.output)["optimizer"]["state"]
        total = sum(float(entry["exp_avg"].square().sum()) for entry in moments.values()) ** 0.5 / 0.1
        assert total == pytest.approx(made[norm] if norm is None else norm, rel=1e-3)
    assert made[None] == made[1e-6] > 0.01


def test_the_weights_for_use_are_the_average_and_load_by_name(config, trained, annotations):
    run = config()
    trained(run)
    tensors, metadata = read_tensors(run.output / "last.safetensors")
    average = load_state(run.output)["average"]
    assert torch.equal(tensors["0.weight"], average["network.0.weight"])
    assert metadata["format"] == "vis_core 1" and json.loads(metadata["class_names"]) == ["disc", "box", "star"]
    segmenter = catalog.load("fake", run.output / "last.safetensors")
    assert segmenter.class_names == ("disc", "box", "star")
    without = config(output="without", ema=None)
    trained(without)
    model = load_state(without.output)["model"]
    assert torch.equal(weights(without.output / "last.safetensors")["0.weight"], model["network.0.weight"])


def test_a_training_starts_from_the_weights_that_it_is_given(config, trained):
    first = config()
    trained(first)
    second = config(output="second", initial_weights=str(first.output / "last.safetensors"), seed=9)
    trained(second, stop_asked=AfterSteps(1))
    rows = [read(c.output / "log.csv") for c in (first, second)]
    assert float(rows[1][0]["total"]) < float(rows[0][0]["total"])


@pytest.mark.parametrize("workers", [0, 1])
def test_losses_that_are_no_numbers_end_the_training_and_leave_the_last_state(config, trained, workers):
    run = config(options={"explode": 5}, workers=workers)
    with pytest.raises(VisError, match="step 5: pixels is nan: the training has diverged"):
        trained(run)
    assert not multiprocessing.active_children()
    assert load_state(run.output)["step"] == 3


def test_a_finished_run_is_left_as_it_is_and_restart_begins_anew(config, trained):
    run = config()
    trained(run)
    (run.output / "notes.txt").write_text("mine")
    before = (run.output / "state.pt").stat().st_mtime_ns
    assert trained(run).step == 8
    assert (run.output / "state.pt").stat().st_mtime_ns == before
    other = config(seed=1)
    with pytest.raises(OptionError, match="seed: 1, was 0"):
        trained(other)
    trained(other, restart=True)
    assert len(read(run.output / "log.csv")) == 8 and (run.output / "notes.txt").read_text() == "mine"


def test_a_restart_that_comes_to_nothing_leaves_the_run_before_byte_for_byte(config, trained, tmp_path):
    run = config()
    trained(run)

    def content():
        return {p.relative_to(run.output): p.read_bytes() for p in run.output.rglob("*") if p.is_file()}

    before = content()
    for changed, error in (
        ({"data": [{"annotations": "absent.json"}]}, InputError),
        ({"options": {"explode": 2}}, VisError),
    ):
        with pytest.raises(error):
            trained(config(**changed), restart=True)
        assert content() == before
    begin_anew(run.output)  # and killed there
    assert not (run.output / "state.pt").exists()
    assert trained(run).step == 8
    assert before.items() - content().items() == set() and not (run.output / ".replaced").exists()


def test_weights_without_a_state_are_not_written_over_unasked(config, trained):
    run = config()
    trained(run)
    for name in ("state.pt", "state.previous.pt"):
        (run.output / name).unlink(missing_ok=True)
    before = (run.output / "last.safetensors").read_bytes()
    with pytest.raises(InputError, match=r"last\.safetensors.*no state\.pt to go on from; --restart"):
        trained(run)
    assert (run.output / "last.safetensors").read_bytes() == before
    assert trained(run, restart=True).step == 8


def hold(folder, ready, done):
    with locked(folder):
        ready.set()
        done.wait()


def test_two_trainings_never_share_a_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, ready, done))
    other.start()
    try:
        assert ready.wait(240)
        with pytest.raises(OptionError, match="another training writes there"), locked(tmp_path):
            pass
    finally:
        done.set()
        other.join()
    with locked(tmp_path):
        pass


def test_what_a_config_asks_of_system_and_data_is_checked_before_anything_is_written(
    config, content, trained, tmp_path
):
    faults = [
        ({"system": "fakee"}, "did you mean 'fake'"),
        ({"options": {"widht": 3}}, r"options\.widht: unknown option; did you mean 'width'"),
        ({"options": {"width": 0}}, r"option options\.width: 0 is not in"),
        ({"evaluation": {"options": {"x": 1}}}, r"evaluation\.options\.x: unknown option"),
        ({"precision": "fp16"}, "fp16 needs a GPU"),
        ({"batch": 3, "accumulate": 3, "classes": ["cat"]}, "no annotation is of a class"),
        ({"data": [{"annotations": "absent.json"}]}, r"absent\.json"),
    ]
    for changed, text in faults:
        with pytest.raises((OptionError, InputError), match=text):
            trained(config(**changed))
    assert not (tmp_path / "run").exists()


def test_a_damaged_image_is_told_and_passed_over(config, content, trained, annotations, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(annotations.parent, copy)
    damaged = sorted((copy / "frames").rglob("*.jpg"))[0]
    damaged.write_bytes(damaged.read_bytes()[:200])
    run = config(data=[{"annotations": str(copy / annotations.name)}], clip={"frames": 1, "size": [32, 48]}, steps=4)
    with pytest.warns(UserWarning, match="passed over") as told:
        trained(run)
    assert sum(str(damaged) in str(warning.message) for warning in told) == 1


def scored(monkeypatch, values):
    """Have evaluations find these values, one after the other."""
    left = list(values)

    def fake(*_):
        value = left.pop(0)
        return Scores(value, [{"set": "x", "AP": value}])

    monkeypatch.setattr(loop, "run_evaluation", fake)


def test_the_best_weights_are_kept(config, trained, monkeypatch, annotations):
    scored(monkeypatch, [0.1, 0.5, 0.3, 0.5])
    run = config(evaluation={"every": 2, "data": [{"annotations": str(annotations)}]}, save_every=100)
    seen = []
    write = loop._Run._write_weights
    monkeypatch.setattr(
        loop._Run, "_write_weights", lambda self, name: seen.append((name, self._step)) or write(self, name)
    )
    assert trained(run).best == 0.5
    assert [step for name, step in seen if name == "best.safetensors"] == [2, 4]
    assert read_tensors(run.output / "best.safetensors")[1]["step"] == "4"
    assert [(row["step"], row["AP"]) for row in read(run.output / "evaluation.csv")] == [
        ("2", "0.1"), ("4", "0.5"), ("6", "0.3"), ("8", "0.5"),
    ]  # fmt: skip
    assert load_state(run.output)["best"] == {"step": 4, "value": 0.5}


def test_an_evaluation_that_was_stopped_is_made_up_for(config, trained, annotations):
    run = config(evaluation={"every": 4, "data": [{"annotations": str(annotations)}]})
    # Four steps, then the third of eight frames.
    assert trained(run, stop_asked=AfterSteps(7)).step == 4
    assert load_state(run.output)["evaluated"] == 0 and not (run.output / "evaluation.csv").exists()
    trained(run)
    assert [row["step"] for row in read(run.output / "evaluation.csv")] == ["4", "8"]


def test_an_evaluation_scores_what_the_weights_find_as_vis_evaluate_does(config, trained, annotations):
    pytest.importorskip("tensorboard", reason="needs the extra 'train'")
    sets = [{"annotations": str(annotations), "name": "all"}, {"annotations": str(annotations), "limit": 1}]
    run = config(evaluation={"every": None, "data": sets, "metric": "HOTA", "pictures": 2}, steps=30)
    outcome = trained(run)
    rows = read(run.output / "evaluation.csv")
    assert [row["set"] for row in rows] == ["all", f"{annotations.parent.name}/instances", "mean"]
    results = json.loads((run.output / "evaluation" / "0_all.json").read_text())
    assert results
    expected = evaluate(annotations, results, ("ap", "hota")).summary
    assert float(rows[0]["HOTA"]) == pytest.approx(expected["HOTA"], rel=1e-6)
    assert float(rows[0]["AP50"]) == pytest.approx(expected["AP50"], abs=1e-6)
    assert outcome.best == pytest.approx((float(rows[0]["HOTA"]) + float(rows[1]["HOTA"])) / 2, rel=1e-6)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.output / "tensorboard"))
    events.Reload()
    assert {"train/total", "train/learning_rate", "evaluation/mean/HOTA"} <= set(events.Tags()["scalars"])
    assert len(events.Tags()["images"]) == 2
    assert len(events.Scalars("train/total")) == 30
