"""Correlation clustering: group neurons that go up and down together, and let one stand for each group.

No label is read. Neurons are merged by average linkage under the distance one minus absolute correlation, and
the tree is cut; what is left after keeping one neuron of each cluster is the network without its repetitions.

Paper: Dalvi, Sajjad, Durrani & Belinkov, "Analyzing Redundancy in Pretrained Transformer Models", EMNLP 2020,
section 5. https://arxiv.org/abs/2004.04010

Deviations: the neuron that stands for a cluster is the one most correlated with its other members, where the
original draws one (presets `dalvi2020`, the cut that the paper analyses, and `neurox`, the library's own; seeded here);
the scores are ours: representatives by the size of their cluster, then the others by their mean absolute correlation
with their own. Beyond 8,192 neurons each layer is clustered by itself. Any ranking is thinned by these clusters
with `Ranking.thinned`, or `nibench rank METHOD --thin 0.3`.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from nibench import Claim, Clusters, Direction, Method, Needs, Observations, Ranking

LARGEST = 8192  # neurons clustered together: the distances take half a gigabyte


@dataclass(frozen=True)
class CorrelationClustering(Method):
    """A representative scores the size of its cluster, any other neuron its mean correlation minus one.

    Constant neurons are clusters of their own and score -1. Evidence: `Clusters`.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS
    claims: ClassVar[Claim] = "none"
    direction: ClassVar[Direction] = "none"
    family: ClassVar[str] = "clustering"
    paper: ClassVar[str] = (
        "Dalvi et al., Analyzing Redundancy in Pretrained Transformer Models, 2020, https://arxiv.org/abs/2004.04010"
    )
    human_in_the_loop: ClassVar[bool] = True
    complexity: ClassVar[str] = "O(N D^2), memory O(D^2); above 8,192 neurons layer by layer"
    limits: ClassVar[str] = "Says which neurons are alike, not what they are for; linear correlation only."

    presets: ClassVar[dict[str, dict[str, object]]] = {
        "dalvi2020": {"distance": 0.3, "representative": "random"},
        "neurox": {"distance": 0.5, "representative": "random"},
    }

    distance: float = 0.3  # where the tree is cut: one minus absolute correlation
    representative: Literal["medoid", "random"] = "medoid"

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        z = data.standardized()
        whole = z.shape[1] <= LARGEST
        borders = [0, z.shape[1]] if whole else data.neurons.offsets
        clusters, closeness = np.zeros(z.shape[1], dtype=int), np.zeros(z.shape[1])
        for start, stop in pairwise(borders):
            part = slice(int(start), int(stop))
            found, closeness[part] = self._cluster(z[:, part])
            clusters[part] = found + clusters.max() + 1
        clusters = np.unique(clusters, return_inverse=True)[1]
        central = -closeness if self.representative == "medoid" else np.zeros(len(clusters))
        order = np.lexsort((rng.permutation(len(clusters)), central, clusters))
        representatives = order[np.unique(clusters[order], return_index=True)[1]]
        scores = closeness - 1
        scores[representatives] = np.bincount(clusters)
        scores[data.variance() == 0] = -1
        return Ranking.from_scores(scores, evidence=Clusters(clusters, representatives))

    def _cluster(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cluster ids (D,) and each neuron's mean absolute correlation with its cluster (D,)."""
        related = np.minimum(np.abs(z.T @ z) / len(z), 1.0)
        np.fill_diagonal(related, 1.0)
        if len(related) == 1:
            return np.zeros(1, dtype=int), np.ones(1)
        tree = linkage(squareform(1 - related, checks=False), method="average")
        clusters = fcluster(tree, self.distance, criterion="distance") - 1
        same = clusters[:, None] == clusters
        return clusters, np.round((related * same).sum(axis=1) / same.sum(axis=1), 9)
