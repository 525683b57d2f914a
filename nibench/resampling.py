"""Resampling for boards: paired bootstrap draws of a cell's score and of means over tasks.

Everything that is compared is resampled together: cells with the same sentences share their resampled
sentences, and all methods of a board share their resampled tasks. Draws come from fixed seeds, so a
board is the same whenever it is built, and one method's interval does not depend on the others.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from nibench.metrics.curves import log_auc
from nibench.record import Record, ScoreRecord
from nibench.uncertainty import MIN_CLUSTERS, N_DRAWS, cluster_weights

MIN_TASKS = 3  # fewer tasks give no interval
MIN_LINEAGES = 4  # fewer truth models, each with its twin, give no interval
RATIOS = (("hits", "items"), ("moved", "at_stake"))  # per cluster: (G, K) over (G,) is the curve
PARTS = {"encodes": ("probe.auc[lda]", "probe.auc[qda]")}  # a score that is the mean of others


def interval(draws: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval; draws in which nothing was drawn (NaN) are left out."""
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)


def task_weights(blocks: Sequence[str]) -> np.ndarray:
    """(N_DRAWS, S): how much each of S cells weighs in each resample, rows summing to 1.

    Cells are drawn with replacement within their block (model); blocks weigh the same.
    """
    rng = np.random.default_rng(0)
    names = sorted(set(blocks))
    weights = np.zeros((N_DRAWS, len(blocks)))
    for name in names:
        columns = [i for i, block in enumerate(blocks) if block == name]
        drawn = rng.multinomial(len(columns), np.full(len(columns), 1 / len(columns)), size=N_DRAWS)
        weights[:, columns] = drawn / len(columns) / len(names)
    return weights


def lineage_weights(lineages: Sequence[str], blocks: Sequence[str]) -> np.ndarray:
    """(N_DRAWS, S): how much each of S cells weighs in each resample of the truth models; rows sum to 1.

    What was planted once is drawn as one, a glass-box with its twin and middle; within a draw a cell weighs
    as in the mean over the cells of a block (model), then over blocks. A draw without weight does not occur.
    """
    names, lineage_of = np.unique(lineages, return_inverse=True)
    sizes = {name: list(blocks).count(name) for name in set(blocks)}
    usual = np.array([1 / sizes[block] / len(sizes) for block in blocks])
    weights = cluster_weights(len(names))[:, lineage_of] * usual
    return weights / weights.sum(axis=1, keepdims=True)


@lru_cache(maxsize=64)
def sentence_weights(n_clusters: int) -> np.ndarray:
    """(N_DRAWS, G): how often each cluster is drawn; the same for every cell with as many clusters."""
    return cluster_weights(n_clusters)


def value_draws(record: Record, arrays: Mapping[str, np.ndarray], metric: str) -> np.ndarray | None:
    """(N_DRAWS,) draws of a metric's plain value over resampled sentences.

    None where the record does not allow it: no per-cluster statistics, too few clusters, or statistics
    that do not add up to the score (then they are not what this function takes them for).
    """
    parts = [value_draws(record, arrays, part) for part in PARTS.get(metric, ())]
    if parts:
        known = [part for part in parts if part is not None]
        return np.mean(known, axis=0) if len(known) == len(parts) else None
    score = record.score(metric)
    for above, below in RATIOS:
        top, bottom = arrays.get(f"{metric}/{above}"), arrays.get(f"{metric}/{below}")
        if score is None or top is None or bottom is None or len(bottom) < MIN_CLUSTERS:
            continue
        whole = _area(score, top.sum(axis=0)[None], bottom.sum()[None])[0]
        if not abs(whole - score.value) <= 1e-6 * max(1.0, abs(score.value)):
            return None
        weights = sentence_weights(len(bottom))
        draws = _area(score, weights @ top, weights @ bottom)
        return draws if np.isfinite(draws).all() else None
    return None


def slope(score: ScoreRecord) -> float | None:
    """How much the normalised score changes per unit of the value, from the scale's two ends in the record."""
    random = score.details.get("random", score.chance)
    if score.normalised is None or score.ceiling is None or random is None or score.ceiling == random:
        return None
    return 1.0 / (score.ceiling - random)


def _area(score: ScoreRecord, tops: np.ndarray, bottoms: np.ndarray) -> np.ndarray:
    """Area over log k of the curves ``tops / bottoms``, (B, K) and (B,) -> (B,); NaN where undefined."""
    if tops.shape[1] != len(score.k):
        return np.full(len(tops), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(log_auc(score.k, tops / bottoms[:, None]))
