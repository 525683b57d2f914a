"""Resampling for boards: paired bootstrap draws of a cell's score and of means over tasks.

Everything that is compared is resampled together: a sentence has its own draws, the same in every cell that
counts it, and all methods of a board share their resampled tasks. Draws come from fixed seeds, so a
board is the same whenever it is built, and one method's interval does not depend on the others.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from nibench.metrics.curves import log_auc
from nibench.metrics.faithfulness import area_of
from nibench.metrics.specificity import OWN
from nibench.record import Record, ScoreRecord
from nibench.uncertainty import MIN_CLUSTERS, N_DRAWS, cluster_weights, keyed_weights, tails

MIN_TASKS = 3  # fewer tasks give no interval
MIN_LINEAGES = 4  # fewer truth models, each with its twin, give no interval
RATIOS = (  # per cluster: (G, K) over (G,) is the curve
    *(("hits", "items"), ("moved", "at_stake")),
    *(("lost", "at_stake"), ("kept", "at_stake")),
)
SHARES = ("abl.comp", "abl.suff", "abl.cpr", "abl.cpr_log")  # linear in a curve over shares of all neurons
CLUSTERS = {"items": "items", "at_stake": "behaviour"}  # whose clusters these are
PARTS = {"encodes": ("probe.auc[lda]", "probe.auc[qda]")}  # a score that is the mean of others


def interval(draws: np.ndarray, n_units: int) -> tuple[float, float]:
    """The 95 % interval over so many resampled units; draws in which nothing was drawn (NaN) are left out."""
    low, high = np.quantile(draws[~np.isnan(draws)], tails(n_units))
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
def _weights(ids: bytes) -> np.ndarray:
    return keyed_weights(np.frombuffer(ids, dtype="<u8"))


def sentence_weights(ids: np.ndarray) -> np.ndarray:
    """uint8 (G, N_DRAWS): how often each cluster is drawn; the same for every cell that has it."""
    return _weights(np.ascontiguousarray(ids, dtype="<u8").tobytes())


@dataclass(frozen=True, eq=False)
class Ratio:
    """A score as a ratio of sums over clusters, less what is the same for every method.

    Attributes
    ----------
    ids : uint64 (G,)
        Which sentence, template or group each cluster is; cells that share one share its draws.
    above, below : float64 (G,)
        ``value = sum(above) / sum(below) - offset``. An area under a curve of ratios is one too: the area is
        linear in the curve.
    """

    ids: np.ndarray
    above: np.ndarray
    below: np.ndarray
    offset: float = 0.0

    @property
    def value(self) -> float:
        return float(self.above.sum() / self.below.sum() - self.offset)

    @cached_property
    def draws(self) -> np.ndarray | None:
        """(N_DRAWS,) values over resampled clusters; None with fewer than ``MIN_CLUSTERS``."""
        if len(self.below) < MIN_CLUSTERS:
            return None
        above, below = np.stack([self.above, self.below]) @ sentence_weights(self.ids).astype(np.float64)
        drawn = below != 0  # of ten clusters none is drawn in one resample of 20,000
        draws = np.divide(above, below, out=np.full(N_DRAWS, self.value + self.offset), where=drawn)
        return draws - self.offset

    def effects(self, scale: float, shown: float) -> tuple[np.ndarray, np.ndarray]:
        """Ids (G,), and what each cluster adds to ``shown``, which moves ``scale`` times as much as the value."""
        zero = self.value + self.offset - shown / scale
        return self.ids, scale * (self.above - zero * self.below) / self.below.sum()


@dataclass(frozen=True, eq=False)
class Contrast:
    """A ratio of sums less the mean of others, each over clusters of its own: ``abl.spec``."""

    own: Ratio
    others: tuple[Ratio, ...]

    @property
    def value(self) -> float:
        return self.own.value - sum(one.value for one in self.others) / len(self.others)

    @cached_property
    def draws(self) -> np.ndarray | None:
        """(N_DRAWS,) values over resampled clusters; None where one of the ratios has none."""
        drawn = [one.draws for one in (self.own, *self.others)]
        known = [one for one in drawn if one is not None]
        return known[0] - np.mean(known[1:], axis=0) if len(known) == len(drawn) else None

    def effects(self, scale: float, shown: float) -> tuple[np.ndarray, np.ndarray]:
        """The same as of a ratio; a cluster that several concepts count stands there once for each."""
        others = [one.effects(-scale / len(self.others), 0.0) for one in self.others]
        ids, added = zip(self.own.effects(scale, shown), *others, strict=True)
        return np.concatenate(ids), np.concatenate(added)


def contrast_of(record: Record, arrays: Mapping[str, np.ndarray], metric: str) -> Contrast | None:
    """Of ``abl.spec``, for which no single ratio stands; None for other metrics and where the record has no sums."""
    if metric != "abl.spec" or record.score(metric) is None:
        return None
    parts = {}
    for concept, sums in per_concept(arrays, metric).items():
        kind = "behaviour" if concept == OWN else f"behaviour[{concept}]"
        parts[concept] = Ratio(_cluster_ids(record, arrays, kind, len(sums)), sums[:, 0], sums[:, 1])
    own = parts.pop(OWN, None)
    return Contrast(own, tuple(parts.values())) if own is not None and parts else None


def per_concept(arrays: Mapping[str, np.ndarray], metric: str) -> dict[str, np.ndarray]:
    """Concept -> (G, 2), what a metric of several concepts counts in each cluster, and out of how much."""
    start = f"{metric}/"
    return {name.removeprefix(start): sums for name, sums in arrays.items() if name.startswith(start)}


def ratio_of(record: Record, arrays: Mapping[str, np.ndarray], metric: str) -> Ratio | None:
    """A metric's plain value as a ratio of sums over clusters.

    None where the record does not allow it: no per-cluster statistics, or statistics that do not add up to
    the score (then they are not what this function takes them for).
    """
    parts = [ratio_of(record, arrays, part) for part in PARTS.get(metric, ())]
    if parts:
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return replace(known[0], above=np.mean([part.above for part in known], axis=0))
    score = record.score(metric)
    for top_name, bottom_name in RATIOS:
        top, below = arrays.get(f"{metric}/{top_name}"), arrays.get(f"{metric}/{bottom_name}")
        if score is None or top is None or below is None or below.sum() == 0:
            continue
        if top_name == "kept" and metric not in SHARES:
            return None  # a distance from the curve is not linear in it
        above, offset = _above(score, top)
        ids = _cluster_ids(record, arrays, CLUSTERS[bottom_name], len(below))
        found = Ratio(ids, above, below.astype(np.float64), offset)
        return found if abs(found.value - score.value) <= 1e-6 * max(1.0, abs(score.value)) else None
    return None


def _above(score: ScoreRecord, top: np.ndarray) -> tuple[np.ndarray, float]:
    """What a score sums over clusters, (G,), from its statistics (G, K); and its offset."""
    if score.id == "sel.kappa":  # hits of the concept, then of each control: skill minus mean skill
        majority = np.array([score.details["concept_majority"], *score.details["control_majority"]])
        share = np.array([1.0] + [-1 / (len(majority) - 1)] * (len(majority) - 1)) / (1 - majority)
        return top @ share, float(share @ majority)
    if score.id in SHARES:
        return area_of(score.id, top), 0.0
    if top.shape[1] != len(score.k):
        return np.full(len(top), np.nan), 0.0
    return np.asarray(log_auc(score.k, top)), 0.0


def _cluster_ids(record: Record, arrays: Mapping[str, np.ndarray], kind: str, n_clusters: int) -> np.ndarray:
    """Digests of the clusters; where the record has none, of the data and the number of each."""
    ids = arrays.get(f"clusters/{kind}")
    if ids is not None and len(ids) == n_clusters:
        return ids
    start = hashlib.blake2b(f"{record.digests.get('data')} {kind}".encode(), digest_size=8).digest()
    return np.frombuffer(start, dtype="<u8") + np.arange(n_clusters, dtype=np.uint64)


def slope(score: ScoreRecord) -> float | None:
    """How much the normalised score changes per unit of the value, from the scale's two ends in the record."""
    random = score.details.get("random", score.chance)
    if score.normalised is None or score.ceiling is None or random is None or score.ceiling == random:
        return None
    return 1.0 / (score.ceiling - random)
