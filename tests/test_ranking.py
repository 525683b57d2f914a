"""Order, ties and refusals of Ranking."""

import numpy as np
import pytest

from nibench import InputError, Ranking


def test_the_highest_score_comes_first_and_minus_infinity_last():
    ranking = Ranking.from_scores([0.5, -np.inf, 2.0, -1.0])
    assert ranking.order.tolist() == [2, 0, 3, 1]
    assert ranking.top(2).tolist() == [2, 0]


def test_ties_do_not_favour_early_layers():
    n_neurons = 1000
    order = Ranking.from_scores(np.zeros(n_neurons)).order
    assert not np.array_equal(order, np.arange(n_neurons))
    first_half = (order[:100] < 500).sum()
    assert 35 <= first_half <= 65  # 50 expected, standard deviation 4.7


def test_two_methods_with_the_same_ties_break_them_alike():
    a = Ranking.from_scores([1.0, 1.0, 1.0, 0.0, 0.0])
    b = Ranking.from_scores([7.0, 7.0, 7.0, 7.0, 7.0])
    rank_in_b = np.argsort(b.order)
    assert rank_in_b[a.order[:3]].tolist() == sorted(rank_in_b[a.order[:3]].tolist())


def test_another_tie_seed_breaks_ties_otherwise_and_keeps_the_scores():
    scores = np.repeat([2.0, 1.0], 20)
    one, other = Ranking(scores, tie_seed=0), Ranking(scores, tie_seed=1)
    assert one.order.tolist() != other.order.tolist()
    assert set(one.top(20)) == set(other.top(20)) == set(range(20))


def test_negative_zero_ties_with_zero():
    assert Ranking.from_scores([-0.0, 0.0]).tie_ranks[1].tolist() == [2, 2]
    assert not np.signbit(Ranking.from_scores([-0.0]).scores).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_refused_with_the_neuron_and_the_remedy(bad):
    with pytest.raises(InputError, match=r"first: neuron 1.*-inf says 'cannot tell'"):
        Ranking.from_scores([0.0, bad, 1.0])


def test_scores_must_be_one_per_neuron():
    with pytest.raises(InputError, match=r"shape \(2, 3\)"):
        Ranking.from_scores(np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"\(C, 3\)"):
        Ranking.from_scores(np.zeros(3), per_class=np.zeros((2, 4)))


def test_an_order_puts_the_unnamed_neurons_last_and_tied():
    ranking = Ranking.from_order([3, 1], n_neurons=5)
    assert ranking.order[:2].tolist() == [3, 1]
    assert ranking.scores[[0, 2, 4]].tolist() == [-np.inf] * 3


@pytest.mark.parametrize(
    ("order", "message"), [([1, 1], "twice"), ([0, 5], "expected ids 0..4"), ([0.0, 1.0], "integers")]
)
def test_an_order_with_duplicates_or_strangers_is_refused(order, message):
    with pytest.raises(InputError, match=message):
        Ranking.from_order(order, n_neurons=5)


@pytest.mark.parametrize("k", range(6))
def test_inclusion_sums_to_k(k):
    ranking = Ranking.from_scores([3, 2, 2, 2, 1])
    assert ranking.inclusion(k).sum() == pytest.approx(k)


def test_expected_overlap_and_hits_under_ties():
    a, b = Ranking.from_scores([3, 2, 2, 1]), Ranking.from_scores([1, 2, 2, 2])
    assert a.inclusion(2).tolist() == [1.0, 0.5, 0.5, 0.0]
    assert a.inclusion(2) @ b.inclusion(2) == pytest.approx(0.6666666667)
    relevant = np.array([0, 1, 0, 1, 0])
    assert Ranking.from_scores([3, 2, 2, 2, 1]).inclusion(2) @ relevant == pytest.approx(0.6666666667)


def test_tie_fraction_is_the_share_of_the_top_that_hangs_on_the_tie_break():
    ranking = Ranking.from_scores([3, 2, 2, 2, 1])
    assert ranking.tie_fraction(1) == 0.0
    assert ranking.tie_fraction(2) == pytest.approx(0.5)
    assert ranking.tie_fraction(4) == 0.0
    assert ranking.tie_fraction(0) == 0.0
