"""What NumPy computes of a network's outputs: products in pieces, and logistic functions at their ends."""

import math

import numpy as np
import pytest

from vis_core.nn.arrays import logit, product, sigmoid


@pytest.mark.parametrize("sizes", [(0, 5, 7), (3, 4, 0), (1, 1, 1), (7, 69, 5000), (60, 256, 1111), (700, 64, 3)])
def test_a_product_in_pieces_is_the_product(sizes):
    count, length, columns = sizes
    random = np.random.default_rng(0)
    first, second = (random.standard_normal(size, np.float32) for size in ((length, count), (columns, length)))
    expected = first.T.astype(np.float64) @ second.T
    np.testing.assert_allclose(product(first.T, second.T), expected, rtol=1e-4, atol=1e-4)


def test_no_piece_of_a_product_is_large_enough_to_wake_other_threads(monkeypatch):
    pieces, multiply = [], np.matmul

    def counted(first, second, out):
        pieces.append(first.size * second.shape[1])
        multiply(first, second, out=out)

    monkeypatch.setattr(np, "matmul", counted)
    for count, length, columns in ((30, 69, 7168), (252, 128, 252), (60, 256, 13728)):
        product(np.zeros((count, length), np.float32), np.zeros((length, columns), np.float32))
    assert max(pieces) <= 1 << 18 and sum(pieces) == 30 * 69 * 7168 + 252 * 128 * 252 + 60 * 256 * 13728


def test_logistic_functions_hold_at_their_ends():
    found = sigmoid(np.array([-1000, -2, 0, 3, 1000], np.float32))
    np.testing.assert_allclose(found, [0, 0.1192029, 0.5, 0.9525741, 1], rtol=1e-6)
    assert (logit(0), logit(1), logit(0.5)) == (-math.inf, math.inf, 0)
    assert sigmoid(np.array([logit(0.45)], np.float32))[0] == pytest.approx(0.45)
