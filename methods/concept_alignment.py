"""Concept alignment: name a neuron by the phrases that drive it when the model reads nothing else.

The items a neuron is most active on suggest phrases; each is repeated to the length of a usual text and read by the
model, and the neuron is aligned with the phrases that make it most active. Aligned phrases that mostly mean one class
name the class.

Paper: Na, Choe, Lee & Kim, "Discovery of Natural Language Concepts in Individual Units of CNNs", ICLR 2019, section 3.
https://arxiv.org/abs/1902.07249

Deviations: the paper takes words, morphemes and the constituents of a parse from the top sentences, here they are
phrases of up to three words, and of these the ones most neurons suggest; copies are whole, where the original cuts the
last one in the middle of a word; a neuron's mean over all phrases is taken off, for some neurons like any repetition.
Ranking for a class is ours: how much more of the items that carry aligned phrases than of all belong to the class,
times the paper's selectivity of the neuron, taken for the class where the paper takes it for the phrases.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.sparse import csr_array

from nibench import Claim, Contexts, Direction, Method, Needs, Observations, Ranking, name_classes

COLUMNS = 512  # neurons at a time


@dataclass(frozen=True)
class ConceptAlignment(Method):
    """Excess of the class among the items with aligned phrases, times selectivity for the class; of the best class.

    Selectivity is the mean over the class minus the mean over the rest, as a share of the neuron's range, and at least
    0. Scores are in [0, 1]; 0 for constant neurons. Evidence: `Contexts`, the most active items.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS | Needs.TEXT
    claims: ClassVar[Claim] = "associated"
    direction: ClassVar[Direction] = "neuron->concept"
    family: ClassVar[str] = "corpus"
    paper: ClassVar[str] = (
        "Na et al., Discovery of Natural Language Concepts in Individual Units of CNNs, 2019, "
        "https://arxiv.org/abs/1902.07249"
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {"na2019": {"centred": False}}
    complexity: ClassVar[str] = "O(DN log N), one sort, and one forward pass for each candidate phrase"
    limits: ClassVar[str] = (
        "Repeated text is unlike what the model has read; only phrases near the top items can be found; a concept "
        "without words of its own cannot."
    )

    items: int = 10  # most active ones, which suggest phrases
    longest: int = 3  # words in a phrase
    candidates: int = 1000  # phrases read
    aligned: int = 3  # phrases kept for a neuron
    centred: bool = True
    level: float = 0.01

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        n_items, n_neurons, k = len(data.labels), len(data.neurons), min(self.items, len(data.labels))
        top = np.zeros((n_neurons, k), dtype=int)
        for block in data.sorted_blocks():
            top[block.columns] = block.order[:, ::-1][:, :k]
        suggests = csr_array(
            (np.ones(top.size), (np.repeat(np.arange(n_neurons), k), top.ravel())), shape=(n_neurons, n_items)
        )
        phrases, carried = self._candidates(data, suggests)
        suggested = (suggests @ carried).toarray() > 0  # pyright: ignore[reportAttributeAccessIssue]
        alignment = data.text.read(self._copies(data, phrases)).T.astype(np.float64)  # (D, U)
        if self.centred:
            alignment -= alignment.mean(axis=1, keepdims=True)
        alignment[~suggested] = -np.inf
        keep = np.argsort(-alignment, axis=1, kind="stable")[:, : self.aligned]
        chosen = np.zeros(alignment.shape)
        np.put_along_axis(chosen, keep, 1.0, axis=1)
        chosen *= suggested

        one_hot, hits = np.eye(data.n_classes)[data.labels], np.zeros((n_neurons, data.n_classes))
        for start in range(0, n_neurons, COLUMNS):
            block = slice(start, start + COLUMNS)
            hits[block] = (carried @ chosen[block].T > 0).T @ one_hot
        excess, named = name_classes(hits, data.statistics.counts, self.level)
        low, high = data.range()
        gaps = data.statistics.class_means - data.statistics.rest_means
        selectivity = gaps / np.where(high > low, high - low, np.inf)
        per_class = np.clip(excess, 0, None) * np.clip(selectivity, 0, None).T
        follows = (
            data.statistics.correlations[named, np.arange(n_neurons)] * np.sqrt(n_items) > 3
        )  # standard errors
        shares = hits / np.maximum(hits.sum(axis=1, keepdims=True), 1)
        evidence = Contexts(top, np.where(follows, named, -1), shares)
        return Ranking.from_scores(per_class.max(axis=1), per_class.T, evidence)

    def _candidates(self, data: Observations, suggests: csr_array) -> tuple[list[str], csr_array]:
        """The phrases that most neurons suggest, and which items carry them (N, U)."""
        phrases = data.text.phrases(self.longest)
        names, columns = np.unique([phrase for own in phrases for phrase in own], return_inverse=True)
        rows = np.repeat(np.arange(len(phrases)), [len(own) for own in phrases])
        carried = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(phrases), len(names)))
        support = ((suggests @ carried) > 0).sum(axis=0)
        best = np.sort(np.argsort(-support, kind="stable")[: min(self.candidates, np.count_nonzero(support))])
        return names[best].tolist(), csr_array(carried[:, best])

    def _copies(self, data: Observations, phrases: list[str]) -> list[str]:
        """Each phrase, repeated up to the mean length of the texts in characters, at least once."""
        length = np.mean([len(" ".join(words)) for words in data.text.words])
        return [" ".join([phrase] * max(1, int((length + 1) // (len(phrase) + 1)))) for phrase in phrases]
