"""What can be said of neurons without labels, and whether it tells used neurons from their decoys.

If it did, a method could find the planted neurons without looking at the concept.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from nibench.truth import files, grammar
from nibench.truth.exhaustive import Engine
from nibench.truth.pairs import sample_pairs
from nibench.truth.surgery import ffn

NAMES = (
    "input norm", "output norm", "norm product", "mean", "sd", "skew", "kurtosis", "sparsity", "bias",
    "unembedding", "input cosine", "output cosine",
)  # fmt: skip


def statistics(engine: Engine, activations: list[np.ndarray]) -> np.ndarray:
    """Label-free statistics (L, S, F) in the order of `NAMES`; `activations` are (N, F) for each layer."""
    unembedding = engine.unembedding.double().numpy()
    table = []
    for layer, values in enumerate(activations):
        weights = ffn(engine.model, layer)
        halves = [one.double().numpy() for one in weights.inputs]  # each (F, d)
        rows, columns = np.concatenate(halves, axis=1), weights.output.double().numpy()
        row_norm = np.mean([np.linalg.norm(one, axis=1) for one in halves], axis=0)
        column_norm = np.linalg.norm(columns, axis=1)
        mean, sd = values.mean(0), values.std(0) + 1e-12
        z = (values - mean) / sd
        cosines = []
        for directions in (rows, columns):
            unit = directions / (np.linalg.norm(directions, axis=1, keepdims=True) + 1e-12)
            similar = np.abs(unit @ unit.T)
            np.fill_diagonal(similar, 0)
            cosines.append(similar.max(1))
        sparsity = np.abs(values).mean(0) / np.sqrt(np.square(values).mean(0) + 1e-12)
        bias = np.zeros(len(rows)) if weights.biases[0] is None else weights.biases[0].double().numpy()
        written = (columns @ unembedding.T).std(1)
        table.append(
            np.stack([
                row_norm, column_norm, row_norm * column_norm, mean, sd, (z**3).mean(0), (z**4).mean(0),
                sparsity, bias, written, *cosines,
            ])
        )  # fmt: skip
    return np.stack(table)


def natural_activations(engine: Engine, n: int = 200) -> list[np.ndarray]:
    """Activations (N, F) of each layer at every non-special position of natural sentences."""
    ids, last = engine.encode([" ".join(one.words()) for one in islice(grammar.natural_sentences(-1), n)])
    _, seen = engine.run(ids)
    position = torch.arange(ids.shape[1])[None]
    inside = (position > 0) & (position <= last[:, None])
    return [one[inside].double().numpy() for one in seen]


def site_activations(engine: Engine, truth: files.Truth, n: int = 40) -> list[np.ndarray]:
    """Activations (N, F) of each layer at `observe_at` of every behaviour."""
    prompts = [
        pair.base
        for concept, known in truth.concepts.items()
        if not known.is_unused
        for behaviour in known.behaviours
        for pair in sample_pairs(concept, behaviour, n, seed=0, split="probe")
    ]
    return list(engine.last_activations(prompts).double().numpy().transpose(1, 0, 2))


@dataclass(frozen=True)
class Couples:
    """Used neurons and their matched decoys at one place: statistics (n, S) in units of their layer's spread."""

    statistics: np.ndarray
    used: np.ndarray  # (n,) 1 for used, 0 for decoys
    groups: np.ndarray  # (n,) str, what a classifier must not have seen: the concept, or the model


def couples(engine: Engine, truth: files.Truth) -> dict[str, Couples]:
    """The used neurons and decoys of one model at two places: natural sentences, and the site."""
    found = {}
    for place, activations in (
        ("natural sentences", natural_activations(engine)),
        ("the site", site_activations(engine, truth)),
    ):
        table = statistics(engine, activations)
        features, used, concepts = [], [], []
        for concept, known in truth.concepts.items():
            for name, neuron in known.neurons.items():
                if neuron.decoy is None:
                    continue
                for one, label in ((name, 1), (neuron.decoy, 0)):
                    layer, unit = files.parse_neuron(one)
                    rest = table[layer]
                    features.append((rest[:, unit] - rest.mean(1)) / (rest.std(1) + 1e-12))
                    used.append(label)
                    concepts.append(concept)
        found[place] = Couples(np.array(features), np.array(used), np.array(concepts))
    return found


def pooled(models: Mapping[str, Mapping[str, Couples]]) -> dict[str, Couples]:
    """The couples of several models together, grouped by model."""
    return {
        place: Couples(
            np.concatenate([places[place].statistics for places in models.values()]),
            np.concatenate([places[place].used for places in models.values()]),
            np.concatenate([np.full(len(places[place].used), name) for name, places in models.items()]),
        )
        for place in next(iter(models.values()))
    }


def leaks(places: Mapping[str, Couples]) -> Iterator[tuple[str, float, float, float]]:
    """AUROC of used neurons against their decoys: each statistic, and a classifier on all, leaving a group out.

    Yields the name of each figure, the figure and its 95 % bootstrap interval; nothing with fewer than two
    groups.
    """
    for place, one in places.items():
        if len(set(one.groups)) < 2:
            continue
        for column, name in enumerate(NAMES):
            yield f"leak at {place}: {name}", *_area(one.statistics[:, column], one.used)
        yield f"leak at {place}: classifier", *_area(_held_out_scores(one), one.used)


def _held_out_scores(one: Couples) -> np.ndarray:
    """(n,): scores of a classifier that has not seen the neuron's group."""
    from sklearn.linear_model import LogisticRegression

    x, y = one.statistics, one.used
    scores = np.empty(len(y))
    for group in np.unique(one.groups):
        out = one.groups == group
        scores[out] = LogisticRegression(max_iter=5000).fit(x[~out], y[~out]).decision_function(x[out])
    return scores


def _area(score: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """AUROC of a score for label 1, and its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    positive, negative = score[y == 1], score[y == 0]

    def area(a: np.ndarray, b: np.ndarray) -> float:
        return float((a[:, None] > b).mean() + 0.5 * (a[:, None] == b).mean())

    draws = [
        area(rng.choice(positive, len(positive)), rng.choice(negative, len(negative))) for _ in range(500)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return area(positive, negative), float(low), float(high)
