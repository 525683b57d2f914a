"""What is known of one neuron beside its activations: its effects, what it writes, where methods rank it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nibench.errors import InputError
from nibench.reading import find_neuron, plain
from nibench.record import Record
from nibench.stored import read_results
from nibench.task import CLAIMS
from nibench.truth import files
from nibench.truth.known import known_truth

if TYPE_CHECKING:
    from nibench.model import LanguageModel


def effects(model: "LanguageModel", neuron: str) -> list[dict[str, Any]]:
    """Per concept of a truth model the neuron's role and its single effects, the largest first.

    Means over the behaviours: ``auc`` for the second class, ``responds`` in standard deviations, ``interchange`` as
    a share of the margin, ``mean`` in nats of it (for a concept without answers both are a divergence in nats);
    ``weight``, where it was planted, is its Shapley share, and ``role`` None where nothing was. Empty for other
    models and other sites.
    """
    folder = model.folder
    if folder is None or not any((folder / name).is_file() for name in ("truth.json", "twin.json")):
        return []
    measured = files.read_effects(folder)
    neurons = model.neurons("mlp_post")
    if neuron not in neurons:
        return []
    at, box = neurons.index(neuron), files.glassbox_of(folder)
    found = []
    for concept, known in files.read_truth(box).concepts.items():
        behaviours = tuple(known.behaviours)
        truth = known_truth(folder, concept, behaviours, neurons)
        if truth is None:
            continue
        values = {
            kind: [
                measured[f"{concept}.{one}.{kind}"][at]
                for one in behaviours
                if f"{concept}.{one}.{kind}" in measured
            ]
            for kind in files.EFFECTS
        }
        planted = known.neurons.get(neuron) if folder == box else None
        found.append(
            {
                "concept": concept,
                "classes": list(known.classes),
                "tier": truth.tier,
                "role": str(truth.roles[at]) if folder == box else None,
                "weight": planted.weight if planted else None,
                "unit": "nats of divergence" if known.is_unused else "of the margin",
                **{kind: plain(np.mean(some)) if some else None for kind, some in values.items()},
            }
        )
    return sorted(found, key=lambda row: -max(abs(row["interchange"] or 0), row["weight"] or 0))


# ---------------------------------------------------------------- what it writes


def output_tokens(model: "LanguageModel", neuron: str, k: int) -> dict[str, Any] | None:
    """The next tokens that the neuron's output weights speak for and against: the logit lens on one neuron.

    What it writes to the residual stream per unit of activation, times the unembedding, less the mean over the
    vocabulary. The last norm's weights are folded in; what it divides by, which depends on the text, is left out
    (so the values have no unit), and so are later blocks and a norm between the FFN and the stream. None where the
    site is not ``mlp_post`` or the model has no plain next-word head.

    Papers: nostalgebraist, "interpreting GPT: the logit lens", 2020; Geva et al., "Transformer Feed-Forward Layers
    Build Predictions by Promoting Concepts in the Vocabulary Space", EMNLP 2022. https://arxiv.org/abs/2203.14680
    """
    import torch

    from nibench.architecture import projection

    tap, unit = find_neuron(model, neuron)
    head = model.network.get_output_embeddings()
    if not tap.block.name.endswith(".mlp_post") or model.has_head != "causal" or head is None:
        return None
    row = projection(tap.module, neuron)[unit].float()
    if head.weight.shape[1] != len(row):
        return None
    norm = model.architecture.final_norm()
    with torch.inference_mode():
        if norm is not None:
            if isinstance(norm, torch.nn.LayerNorm):
                row = row - row.mean()
            signs = torch.ones_like(row)
            signs[1::2] = -1  # mean 0 and mean square 1: what the norm returns is its weights, signed
            row = row * signs * (norm(signs) - norm(-signs)) / 2
        logits = head.weight.float() @ row
        logits = (logits - logits.mean()).cpu().numpy()
    order = np.argsort(-logits, kind="stable")
    named = model.tokenizer.convert_ids_to_tokens(list(range(len(logits))))

    def rows(chosen: np.ndarray) -> list[dict[str, Any]]:
        return [{"token": named[i] or f"#{i}", "logit": plain(logits[i])} for i in chosen.tolist()]

    return {"promoted": rows(order[:k]), "suppressed": rows(order[::-1][:k]), "sd": plain(logits.std())}


# ---------------------------------------------------------------- where methods rank it


def places(model: "LanguageModel", neuron: str, results: Sequence[Path]) -> dict[str, Any] | None:
    """The neuron's rank under each method and task in results folders or archives, and what they measured of it.

    Records count if their model has the same digest and their neurons include this one. Ties share the mean of
    their ranks, seeds and settings of a method are averaged; ``of`` is how many neurons are ranked.
    ``measured``: task -> claim -> [gain, rank by gain], where single effects are known.

    Raises
    ------
    InputError
        If no folder has a record of this neuron.
    """
    if not results:
        return None
    ranks: dict[str, dict[str, list[float]]] = {}
    measured: dict[str, dict[str, list[float]]] = {}
    of: dict[str, int] = {}
    claims: dict[str, str] = {}
    safe = "".join(c if c.isalnum() or c in "-_.@" else "-" for c in Path(model.name).name)
    for stored in read_results(results, f"--{safe}--"):  # to read every record of a large board takes long
        record, arrays = stored.record, stored.arrays
        at = _place(model, neuron, record) if "scores" in arrays else None
        if at is None:
            continue
        if record.status == "ok" and not record.cell.control:
            ranks.setdefault(record.cell.label, {}).setdefault(record.cell.task, []).append(
                _rank(arrays["scores"], at)
            )
            claims[record.cell.label] = record.card.claims
            of[record.cell.task] = record.n_neurons
            for claim in CLAIMS:
                gains = arrays.get(f"truth/gains[{claim}]")
                if gains is not None and gains.ndim:
                    measured.setdefault(record.cell.task, {})[claim] = [plain(gains[at]), _rank(gains, at)]
    if not ranks:
        raise InputError(
            f"No record of {neuron} of this model in {', '.join(map(str, results))}. "
            f"Make some: nibench run --model {model.name} --task T"
        )
    tasks = sorted(of)
    means = {
        method: {task: round(float(np.mean(found)), 1) for task, found in row.items()}
        for method, row in ranks.items()
    }
    best = sorted(means, key=lambda method: (min(means[method].values()), method))
    return {
        "tasks": tasks,
        "of": of,
        "methods": [{"method": name, "claims": claims[name], "ranks": means[name]} for name in best],
        "measured": measured,
    }


def _place(model: "LanguageModel", neuron: str, record: Record) -> int | None:
    """The neuron's column in the record's ranking; None where it has none."""
    if record.digests.get("model") != model.digest or record.cell.site is None:
        return None
    neurons = model.neurons(record.cell.site, record.cell.layers)  # type: ignore[arg-type]
    try:
        return neurons.index(neuron) if len(neurons) == record.n_neurons else None
    except InputError:
        return None


def _rank(scores: np.ndarray, at: int) -> float:
    """1 for the highest; the mean of the places that equal scores share."""
    return float((scores > scores[at]).sum() + ((scores == scores[at]).sum() + 1) / 2)
