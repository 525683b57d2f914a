"""Metrics: a metric is a function Trial -> Score; METRICS is the tuple one can read.

A metric may return several Scores that share their work, or None where it does not apply. Overlap between
methods needs two rankings and stands in ``nibench.metrics.overlap``; cost is measured by the harness.
"""

from collections.abc import Callable

from nibench.activations import SplitData
from nibench.metrics.ablation import carried, required, resampled, zeroed
from nibench.metrics.codelength import codelength
from nibench.metrics.faithfulness import erased, faithful
from nibench.metrics.information import class_errors, information, logistic
from nibench.metrics.minset import minimal_set
from nibench.metrics.probing import encodes
from nibench.metrics.profile import layer_profile, localisation
from nibench.metrics.rank_selectivity import rank_selectivity
from nibench.metrics.redundancy import redundancy
from nibench.metrics.removal import probe_curves
from nibench.metrics.selectivity import selectivity
from nibench.metrics.specificity import cause_and_isolate, specific
from nibench.metrics.stability import stability
from nibench.metrics.structure import covers, grouping, labelling
from nibench.metrics.trial import Score, Setting, Trial
from nibench.metrics.truth import decoys, failure_anatomy, null_share, truth_per_claim

Metric = Callable[[Trial], Score | tuple[Score, ...] | None]

TRUTH_METRICS: tuple[Metric, ...] = (
    truth_per_claim,  # gt.ndcg[claim], gt.energy[claim], gt.ap[claim], gt.recall@n[claim]
    decoys,  # gt.decoy, gt.decoy[natural], gt.decoy[correlate]
    covers,  # gt.cover_any, gt.cover_all
    grouping,  # gt.group
    labelling,  # gt.label
    failure_anatomy,  # gt.anatomy
)
NULL_METRICS: tuple[Metric, ...] = (  # where no neuron carries the concept; what encodes it may be known
    truth_per_claim,
    null_share,
    failure_anatomy,
)
HEADLINE: tuple[Metric, ...] = (  # what the boards show
    encodes,  # encodes, probe.auc[lda], probe.auc[qda]
    carried,  # abl.auc[interchange]
    required,  # abl.auc[mean]
    *TRUTH_METRICS,
    selectivity,  # sel.kappa
    specific,  # abl.spec
)
DETAILS: tuple[Metric, ...] = (  # what stands behind the boards, measured where all metrics are asked for
    stability,  # stab.data, stab.phi, stab.seed
    rank_selectivity,  # sel.rank_gap, sel.dd, sel.rank_div
    probe_curves,  # probe.curve[remove], probe.curve[bottom], probe.curve[random]
    class_errors,  # probe.f1
    information,  # probe.mi, probe.nmi, probe.bmi
    minimal_set,  # probe.minset
    codelength,  # probe.mdl
    logistic,  # probe.logistic
    layer_profile,  # layer.centre, layer.entropy
    localisation,  # loc.gini, loc.entropy, loc.neff, loc.pr
    redundancy,  # red.clusters
    zeroed,  # abl.auc[zero]
    resampled,  # abl.auc[resample]
    cause_and_isolate,  # abl.cause, abl.isolate
    erased,  # abl.comp, abl.suff
    faithful,  # abl.cpr, abl.cmd, abl.cpr_log, abl.cmd_log
)
METRICS: tuple[Metric, ...] = (*HEADLINE, *DETAILS)

