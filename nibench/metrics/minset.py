"""The fewest top neurons that know as much as all of them."""

import numpy as np

from nibench.metrics.curves import tie_report
from nibench.metrics.probing import fit_probes
from nibench.metrics.trial import Score, Setting, Trial
from nibench.probes import MAX_NEURONS, correct
from nibench.uncertainty import MIN_CLUSTERS, ratio_se

MARGIN = 0.01  # accuracy that may be missing
ONE_SIDED = 1.6448536269514722  # standard errors below which 5 % of a normal lie
SCANNED = 64  # neurons added one by one between two points of the grid, at most
N_RANDOM = 5  # random rankings behind the chance level: each takes a factorisation of all neurons


def wide_grid(setting: Setting) -> tuple[int, ...]:
    """Powers of two up to all D neurons; of more than 4,096 neurons, the usual grid."""
    n_neurons = len(setting.neurons)
    if n_neurons > MAX_NEURONS:
        return setting.once(fit_probes).ks
    return (*(2**power for power in range((n_neurons - 1).bit_length())), n_neurons)


def hits_on(setting: Setting, order: np.ndarray) -> np.ndarray:
    """bool (K, M): whether the linear probe is right, on the wide grid; all neurons are the same for all."""
    probes, held_out, ks = setting.once(fit_probes), setting.splits["eval"], wide_grid(setting)
    few = [k for k in ks if k < len(setting.neurons)]
    found = np.tile(probes.ceiling_hits, (len(ks), 1))
    if few:
        log_joint = probes.fitted["lda"].log_joint(held_out.activations, order, few)
        found[: len(few)] = correct(log_joint, held_out.labels)
    return found


def minimal(accuracies: np.ndarray, target: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Where curves (..., K) first reach ``target`` (...,), and where they reach it to stay.

    Returns
    -------
    first, stay : int (...,)
        Places in the grid, K for never. They differ where a curve falls below the target again.
    """
    good = np.asarray(accuracies) >= np.asarray(target)[..., None] - 1e-12
    first = np.where(good.any(axis=-1), good.argmax(axis=-1), good.shape[-1])
    below = ~good[..., ::-1]
    after = np.where(below.any(axis=-1), below.argmax(axis=-1), good.shape[-1])
    return first, good.shape[-1] - after


def random_sizes(setting: Setting) -> np.ndarray:
    """(R,): the minimal sets of shared random rankings on the wide grid, D where it is not reached."""
    sizes = np.array([*wide_grid(setting), len(setting.neurons)])
    curves = np.stack([hits_on(setting, order).mean(axis=1) for order in setting.random_orders[:N_RANDOM]])
    target = setting.once(fit_probes).ceiling - MARGIN
    return sizes[minimal(curves, np.full(len(curves), target))[1]]


def minimal_set(trial: Trial) -> Score | None:
    """``probe.minset``: how many top neurons a linear probe needs to be as good as on all, to stay so.

    The smallest k of the powers of two, and D, from which on ``lda`` on the top k loses at most .01 of the
    accuracy on all neurons at every larger k too (curves are not monotone). Where at most 64 neurons lie
    between it and the point before, each k in between is tried.

    Returns
    -------
    Score or None
        Neurons, 1 to D, lower is better; chance: the median of random rankings. Read it on a log scale.
        ``details``: ``log2``, ``share`` of D, ``first`` (reached, perhaps not to stay), ``bracket`` (the point
        before, and it), ``noninferior`` (from where on the deficit is below .01 at 5 % error, one-sided, over
        sentences; None if nowhere), ``log2_interval`` ([5, 95] % over resampled sentences, on the grid).
        Flagged where it is not reached (then D), or where .01 is less than two standard errors of the
        deficit. None where all neurons are not better than chance by more than .01: then any k would do.
        ``clusters``: hits (G, K) on the grid ``details["grid"]``, of all neurons (G,), items (G,).

    References
    ----------
    Dalvi et al., AAAI 2019 and EMNLP 2020 (minimal sets against the accuracy of all neurons).
    """
    setting, ranking = trial.setting, trial.ranking
    probes, held_out, ks = setting.once(fit_probes), setting.splits["eval"], wide_grid(setting)
    if probes.ceiling <= probes.chance + MARGIN:
        return None
    n_neurons, lda = len(setting.neurons), probes.fitted["lda"]
    hits = probes.per_cluster(hits_on(setting, ranking.order))
    whole = probes.per_cluster(probes.ceiling_hits)[:, 0]
    target, n_items = probes.ceiling - MARGIN, probes.items.sum()
    first, stay = (int(place) for place in minimal(hits.sum(axis=0) / n_items, target))
    sizes = (*ks, n_neurons)
    size, before = sizes[stay], sizes[stay - 1] if stay else 0
    if stay < len(ks) and 1 < size - before <= SCANNED:
        between = range(before + 1, size)
        log_joint = lda.log_joint(held_out.activations, ranking.order, between)
        inside = int(minimal(correct(log_joint, held_out.labels).mean(axis=1), target)[1])
        before, size = (*between, size)[inside] - 1, (*between, size)[inside]
    deficits = _ratio_errors(whole[:, None] - hits, probes.items)
    upper = (whole.sum() - hits.sum(axis=0)) / n_items + ONE_SIDED * deficits
    safe = int(minimal(-upper, -MARGIN)[1])
    tie_fraction, flags = tie_report(ranking, (min(size, n_neurons),))
    if stay == len(ks):
        flags += (f"right-censored: not reached within the first {ks[-1]} neurons",)
    elif 2 * deficits[stay] > MARGIN:
        flags += (f"{MARGIN} is less than two standard errors of what is lost",)
    return Score(
        id="probe.minset",
        value=float(size),
        unit="neurons",
        direction=-1,
        n_items=len(held_out.labels),
        n_clusters=len(whole),
        chance=float(np.median(setting.once(random_sizes))),
        k=(size,),
        tie_fraction=tie_fraction,
        flags=flags,
        clusters={"hits": hits, "all_hits": whole, "items": probes.items},
        details={
            "grid": list(ks),
            "log2": float(np.log2(size)),
            "share": size / n_neurons,
            "first": sizes[first],
            "bracket": [before, size],
            "noninferior": sizes[safe] if safe < len(ks) else None,
            "log2_interval": _interval(hits, whole, probes.items, probes.weights, sizes),
        },
    )


def _ratio_errors(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(K,): cluster-robust standard errors of ``sum(sums) / sum(counts)``, column by column."""
    return np.array([ratio_se(column, counts) for column in sums.T])


def _interval(
    hits: np.ndarray, whole: np.ndarray, items: np.ndarray, weights: np.ndarray, sizes: tuple[int, ...]
) -> list[float] | None:
    """The [5, 95] % interval of the size's binary logarithm on the grid; None with few clusters."""
    if len(items) < MIN_CLUSTERS:
        return None
    counts = (weights @ items)[:, None]
    curves, targets = weights @ hits / counts, (weights @ whole) / counts[:, 0] - MARGIN
    drawn = np.log2(np.array(sizes)[minimal(curves, targets)[1]])
    return np.quantile(drawn, [0.05, 0.95]).tolist()
