"""The scene of a calibration: what is read once from the model as it is, before anything is grafted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from nibench.architecture import projection
from nibench.errors import InputError
from nibench.interventions import Behaviour
from nibench.means import reference_means
from nibench.model import LanguageModel, Passes
from nibench.prompts import read_ids
from nibench.task import Prompt
from nibench.truth.graft_inputs import Readings, ffn_inputs
from nibench.truth.graft_outputs import output_gradients
from nibench.truth.surgery import ffn

MAX_BLOCKS = 4  # blocks that get grafts
MAX_ELSEWHERE = 3000  # other positions that gates are made from
N_TEXTS, TEXT_TOKENS = 64, 64  # ordinary text: what the model itself says
ABOVE_CHANCE = 0.2  # of the accuracy: less is no behaviour


@dataclass(frozen=True, eq=False)
class Scene:
    """One task in one model as it is.

    Attributes
    ----------
    behaviour : Behaviour
        Where doses are fitted and measured: of the ``mlp_post`` neurons, on prompts of ``rank``.
    observed, fit : prompts
        What methods read activations of (encoding doses are measured there), and what rows are made from.
    readings : layer -> what enters the FFN
    gradients : layer -> (M, d)
        Of each item's margin, in the FFN's output.
    spreads, lengths : layer -> (F,)
        Deviations of the block's own neurons over ``observed``, and the lengths of their output columns.
    text : (B, T) int, or None
        Text sampled from the model, for its loss; none where it cannot be asked for words.
    """

    model: LanguageModel
    behaviour: Behaviour
    observed: tuple[Prompt, ...]
    labels: np.ndarray  # (R,) bool: the first class against the rest
    item_rows: np.ndarray  # (M,) which of the observed each item of the behaviour is
    fit: tuple[Prompt, ...]
    readings: dict[int, Readings]
    gradients: dict[int, np.ndarray]
    spreads: dict[int, np.ndarray]
    lengths: dict[int, np.ndarray]
    text: np.ndarray | None
    spent: list[Passes] = field(default_factory=list)

    @property
    def accuracy(self) -> float:
        """Share of items with a margin above 0."""
        return float((self.behaviour.margin() > 0).mean())

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return float(np.mean([1 / len(prompt.answers) for prompt in self.behaviour.prompts]))

    def reopen(self, model: LanguageModel) -> Behaviour:
        """The same behaviour in a changed copy of the model, on the blocks that may have grafts."""
        neurons = model.neurons("mlp_post", sorted(self.readings))
        place: Any = self.behaviour.intervene_at
        means = reference_means(model, self.observed, neurons, place)
        behaviour = Behaviour(
            model,
            self.behaviour.prompts,
            neurons,
            means=means,
            intervene_at=place,
            proven=self.behaviour,
        )
        self.spent.append(behaviour.passes)
        return behaviour

    def reread(self, model: LanguageModel) -> dict[int, Readings]:
        """The same readings in a changed copy of the model."""
        found = read_blocks(model, self.observed, self.labels, self.fit, self.text, sorted(self.readings))
        for layer, reading in found.items():
            change = reading.items - self.readings[layer].items
            found[layer] = replace(reading, induced=change.T @ change / len(change))
        return found


def nonlinearity(model: LanguageModel) -> Any:
    """The function that the FFN applies to its first projection."""
    from transformers.activations import ACT2FN

    name = model.architecture.activation
    if name not in ACT2FN:
        raise InputError(f"The FFN's non-linearity {name or 'unnamed'!r} is not one of transformers' own.")
    return ACT2FN[name]


def make_scene(
    model: LanguageModel,
    behaviour: Behaviour,
    observed: Sequence[Prompt],
    fit: Sequence[Prompt],
    seed: int = 0,
) -> Scene:
    """Read everything that grafts are made from.

    Parameters
    ----------
    behaviour : of all ``mlp_post`` neurons, on some of ``observed``.
    observed, fit : prompts that methods see, and others, that concept rows are made from.

    Raises
    ------
    InputError
        Naming the module, if a block cannot be widened; with the accuracy, if the model cannot do the task.
    """
    for layer in graft_layers(model.n_layers):
        model.architecture.ffn_modules(layer)
    place = {id(prompt): row for row, prompt in enumerate(observed)}
    text = sample_text(model, [prompt.text for prompt in fit], seed) if model.has_head == "causal" else None
    layers = graft_layers(model.n_layers)
    labels = np.array([prompt.label == 0 for prompt in observed])
    gradients = output_gradients(behaviour)
    readings = read_blocks(model, observed, labels, fit, text, layers)
    scene = Scene(
        model=model,
        behaviour=behaviour,
        observed=tuple(observed),
        labels=labels,
        item_rows=np.array([place[id(prompt)] for prompt in behaviour.prompts]),
        fit=tuple(fit),
        readings=readings,
        gradients={layer: gradients[layer] for layer in {*layers, model.n_layers - 1}},
        spreads=own_spreads(model, readings, nonlinearity(model)),
        lengths={
            layer: projection(model.architecture.ffn_modules(layer)[1])
            .detach()
            .norm(dim=1)
            .double()
            .numpy(force=True)
            for layer in layers
        },
        text=text,
    )
    if scene.accuracy < scene.chance + ABOVE_CHANCE:
        raise InputError(
            f"{model.name} answers {scene.accuracy:.0%} of the prompts rightly, guessing {scene.chance:.0%}: it has "
            f"no such behaviour. Expected {scene.chance + ABOVE_CHANCE:.0%} or more; choose another task or model."
        )
    return scene


def own_spreads(model: LanguageModel, readings: Mapping[int, Readings], act: Any) -> dict[int, np.ndarray]:
    """Deviations over the observed prompts of the neurons of each block, (F,)."""
    found = {}
    for layer, reading in readings.items():
        weights = ffn(model.network, layer)
        x = torch.from_numpy(reading.items).to(weights.output)
        before = [
            x @ rows.T + (0 if bias is None else bias)
            for rows, bias in zip(weights.inputs, weights.biases, strict=True)
        ]
        values = act(before[0]) * (before[1] if weights.gated else 1)
        found[layer] = values.double().std(dim=0).numpy(force=True)
    return found


def graft_layers(n_layers: int) -> list[int]:
    """Up to four blocks, evenly spaced from the second to the last."""
    first = min(1, n_layers - 1)
    return sorted(set(np.linspace(first, n_layers - 1, MAX_BLOCKS).round().astype(int).tolist()))


def read_blocks(
    model: LanguageModel,
    observed: Sequence[Prompt],
    labels: np.ndarray,
    fit: Sequence[Prompt],
    text: np.ndarray | None,
    layers: Sequence[int],
) -> dict[int, Readings]:
    """What enters the FFN of each block: where the behaviour is read, and everywhere else."""
    asked = [read_ids(model, prompt.text, prompt.word) for prompt in (*observed, *fit)]
    said = [] if text is None else text[: len(text) // 2].tolist()
    values = ffn_inputs(model, [ids for ids, _ in asked] + said, layers)
    readings = {}
    for layer, found in zip(layers, values, strict=True):
        read = np.array([one[place] for one, (_, place) in zip(found, asked, strict=False)])
        others = [np.delete(one, place, axis=0) for one, (_, place) in zip(found, asked, strict=False)]
        readings[layer] = Readings(
            layer,
            fit=read[len(observed) :],
            fit_labels=np.array([prompt.label == 0 for prompt in fit]),
            items=read[: len(observed)],
            item_labels=labels,
            elsewhere=_thinned(np.concatenate(others + found[len(asked) :])),
            induced=np.zeros((read.shape[1], read.shape[1])),
        )
    return readings


def _thinned(rows: np.ndarray) -> np.ndarray:
    """At most ``MAX_ELSEWHERE`` of the rows, evenly taken."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_ELSEWHERE)).astype(int)]


