"""Which neurons matter to a language model at all: the loss of next words with each neuron alone at its mean.

No concept is asked for. The sentences are natural ones of the grammar, and every FFN neuron of the model is
measured, so the answer is exact on them.
"""

import hashlib
import io
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nibench.cache import cache_folder
from nibench.disk import write_atomic
from nibench.errors import InputError
from nibench.task import Claim, Prompt, Sentence, Truth
from nibench.truth import files, grammar
from nibench.truth.known import tier_of

if TYPE_CHECKING:
    from nibench.model import LanguageModel

MEASURE = 1  # raise it when the same model gives other numbers: old cache entries are then left alone
SEED = 4_000_000  # of the sentences; models are trained from smaller ones
N_SENTENCES = 64  # for the loss, and as many others for the means
MAX_TOKENS = 4096  # in one batch


def sentences(n: int, seed: int = SEED) -> list[tuple[str, ...]]:
    """The words of the first n natural sentences."""
    return [sentence.words() for sentence in islice(grammar.natural_sentences(seed), n)]


def natural_corpus(n_each: int, seed: int) -> tuple[Sentence, ...]:
    """Natural sentences as items without a concept: every word has label 0; `n_each` of them a split.

    `probe` and `eval` are those that the truth is measured on: means from the one, losses on the other.
    """
    measured = sentences(2 * N_SENTENCES)
    drawn = sentences(n_each, SEED + 1 + seed)
    parts = {"rank": drawn, "probe": measured[:N_SENTENCES], "eval": measured[N_SENTENCES:]}
    return tuple(
        Sentence(words, (0,) * len(words), split)  # type: ignore[arg-type]
        for split, some in parts.items()
        for words in some
    )


def loss_effects(
    model: "LanguageModel", reference: Sequence[Sequence[str]], measured: Sequence[Sequence[str]]
) -> np.ndarray:
    """float64 (D,): change of the mean next-word loss, in nats a token, with each FFN neuron alone at its mean.

    The neuron is replaced at every position that is not special, by its mean over such positions of the
    reference sentences. Exact: its change adds to the stream behind its block, and the later blocks are run.

    Raises
    ------
    InputError
        For a model that predicts no next words or has no norm before its head.
    """
    import torch

    from nibench.architecture import projection
    from nibench.means import reference_means

    norm = model.architecture.final_norm()
    if model.has_head != "causal" or norm is None:
        raise InputError(
            f"{model.name} is no causal language model that is known; its loss has no next words."
        )
    taps, neurons = model.taps("mlp_post"), model.neurons("mlp_post")
    stages = [*model.architecture.blocks, norm]
    prompts = [Prompt(" ".join(words), 0, "probe", "loss", (), 0) for words in reference]
    flat = torch.from_numpy(reference_means(model, prompts, neurons, "all").astype(np.float32))
    means = flat.to(model.device).split([tap.block.width for tap in taps])
    total, n_tokens = np.zeros(len(neurons)), 0
    for words in measured:
        ids = _ids(model, words)
        seen = []
        handles = [tap.attach(lambda values, seen=seen: seen.append(values)) for tap in taps]
        with torch.no_grad():
            intact = _loss(model, ids)
        for handle in handles:
            handle.remove()
        acts = _acting(model, ids)
        losses = []
        for tap, values, mean in zip(taps, seen, means, strict=True):
            change = (mean - values.view(len(acts), -1)) * acts[:, None]  # (T, width)
            directions = projection(tap.module)  # (width, d)
            for units in torch.arange(tap.block.width).split(max(1, MAX_TOKENS // len(acts))):
                shift = change[:, units].T[:, :, None] * directions[units][:, None]  # (J, T, d)
                handle = stages[tap.block.layer + 1].register_forward_pre_hook(
                    lambda _module, args, kwargs, shift=shift: _shifted(args, kwargs, shift), with_kwargs=True
                )
                try:
                    with torch.no_grad():
                        losses.append(_loss(model, ids))
                finally:
                    handle.remove()
        total += np.concatenate(losses) - intact
        n_tokens += len(acts) - 1
    return total / n_tokens


def _shifted(args, kwargs, shift):
    if args:
        return (args[0] + shift, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": kwargs["hidden_states"] + shift}


def _ids(model: "LanguageModel", words: Sequence[str]):
    import torch

    return torch.tensor([model.tokenizer(" ".join(words))["input_ids"]], device=model.device)


def _acting(model: "LanguageModel", ids):
    """bool (T,): the positions that are not special."""
    import torch

    return ~torch.isin(ids[0], torch.tensor(sorted(model.special_ids), device=ids.device))


def _loss(model: "LanguageModel", ids) -> np.ndarray:
    """float64 (J,): summed negative log-probability of every next token in each variant of one sentence."""
    logits = model.network(input_ids=ids, use_cache=False).logits[:, :-1]
    picked = logits.log_softmax(-1).gather(-1, ids[:, 1:, None].expand(len(logits), -1, 1))
    return -picked[..., 0].double().sum(-1).cpu().numpy()


def model_truth(folder: Path) -> Truth:
    """What each FFN neuron of a truth model is worth to its next words: the claim *required*, all graded.

    Measured on first use (a minute for a small model) and kept in the user's cache by the model's digest.
    """
    gains: dict[Claim, np.ndarray] = {"required": np.abs(_stored_effects(folder))}
    roles = np.full(len(gains["required"]), "background")
    return Truth(gains, {}, roles, tier=tier_of(folder), lineage=files.glassbox_of(folder).name)


def _stored_effects(folder: Path) -> np.ndarray:
    from nibench.model import load_model, model_digest

    measured = sentences(2 * N_SENTENCES)
    content = repr((MEASURE, model_digest(folder), measured))
    path = cache_folder() / "model-loss" / f"{hashlib.sha256(content.encode()).hexdigest()}.npy"
    if path.is_file():
        return np.load(path)
    model = load_model(str(folder), device="cpu")
    effects = loss_effects(model, measured[:N_SENTENCES], measured[N_SENTENCES:])
    buffer = io.BytesIO()
    np.save(buffer, effects)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())
    return effects
