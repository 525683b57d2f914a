"""What the score 1 of an ablation curve is: the planted neurons, or a set built greedily on other prompts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from nibench.metrics.curves import usable_ks
from nibench.metrics.trial import Setting

if TYPE_CHECKING:
    from nibench.interventions import Behaviour

CANDIDATES = 2  # tried per neuron of the largest set


def planted(setting: Setting) -> np.ndarray | None:
    """The neurons known to carry the behaviour, heaviest first; None where they are not known."""
    carriers = setting.truth.sets.get("carries") if setting.truth else None
    if setting.truth is None or carriers is None or not carriers.any():
        return None
    weights = setting.truth.gains.get("carries", carriers.astype(np.float64))
    return np.array(sorted(np.flatnonzero(carriers), key=lambda neuron: (-weights[neuron], neuron)))


def built_to_carry(setting: Setting) -> np.ndarray:
    """Use as ``setting.once(built_to_carry)``: built by interchange; empty without prompts to build on."""
    return _built(setting, "source")


def built_to_be_required(setting: Setting) -> np.ndarray:
    """The same by the mean; the ceiling of ablation by zero and by other items, too."""
    return _built(setting, "mean")


def _built(setting: Setting, fill: Literal["source", "mean"]) -> np.ndarray:
    behaviour = setting.probe_behaviour()
    if behaviour is None or (fill == "source" and not behaviour.has_pairs):
        return np.array([], dtype=np.int64)
    return built(behaviour, fill, usable_ks(setting.ablation_ks, len(setting.neurons)))


def built(behaviour: "Behaviour", fill: Literal["source", "mean"], ks: Sequence[int]) -> np.ndarray:
    """int (K,): neurons that together move the margin far, chosen by forward selection, best first.

    Candidates are the neurons with the largest signed first-order contributions to the margin, twice as many as
    the largest k. Then, in a round per k of the grid, each one left is replaced together with all that were taken
    before, and those that move the summed margin furthest are taken until there are k. One that undoes what the
    others did is not taken, so the set may end before the grid does; the first k are the set of size k.

    One that does nothing is, in the order of the contributions: it may back up another, which moves the margin in the
    next round.
    What has no slope at all is not found. Cost: a gradient, and at most (len(ks) times twice the largest
    k) sets.

    Parameters
    ----------
    behaviour
        On prompts of the ``probe`` split: the curve of the set is then measured on ``eval``.
    ks
        Ascending.
    """
    screen = behaviour.contributions("gradient_activation", baseline=fill)
    candidates = np.argsort(-screen.mean(axis=0), kind="stable")[: CANDIDATES * ks[-1]]
    taken: list[int] = []
    reached = behaviour.margin().sum()
    for k in ks:
        rest = candidates[~np.isin(candidates, taken)]
        if not len(rest):
            break
        margins = behaviour.ablate_sets([[*taken, int(one)] for one in rest], to=fill).sum(axis=1)
        best = [place for place in np.argsort(margins, kind="stable") if margins[place] <= reached]
        taken += rest[best[: k - len(taken)]].tolist()
        if taken:
            reached = behaviour.ablate(taken, to=fill).sum()
    return np.array(taken, dtype=np.int64)
