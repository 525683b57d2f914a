"""How few bits it takes to send the labels to someone who learns from the top neurons as they arrive."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.special import logsumexp

from nibench.metrics.curves import mean_and_se, set_size, tie_report
from nibench.metrics.trial import Score, Setting, Trial
from nibench.probes import Lda, ProbeData, entropy_bits
from nibench.uncertainty import bootstrap, cluster_sums, cluster_weights

PORTIONS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
FIRST_BLOCK = 10  # items of each class, were they even, under which there is nothing to learn a probe from
N_ORDERS = 3
SMOOTHING = 1e-3  # of every probability towards 1 / C: an unseen class must not cost infinitely many bits


def block_ends(sentences: np.ndarray, portions: Sequence[float] = PORTIONS, least: int = 1) -> list[int]:
    """Where blocks of items end: at these shares, the first at ``least`` items or more, sentences kept whole.

    Parameters
    ----------
    sentences : (N,)
        The sentence of each item; items of a sentence are neighbours.
    """
    n_items = len(sentences)
    last = np.flatnonzero(np.append(sentences[1:] != sentences[:-1], True)) + 1
    wanted = [max(least, share * n_items) for share in portions]
    ends = {int(last[np.searchsorted(last, share - 1e-9)]) for share in wanted if share <= n_items}
    return sorted({*ends, n_items})


def code_lengths(probabilities: np.ndarray, first: int, n_classes: int) -> np.ndarray:
    """Bits that each label costs: uniform for the ``first`` items, then minus log2 of its probability.

    Parameters
    ----------
    probabilities : (N,)
        What a probe fitted to the blocks before an item's gives to its class; those of the first block
        are not looked at.
    """
    learnt = -np.log2(probabilities[first:])
    return np.concatenate([np.full(min(first, len(probabilities)), np.log2(n_classes)), learnt])


def orders(setting: Setting) -> list[tuple[np.ndarray, list[int]]]:
    """The ``probe`` items in a few random orders of their sentences, with the ends of the blocks."""
    sentences = setting.splits["probe"].sentences
    ids = np.unique(sentences, return_inverse=True)[1]
    found = []
    for number in range(N_ORDERS):
        shuffled = np.random.default_rng([setting.seed, 11, number]).permutation(ids.max() + 1)
        items = np.argsort(shuffled[ids], kind="stable")
        found.append((items, block_ends(sentences[items], least=FIRST_BLOCK * setting.n_classes)))
    return found


def codelength(trial: Trial) -> Score | None:
    """``probe.mdl``: how well the top neurons compress the labels, online.

    The ``probe`` items are sent in blocks of doubling size, in random order of sentences. Each label costs
    minus log2 of what ``lda``, fitted to the blocks before on the top 1 % of neurons (at least 10), gives to
    its class; the first block is sent uniformly. The value is the entropy code's length over this one's: 1 is
    what the class frequencies alone would do, so a skewed concept is no easier.

    Returns
    -------
    Score or None
        Compression against the marginal, above 0, higher is better; mean over three orders. ``details``: bits of
        the code, bits a label, compression against the uniform code, the standard error over the orders; ``se``
        is that of resampled sentences and of the orders together. None where there is one class, or the
        first block is all there is. ``clusters``: bits (G, orders), items of each class (G, C), by sentence of
        ``probe``.

    Notes
    -----
    The published first blocks hold a thousandth of the items; here the first has at least ten a class: a
    covariance of two words says nothing. Probabilities are mixed with a thousandth of the uniform ones.

    References
    ----------
    Voita & Titov, Information-theoretic probing with minimum description length, EMNLP 2020.
    """
    setting = trial.setting
    seen, n_classes, k = setting.splits["probe"], setting.n_classes, set_size(len(setting.neurons))
    counts = np.bincount(seen.labels, minlength=n_classes)
    runs = setting.once(orders)
    if (counts > 0).sum() < 2 or any(len(ends) < 2 for _, ends in runs):
        return None
    columns = seen.activations[:, trial.ranking.top(k)]
    sentences, cluster_of = np.unique(seen.sentences, return_inverse=True)
    costs = np.empty((len(runs), len(seen.labels)))
    for row, (items, ends) in zip(costs, runs, strict=True):
        probabilities = _online(columns[items], seen.labels[items], n_classes, ends)
        row[items] = code_lengths(probabilities, ends[0], n_classes)
    sums = cluster_sums(costs, cluster_of, len(sentences))  # (G, orders)
    per_class = cluster_sums(seen.labels == np.arange(n_classes)[:, None], cluster_of, len(sentences))
    statistics = np.column_stack([sums.mean(axis=1), per_class])
    weights = cluster_weights(len(sentences))
    interval = bootstrap(statistics, compression, weights)
    lengths = costs.sum(axis=1)
    between = mean_and_se(len(seen.labels) * entropy_bits(counts) / lengths)[1]
    value = float(compression(statistics.sum(axis=0)[None])[0])
    tie_fraction, flags = tie_report(trial.ranking, (k,))
    return Score(
        id="probe.mdl",
        value=value,
        unit="compression",
        direction=1,
        se=None if interval.se is None else float(np.hypot(interval.se, between)),
        ci95=interval.ci95,
        n_items=len(seen.labels),
        n_clusters=len(sentences),
        chance=1.0,
        k=(k,),
        tie_fraction=tie_fraction,
        flags=flags,
        clusters={"bits": sums, "classes": per_class},
        details={
            "bits": float(lengths.mean()),
            "bits_per_label": float(lengths.mean() / len(seen.labels)),
            "against_uniform": float(len(seen.labels) * np.log2(n_classes) / lengths.mean()),
            "se_of_orders": between,
            "blocks": runs[0][1],
        },
    )


def _online(columns: np.ndarray, labels: np.ndarray, n_classes: int, ends: Sequence[int]) -> np.ndarray:
    """(N,): the probability that a probe fitted to the blocks before gives to each item's class."""
    found = np.ones(len(labels))
    for start, end in pairwise(ends):
        probe = Lda.fit(ProbeData(columns[:start]), labels[:start], n_classes)
        log_joint = probe.log_joint(columns[start:end], np.arange(columns.shape[1]), (columns.shape[1],))[0]
        log_right = log_joint[np.arange(end - start), labels[start:end]] - logsumexp(log_joint, axis=1)
        found[start:end] = (1 - SMOOTHING) * np.exp(log_right) + SMOOTHING / n_classes
    return found


def compression(sums: np.ndarray) -> np.ndarray:
    """(B,): marginal code over this one, from sums (B, 1 + C): bits, items of each class."""
    return sums[:, 1:].sum(axis=1) * entropy_bits(sums[:, 1:]) / sums[:, 0]
