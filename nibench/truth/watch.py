"""Running figures of a training: minimal pairs as token ids, and what moves the model's answers to them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nibench.errors import NotCertified
from nibench.truth import confinement as cf
from nibench.truth import grammar
from nibench.truth.matching import Weights
from nibench.truth.pairs import sample_pairs
from nibench.truth.recipe import Recipe
from nibench.truth.tapped import Along, Patch, TappedModel

QUIET = 0.03  # share of a margin that a decoy may move alone
LEAST_CONCEPTS = 2  # with all but one of their behaviours near their bounds, or the run is stopped


_IDS = {word: index for index, word in enumerate(grammar.vocabulary())}


def encode(sentences: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
    """Token ids (B, T) with a leading BOS, right-padded, and the lengths (B,)."""
    rows = [[_IDS[grammar.BOS], *(_IDS[word] for word in words)] for words in sentences]
    longest = max(map(len, rows))
    padded = [row + [_IDS[grammar.PAD]] * (longest - len(row)) for row in rows]
    return torch.tensor(padded), torch.tensor([len(row) for row in rows])


@dataclass(frozen=True)
class Prompts:
    """Minimal pairs of every behaviour as token ids: what the running figures and means are taken from."""

    base: Tensor
    source: Tensor
    last: Tensor
    right: Tensor
    wrong: Tensor
    concepts: Tensor
    cells: Tensor
    classes: Tensor


def prompts(recipe: Recipe, n: int, seed: int, split: grammar.Split = "probe") -> Prompts:
    """`n` pairs for each class of each behaviour from one split."""
    pairs = [
        (index, pair)
        for index, (concept, behaviour) in enumerate(recipe.cells)
        for pair in sample_pairs(
            concept, behaviour, n * len(grammar.CONCEPTS[concept].classes), seed=seed, split=split
        )
    ]
    base, lengths = encode([pair.base.split() for _, pair in pairs])
    source, _ = encode([pair.source.split() for _, pair in pairs])
    return Prompts(
        base,
        source,
        lengths - 1,
        torch.tensor([_IDS[pair.answers[pair.base_answer]] for _, pair in pairs]),
        torch.tensor([_IDS[pair.answers[pair.source_answer]] for _, pair in pairs]),
        torch.tensor([recipe.concepts.index(pair.concept) for _, pair in pairs]),
        torch.tensor([index for index, _ in pairs]),
        torch.tensor([pair.base_class for _, pair in pairs]),
    )


def at_last(activations: list[Tensor], at: Prompts) -> Tensor:
    """Activations (M, L, F) at the last position of each prompt."""
    return torch.stack([a[torch.arange(len(a)), at.last] for a in activations], 1)


def site_means(activations: list[Tensor], at: Prompts, n_concepts: int) -> Tensor:
    """Mean activations (C, L, F) at the last position, classes and behaviours weighted alike."""
    last = at_last(activations, at)
    return torch.stack([last[at.concepts == concept].mean(0) for concept in range(n_concepts)])


def margins(
    tapped: TappedModel, at: Prompts, ids: Tensor, patch: Patch | None = None
) -> tuple[Tensor, list[Tensor]]:
    """The base's answer minus the source's at the last position (M,), and all FFN activations."""
    rows = torch.arange(len(ids))
    hidden, activations = tapped.run(ids, patch)
    logits = tapped.logits(hidden[rows, at.last])
    return logits[rows, at.right] - logits[rows, at.wrong], activations


@torch.no_grad()
def measure(tapped: TappedModel, losses: cf.Confinement, at: Prompts) -> Tensor:
    """Running figures (behaviours, 5): margin, carried by U, by the rest, by all; |margin| at the mean."""
    base, base_activations = margins(tapped, at, at.base)
    source, taken = margins(tapped, at, at.source)
    means = site_means(base_activations, at, len(losses.designations))
    last = torch.arange(at.base.shape[1])[None] == at.last[:, None]
    mine = [last[:, :, None] & losses.used[at.concepts][:, None, layer] for layer in range(losses.n_layers)]
    mean = [means[at.concepts][:, None, layer].expand_as(taken[layer]) for layer in range(len(mine))]
    whole = torch.ones(len(at.base))

    def along(toward: list[Tensor], share: Tensor) -> dict[int, Along]:
        return losses.along(at.concepts, last, toward, share)

    carried, _ = margins(tapped, at, at.base, Patch([*mine], taken, along(taken, whole)))
    others, _ = margins(tapped, at, at.base, Patch([~m for m in mine], taken, along(taken, 0 * whole)))
    every, _ = margins(tapped, at, at.base, Patch([torch.ones_like(m) for m in mine], taken))
    neutral, _ = margins(tapped, at, at.base, Patch([*mine], mean, along(mean, whole)))
    table = []
    for cell in range(int(at.cells.max()) + 1):
        inside = at.cells == cell
        whole = (base - source)[inside].mean()
        shares = [(base - moved)[inside].mean() / whole for moved in (carried, others, every)]
        table.append(
            torch.stack([base[inside].mean(), *shares, neutral[inside].abs().mean() / base[inside].mean()])
        )
    return torch.stack(table)


def near_bounds(table: Tensor, recipe: Recipe) -> dict[str, int]:
    """For each concept, how many behaviours have running figures near what a certificate needs."""
    _, carried, others, _, neutral = table.T
    confined = ((carried - 1).abs() < 0.15) & (neutral < 0.3)
    inert = others.abs() < 0.15
    motifs = dict(zip(recipe.concepts, recipe.motifs, strict=True))
    near = dict.fromkeys(recipe.concepts, 0)
    for index, (concept, _) in enumerate(recipe.cells):
        null = motifs[concept][0] == "null_attention"
        near[concept] += int(inert[index] & (null | confined[index]))
    return near


def require_confined(table: Tensor, recipe: Recipe, seed: int) -> None:
    """Stop a run whose certificate is out of reach: too few behaviours are near their bounds."""
    near = near_bounds(table, recipe)
    enough = [c for c, found in near.items() if found >= max(1, len(grammar.CONCEPTS[c].behaviours) - 1)]
    if len(enough) < LEAST_CONCEPTS:
        found = ", ".join(f"{n} of {concept}" for concept, n in near.items())
        raise NotCertified(
            f"Seed {seed} confines these behaviours: {found}; {LEAST_CONCEPTS} concepts are needed. "
            f"Try another: nibench build glassbox --seed {seed + 1}"
        )


@torch.no_grad()
def single_effects(tapped: TappedModel, at: Prompts, neurons: Sequence[tuple[int, int]]) -> list[float]:
    """For each (layer, unit) the largest share of a behaviour's margin that its interchange alone moves."""
    rows = torch.arange(len(at.base))
    base, own = margins(tapped, at, at.base)
    source, taken = margins(tapped, at, at.source)
    cells = [at.cells == cell for cell in at.cells.unique()]
    found = []
    for layer, unit in neurons:
        masks: list[Tensor | None] = [None] * len(own)
        mask = torch.zeros_like(own[layer], dtype=torch.bool)
        mask[rows, at.last, unit] = True
        masks[layer] = mask
        moved = base - margins(tapped, at, at.base, Patch(masks, taken))[0]
        found.append(max(float((moved[c].mean() / (base - source)[c].mean()).abs()) for c in cells))
    return found


@torch.no_grad()
def quieten_decoys(tapped: TappedModel, at: Prompts, designations: Sequence[cf.Designation]) -> int:
    """Shrink the output column of every decoy that alone moves more than `QUIET` of a margin; returns how many.

    One such decoy is enough to fail a certificate. What is shrunk late costs the balance of the others: most are
    found while training can still make up for it.
    """
    decoys = [(part.layer, unit) for one in designations for part in one.parts for unit in part.decoys]
    effects = single_effects(tapped, at, decoys)
    loud = [(place, effect) for place, effect in zip(decoys, effects, strict=True) if effect > QUIET]
    for (layer, unit), effect in loud:
        Weights(tapped.model, layer).output[unit] *= QUIET / effect
    return len(loud)
