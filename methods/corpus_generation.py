"""Corpus generation: make the inputs that activate a neuron most, and let the model say what they mean.

The top items of a corpus show what a neuron does on that corpus. Here the input is made: the token at each place is a
mixture of all tokens, moved up the gradient of the neuron's activation and made to settle on one token by Gumbel noise
and cooling. What was found may be no sentence; so the model itself is asked: the neurons that tell the classes apart on
the task's items read it, the neuron in question left out.

Paper: Poerner, Roth & Schütze, "Interpretable Textual Neuron Representations for NLP", BlackboxNLP 2018.
https://aclanthology.org/W18-5437

Deviations: people look at the inputs there, nothing is ranked; the reading is ours. Searches start from the best of
random inputs and cool within tens of steps, where the original cools over some sixty thousand
(`corpus_generation@poerner2018`, without its early stopping: 307 million passes for 80 neurons, which are screened
here and were drawn there); they share their noise among the neurons, so that these compare alike. The neuron is
maximised as it is, its non-linearity left on.

Cost: beyond `candidates` neurons, only those of the largest difference between classes are searched; the others score
-inf, and the ranking is flagged.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch.nn.functional import one_hot

from nibench import (
    Claim,
    Direction,
    GeneratedInputs,
    Method,
    Needs,
    Observations,
    Ranking,
    Scalability,
    SoftInputs,
)

ENTRIES, FEWEST = 1 << 20, 16  # of the mixtures optimised together; neurons, however many entries these take
ROWS = 1024  # texts read at a time
NAMED = 0.5  # of what the average item of the class reads
BELIEVED = 3.0  # deviations: made inputs drive neurons beyond all that the items tell of


@dataclass(frozen=True)
class CorpusGeneration(Method):
    """How far the found inputs read as a class, in deviations of random inputs; mean over classes of the absolute.

    A reading is the sum over the other neurons of the activation, in deviations from its mean over the items and at
    most three, times the correlation with the class. Random inputs read 0 on average. Constant neurons are not searched
    and score 0. Inputs have `length` tokens, or as many as the model takes. Evidence: `GeneratedInputs`.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS | Needs.EMBEDDINGS
    claims: ClassVar[Claim] = "responds"
    direction: ClassVar[Direction] = "neuron->concept"
    family: ClassVar[str] = "generation"
    paper: ClassVar[str] = (
        "Poerner, Roth & Schütze, Interpretable Textual Neuron Representations for NLP, 2018, "
        "https://aclanthology.org/W18-5437"
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "poerner2018": {
            "inputs": 1,
            "steps": 60_000,
            "samples": 64,
            "rate": 0.001,
            "held": 0.0,
            "cooling": (2.0, 0.1),
            "every": 200,
            "candidates": 80,
        }
    }
    scalability: ClassVar[Scalability] = "low"
    human_in_the_loop: ClassVar[bool] = True
    complexity: ClassVar[str] = (
        "inputs x steps x samples forward and backward passes for each neuron, up to its layer"
    )
    limits: ClassVar[str] = (
        "Found inputs are rarely language and rarely the best there are; the reading trusts the model's neurons on "
        "them; a neuron active for the lack of something has no such input. At most `candidates` neurons are searched."
    )

    length: int = 5
    inputs: int = 4  # searches for each neuron
    steps: int = 50
    samples: int = 1  # draws of the noise in each step
    rate: float = 0.5
    held: float = 0.9  # share of the start's tokens in the mixture at first; 0: all tokens alike
    cooling: tuple[float, float] = (1.0, 0.5)  # temperature, first and last
    every: int = 10  # steps between looks at the settled input
    random: int = 1024  # random inputs, to start from and to compare with
    candidates: int = 1024

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        varies, n_neurons = data.variance() > 0, len(data.neurons)
        if not varies.any():
            return Ranking.from_scores(np.zeros(n_neurons))
        model = data.inputs
        size = (self.random, min(self.length, model.longest))
        pool = rng.integers(0, len(model.tokens), size)
        answers = np.concatenate(
            [model.read(pool[start : start + ROWS]) for start in range(0, len(pool), ROWS)]
        )
        told = np.abs(data.statistics.correlations).max(axis=0)
        varying = np.flatnonzero(varies)
        chosen = np.sort(varying[np.argsort(-told[varying], kind="stable")[: self.candidates]])
        starts = np.argsort(-answers[:, chosen], axis=0, kind="stable")[: self.inputs].T  # (S, K)
        texts, reached = self._search(data, chosen, pool[starts], rng)

        readings, typical = self._readings(data, chosen, texts, answers)  # (S, K, C), (S, C)
        per_class = np.full((data.n_classes, n_neurons), -np.inf)
        per_class[:, ~varies] = 0.0
        per_class[:, chosen] = np.abs(readings.mean(axis=1)).T
        scores = data.statistics.mean_over_classes(per_class)
        flags = (f"{len(chosen)} of {len(varying)} neurons searched",) if len(chosen) < len(varying) else ()
        return Ranking.from_scores(
            scores, per_class, self._evidence(data, chosen, texts, reached, readings, typical), flags
        )

    def _search(
        self, data: Observations, neurons: np.ndarray, starts: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Starts int (S, K, T) of S neurons -> the inputs found, of the same shape, and the activations (S, K)."""
        model, seed = data.inputs, rng.integers(2**63)
        found, reached = starts.copy(), np.zeros(starts.shape[:2], dtype=np.float32)
        at_once = max(FEWEST, ENTRIES // (starts[:1].size * self.samples * len(model.tokens)))
        for start in range(0, len(neurons), at_once):  # in the order of layers: a pass ends at the deepest
            block = slice(start, start + at_once)
            climber = np.random.default_rng(seed)  # the same noise for every neuron
            found[block], reached[block] = self._climb(model, neurons[block], starts[block], climber)
        return found, reached

    def _climb(
        self, model: SoftInputs, neurons: np.ndarray, starts: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The search for neurons, all in one batch: (B, K, T) -> (B, K, T) and (B, K)."""
        (n_starts, length), n_tokens = starts.shape[1:], len(model.tokens)
        texts, own = torch.as_tensor(starts, device=model.device).flatten(0, 1), np.repeat(neurons, n_starts)

        def answers(settled: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return model.answer(one_hot(settled, n_tokens).float(), own)

        reached = answers(texts)
        odds = self.held * (n_tokens - 1) / (1 - self.held)
        logits = one_hot(texts, n_tokens) * (np.log(odds) if self.held else 0.0)
        logits = logits.float().requires_grad_()
        optimiser = torch.optim.Adam([logits], lr=self.rate)
        for step, temperature in enumerate(np.geomspace(*self.cooling, self.steps), start=1):
            noise = rng.gumbel(size=(1, n_starts, self.samples, length, n_tokens)).astype(np.float32)
            with torch.enable_grad():
                shares = logits.log_softmax(-1).view(-1, n_starts, 1, length, n_tokens)
                mixtures = ((shares + torch.as_tensor(noise, device=model.device)) / temperature).softmax(-1)
                total = model.answer(mixtures.flatten(0, 2), np.repeat(own, self.samples)).sum()
                optimiser.zero_grad()
                (-total / self.samples).backward()
            optimiser.step()
            if step % self.every == 0 or step == self.steps:
                settled = logits.detach().argmax(dim=-1)
                now = answers(settled)
                better = now > reached
                texts, reached = torch.where(better[:, None], settled, texts), torch.maximum(now, reached)
        return texts.view(starts.shape).cpu().numpy(), reached.view(starts.shape[:2]).cpu().numpy()

    def _readings(
        self, data: Observations, neurons: np.ndarray, texts: np.ndarray, random: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """float64 (S, K, C): how each neuron's texts (S, K, T) read, itself left out, in deviations of random ones.

        Also (S, C): the same of the average item of each class.
        """
        tells, (n_neurons, n_inputs) = data.statistics.correlations, texts.shape[:2]
        flat, own = texts.reshape(-1, texts.shape[-1]), np.repeat(neurons, n_inputs)
        found = []
        for start in range(0, len(flat), ROWS):
            mine = own[start : start + ROWS]
            z = self._believed(data, data.inputs.read(flat[start : start + ROWS]))
            found.append(z @ tells.T - z[np.arange(len(z)), mine][:, None] * tells[:, mine].T)
        readings = np.concatenate(found).reshape(n_neurons, n_inputs, data.n_classes)
        z = self._believed(data, random)
        items, classes = np.zeros(tells.shape), np.eye(data.n_classes)[data.labels]
        for start in range(0, len(classes), ROWS):
            rows = slice(start, start + ROWS)
            items += classes[rows].T @ self._believed(data, data.activations[rows])
        items /= np.maximum(data.statistics.counts, 1)[:, None]
        typical = np.zeros((n_neurons, data.n_classes))
        for label, weights in enumerate(tells):
            mine = weights[neurons]
            others = (z @ weights)[:, None] - z[:, neurons] * mine  # (R, S)
            deviation = others.std(axis=0)
            unit = np.where(deviation > 1e-9, deviation, np.inf)
            readings[:, :, label] = (readings[:, :, label] - others.mean(axis=0)[:, None]) / unit[:, None]
            typical[:, label] = (
                items[label] @ weights - items[label, neurons] * mine - others.mean(axis=0)
            ) / unit
        return readings, typical

    def _believed(self, data: Observations, activations: np.ndarray) -> np.ndarray:
        """Activations in deviations from the neuron's mean over the items, cut off; 0 for constant neurons."""
        return np.clip((activations - data.mean()) / data.spread(), -BELIEVED, BELIEVED)

    def _evidence(
        self,
        data: Observations,
        neurons: np.ndarray,
        texts: np.ndarray,
        reached: np.ndarray,
        readings: np.ndarray,
        typical: np.ndarray,
    ) -> GeneratedInputs:
        """The same for all D neurons, empty for those that were not searched."""
        n_neurons, n_inputs = len(data.neurons), texts.shape[1]
        written = data.inputs.write(texts.reshape(-1, texts.shape[-1]))
        words = np.full((n_neurons, n_inputs), "", dtype=f"U{max(map(len, written), default=1)}")
        words[neurons] = np.array(written).reshape(-1, n_inputs)
        activations = np.full(words.shape, np.nan, dtype=np.float32)
        activations[neurons] = reached
        everywhere = np.zeros((*words.shape, data.n_classes))
        everywhere[neurons] = readings
        share = np.divide(readings.mean(axis=1), typical, out=np.zeros_like(typical), where=typical > 0)
        named = np.full(n_neurons, -1)
        named[neurons] = np.where(share.max(axis=1) > NAMED, share.argmax(axis=1), -1)
        return GeneratedInputs(words, activations, data.range()[1], everywhere, named)
