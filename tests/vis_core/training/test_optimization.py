from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.vis_core.training.fake_system import FakeTraining
from vis_core.errors import OptionError
from vis_core.training.config import Group, Optimizer, Schedule
from vis_core.training.optimization import MovingAverage, make_optimizer, rate_factor


def test_cosine_rises_linearly_then_falls_to_its_final_factor():
    schedule = Schedule("cosine", warm_up=4, final=0.1)
    factors = [rate_factor(schedule, step, 104) for step in range(104)]
    assert factors[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert factors[4] == 1.0
    assert factors[54] == pytest.approx(0.55)
    assert factors[29] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert rate_factor(schedule, 104, 104) == pytest.approx(0.1)
    assert factors[4:] == sorted(factors[4:], reverse=True)


def test_step_multiplies_at_each_milestone_and_constant_stays():
    schedule = Schedule("step", warm_up=0, milestones=(3, 5), gamma=0.5)
    assert [rate_factor(schedule, step, 8) for step in range(7)] == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert rate_factor(Schedule("constant", warm_up=1), 0, 9) == 0.5
    assert rate_factor(Schedule("constant", warm_up=1), 8, 9) == 1.0


def test_groups_have_their_factors_and_biases_do_not_decay():
    module = FakeTraining(8, 0.0, 0)
    config = Optimizer(0.01, 0.2, betas=(0.8, 0.9), groups={"backbone": Group(0.5, 0.25)})
    groups = make_optimizer(module, config).param_groups
    found = [(g["name"], g["base_rate"], g["weight_decay"], [p.dim() for p in g["params"]]) for g in groups]
    assert found == [
        ("backbone", 0.005, 0.05, [4]),
        ("backbone", 0.005, 0.0, [1]),
        ("heads", 0.01, 0.2, [4]),
        ("heads", 0.01, 0.0, [1]),
    ]
    assert all(group["betas"] == (0.8, 0.9) for group in groups)
    decaying = make_optimizer(module, Optimizer(0.01, 0.2, decay_norms=True)).param_groups
    assert [(g["weight_decay"], [p.dim() for p in g["params"]]) for g in decaying] == [(0.2, [4, 1]), (0.2, [4, 1])]


def test_a_group_that_the_system_does_not_have_is_told_with_the_nearest():
    with pytest.raises(OptionError, match=r"optimizer\.groups\.backbon: .* did you mean 'backbone'"):
        make_optimizer(FakeTraining(8, 0.0, 0), Optimizer(groups={"backbon": Group()}))


def test_the_moving_average_follows_its_formula_and_leaves_what_is_frozen():
    module = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    module[0].bias.requires_grad_(False)
    average = MovingAverage(module, 0.5)
    assert set(average.tensors) == {"0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var"}
    expected = module[0].weight.detach().clone()
    for n in range(20):
        nn.init.normal_(module[0].weight)
        average.update(n)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * module[0].weight.detach()
    torch.testing.assert_close(average.tensors["0.weight"], expected)


def test_the_module_holds_the_averages_only_while_they_are_applied():
    module = nn.Linear(2, 1)
    average = MovingAverage(module, 0.9)
    before, averaged = module.weight.detach().clone(), average.tensors["weight"].clone()
    with torch.no_grad():
        module.weight += 1
    with average.applied():
        assert torch.equal(module.weight, averaged)
    assert torch.equal(module.weight, before + 1) and torch.equal(average.tensors["weight"], averaged)
