"""Do the matched decoys look like their partners and do nothing? And how many decoys are there by nature?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from torch import Tensor

from nibench.order_statistics import auc
from nibench.truth import files
from nibench.truth.exhaustive import Engine, concept_means
from nibench.truth.known import NATURAL_DECOY_AUC
from nibench.truth.pairs import Pair, sample_pairs
from nibench.truth.shares import Bench, mask_of

POOLED = "all"


@dataclass(frozen=True)
class DecoyFigure:
    """One figure of one decoy, or of all jointly (`decoy` empty); it must not exceed `most`."""

    decoy: str
    behaviour: str
    check: str
    value: float
    most: float


def effect_figures(
    bench: Bench, behaviour: str, known: files.ConceptTruth, means: Tensor
) -> Iterator[DecoyFigure]:
    """Share of the margin that decoys move, singly and jointly, from the source and at their mean."""
    whole, intact = bench.whole.mean(), bench.intact.mean()
    values = [means[layer].expand_as(bench.base[layer]) for layer in range(bench.engine.n_layers)]
    groups: list[tuple[str, Sequence[str]]] = [(name, (name,)) for name in known.decoys()]
    if groups:
        groups.append(("", known.decoys()))
    for decoy, group in groups:
        mask = mask_of(bench.engine, group)
        size, most = ("singly", 0.05) if decoy else ("jointly", 0.10)
        swapped = abs(bench.moved(mask).mean() / whole)
        ablated = abs((bench.intact - bench.margin(mask, values)).mean() / intact)
        yield DecoyFigure(decoy, behaviour, f"decoys {size}, interchange", float(swapped), most)
        yield DecoyFigure(decoy, behaviour, f"decoys {size}, at mean", float(ablated), most)


def matching_figures(
    engine: Engine, concept: str, known: files.ConceptTruth, n: int
) -> Iterator[DecoyFigure]:
    """How far each decoy's class gap and AUC are from its partner's, over `probe` prompts.

    The gap of several classes is the mean over pairs of them.
    """
    couples = [(name, one.decoy) for name, one in known.neurons.items() if one.decoy]
    if not couples:
        return
    values, labels = {}, {}
    for behaviour in known.behaviours:
        pairs = sample_pairs(concept, behaviour, n, seed=0, split="probe")
        values[behaviour] = engine.last_activations([pair.base for pair in pairs]).double().numpy()
        labels[behaviour] = np.array([pair.base_class for pair in pairs])
    values[POOLED] = np.concatenate(list(values.values()))
    labels[POOLED] = np.concatenate(list(labels.values()))

    def gap(neuron: str, at: str) -> float:
        layer, unit = files.parse_neuron(neuron)
        column = values[at][:, layer, unit]
        means = [column[labels[at] == c].mean() for c in np.unique(labels[at])]
        return float(np.mean([abs(a - b) for a, b in combinations(means, 2)]))

    def spread(neuron: str) -> float:
        layer, unit = files.parse_neuron(neuron)
        return float(values[POOLED][:, layer, unit].std())

    def area(neuron: str) -> float:
        layer, unit = files.parse_neuron(neuron)
        value = float(auc(values[POOLED][:, layer, unit, None], labels[POOLED])[0])
        return max(value, 1 - value)

    for used, decoy in couples:
        raw = _ratio(gap(decoy, POOLED), gap(used, POOLED))
        scaled = raw * _ratio(spread(used), spread(decoy))
        yield DecoyFigure(decoy, POOLED, "decoy gap, raw", abs(raw - 1), 0.10)
        yield DecoyFigure(decoy, POOLED, "decoy gap, z-scored", abs(scaled - 1), 0.10)
        yield DecoyFigure(decoy, POOLED, "decoy AUC", abs(area(decoy) - area(used)), 0.02)
        for behaviour in known.behaviours:
            off = abs(_ratio(gap(decoy, behaviour), gap(used, behaviour)) - 1)
            yield DecoyFigure(decoy, behaviour, "decoy gap, raw", off, 0.20)


def _ratio(a: float, b: float) -> float:
    """a / b; infinite for a neuron that never changes."""
    return a / b if b > 0 else float("inf")


def missing_decoys(
    engine: Engine, concept: str, known: files.ConceptTruth, pairs: Mapping[str, Sequence[Pair]], n_probe: int
) -> dict[str, str]:
    """Decoys that did not form, each with the figure that says so; `pairs` are given for each behaviour.

    Where all jointly do too much though each alone does not, the one with the largest effect is named.
    """
    figures = list(matching_figures(engine, concept, known, n_probe))
    means = concept_means(engine, concept, list(known.behaviours), n_probe)
    for behaviour, some in pairs.items():
        bench = Bench(engine, some, mask_of(engine, known.carriers()))
        figures += effect_figures(bench, behaviour, known, means)
    missing: dict[str, str] = {}
    for one in figures:
        if one.decoy and one.value > one.most:
            missing.setdefault(
                one.decoy, f"{one.behaviour}: {one.check} {one.value:.3f}, required <= {one.most:g}"
            )
    joint = [one for one in figures if not one.decoy and one.value > one.most]
    if joint and not missing:
        singles = [one for one in figures if one.decoy and "singly" in one.check]
        worst = max(singles, key=lambda one: one.value)
        missing[worst.decoy] = f"{joint[0].behaviour}: {joint[0].check} {joint[0].value:.3f}, required <= .1"
    return missing


def natural_decoys(
    engine: Engine,
    concept: str,
    known: files.ConceptTruth,
    pairs: Mapping[str, Sequence[Pair]],
    n: int,
) -> tuple[int, float, float | None]:
    """Undesignated neurons that encode the concept (AUC at least .95 either way).

    Returns their number, their share of all neurons, and the accuracy of a linear probe on them, as a
    multiple of the same probe's accuracy on the carriers, of 1 where nothing carries (`None` where there are
    no natural decoys); `probe` trains it, `pairs` test it.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    train = [pair for b in known.behaviours for pair in sample_pairs(concept, b, n, seed=0, split="probe")]
    test = [pair for some in pairs.values() for pair in some[:n]]
    labels, held_labels = np.array([p.base_class for p in train]), np.array([p.base_class for p in test])
    seen = engine.last_activations([pair.base for pair in train]).flatten(1).double().numpy()
    unseen = engine.last_activations([pair.base for pair in test]).flatten(1).double().numpy()
    area = auc(seen, labels)
    used = mask_of(engine, known.carriers()).flatten().numpy()
    natural = (np.maximum(area, 1 - area) >= NATURAL_DECOY_AUC) & ~mask_of(
        engine, list(known.neurons)
    ).flatten().numpy()
    if not natural.any():
        return 0, 0.0, None

    def accuracy(columns: np.ndarray) -> float:
        scaler = StandardScaler().fit(seen[:, columns])
        probe = LogisticRegression(max_iter=2000).fit(scaler.transform(seen[:, columns]), labels)
        return float(probe.score(scaler.transform(unseen[:, columns]), held_labels))

    base = accuracy(used) if used.any() else 1.0
    return int(natural.sum()), float(natural.mean()), accuracy(natural) / base


def worst(figures: Sequence[DecoyFigure], behaviour: str) -> Iterator[DecoyFigure]:
    """The largest figure of each check for one behaviour."""
    here = [one for one in figures if one.behaviour == behaviour]
    for check in dict.fromkeys(one.check for one in here):
        yield max((one for one in here if one.check == check), key=lambda one: one.value)
