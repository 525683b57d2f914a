"""Top contexts: look at what a neuron is most active on, and name the concept that these items share.

The oldest way to read a neuron goes from the neuron to the concept: list its strongest items and see what
they have in common. Here the looking is done by the labels: a class is named if it is among the top items more
often than a draw of as many items would have it.

Paper: Kádár, Chrupała & Alishahi, "Representation of Linguistic Form and Function in Recurrent Neural
Networks", Computational Linguistics 2017, section 5. https://arxiv.org/abs/1602.08952

Deviations: a person names the concept there, the labels do here, by a hypergeometric test at .01 over the
classes; items are words or prompts, not n-grams. Only the active side is read, as in the paper: where a class
is where the neuron is *least* active, another is named, or none.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.stats import hypergeom

from nibench import Claim, Contexts, Direction, Method, Needs, Observations, Ranking, Scalability


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

    items: int = 20
    level: float = 0.01

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        n_items, n_neurons = len(data.labels), len(data.neurons)
        k = min(self.items, n_items)
        shares, top = np.zeros((n_neurons, data.n_classes)), np.zeros((n_neurons, k), dtype=int)
        for block in data.sorted_blocks():
            first, last = block.groups()
            inside = np.clip((k - (n_items - 1 - last)) / (last - first + 1), 0, 1)  # (B, N): expected place
            classes = data.labels[block.order]
            for label in range(data.n_classes):
                shares[block.columns, label] = (inside * (classes == label)).sum(axis=1) / k
            top[block.columns] = block.order[:, ::-1][:, :k]
        counts = data.statistics.counts
        everywhere = counts / n_items
        excess = np.divide(
            shares - everywhere, 1 - everywhere, out=np.zeros_like(shares), where=everywhere < 1
        )
        by_luck = hypergeom.sf(np.floor(shares * k + 1e-9) - 1, n_items, counts, k)  # (D, C)
        sure = by_luck.min(axis=1) < self.level / data.n_classes
        evidence = Contexts(top, np.where(sure, by_luck.argmin(axis=1), -1), shares)
        return Ranking.from_scores(np.maximum(excess.max(axis=1), 0.0), excess.T, evidence)
