"""The trained probe: the published optimiser, seeded."""

import numpy as np
import pytest

from nibench import adam_probe
from tests.references import adam as slow


def sample():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(90) % 3)
    return rng.normal(size=(90, 7)) + np.eye(7)[labels], labels


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (1e-2, 0.0), (1e-2, 1e-1)])
def test_training_is_the_literal_one(l1, l2):
    x, labels = sample()
    found = adam_probe(x, labels, 3, np.random.default_rng(5), l1=l1, l2=l2, batch=32, epochs=4, rate=1e-2)
    bound = 1 / np.sqrt(7)
    start = np.random.default_rng(5).uniform(-bound, bound, (3, 8))
    weights, bias = slow.train(
        x, labels, start[:, :-1], start[:, -1], l1=l1, l2=l2, batch=32, epochs=4, rate=1e-2
    )
    np.testing.assert_allclose(found.weights, weights, atol=1e-4)
    np.testing.assert_allclose(found.bias, bias, atol=1e-4)


def test_the_seed_fixes_it_and_nothing_else_does():
    x, labels = sample()
    one, same, other = (
        adam_probe(x, labels, 3, np.random.default_rng(seed), l1=0.0, l2=0.0, shuffle=True).weights
        for seed in (0, 0, 1)
    )
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)


def test_the_loss_falls_and_constant_neurons_and_absent_classes_weigh_nothing():
    x, labels = sample()
    x[:, 2] = 0.5
    found = adam_probe(x, labels, 5, np.random.default_rng(0), l1=0.0, l2=0.0, rate=1e-2, batch=16)
    assert found.losses[-1] < found.losses[0]
    assert not found.weights[:, 2].any()
    assert not found.weights[3:].any()
