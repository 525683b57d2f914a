"""PCA loading: how much of a neuron's variance lies in the few directions in which the layer varies most.

No label is looked at. A neuron that moves with the leading principal components scores high, one that varies on its
own does not; with every component kept, the score is the variance.

Paper: Jolliffe, "Discarding Variables in a Principal Component Analysis. I: Artificial Data", Applied Statistics 1972
(variables chosen by their loadings). https://doi.org/10.2307/2346488

Deviation: loadings of all kept components are added up, weighted by the variance of each component, where the paper
takes one variable for each component.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.linalg import eigh

from nibench import Claim, Direction, Method, Needs, Observations, Ranking, Scale


@dataclass(frozen=True)
class PCALoading(Method):
    """Variance of the neuron along the fewest components that hold `share` of the variance of all; 0 if constant."""

    needs: ClassVar[Needs] = Needs.ACTIVATIONS
    claims: ClassVar[Claim] = "none"
    direction: ClassVar[Direction] = "none"
    family: ClassVar[str] = "baseline"
    paper: ClassVar[str] = (
        "Jolliffe, Discarding Variables in a Principal Component Analysis. I: Artificial Data, 1972, "
        "https://doi.org/10.2307/2346488"
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {"raw": {"scale": "raw"}, "z": {"scale": "z"}}
    complexity: ClassVar[str] = "O(ND m + m^3), memory O(m^2), m the smaller of N and D"
    limits: ClassVar[str] = "No concept: on raw activations a few loud neurons are the components."

    scale: Scale = "raw"
    share: float = 0.9

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        n_items, n_neurons = data.n_items, len(data.neurons)
        if n_items < n_neurons:  # the components from the items' inner products
            z = data.standardized(self.scale)
            _, vectors = self._leading(z @ z.T / n_items)
            return Ranking.from_scores(np.square(vectors.T @ z).sum(axis=0) / n_items)
        covariance = np.zeros((n_neurons, n_neurons))
        for _, z in data.standardized_blocks(self.scale):
            covariance += z.T @ z
        kept, vectors = self._leading(covariance / n_items)
        return Ranking.from_scores(np.square(vectors) @ kept)

    def _leading(self, gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Variances (q,) and directions (m, q) of the components kept."""
        variances, vectors = eigh(gram)
        variances, vectors = np.maximum(variances[::-1], 0), vectors[:, ::-1]
        held = np.cumsum(variances)
        q = min(int(np.searchsorted(held, self.share * held[-1])) + 1, len(held)) if held[-1] > 0 else 0
        return variances[:q], vectors[:, :q]
