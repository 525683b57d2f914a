"""Agreement with the other methods: a worked example, and the matrix of pairs."""

import numpy as np
import pytest

from nibench.metrics.agreement import agreement, pairwise
from nibench.metrics.overlap import kappa, overlap_matrix
from nibench.ranking import Ranking

ORDERS = {"A": [0, 1, 2, 3, 4, 5], "B": [1, 0, 3, 2, 4, 5], "C": [2, 0, 1, 5, 4, 3]}
RANKINGS = {name: Ranking.from_order(order, 6) for name, order in ORDERS.items()}


def test_overlap_and_vote_of_three_methods_without_themselves():
    found = agreement(RANKINGS, ["x", "y", "z"], k=2, index="jaccard")  # oracle 16
    assert found.avg_overlap == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    assert found.neuron_vote == pytest.approx([1, 1 / 3, 1 / 3])


def test_the_same_corrected_for_chance():
    found = agreement(RANKINGS, ["x", "y", "z"], k=2)
    one = (1 - 4 / 6) / (2 - 4 / 6)  # one neuron of two shared
    assert found.avg_overlap == pytest.approx([(1 + one) / 2, (1 + one) / 2, one])
    assert found.neuron_vote == pytest.approx([1, one, one])


def test_what_was_published_counts_the_method_itself():
    found = agreement(RANKINGS, ["x", "y", "z"], k=2)
    assert found.published_overlap == pytest.approx([(1 + 1 + 1 / 3) / 3] * 2 + [(1 + 1 / 3 + 1 / 3) / 3])


def test_sets_of_everything_agree_and_say_nothing():
    assert np.isnan(agreement(RANKINGS, ["x", "y", "z"], k=6).avg_overlap).all()
    assert agreement(RANKINGS, ["x", "y", "z"], k=9, index="jaccard").avg_overlap == pytest.approx([1] * 3)


def test_a_matrix_of_pairs_is_the_measure_of_each():
    found = pairwise(RANKINGS, lambda a, b: kappa(a, b, 2))
    np.testing.assert_allclose(found, overlap_matrix(RANKINGS, k=2))
    np.testing.assert_allclose(np.diag(found), 1)
