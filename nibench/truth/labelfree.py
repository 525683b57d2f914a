"""What can be said of neurons without labels, and whether it tells used neurons from their decoys.

If it did, a method could find the planted neurons without looking at the concept.
"""

from collections.abc import Iterator
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
        for behaviour in known.behaviours
        for pair in sample_pairs(concept, behaviour, n, seed=0, split="probe")
    ]
    return list(engine.last_activations(prompts).double().numpy().transpose(1, 0, 2))


def leaks(engine: Engine, truth: files.Truth) -> Iterator[tuple[str, float, float, float]]:
    """AUROC of used neurons against their decoys: each statistic, and a classifier on all, leaving a concept
    out.

    Yields the name of each figure, the figure and its 95 % bootstrap interval. One model has too few neurons
    for a verdict.
    """
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
        if len(set(concepts)) < 2:
            continue
        x, y, groups = np.array(features), np.array(used), np.array(concepts)
        for column, name in enumerate(NAMES):
            yield f"leak at {place}: {name}", *_area(x[:, column], y)
        yield f"leak at {place}: classifier", *_area(_held_out_scores(x, y, groups), y)


def _held_out_scores(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    scores = np.empty(len(y))
    for group in np.unique(groups):
        out = groups == group
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
