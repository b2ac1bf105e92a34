"""The optimizer's parameter groups, the learning rate over the steps, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vis_core.errors import OptionError, nearest
from vis_core.system.trainable import Trainable
from vis_core.training.config import Group, Optimizer, Schedule


def make_optimizer(trainable: Trainable, config: Optimizer) -> torch.optim.AdamW:
    """AdamW over the trainable's groups, each split by whether its parameters decay; rates are set before each step.

    Raises:
        OptionError: the config names a group that the system does not have.
    """
    groups = {name: parameters for name, parameters in trainable.parameter_groups().items() if parameters}
    for name in config.groups:
        if name not in groups:
            raise OptionError(f"optimizer.groups.{name}: no such group of parameters; {nearest(name, groups)}")
    split = []
    for name, parameters in groups.items():
        factors = config.groups.get(name, Group())
        rate, decay = config.learning_rate * factors.learning_rate, config.weight_decay * factors.weight_decay
        for decays in (True, False):
            chosen = [p for p in parameters if (p.dim() > 1 or config.decay_norms) == decays]
            if chosen:
                entry = {"params": chosen, "lr": rate, "base_rate": rate, "weight_decay": decay if decays else 0.0}
                split.append({**entry, "name": name})
    return torch.optim.AdamW(split, betas=config.betas)


def rate_factor(schedule: Schedule, step: int, steps: int) -> float:
    """What the learning rate is multiplied by in a step, from 0 to `steps` - 1."""
    if step < schedule.warm_up:
        return (step + 1) / (schedule.warm_up + 1)
    if schedule.kind == "cosine":
        done = (step - schedule.warm_up) / max(steps - schedule.warm_up, 1)
        return schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
    if schedule.kind == "step":
        return float(schedule.gamma ** sum(step >= milestone for milestone in schedule.milestones))
    return 1.0


class MovingAverage:
    """Exponential moving average of what learns: parameters, and buffers of floating point.

    Args:
        module: whose state is averaged.
        decay: of a long run; the first updates have less: ``min(decay, (1 + n) / (10 + n))`` after n updates.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        learns = {name for name, p in module.named_parameters() if p.requires_grad}
        learns |= {name for name, _ in module.named_buffers()}
        state = module.state_dict(keep_vars=True)
        self._live = {name: x for name, x in state.items() if name in learns and x.is_floating_point()}
        self.tensors = {name: x.detach().clone() for name, x in self._live.items()}

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Take in the module's state.

        Args:
            updates: that have been made before this one.
        """
        decay = min(self._decay, (1 + updates) / (10 + updates))
        live = [x.detach() for x in self._live.values()]
        torch._foreach_lerp_(list(self.tensors.values()), live, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While inside, the module holds the averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from saved averages."""
        for name, x in self.tensors.items():
            x.copy_(tensors[name])

    def _swap(self) -> None:
        for name, x in self._live.items():
            x.data, self.tensors[name] = self.tensors[name], x.data
