"""The losses of the matching of two frames' graphs."""

import pytest
import torch
from torch.nn import functional as F

from vis_core.models.gmp_vis.graph_losses import TEMPERATURE, Graph, matching_losses


def graph(embeddings, numbers, seed=0):
    centres = torch.rand((len(numbers), 2), generator=torch.Generator().manual_seed(seed))
    return Graph(embeddings, centres, torch.tensor(list(numbers), dtype=torch.int64))


def test_the_right_matching_costs_less_than_a_wrong_one():
    embeddings = torch.eye(4)
    right = matching_losses(graph(embeddings, [7, 8, 9, 10]), graph(embeddings, [7, 8, 9, 10]))
    wrong = matching_losses(graph(embeddings, [7, 8, 9, 10]), graph(embeddings, [8, 7, 10, 9]))
    for good, bad in zip(right, wrong):
        assert good < bad
    assert -1 <= right[0] < -0.5


def test_the_contrastive_loss_asks_only_those_that_have_a_partner():
    torch.manual_seed(0)
    first, second = torch.randn(3, 8), torch.randn(2, 8)
    _, found = matching_losses(graph(first, [1, 2, 3]), graph(second, [3, 5]))
    cosines = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T / TEMPERATURE
    row, column = -cosines[2].log_softmax(0)[0], -cosines[:, 0].log_softmax(0)[2]
    torch.testing.assert_close(found, (row + column) / 2)


@pytest.mark.parametrize(("before", "now"), [([], [1, 2]), ([1, 2], []), ([], [])])
def test_of_an_empty_frame_nothing_is_asked(before, now):
    sides = [torch.randn(len(numbers), 8, requires_grad=True) for numbers in (before, now)]
    losses = matching_losses(graph(sides[0], before), graph(sides[1], now))
    assert [x.item() for x in losses] == [0, 0]
    sum(losses).backward()
    assert all(side.grad is not None for side in sides)


def test_where_all_was_born_and_all_died_matching_anything_costs():
    torch.manual_seed(0)
    permutation, contrastive = matching_losses(graph(torch.eye(3), [1, 2, 3]), graph(torch.eye(3), [4, 5, 6]))
    assert permutation > 0 and float(contrastive) == 0


def test_its_gradients_are_those_of_the_optimum():
    torch.manual_seed(3)
    first, second = (torch.randn(4, 6, dtype=torch.float64) for _ in range(2))
    before, now = graph(first, [1, 2, 3, 4], 1), graph(second, [2, 1, 5, 4], 2)
    direction = torch.randn(4, 6, dtype=torch.float64)

    def loss(step):
        return matching_losses(before._replace(embeddings=first + step * direction), now)[0]

    step = torch.zeros((), requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(step), step)
    with torch.no_grad():
        numeric = (loss(1e-2) - loss(-1e-2)) / 2e-2  # embeddings are float32
    torch.testing.assert_close(gradient, numeric.to(gradient), rtol=2e-2, atol=1e-4)


def test_it_teaches_embeddings_of_look_alikes_apart():
    """A linear embedding of features that are mostly noise."""
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(16, 8, bias=False)
    torch.nn.init.normal_(layer.weight, generator=generator)
    optimizer = torch.optim.Adam(layer.parameters(), 0.1)

    def pair():
        own = torch.randn((6, 8), generator=generator)
        noise = 2 * torch.randn((2, 6, 8), generator=generator)
        return [layer(torch.cat((own, each), 1)) for each in noise]

    def right():
        with torch.no_grad():
            hits = [
                (F.normalize(a, dim=1) @ F.normalize(b, dim=1).T).argmax(1).eq(torch.arange(6))
                for a, b in (pair() for _ in range(40))
            ]
        return torch.stack(hits).float().mean()

    before = right()
    for _ in range(60):
        first, second = pair()
        permutation, _ = matching_losses(graph(first, [0, 1, 2, 3, 4, 5], 1), graph(second, [0, 1, 2, 3, 4, 5], 2))
        optimizer.zero_grad()
        permutation.backward()
        optimizer.step()
    assert before < 0.4 and right() > 0.8
