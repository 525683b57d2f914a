"""How well a ranking finds grafts of known dose, traps, and the natural neurons of largest effect."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata, spearmanr

from nibench.neurons import Neurons
from nibench.ranking import Ranking
from nibench.truth.graft_doses import Graft
from nibench.truth.graft_traps import TRAP_KINDS, TrapPanel

N_NATURAL = 50  # natural neurons of largest interchange effect that a method is to find


def score_grafts(ranking: Ranking, places: np.ndarray, grafts: Sequence[Graft]) -> dict[str, float]:
    """One method's figures on one panel; natural neurons and grafts between the thresholds are left out.

    Parameters
    ----------
    places : int (G,)
        The flat ids of the grafts.

    Returns
    -------
    dict
        ``recall``: share of the used grafts among the first |used| of the judged ones (ties shared out);
        ``decoy_first``: share of (decoy, used) pairs in which the decoy comes first (ties half);
        ``rho_encoding``, ``rho_use``: Spearman's rho of the scores with the encoding dose and with the size of the use
        dose (0 where the scores are all alike).
    """
    kinds = np.array([graft.kind or "" for graft in grafts])
    judged = kinds != ""
    scores = ranking.scores[places][judged]
    used = kinds[judged] == "used"
    inside = Ranking.from_scores(scores).inclusion(int(used.sum()))
    ranks = rankdata(scores)
    n_used, n_decoys = int(used.sum()), int((~used).sum())
    wins = ranks[~used].sum() - n_decoys * (n_decoys + 1) / 2
    doses = np.array([(graft.auc, abs(graft.use)) for graft in grafts])[judged]
    return {
        "recall": float(inside[used].sum() / max(1, n_used)),
        "decoy_first": float(wins / max(1, n_used * n_decoys)),
        "rho_encoding": _rho(ranks, doses[:, 0]),
        "rho_use": _rho(ranks, doses[:, 1]),
    }


def _rho(ranks: np.ndarray, doses: np.ndarray) -> float:
    return float(np.asarray(spearmanr(ranks, doses))[0]) if np.ptp(ranks) and np.ptp(doses) else 0.0


def natural_share(ranking: Ranking, own: np.ndarray, effects: np.ndarray) -> float:
    """Share of the interchange effect of the ``N_NATURAL`` natural neurons that have most, in a method's first as many.

    Parameters
    ----------
    own : int (D,)
        The flat ids of the natural neurons in the ranking.
    effects : (D,)
        The size of their effects.
    """
    k = min(N_NATURAL, len(own))
    caught = Ranking.from_scores(ranking.scores[own]).inclusion(k) @ effects
    most = np.sort(effects)[-k:].sum()
    return float(caught / most) if most > 0 else 0.0


def score_traps(ranking: Ranking, neurons: Neurons, panel: TrapPanel) -> dict[str, float]:
    """Per kind of trap, of those that hold: the share that stands above the median of the plain grafts (ties half).

    What a trap moves is more than what a plain graft does, so a method that measures effects rightly has 1.
    """
    ranks = rankdata(ranking.scores)
    level = np.median(ranks[[neurons.index(name) for name in panel.plain]])
    found = {}
    for kind in TRAP_KINDS:
        mine = [name for trap in panel.traps if trap.kind == kind and trap.holds for name in trap.neurons]
        if mine:
            own = ranks[[neurons.index(name) for name in mine]]
            found[kind] = float(((own > level) + 0.5 * (own == level)).mean())
    return found
