"""Top contexts: look at what a neuron is most active on, and name the concept that these items share.

The oldest way to read a neuron goes from the neuron to the concept: list its strongest items and see what
they have in common. Here the looking is done by the labels: a class is named if it is among the top items more
often than a draw of as many items would have it.

Paper: Kádár, Chrupała & Alishahi, "Representation of Linguistic Form and Function in Recurrent Neural
Networks", Computational Linguistics 2017, section 5. https://arxiv.org/abs/1602.08952

Deviations: a person names the concept there, the labels do here, by a hypergeometric test at .01 over the
classes; items are words or prompts, not n-grams. Only the active side is read, as in the paper: where a class
is where the neuron is *least* active, another is named, or none.

`top_contexts@dalvi2023` lists words instead of items, as the NeuroX toolkit does (Dalvi, Durrani & Sajjad, 2023,
https://arxiv.org/abs/2305.17028): distance from the neuron's mean in standard deviations, averaged over the
occurrences of a word; of the words above a tenth of the largest average, all occurrences count.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy.sparse import csr_array

from nibench import (
    Claim,
    Contexts,
    Direction,
    Method,
    Needs,
    Observations,
    Ranking,
    Scalability,
    name_classes,
)

COLUMNS = 256  # taken to float64 at a time


@dataclass(frozen=True)
class TopContexts(Method):
    """How much more of the top items than of all items belong to one class, as a share of what is possible.

    In [0, 1], of the class for which it is largest; 0 for constant neurons. Items tied at the border count
    by expectation. Evidence: `Contexts` with the items and the class they name.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    direction: ClassVar[Direction] = "neuron->concept"
    family: ClassVar[str] = "corpus"
    paper: ClassVar[str] = (
        "Kádár, Chrupała & Alishahi, Representation of Linguistic Form and Function in Recurrent Neural Networks, "
        "2017, https://arxiv.org/abs/1602.08952"
    )
    scalability: ClassVar[Scalability] = "low"
    human_in_the_loop: ClassVar[bool] = True
    complexity: ClassVar[str] = "O(DN log N), one sort"
    limits: ClassVar[str] = (
        "The top items are a sliver of what a neuron does; reading them is left to a person."
    )

    presets: ClassVar[dict[str, dict[str, object]]] = {"dalvi2023": {"by": "words"}, "kadar2017": {}}

    by: Literal["items", "words"] = "items"
    items: int = 20
    words_above: float = 0.1  # of the largest average; by words only
    level: float = 0.01

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        n_items, n_neurons = len(data.labels), len(data.neurons)
        k = min(self.items, n_items)
        hits, top = np.zeros((n_neurons, data.n_classes)), np.zeros((n_neurons, k), dtype=int)
        for block in data.sorted_blocks():
            for label, items in enumerate(block.by_class(data.labels, data.n_classes)):
                expected = (k - (n_items - 1 - items.last)) / (items.last - items.first + 1)
                hits[block.columns, label] = np.clip(expected, 0, 1).sum(axis=1)  # places among the top k
            top[block.columns] = block.order[:, ::-1][:, :k]
        if self.by == "words":
            hits = self._by_words(data)
        excess, named = name_classes(hits, data.statistics.counts, self.level)
        evidence = Contexts(top, named, hits / np.maximum(hits.sum(axis=1, keepdims=True), 1))
        return Ranking.from_scores(np.maximum(excess.max(axis=1), 0.0), excess.T, evidence)

    def _by_words(self, data: Observations) -> np.ndarray:
        """float64 (D, C): items of each class among the occurrences of the words that move each neuron most."""
        _, words = np.unique(data.word_types, return_inverse=True)
        occurrences = csr_array((np.ones(len(words)), (words, np.arange(len(words)))))  # (V, N)
        in_class = occurrences @ np.eye(data.n_classes)[data.labels]  # (V, C)
        mean, spread, hits = data.mean(), data.spread(), np.zeros((len(data.neurons), data.n_classes))
        for start in range(0, len(data.neurons), COLUMNS):
            block = slice(start, start + COLUMNS)
            distance = np.abs(data.part(slice(None), block) - mean[block]) / spread[block]
            average = np.asarray(occurrences @ distance) / np.asarray(in_class).sum(axis=1, keepdims=True)
            hits[block] = (average > self.words_above * average.max(axis=0)).T @ in_class
        return hits
