"""Matrix factorisation: a few groups of neurons that fire together, and when each group does.

The positive activations (N, D) are written as a product of two non-negative matrices: how strongly each of k factors
is on at each item, and how much of it each neuron gives. No label is read; what a factor stands for is for a
person to see in the items where it is on.

Paper: Alammar, "Ecco: An Open Source Library for the Explainability of Transformer Language Models", ACL 2021
demonstrations, section 3; first as "Interfaces for Explaining Transformer Language Models", 2020.
https://aclanthology.org/2021.acl-demo.30

Deviations: each neuron is divided by its largest value, so that loud layers do not take all factors (preset
`alammar2020`: not); the start is the non-negative double SVD, not random; further random starts say how stable each
factor is; at most 500 items, drawn, are factorised. The library shows factors and ranks no neuron: the score is
ours. Negative activations are left out as in the original, or counted as further columns with `sides="both"`.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from nibench import Claim, Direction, Factors, Method, Needs, Observations, Ranking, Scalability, Scope


@dataclass(frozen=True)
class MatrixFactorization(Method):
    """The score is max over factors of loading times stability: 0 for neurons that no factor needs.

    A loading is what the factor gives of the neuron where the factor is strongest, as a share of the neuron's
    largest value; a factor's stability is its mean cosine with its match in the other starts. Constant neurons below
    zero score 0. Evidence: `Factors`.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS
    claims: ClassVar[Claim] = "none"
    direction: ClassVar[Direction] = "none"
    family: ClassVar[str] = "factorisation"
    paper: ClassVar[str] = (
        "Alammar, Ecco: An Open Source Library for the Explainability of Transformer Language Models, 2021, "
        "https://aclanthology.org/2021.acl-demo.30"
    )
    scope: ClassVar[Scope] = "local"
    scalability: ClassVar[Scalability] = "low"
    human_in_the_loop: ClassVar[bool] = True
    complexity: ClassVar[str] = (
        "O(N D k) for each of at most a hundred sweeps of each start; N is at most 500"
    )
    limits: ClassVar[str] = (
        "Not unique, and k is a guess; what fires on the same items is grouped whatever it does; negative "
        "activations are not seen."
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "alammar2020": {"scale": "raw", "init": "random", "restarts": 0, "sweeps": 500}
    }

    factors: int = 10
    scale: Literal["max", "raw"] = "max"
    sides: Literal["positive", "both"] = "positive"
    init: Literal["nndsvd", "random"] = "nndsvd"
    restarts: int = 4  # random starts that the factors are compared with
    sweeps: int = 100
    items: int = 500  # drawn where there are more

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        n_items, n_neurons = data.n_items, len(data.neurons)
        rows = np.sort(rng.permutation(n_items)[: self.items])
        x = data.part(rows, slice(None)).astype(np.float64)
        a = np.maximum(np.concatenate([x, -x], axis=1) if self.sides == "both" else x, 0.0)
        peaks = a.max(axis=0)
        if self.scale == "max":
            a /= np.where(peaks > 0, peaks, 1.0)
        strengths, loadings = self._factorise(a, self.init, rng)
        matched = [_matched(loadings, self._factorise(a, "random", rng)[1]) for _ in range(self.restarts)]
        stability = np.mean(matched, axis=0) if matched else np.ones(len(loadings))
        sides = loadings.reshape(len(loadings), -1, n_neurons)  # (k, 1 or 2, D)
        strongest = sides.max(axis=1)
        signed = np.where(strongest > sides[:, 0], -strongest, strongest)
        clusters = np.where(strongest.any(axis=0), strongest.argmax(axis=0), len(loadings))
        scores = (stability[:, None] * strongest).max(axis=0)
        return Ranking.from_scores(scores, evidence=Factors(signed, strengths, rows, stability, clusters))

    def _factorise(
        self, a: np.ndarray, init: Literal["nndsvd", "random"], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Strengths (N, k), each factor's largest being 1, and loadings (k, columns)."""
        from sklearn.decomposition import NMF
        from sklearn.exceptions import ConvergenceWarning

        k, seed = min(self.factors, *a.shape), int(rng.integers(2**31))
        if not a.any():
            return np.zeros((len(a), k)), np.zeros((k, a.shape[1]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = NMF(k, init=init, random_state=seed, max_iter=self.sweeps)  # pyright: ignore[reportArgumentType]
            strengths = model.fit_transform(a)
        largest = strengths.max(axis=0)
        return strengths / np.where(largest > 0, largest, 1.0), model.components_ * largest[:, None]


def _matched(loadings: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(k,) float64 in [0, 1]: each factor's cosine with its partner in the best one-to-one matching."""
    first, second = (
        one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-300) for one in (loadings, others)
    )
    alike = first @ second.T
    return alike[linear_sum_assignment(alike, maximize=True)]
