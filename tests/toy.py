"""A behaviour one can work out by hand: the margin is a weighted sum of the neurons. And a setting around it."""

from dataclasses import dataclass, field

import numpy as np

from nibench.metrics import Setting, SplitData
from nibench.neurons import Block, Neurons


@dataclass
class LinearBehaviour:
    """M items with D neurons: margin = values @ weights + offset; the twins have values of their own."""

    values: np.ndarray
    weights: np.ndarray
    twins: np.ndarray | None = None
    offset: float = 0.0
    groups: np.ndarray | None = None
    means: np.ndarray | None = None
    n_run: list[int] = field(default_factory=lambda: [0])

    def __post_init__(self):
        self.n_items = len(self.values)
        self.groups = np.arange(self.n_items) % 12 if self.groups is None else self.groups
        self.means = self.values.mean(axis=0) if self.means is None else self.means
        self.behaviours = np.array(["b"] * self.n_items)
        self.labels = np.zeros(self.n_items, dtype=int)
        self.neurons = Neurons.anonymous(len(self.weights))

    @property
    def has_pairs(self):
        return self.twins is not None

    def margin(self):
        return self.values @ self.weights + self.offset

    def source_margin(self):
        return self.twins @ self.weights + self.offset

    def ablate_sets(self, sets, to="mean"):
        self.n_run[0] += len(sets)
        fills = {"mean": np.broadcast_to(self.means, self.values.shape), "source": self.twins}
        fills |= {"zero": np.zeros_like(self.values), "resample": np.roll(self.values, 1, axis=0)}
        result = np.empty((len(sets), self.n_items))
        for row, chosen in zip(result, sets, strict=True):
            changed = self.values.copy()
            changed[:, chosen] = fills[to][:, chosen]
            row[:] = changed @ self.weights + self.offset
        return result

    def ablate(self, neurons, to="mean"):
        return self.ablate_sets([neurons], to)[0]

    def contributions(self, kind, baseline="mean"):
        assert kind == "gradient_activation"
        return (self.values - (self.twins if baseline == "source" else self.means)) * self.weights

    def some(self, rows):
        return LinearBehaviour(
            self.values[rows],
            self.weights,
            None if self.twins is None else self.twins[rows],
            self.offset,
            self.groups[rows],
            self.means,
            self.n_run,
        )


def used_in(n_neurons, carriers, n_items=48, seed=0, weights=None):
    """A behaviour that some of the neurons carry; all have one variance, and the twin turns their signs."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_items, n_neurons))
    values[:, carriers] = 1 + 0.2 * rng.normal(size=(n_items, len(carriers)))
    weight = rng.normal(scale=0.02, size=n_neurons) if weights is None else weights
    weight[carriers] = 1.0
    return LinearBehaviour(values, weight, -values, means=np.zeros(n_neurons))


def toy_setting(behaviour, widths, *, variances=None, norms=None, others=None, probe=None, **fields):
    """A setting whose neurons stand in layers of these widths, with random activations of these variances."""
    n_neurons = sum(widths)
    spread = np.ones(n_neurons) if variances is None else np.sqrt(variances)
    rng = np.random.default_rng(1)
    activations = (rng.normal(size=(200, n_neurons)) * spread).astype(np.float32)
    split = SplitData(activations, np.arange(200) % 2, np.arange(200), np.arange(200))
    return Setting(
        Neurons(tuple(Block(f"L{i}.mlp_post", i, width) for i, width in enumerate(widths))),
        2,
        {"probe": split},
        (),
        fields.pop("truth", None),
        behaviour,
        (1,),
        fields.pop("ablation_ks", (1, 2, 4, 8)),
        seed=fields.pop("seed", 0),
        n_random=20,
        output_norms=lambda: norms,
        other_behaviours=lambda: others or {},
        probe_behaviour=lambda: probe,
        **fields,
    )