ABOUT: dict[str, str] = {
    "encodes": "accuracy of two probes on the first k neurons, area over log k: mean of the two below",
    "probe.auc[lda]": "the same with a linear probe (shared covariance)",
    "probe.auc[qda]": "the same with a Gaussian probe (a covariance per class)",
    "abl.auc[interchange]": "carries: share of the margin that swapping the first k moves, area over log k",
    "abl.auc[mean]": "required: share of the margin lost with the first k at their mean, area over log k",
    "abl.auc[zero]": "the same with the first k at zero, which credits neurons that never change",
    "abl.auc[resample]": "the same with the first k at their values on other items, five donors each",
    "abl.spec": "share lost on the concept's behaviour minus that on the model's other concepts, first 1 %",
    "abl.cause": "share of answers that become the twin's when the first 1 % take their values from it",
    "abl.isolate": "share of other concepts' answers that stay when these neurons are swapped there",
    "abl.comp": "share of the margin lost without the first 1, 5, 10, 20, 50 %, mean of the five",
    "abl.suff": "the same with only these kept, where that tells sets apart; lower is better",
    "abl.cpr": "share of the margin made by the first k alone, area over the share of neurons kept",
    "abl.cmd": "distance of that from the intact model, area; lower is better",
    "abl.cpr_log": "abl.cpr over the logarithm of the share kept",
    "abl.cmd_log": "abl.cmd over the logarithm of the share kept; lower is better",
    "gt.ndcg[CLAIM]": "truth, graded: NDCG by the true gains of associated, responds, carries or required",
    "gt.ndcg[model]": "the same without a concept: what each neuron is worth to the model's next words",
    "gt.energy[CLAIM]": "share of all true gain on the first k neurons, area over log k",
    "gt.ap[CLAIM]": "truth as a set: average precision, where the answer is one",
    "gt.recall@n[CLAIM]": "share of the n right neurons among the first n (their precision, too)",
    "gt.decoy": "how often a certified decoy stands above a neuron that carries; lower is better",
    "gt.decoy[natural]": "the same for natural decoys: neurons that encode and are certified not to carry",
    "gt.decoy[correlate]": "the same for neurons of a confound, in sampled worlds",
    "gt.cover_any": "share of the groups of copies or backups met by the first k, area over log k",
    "gt.cover_all": "share of these groups that lie whole among the first k, area over log k",
    "gt.group": "clusterings: adjusted Rand index against the groups of copies and backups",
    "gt.label": "neuron to concept: balanced accuracy of the class named for a neuron, none allowed",
    "gt.anatomy": "which roles fill the first n neurons, n as many as are right, and the first ten",
    "null.share": "where no neuron is right: share of the margin that swapping the first eight moves",
    "sel.kappa": "probe skill on the concept minus skill on the control task, same neurons",
    "sel.rank_gap": "accuracy from the neurons ranked for the concept minus from those ranked for a control task",
    "sel.dd": "double dissociation: what concept and control task lose with the other's neurons",
    "sel.rank_div": "overlap of two halves' rankings minus overlap with a control task's, chance-corrected",
    "stab.data": "chance-corrected overlap of the top 1 % ranked on two disjoint halves of the sentences",
    "stab.phi": "Nogueira's stability over all these halves",
    "stab.seed": "Nogueira's stability over seeds; 1 for a method that draws nothing",
    "probe.curve[remove]": "accuracy of the two probes without the top k, area over log k; lower is better",
    "probe.curve[bottom]": "the same on the last k; lower is better",
    "probe.curve[random]": "the same on the shared random rankings",
    "probe.f1": "macro-F1 of the linear probe on the top 1 % of neurons (at least 10)",
    "probe.mi": "bits that a probe on the same neurons tells of the concept",
    "probe.nmi": "the same as a share of the concept's entropy",
    "probe.bmi": "the most bits that any of the first 1, 2, 4 ... of them tell, chosen before eval",
    "probe.minset": "top neurons until a linear probe is, and stays, within .01 of all; lower is better",
    "probe.mdl": "compression of the labels, sent online to one who learns from the same neurons",
    "probe.logistic": "second opinion: accuracy of logistic regression on the first 1, 8, 64, kmax",
    "layer.centre": "mean layer of the top 1 % of neurons",
    "layer.entropy": "how evenly they are spread over the layers, 0 to 1",
    "loc.gini": "Gini coefficient of the scores' mass: 1 = a few neurons have it all",
    "loc.entropy": "entropy of that mass over log2 D: 1 = even",
    "loc.neff": "effective number of neurons: two to that entropy in bits",
    "loc.pr": "participation ratio of that mass, in neurons",
    "red.clusters": "share of the top 1 % of neurons that repeats another of them (correlation clusters)",
}


def measure(trial: Trial) -> tuple[Score, ...]:
    """Every Score that the setting asks for and that applies to this trial, in the order of METRICS.

    Where no neuron is right, only what says so: such a task enters no mean. Without a concept, or where the
    setting asks for the truth only, only what is known.
    """
    setting = trial.setting
    null = setting.truth is not None and setting.truth.null
    known_only = setting.metrics == "truth" or setting.n_classes < 2
    asked = NULL_METRICS if null else TRUTH_METRICS if known_only else HEADLINE
    if setting.metrics == "all" and asked is HEADLINE:
        asked = METRICS
    scores: list[Score] = []
    for metric in asked:
        found = metric(trial)
        scores += found if isinstance(found, tuple) else [] if found is None else [found]
    return tuple(scores)


__all__ = [
    "ABOUT",
    "DETAILS",
    "HEADLINE",
    "METRICS",
    "TRUTH_METRICS",
    "Metric",
    "Score",
    "Setting",
    "SplitData",
    "Trial",
    "measure",
]
