"""Activation heat map: colour every item by a neuron's activation and look which ones are bright.

The first neurons of language models were found by eye: running text, each character coloured by one cell. Here the
eye is replaced by a count: among the items that a map shows in a bright colour, how many more than their share belong
to one class? The maps themselves come as evidence, about the most active items and at random places, since the most
active ones alone mislead.

Paper: Karpathy, Johnson & Fei-Fei, "Visualizing and Understanding Recurrent Networks", ICLR 2016 workshop, section 4.2.
https://arxiv.org/abs/1506.02078

Deviations: the count is ours, the paper ranks nothing; activations are coloured by their distance from the neuron's
mean in standard deviations and bright from one deviation on, where the paper colours the hyperbolic tangent of an
LSTM cell (`activation_heatmap@karpathy2015`: bright where it is beyond .9, the paper's mark of a saturated gate).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import (
    Claim,
    Direction,
    HeatMaps,
    Method,
    Needs,
    Observations,
    Ranking,
    Scalability,
    Scale,
    Scope,
    name_classes,
)

ROWS = 4096  # taken to float64 at a time
MOST, RANDOM, REACH = 3, 3, 5  # stretches of either kind for a neuron, and items on either side
ROUNDING = 1e-6  # a neuron of two equally frequent values is one deviation from its mean, but for rounding


@dataclass(frozen=True)
class ActivationHeatmap(Method):
    """How much more of the bright items than of all items belong to one class, as a share of what is possible.

    Per class of the better side (bright above, bright below), and at least 0; overall of the best class. 0 where fewer
    than `fewest` items are bright, so for constant neurons. Evidence: `HeatMaps`.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    direction: ClassVar[Direction] = "neuron->concept"
    family: ClassVar[str] = "corpus"
    paper: ClassVar[str] = (
        "Karpathy, Johnson & Fei-Fei, Visualizing and Understanding Recurrent Networks, 2015, "
        "https://arxiv.org/abs/1506.02078"
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "karpathy2015": {"scale": "raw", "bright": float(np.arctanh(0.9))},
        "raw": {"scale": "raw"},
        "z": {"scale": "z"},
    }
    scope: ClassVar[Scope] = "local"
    scalability: ClassVar[Scalability] = "low"
    human_in_the_loop: ClassVar[bool] = True
    complexity: ClassVar[str] = "O(NDC), one pass; one sort for the maps"
    limits: ClassVar[str] = (
        "A few stretches of text are a sliver of what a neuron does; one neuron at a time; the threshold decides."
    )

    scale: Scale = "z"
    bright: float = 1.0
    fewest: int = 5
    level: float = 0.01

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        centre, spread = np.zeros(len(data.neurons)), np.ones(len(data.neurons))
        if self.scale == "z":
            centre, spread = data.mean(), data.spread()
        above, below = np.zeros((2, len(data.neurons), data.n_classes))
        for start in range(0, len(data.labels), ROWS):
            z = (data.part(slice(start, start + ROWS), slice(None)) - centre) / spread
            one_hot = np.eye(data.n_classes)[data.labels[start : start + ROWS]]
            above += (z >= self.bright - ROUNDING).T @ one_hot
            below += (z <= ROUNDING - self.bright).T @ one_hot
        above[above.sum(axis=1) < self.fewest] = 0
        below[below.sum(axis=1) < self.fewest] = 0
        counts = data.statistics.counts
        (excess, named), (other, named_below) = (
            name_classes(h, counts, self.level / 2) for h in (above, below)
        )
        named = np.where((other.max(axis=1) > excess.max(axis=1)) | (named < 0), named_below, named)
        excess = np.maximum(np.maximum(excess, other), 0)
        items = self._stretches(data, rng)
        columns = np.arange(len(data.neurons))[:, None, None]
        values = (data.part(items, columns) - centre[:, None, None]) / spread[:, None, None]
        values = np.tanh(values) if self.scale == "raw" else np.clip(values, -3, 3)
        maps = HeatMaps(items, np.where(items < 0, 0, values).astype(np.float32), MOST, named)
        return Ranking.from_scores(excess.max(axis=1), excess.T, maps)

    def _stretches(self, data: Observations, rng: np.random.Generator) -> np.ndarray:
        """int (D, K, W): the items of each neuron's stretches."""
        n_items, n_neurons = len(data.labels), len(data.neurons)
        sentences = data.given("sentences")
        sentences = np.arange(n_items) if sentences is None else sentences
        middles = rng.integers(0, n_items, (n_neurons, MOST + RANDOM))
        for block in data.sorted_blocks():
            most = block.order[:, ::-1][:, :MOST]
            middles[block.columns, : most.shape[1]] = most
        items = middles[:, :, None] + np.arange(-REACH, REACH + 1)
        inside = (items >= 0) & (items < n_items)
        items = np.where(inside, items, 0)
        return np.where(inside & (sentences[items] == sentences[middles][:, :, None]), items, -1)
