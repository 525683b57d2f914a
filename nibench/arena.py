"""The arena: observations with one planted neuron, on which the checks of a method run."""

from collections.abc import Callable

import numpy as np

from nibench.harness import run_method
from nibench.method import Method, Needs, Observations
from nibench.moments import Statistics
from nibench.neurons import Neurons
from nibench.ranking import Ranking
from nibench.task import PromptCorpus

N_ITEMS, N_NEURONS, SENTENCE_LENGTH = 400, 24, 8
PLANTED = 17

Change = Callable[[np.ndarray], np.ndarray]


class Arena:
    """Observations with one planted neuron: an activation matrix, or for needs beyond it a planted model.

    ``permutation`` (D,) puts neuron ``permutation[i]`` at place i. Of a matrix, ``change`` rewrites the activations,
    ``shuffled`` puts the items in another order, and ``swapped`` exchanges the names of the two classes.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self.on_model = bool(method.needs & (Needs.MODEL | Needs.WEIGHTS | Needs.TEXT | Needs.EMBEDDINGS))

    def observe(
        self,
        permutation: np.ndarray | None = None,
        change: Change | None = None,
        shuffled: bool = False,
        swapped: bool = False,
    ) -> tuple[Observations, int]:
        """The observations, and the place of the planted neuron."""
        if self.on_model:
            return self._model(permutation)
        return self._arrays(permutation, change, shuffled, swapped)

    def scores(
        self, change: Change | None = None, shuffled: bool = False, swapped: bool = False
    ) -> np.ndarray:
        """(D,): how the method scores the neurons of the changed matrix."""
        return self.rank(self.observe(None, change, shuffled, swapped)[0]).scores

    @property
    def n_neurons(self) -> int:
        """How many neurons there are to rank."""
        from nibench.truth.planted import LAYERS, UNITS

        return LAYERS * UNITS if self.on_model else N_NEURONS

    def permutation(self) -> np.ndarray:
        """A permutation that this arena can make: within each layer of a model."""
        from nibench.truth.planted import LAYERS, UNITS

        rng = np.random.default_rng(3)
        if not self.on_model:
            return rng.permutation(N_NEURONS)
        return np.concatenate([layer * UNITS + rng.permutation(UNITS) for layer in range(LAYERS)])

    def _arrays(
        self, permutation: np.ndarray | None, change: Change | None, shuffled: bool, swapped: bool
    ) -> tuple[Observations, int]:
        rng = np.random.default_rng(0)
        labels = rng.permutation(np.arange(N_ITEMS) % 2)
        others = _others(labels)
        matrix = rng.normal(size=(N_ITEMS, N_NEURONS))
        matrix[:, PLANTED] += 3.0 * labels
        if change is not None:
            matrix = change(matrix)
        order = np.arange(N_NEURONS) if permutation is None else permutation
        rows = np.random.default_rng(4).permutation(N_ITEMS) if shuffled else np.arange(N_ITEMS)
        matrix = np.ascontiguousarray(matrix[rows][:, order], dtype=np.float32)
        matrix.flags.writeable = False
        labels = (1 - labels if swapped else labels)[rows]
        data = Observations(
            Neurons.anonymous(N_NEURONS),
            2,
            self.method.needs,
            type(self.method).__name__,
            Statistics(matrix, labels, 2),
            _word_types=rng.integers(0, 40, N_ITEMS)[rows],
            _sentences=(np.arange(N_ITEMS) // SENTENCE_LENGTH)[rows],
            _others=tuple(one[rows] for one in others),
        )
        return data, int(np.flatnonzero(order == PLANTED)[0])

    def _model(self, permutation: np.ndarray | None) -> tuple[Observations, int]:
        from nibench.activations import extract
        from nibench.interventions import Behaviour
        from nibench.soft_inputs import SoftInputs
        from nibench.texts import Text
        from nibench.truth.planted import LAYERS, UNITS, planted_model
        from nibench.weights import read_weights

        order = None if permutation is None else permutation.reshape(LAYERS, UNITS) % UNITS
        made = planted_model(order)
        corpus = PromptCorpus(made.prompts, ("first", "second"), f"planted {order}")
        read = extract(made.model, corpus, site="mlp_post", cache=False)
        split = read.split("rank")
        data = Observations(
            read.neurons,
            2,
            self.method.needs,
            type(self.method).__name__,
            Statistics(split.activations, split.labels, 2),
            _word_types=split.word_types,
            _sentences=split.sentences,
            _behaviour=Behaviour.from_prompts(
                made.model, made.prompts, "mlp_post", reference=made.prompts, intervene_at="last"
            ),
            _weights=read_weights(made.model, read.neurons),
            _others=_others(split.labels),
            _text=Text(
                read.texts[: len(split.labels)], read.positions[: len(split.labels)], made.model, "mlp_post"
            ),
            _inputs=SoftInputs(made.model, "mlp_post"),
        )
        return data, made.planted

    def rank(self, data: Observations, seed: int = 0) -> Ranking:
        """Run the method as the harness does."""
        return run_method(self.method, data, type(self.method).__name__, seed)


def _others(labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Two other models, each with one neuron that knows the labels."""
    found = np.random.default_rng(4).normal(size=(2, len(labels), N_NEURONS // 2)).astype(np.float32)
    found[:, :, 2] += 3 * labels
    return tuple(found)