def sample_text(model: LanguageModel, openings: Sequence[str], seed: int) -> np.ndarray:
    """(B, T) token ids that the model says after the first word of an opening; the same for a seed."""
    from transformers import DynamicCache

    rng = np.random.default_rng([seed, 11])
    n_first = len(model.frame[0]) + 1
    starts = [
        read_ids(model, openings[int(row)])[0][:n_first] for row in rng.integers(0, len(openings), N_TEXTS)
    ]
    ids = torch.tensor(starts)
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    cache = DynamicCache(config=model.network.config)
    with torch.no_grad():
        new = ids
        for _ in range(min(TEXT_TOKENS, model.window) - n_first):
            logits = model.network(
                input_ids=new.to(model.device), past_key_values=cache, use_cache=True
            ).logits[:, -1]
            new = torch.multinomial(logits.softmax(-1).cpu(), 1, generator=generator)
            ids = torch.cat([ids, new], dim=1)
    model.passes.forward += len(ids)
    return ids.numpy()


def text_loss(model: LanguageModel, text: np.ndarray) -> float:
    """Mean next-token loss in nats over the second half of the texts (the first made the position gates)."""
    ids = torch.from_numpy(text[len(text) // 2 :]).to(model.device)
    with torch.no_grad():
        logits = model.network(input_ids=ids, use_cache=False).logits
    model.passes.forward += len(ids)
    return float(torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()))
