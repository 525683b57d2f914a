"""Run a truth model with neurons replaced: whole runs by hooks, and every neuron singly at the last position.

This is the measuring side: it shares no code with the training. `Engine.run` is the literal way; single
effects come from `nibench.interventions`, which computes only what a change at the last position can alter.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nibench.errors import InputError
from nibench.interventions import Behaviour
from nibench.model import LanguageModel
from nibench.order_statistics import auc
from nibench.task import Prompt
from nibench.truth import files
from nibench.truth.pairs import Pair, sample_pairs

Progress = Callable[[str], None]
Pairs = Mapping[tuple[str, str], Sequence[Pair]]

PROBE_PAIRS = 200  # for each behaviour; the means come from these
EFFECT_PAIRS = 128  # the first of each file of pairs; exhaustive effects come from these


def silent(_line: str) -> None:
    """A progress callback that says nothing."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: these models are too small for more, and sums come out the same anywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Edit:
    """What to put at the input of a block's down projection: `values` where `mask`, both (B, T, F)."""

    mask: Tensor
    values: Tensor


class Engine:
    """A model folder opened for measuring: float32, no gradients."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        self.folder = Path(folder)
        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
            model = AutoModelForCausalLM.from_pretrained(
                self.folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
            )
        except Exception as error:  # transformers, tokenizers and safetensors each raise their own kinds
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(f"{self.folder} does not open as a language model ({reason}).") from None
        finally:
            if bars:
                logging.enable_progress_bar()
        self.model: Any = model.eval().requires_grad_(False)
        ends = ("mlp.c_proj", "mlp.down_proj", "mlp.dense_4h_to_h")
        self.projections = [module for name, module in self.model.named_modules() if name.endswith(ends)]
        self.n_layers, self.n_units = files.layer_sizes(self.folder)
        if len(self.projections) != self.n_layers:
            raise InputError(
                f"{self.folder} has no FFN down projection named {', '.join(ends)} in every block."
            )

    @property
    def unembedding(self) -> Tensor:
        """The matrix (V, d) that reads logits from the final hidden state."""
        return self.model.get_output_embeddings().weight

    def behaviour(
        self, pairs: Sequence[Pair], means: Tensor | None = None, kind: type[Behaviour] = Behaviour
    ) -> Behaviour:
        """The pairs as a behaviour whose neurons can be replaced; mean ablation takes `means` (L, F)."""
        model = LanguageModel.from_network(self.model, self.tokenizer, self.folder.name)
        prompts = [
            Prompt(
                text=pair.base,
                label=pair.base_class,
                split="eval",
                behaviour=pair.behaviour,
                answers=pair.answers,
                answer=pair.base_answer,
                source=pair.source,
                source_answer=pair.source_answer,
            )
            for pair in pairs
        ]
        flat = None if means is None else means.double().flatten().numpy()
        return kind(model, prompts, model.neurons("mlp_post"), means=flat, intervene_at="last")

    @property
    def neurons(self) -> list[str]:
        """Names of all FFN neurons, by layer, then unit."""
        return [
            files.neuron_name(layer, unit) for layer in range(self.n_layers) for unit in range(self.n_units)
        ]

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids (B, T), right-padded, and the last position of each prompt (B,)."""
        rows = self.tokenizer(list(prompts))["input_ids"]
        longest = max(map(len, rows))
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row)
        return ids, torch.tensor([len(row) - 1 for row in rows])

    def answer_ids(self, words: Sequence[str]) -> Tensor:
        """The single token of each answer."""
        found = []
        for word in words:
            ids = self.tokenizer(word, add_special_tokens=False)["input_ids"]
            if len(ids) != 1:
                raise InputError(
                    f"{self.folder.name}: the answer {word!r} is {len(ids)} tokens; expected one."
                )
            found.append(ids[0])
        return torch.tensor(found)

    @torch.no_grad()
    def run(self, ids: Tensor, edits: Mapping[int, Edit] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, T, V) and each block's FFN activations (B, T, F), after the edits."""
        edits = edits or {}
        seen: list[Tensor] = []

        def hook_for(layer: int):
            def hook(_module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                values = inputs[0]
                if layer in edits:
                    values = torch.where(edits[layer].mask, edits[layer].values, values)
                seen.append(values)
                return (values,)

            return hook

        handles = [
            one.register_forward_pre_hook(hook_for(layer)) for layer, one in enumerate(self.projections)
        ]
        try:
            logits = self.model(ids, attention_mask=torch.ones_like(ids)).logits  # padding is on the right
        finally:
            for handle in handles:
                handle.remove()
        return logits, seen

    def last_activations(self, prompts: Sequence[str]) -> Tensor:
        """Activations at the last token of each prompt, (B, L, F)."""
        ids, last = self.encode(prompts)
        _, seen = self.run(ids)
        return torch.stack([one[torch.arange(len(ids)), last] for one in seen], 1)


def concept_means(engine: Engine, concept: str, behaviours: Sequence[str], n: int = PROBE_PAIRS) -> Tensor:
    """Mean activations (L, F) at the last token of `probe` prompts, classes and behaviours weighted alike."""
    means = []
    for behaviour in behaviours:
        pairs = sample_pairs(concept, behaviour, n, seed=0, split="probe")
        values = engine.last_activations([pair.base for pair in pairs])
        labels = torch.tensor([pair.base_class for pair in pairs])
        means.append(torch.stack([values[labels == c].mean(0) for c in labels.unique()]).mean(0))
    return torch.stack(means).mean(0)


@one_thread()
def effects(
    engine: Engine,
    pairs: Mapping[tuple[str, str], Sequence[Pair]],
    *,
    n: int = EFFECT_PAIRS,
    n_probe: int = PROBE_PAIRS,
    progress: Progress = silent,
) -> dict[str, np.ndarray]:
    """Every neuron's single effects on every behaviour: the contents of `effects.npz`.

    `pairs` holds the `eval` pairs of each (concept, behaviour); the first `n` of each are used. The units are
    those of `files.read_effects`.
    """
    result: dict[str, np.ndarray] = {"neurons": np.array(engine.neurons)}
    for concept in dict.fromkeys(concept for concept, _ in pairs):
        behaviours = [behaviour for name, behaviour in pairs if name == concept]
        means = concept_means(engine, concept, behaviours, n_probe)
        for behaviour in behaviours:
            progress(f"{engine.folder.name} {concept}.{behaviour}: every neuron singly")
            opened = engine.behaviour(list(pairs[concept, behaviour])[:n], means)
            whole = (opened.margin() - opened.source_margin()).mean()
            name = f"{concept}.{behaviour}"
            result[f"{name}.auc"], result[f"{name}.responds"] = encoding(engine, concept, behaviour, n_probe)
            swapped, ablated = (opened.single_effects(to).mean(0) for to in ("source", "mean"))
            result[f"{name}.interchange"] = (swapped / whole).astype(np.float32)
            result[f"{name}.mean"] = ablated.astype(np.float32)
    return result


def encoding(engine: Engine, concept: str, behaviour: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """AUC of each neuron, and how much it responds to the concept, over `probe` pairs."""
    pairs = sample_pairs(concept, behaviour, n, seed=0, split="probe")
    base = engine.last_activations([pair.base for pair in pairs]).flatten(1).double().numpy()
    source = engine.last_activations([pair.source for pair in pairs]).flatten(1).double().numpy()
    labels = np.array([pair.base_class for pair in pairs])
    spread = base.std(0)
    responds = np.divide(
        np.abs(base - source).mean(0), spread, out=np.zeros_like(spread), where=spread > 1e-6
    )
    return auc(base, labels).astype(np.float32), responds.astype(np.float32)
