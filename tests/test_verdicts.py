"""Verdicts: bands, ranks, and what a board says that it cannot tell."""

import numpy as np
import pytest

from nibench.verdicts import verdict


def paired(
    means: list[float], spread: float, n_units: int, seed: int = 0, exact: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Draws (M, 2000) and shares (U, M): methods that differ by their means, units that differ for all alike.

    ``exact``: the means are those of the sample, else of the population.
    """
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n_units, 1))
    own = rng.normal(scale=spread, size=(n_units, len(means)))
    shares = (np.array(means) + shared + own - exact * (shared.mean() + own.mean(axis=0))) / n_units
    weights = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=2000)
    return (weights @ shares).T, shares


def test_enough_units_are_flipped_and_what_differs_opens_a_band():
    found = verdict(*paired([0.9, 0.89, 0.2], 0.1, 20))
    assert found.by == "flips"
    assert found.bands == (1, 1, 2)
    assert (found.n_units, found.n_pairs) == (20, 3)
    assert sum(found.p_first) == pytest.approx(1)
    assert found.p_first[2] == 0
    assert found.ranks[2] == (3, 3)
    assert found.ranks[0][0] == 1


def test_few_units_cannot_be_flipped_for_so_many_pairs():
    """Eight units tell six pairs apart, four methods; with a fifth the paired intervals decide."""
    four, five = [0.9, 0.7, 0.5, 0.3], [0.9, 0.7, 0.5, 0.3, 0.1]
    assert [verdict(*paired(m, 0.01, 8)).by for m in (four, five)] == ["flips", "intervals"]
    assert verdict(*paired(five, 0.01, 8)).most_pairs == 6
    assert verdict(*paired(four, 0.01, 8)).bands == (1, 2, 3, 4)
    assert verdict(*paired(five, 0.01, 8)).bands == (1, 2, 3, 4, 5)


def test_holm_counts_all_pairs_so_that_many_equals_stay_together():
    """Twenty methods without a difference: in a twentieth of all boards one of them falls out, not in each."""
    bands = [verdict(*paired([0.5] * 20, 0.3, 30, seed, exact=False)).bands[-1] for seed in range(20)]
    assert sum(band > 1 for band in bands) <= 3


def test_equal_methods_share_ranks_and_say_nothing_of_what_is_resolved():
    draws, shares = paired([0.5], 0.1, 20)
    found = verdict(np.repeat(draws, 3, axis=0), np.repeat(shares, 3, axis=1))
    assert found.bands == (1, 1, 1)
    assert found.ranks == ((2, 2),) * 3
    assert found.p_first == pytest.approx((1 / 3,) * 3)
    assert found.resolvable is None


def test_what_is_resolved_shrinks_with_more_units():
    few, many = (verdict(*paired([0.5, 0.4], 0.2, n)).resolvable for n in (20, 320))
    assert few is not None
    assert many is not None
    assert few == pytest.approx(4 * many, rel=0.35)


def test_draws_in_which_nothing_was_drawn_are_left_out():
    draws, shares = paired([0.9, 0.1], 0.1, 20)
    draws[0, :5] = np.nan
    assert verdict(draws, shares).ranks == ((1, 1), (2, 2))
