"""What instances are matched by: alone, and with what was remembered of the tracks."""

import pytest
import torch
from torch.nn import functional as F

from vis_core.models.gmp_vis.memory_attention import OLDEST, MatchingEmbedding, MemoryAttention


@pytest.fixture
def aggregation():
    torch.manual_seed(0)
    module = MemoryAttention(32, 64, 4)
    module.initialise()
    return module


def taught(module):
    """The module as after a training: nothing of it is zero."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


def test_untrained_it_is_a_norm_of_what_it_gets_whatever_the_memory(aggregation):
    features, memory = torch.randn(3, 32), torch.randn(5, 32)
    once = F.layer_norm(features, (32,))
    torch.testing.assert_close(aggregation(features, memory, torch.arange(5)), F.layer_norm(once, (32,)))


def test_without_a_memory_nothing_is_added_not_even_the_bias_of_the_attention(aggregation):
    module, features = taught(aggregation), torch.randn(3, 32)
    alone = module.feed_forward(module.norm(features))
    torch.testing.assert_close(module(features), alone)
    torch.testing.assert_close(module(features, torch.zeros(0, 0), torch.zeros(0)), alone)


def test_an_instance_sees_the_memory_and_its_age_but_not_the_others(aggregation):
    module, features, memory = taught(aggregation), torch.randn(3, 32), torch.randn(5, 32)
    ages = torch.tensor([1, 2, 3, 4, 5])
    found = module(features, memory, ages)
    torch.testing.assert_close(module(features[1:2], memory, ages), found[1:2])
    torch.testing.assert_close(module(features, memory.flip(0), ages.flip(0)), found)
    assert (module(features, memory, ages.flip(0)) - found).abs().max() > 1e-3
    assert (module(features, memory + 1, ages) - found).abs().max() > 1e-3


def test_older_than_the_oldest_is_as_old(aggregation):
    module, features, memory = taught(aggregation), torch.randn(3, 32), torch.randn(1, 32)
    oldest, older = (module(features, memory, torch.tensor([age])) for age in (OLDEST, 10 * OLDEST))
    torch.testing.assert_close(oldest, older)


@pytest.mark.parametrize("temporal", [False, True])
def test_embeddings_have_unit_length_and_none_are_none(temporal):
    module = taught(MatchingEmbedding(32, 16, temporal, 64, 4))
    torch.testing.assert_close(module(torch.randn(3, 32)).norm(dim=1), torch.ones(3))
    assert module(torch.zeros(0, 32), torch.randn(2, 32), torch.ones(2)).shape == (0, 16)
