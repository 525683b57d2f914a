"""Permutation p-values: a neuron's statistic beside what it is when labels are re-assigned to whole clusters.

Words of one sentence share its noise, and tokens of one word its meaning: labels that go by the sentence or by the word
meet neurons that do, and a permutation of single items takes that for association.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from nibench.moments import Statistics

N_DRAWS = 500
LEAST_PEERS = 20  # sentences (or words) that exchange labels: of one size where so many have it
DEPENDENT = 0.1  # below this p labels are taken to depend on the sentence or the word
NEGLIGIBLE = 1e-4  # of a statistic's spread: smaller differences are rounding
COLUMNS = 256  # neurons at a time


# ---------------------------------------------------------------- labels, re-assigned


def reassigned(
    labels: np.ndarray, clusters: np.ndarray, n_draws: int, rng: np.random.Generator, *, in_order: bool
) -> np.ndarray:
    """(R, N): labels re-assigned to whole clusters; every draw gives each cluster the labels of another.

    Clusters exchange labels with those of their own size, where fewer than twenty have it with the next sizes.
    Labels of a cluster of L items come to one of l by position: its item i gets those of item ``i L // l``, so that
    a label that all items share stays shared.

    Parameters
    ----------
    clusters : int (N,)
        The sentence, or the word type, of each item.
    in_order : bool
        Whether the first item's label stays first (places in a sentence differ) or falls anywhere in the cluster
        (the words of a type do not).
    """
    _, cluster_of = np.unique(clusters, return_inverse=True)
    by_cluster = np.argsort(cluster_of, kind="stable")
    own = cluster_of[by_cluster]
    sizes = np.bincount(own)
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(labels)) - starts[own]
    peers = _peers(sizes)
    receivers = np.argsort(peers, kind="stable")
    donor, given = np.empty_like(receivers), labels[by_cluster]
    drawn = np.empty((n_draws, len(labels)), dtype=labels.dtype)
    for draw in drawn:
        donor[receivers] = np.argsort(peers + rng.random(len(peers)))
        giving = donor[own]
        to = by_cluster if in_order else by_cluster[np.argsort(own + rng.random(len(own)))]
        draw[to] = given[starts[giving] + place * sizes[giving] // sizes[own]]
    return drawn


def _peers(sizes: np.ndarray) -> np.ndarray:
    """(G,): clusters of one number exchange labels: equal sizes, joined upwards until there are twenty."""
    distinct, size_of, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    group, members, groups = 0, 0, np.zeros(len(distinct), dtype=int)
    for i, count in enumerate(counts):
        groups[i], members = group, members + count
        if members >= LEAST_PEERS:
            group, members = group + 1, 0
    if members < LEAST_PEERS:  # the largest, too few for themselves
        groups[groups == group] = max(0, group - 1)
    return groups[size_of]


def shuffled(labels: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """(R, N): labels re-assigned to single items."""
    return rng.permuted(np.tile(labels, (n_draws, 1)), axis=1)


def depends(
    labels: np.ndarray, clusters: np.ndarray, rng: np.random.Generator, n_draws: int = N_DRAWS
) -> bool:
    """Whether labels of one cluster are more alike, or more different, than labels of any items (p below .1)."""
    _, cluster_of = np.unique(clusters, return_inverse=True)
    sizes, n_classes = np.bincount(cluster_of), int(labels.max()) + 1

    def alike(drawn: np.ndarray) -> float:
        counts = np.bincount(cluster_of * n_classes + drawn, minlength=len(sizes) * n_classes)
        return float((np.square(counts.reshape(-1, n_classes)).sum(axis=1) / sizes).sum())

    given, others = alike(labels), np.array([alike(drawn) for drawn in shuffled(labels, n_draws, rng)])
    above, below = (others >= given - NEGLIGIBLE).sum(), (others <= given + NEGLIGIBLE).sum()
    return bool(2 * (1 + min(above, below)) / (1 + n_draws) < DEPENDENT)


# ---------------------------------------------------------------- p-values


def p_values(
    columns: Iterable[tuple[slice, np.ndarray]],
    labels: np.ndarray,
    drawn: Sequence[np.ndarray],
    n_neurons: int,
) -> np.ndarray:
    """float64 (D,): permutation p-values of the neurons; with two ways to re-assign labels, two-way ones.

    The statistic is the largest distance, over classes, of the class's sum from its mean over the draws (the nearer
    of the two means), in standard deviations of the null. With two ways the null's draws are sums of a draw of each,
    scaled to the variance that both have together: their sum less that of single items, which is in both (as in
    two-way clustering), and no less than either.

    p is (1 + draws as extreme) / (1 + draws); where no draw is as extreme, Student's tail beyond them (as many
    degrees of freedom as the draws' kurtosis asks for, summed over the classes), but no less than one over the
    ways to re-assign, of which there are as many as the draws that coincide speak for.

    Parameters
    ----------
    columns : of (which neurons, float32 (N, B))
        Centred ranks, or standardised activations.
    drawn : of int (R, N)
        Re-assigned labels; each of one way.

    References
    ----------
    Knijnenburg et al., Fewer permutations, more accurate P-values, Bioinformatics 2009. Cameron, Gelbach & Miller,
    Robust inference with multiway clustering, JBES 2011, section 2.
    """
    present = np.unique(labels)
    classes = present[1:] if len(present) == 2 else present
    floor = max(_coincidence(one) for one in drawn)
    found = np.ones(n_neurons)
    for where, values in columns:
        found[where] = _block_p(values, labels, drawn, classes, floor)
    return found


def _coincidence(drawn: np.ndarray) -> float:
    """Share of pairs of draws that are the same: one over the number of ways, where all are as likely."""
    counts = np.array(list(Counter(draw.tobytes() for draw in drawn).values()))
    return float((counts * (counts - 1)).sum() / (len(drawn) * (len(drawn) - 1)))


def _block_p(
    values: np.ndarray, labels: np.ndarray, drawn: Sequence[np.ndarray], classes: np.ndarray, floor: float
) -> np.ndarray:
    """(B,): p-values of columns (N, B)."""
    from scipy.stats import t

    n_items, n_neurons = values.shape
    n_draws = len(drawn[0])
    alone = values.var(axis=0, dtype=np.float64) / max(
        1, n_items - 1
    )  # (B,): variance when single items are shuffled
    reached, farthest = np.zeros(n_neurons), np.zeros((n_draws, n_neurons), dtype=np.float32)
    freedoms = []
    for label in classes:
        given = _sums(values, labels[None], label)[0]
        draws = [_sums(values, one, label) for one in drawn]
        means = [one.mean(axis=0) for one in draws]
        variances = np.array([one.var(axis=0) for one in draws])
        null = np.sum([one - mean for one, mean in zip(draws, means, strict=True)], axis=0)
        variance = np.maximum(variances.sum(axis=0) - (len(drawn) - 1) * alone, variances.max(axis=0))
        varies = (variances > NEGLIGIBLE**2 * alone).all(axis=0)
        null /= np.where(varies, null.std(axis=0), np.inf)
        distance = np.min([np.abs(given - mean) for mean in means], axis=0)
        distance = np.where(varies, distance / np.sqrt(np.where(varies, variance, 1.0)), 0.0)
        np.maximum(reached, distance, out=reached)
        np.maximum(farthest, np.abs(null), out=farthest)
        excess = np.square(np.square(null)).mean(axis=0) - 3
        heavy = excess > np.sqrt(24 / n_draws)  # one standard error beyond what normal draws have
        freedoms.append(np.where(heavy, 4 + 6 / np.where(heavy, excess, 1), n_draws - 1))
    as_extreme = (farthest >= reached - NEGLIGIBLE).sum(axis=0)
    found = (1 + as_extreme) / (1 + n_draws)
    reached /= np.sqrt(1 + 1 / n_draws)
    beyond = sum(2 * t.sf(reached * np.sqrt(freedom / (freedom - 2)), freedom) for freedom in freedoms)
    return np.where(as_extreme == 0, np.minimum(found, np.maximum(beyond, floor)), found)


def _sums(values: np.ndarray, labels: np.ndarray, label: int) -> np.ndarray:
    """(R, B): sums of centred columns (N, B) over the items of a class under labels (R, N), of one variance."""
    inside = (labels == label).astype(np.float32)
    counts = inside.sum(axis=1, dtype=np.float64)
    units = np.sqrt(counts * (len(values) - counts))
    return (inside @ values) / np.where(units > 0, units, np.inf).astype(np.float32)[:, None]


def ranks(statistics: Statistics) -> Iterator[tuple[slice, np.ndarray]]:
    """Twice the centred mid-ranks of each neuron's items, float32 (N, B), from the sort that all methods share."""
    for block in statistics.columns.sorted_blocks():
        first, last = block.groups()
        centred = (first + last + 1 - block.order.shape[1]).astype(np.float32)
        places = np.empty_like(centred)
        np.put_along_axis(places, block.order, centred, axis=1)
        yield block.columns, places.T


def standard_values(statistics: Statistics) -> Iterator[tuple[slice, np.ndarray]]:
    """Each neuron in standard deviations from its mean, float32 (N, B); constant ones 0."""
    spread = np.sqrt(np.where(statistics.variance > 0, statistics.variance, np.inf))
    for start in range(0, len(spread), COLUMNS):
        where = slice(start, min(start + COLUMNS, len(spread)))
        yield (
            where,
            ((statistics.activations[:, where] - statistics.mean[where]) / spread[where]).astype(np.float32),
        )
