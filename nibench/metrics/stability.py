"""Would the method find the same neurons again: on other sentences, with another seed? Needs the method itself.

Stability without truth is worth nothing (a constant ranking has it all): it is a gate, never a goal.
"""

import math
from dataclasses import replace

import numpy as np
from scipy.special import stdtrit

from nibench.metrics.curves import mean_and_se, set_size, tie_report
from nibench.metrics.overlap import kappa_of_sets
from nibench.metrics.trial import Score, Setting, Trial
from nibench.ranking import Ranking

N_SEEDS = 5  # other seeds a drawing method is called with
MAX_TRIES = 50


def nogueira(sets: np.ndarray) -> tuple[float, float]:
    """Stability of M chosen sets, and its standard error; 0 at chance, 1 for equal sets, at least -1 / (M - 1).

    The mean of Kuncheva's index over all pairs where the sets have one size. NaN where every set is empty or
    whole: chance then leaves no room.

    Parameters
    ----------
    sets : bool or 0/1 (M, D)
        Which neurons each of M >= 2 runs chose.

    References
    ----------
    Nogueira, Sechidis & Brown, On the Stability of Feature Selection Algorithms, JMLR 2018.
    """
    chosen = np.asarray(sets, dtype=np.float64)
    n_runs, n_neurons = chosen.shape
    share, sizes = chosen.mean(axis=0), chosen.sum(axis=1)
    density = sizes.mean() / n_neurons
    room = density * (1 - density)
    if room == 0:
        return math.nan, math.nan
    value = 1 - chosen.var(axis=0, ddof=1).mean() / room
    own = sizes / n_neurons
    shift = value / 2 * (2 * own * density - own - density + 1)
    parts = ((chosen * share).mean(axis=1) - own * density + shift) / room
    return float(value), float(np.sqrt(4 / n_runs**2 * np.square(parts - parts.mean()).sum()))


def halves(setting: Setting) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Rows of the ``rank`` split in two, by sentence, ``n_halves`` times; each half has every class.

    Empty where some class cannot stand in both halves. Use as ``setting.once(halves)``.
    """
    split = setting.splits["rank"]
    _, sentence_of = np.unique(split.sentences, return_inverse=True)
    n_sentences = int(sentence_of.max()) + 1
    rng = np.random.default_rng([setting.seed, 13])
    found = []
    for _ in range(MAX_TRIES * setting.n_halves):
        first = rng.permutation(n_sentences) < n_sentences / 2
        rows = np.flatnonzero(first[sentence_of]), np.flatnonzero(~first[sentence_of])
        if all(len(np.unique(split.labels[one])) == setting.n_classes for one in rows):
            found.append(rows)
        if len(found) == setting.n_halves:
            break
    return tuple(found)


def half_rankings(trial: Trial) -> list[tuple[Ranking, Ranking]]:
    """What the method ranks on either half, for each division; none where some half is not to its taste.

    The halves have their own seeds (so that chance does not pass for agreement) and orders of ties.
    """
    if trial.reruns is None:
        return []
    runs, own = trial.reruns, trial.reruns.seed
    divisions = enumerate(trial.setting.once(halves))
    pairs = [
        tuple(runs(rows=rows, seed=own + 2 * number + side) for side, rows in enumerate(two))
        for number, two in divisions
    ]
    found = [(a, b) for a, b in pairs if a is not None and b is not None]
    return found if len(found) == len(pairs) else []


def places(ranking: Ranking, k: int) -> np.ndarray:
    """uint8 (D,): 2 in the top k, 1 tied at its border, 0 below: all that overlap with another top k rests on."""
    inside = ranking.inclusion(k)
    return (inside > 0).astype(np.uint8) + (inside >= 1)


def overlaps_of(halves_of: np.ndarray, k: int) -> np.ndarray:
    """(P,): chance-corrected overlap of the two top k of each division, from their ``places`` (P, 2, D)."""
    tied = halves_of == 1
    sure = halves_of == 2
    free = k - sure.sum(axis=-1, keepdims=True)
    inside = sure + tied * free / np.maximum(tied.sum(axis=-1, keepdims=True), 1)
    return np.array([kappa_of_sets(two, k)[0, 1] for two in inside])


def stability(trial: Trial) -> tuple[Score, ...] | None:
    """``stab.data``, ``stab.phi``, ``stab.seed``: do the top neurons stay on other sentences, with other seeds?

    The top 1 % (at least 10) of the neurons. ``stab.data``: chance-corrected overlap (Kuncheva) of the rankings
    on two *disjoint* halves of the sentences, mean over the divisions. ``stab.phi``: Nogueira's index over all of
    these rankings, which partly share sentences. ``stab.seed``: the same over seeds; 1 for a method that draws
    nothing.

    Returns
    -------
    tuple of Score
        0 at chance, 1 for the same set; higher is better, though constant rankings have it all. Intervals: t over
        the divisions (they share sentences, so it is narrow), and Nogueira's normal one. None without the
        method, where a class cannot stand in both halves, or with ten neurons or fewer.
    """
    pairs = half_rankings(trial)
    k = set_size(len(trial.setting.neurons))
    if trial.reruns is None or not pairs or k == len(trial.setting.neurons):
        return None
    tie_fraction, flags = tie_report(trial.ranking, (k,))
    found = np.array([[places(half, k) for half in pair] for pair in pairs])
    overlaps = overlaps_of(found, k)
    value, se = mean_and_se(overlaps)
    half = float(stdtrit(len(pairs) - 1, 0.975)) * se if len(pairs) > 1 else None
    data = Score(
        id="stab.data",
        value=value,
        unit="kappa",
        direction=1,
        se=se if half is not None else None,
        ci95=None if half is None else (value - half, value + half),
        n_items=len(trial.setting.splits["rank"].labels),
        chance=0.0,
        ceiling=1.0,
        k=(k,),
        tie_fraction=tie_fraction,
        flags=flags,
        clusters={"halves": found},
        details={"divisions": overlaps.tolist()},
    )
    phi = _of_sets("stab.phi", [ranking for pair in pairs for ranking in pair], k)
    again = trial.reruns(seed=trial.reruns.seed + 1)
    if again is None:
        return data, phi
    if np.array_equal(again.scores, trial.ranking.scores):
        seeded = Score("stab.seed", 1.0, "kappa", 1, se=0.0, ci95=(1.0, 1.0), chance=0.0, ceiling=1.0, k=(k,))
        return data, phi, seeded
    others = [trial.reruns(seed=trial.reruns.seed + draw) for draw in range(2, N_SEEDS)]
    drawn = [trial.ranking, again, *(ranking for ranking in others if ranking is not None)]
    return data, phi, _of_sets("stab.seed", drawn, k)


def _of_sets(name: str, rankings: list[Ranking], k: int) -> Score:
    """Nogueira's index of the top k of several rankings."""
    sets = np.zeros((len(rankings), rankings[0].n_neurons))
    for run, (row, ranking) in enumerate(zip(sets, rankings, strict=True)):
        row[replace(ranking, tie_seed=run).top(k)] = 1  # neurons that tie are not found again
    value, se = nogueira(sets)
    ends = (value - 1.96 * se, value + 1.96 * se)
    details = {"runs": len(rankings)}
    return Score(name, value, "kappa", 1, se=se, ci95=ends, chance=0.0, ceiling=1.0, k=(k,), details=details)
