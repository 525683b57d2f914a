"""Metrics: a metric is a function Trial -> Score; METRICS is the tuple one can read.

A metric may return several Scores that share their work, or None where it does not apply. Overlap between
methods needs two rankings and stands in ``nibench.metrics.overlap``; cost is measured by the harness.
"""

from collections.abc import Callable

from nibench.activations import SplitData
from nibench.metrics.ablation import carried, required
from nibench.metrics.probing import encodes
from nibench.metrics.selectivity import selectivity
from nibench.metrics.trial import Score, Setting, Trial
from nibench.metrics.truth import decoys, truth_per_claim

Metric = Callable[[Trial], Score | tuple[Score, ...] | None]

METRICS: tuple[Metric, ...] = (
    encodes,  # encodes, probe.auc[lda], probe.auc[qda]
    carried,  # abl.auc[interchange]
    required,  # abl.auc[mean]
    truth_per_claim,  # gt.ndcg[claim], gt.ap[claim], gt.recall@n[claim]
    decoys,  # gt.decoy, gt.decoy[natural], gt.decoy[correlate]
    selectivity,  # sel.kappa
)


def measure(trial: Trial) -> tuple[Score, ...]:
    """Every Score of METRICS that applies to this trial, in that order."""
    scores: list[Score] = []
    for metric in METRICS:
        found = metric(trial)
        scores += found if isinstance(found, tuple) else [] if found is None else [found]
    return tuple(scores)


__all__ = ["METRICS", "Metric", "Score", "Setting", "SplitData", "Trial", "measure"]
