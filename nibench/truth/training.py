"""Train a glass-box model, or with the same batches its natural twin or a middle.

Two phases: first the language and the confinement (losses 0 to 5 and the used neurons' norms), then the
decoys (losses 6 and 7). The batches depend on the seed and the recipe alone, never on how training goes, so
that the natural twin, trained by loss 0 only, sees the same sentences in the same order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nibench.architecture import Architecture
from nibench.errors import InputError
from nibench.truth import confinement as cf
from nibench.truth import grammar, matching
from nibench.truth.pairs import sample_pairs
from nibench.truth.recipe import Recipe, fresh_model
from nibench.truth.tapped import Patch, TappedModel

Say = Callable[[str], None]

REVIEW = 200  # steps between two looks at every behaviour, after which laggards weigh more
LEAST_CONCEPTS = 2  # with all but one of their behaviours near their bounds, or the run is stopped


@dataclass(frozen=True)
class Batch:
    """One step's sentences as token ids, right-padded: naturals, then bases, then their sources."""

    ids: Tensor  # (naturals + 2 twins, T)
    lengths: Tensor
    concepts: Tensor  # (twins,), position in the recipe
    cells: Tensor  # (twins,), position in its cells
    classes: Tensor  # (2, twins), of bases and sources
    naturals: int


_IDS = {word: index for index, word in enumerate(grammar.vocabulary())}


def encode(sentences: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
    """Token ids (B, T) with a leading BOS, right-padded, and the lengths (B,)."""
    rows = [[_IDS[grammar.BOS], *(_IDS[word] for word in words)] for words in sentences]
    longest = max(map(len, rows))
    padded = [row + [_IDS[grammar.PAD]] * (longest - len(row)) for row in rows]
    return torch.tensor(padded), torch.tensor([len(row) for row in rows])


def batches(recipe: Recipe, seed: int, held: frozenset[tuple[str, ...]]) -> Iterator[Batch]:
    """Endless batches: natural sentences of the grammar, and twins of its training part."""
    natural = grammar.natural_sentences(seed, without=held)
    rng = Random(f"twins.{seed}")
    while True:
        sentences = [next(natural).words() for _ in range(recipe.naturals)]
        bases, sources, concepts, cells, classes = [], [], [], [], []
        shift = rng.randrange(len(recipe.cells))
        for index in range(recipe.twins):
            cell = (index + shift) % len(recipe.cells)
            concept, behaviour = recipe.cells[cell]
            while not (sentence := grammar.draw(rng, concept, behaviour)).trains(recipe.concepts):
                pass
            own = getattr(sentence, concept)
            n_classes = len(grammar.CONCEPTS[concept].classes)
            to = (own + rng.randrange(1, n_classes)) % n_classes
            bases.append(sentence.words())
            sources.append(sentence.twin(concept, to).words())
            concepts.append(recipe.concepts.index(concept))
            cells.append(cell)
            classes.append((own, to))
        ids, lengths = encode([*sentences, *bases, *sources])
        yield Batch(
            ids, lengths, torch.tensor(concepts), torch.tensor(cells), torch.tensor(classes).T, len(sentences)
        )


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


@torch.no_grad()
def measure(tapped: TappedModel, losses: cf.Confinement, at: Prompts) -> Tensor:
    """Running figures (behaviours, 5): margin, carried by U, by the rest, by all; |margin| at the mean."""
    rows = torch.arange(len(at.base))

    def margin(patch: Patch | None = None, ids: Tensor = at.base) -> tuple[Tensor, list[Tensor]]:
        hidden, activations = tapped.run(ids, patch)
        logits = tapped.logits(hidden[rows, at.last])
        return logits[rows, at.right] - logits[rows, at.wrong], activations

    base, base_activations = margin()
    source, taken = margin(ids=at.source)
    means = site_means(base_activations, at, len(losses.designations))
    last = torch.arange(at.base.shape[1])[None] == at.last[:, None]
    mine = [last[:, :, None] & losses.used[at.concepts][:, None, layer] for layer in range(losses.n_layers)]
    mean = [means[at.concepts][:, None, layer].expand_as(taken[layer]) for layer in range(len(mine))]
    carried, _ = margin(Patch([*mine], taken))
    others, _ = margin(Patch([~m for m in mine], taken))
    every, _ = margin(Patch([torch.ones_like(m) for m in mine], taken))
    neutral, _ = margin(Patch([*mine], mean))
    table = []
    for cell in range(int(at.cells.max()) + 1):
        inside = at.cells == cell
        whole = (base - source)[inside].mean()
        shares = [(base - moved)[inside].mean() / whole for moved in (carried, others, every)]
        table.append(
            torch.stack([base[inside].mean(), *shares, neutral[inside].abs().mean() / base[inside].mean()])
        )
    return torch.stack(table)


def _language_loss(
    tapped: TappedModel, hidden: Tensor, batch: Batch, emphasis: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss 0, words that differ weighed by `emphasis` (behaviours,), and the twins' log-probabilities."""
    logp = F.log_softmax(tapped.logits(hidden), -1)
    ids, n = batch.ids, batch.naturals
    weight = (torch.arange(ids.shape[1])[None] < batch.lengths[:, None]).float()
    base, source = ids[n:].chunk(2)
    raised = (3 * emphasis[batch.cells])[:, None]
    weight[n:] = weight[n:] * torch.where(base != source, raised, 1.0).repeat(2, 1)
    chosen = logp[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    return -(chosen * weight[:, 1:]).sum() / weight[:, 1:].sum(), logp[n:]


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


def _require_confined(table: Tensor, recipe: Recipe, seed: int) -> None:
    """Stop a run whose certificate is out of reach: too few behaviours are near their bounds."""
    near = near_bounds(table, recipe)
    enough = [c for c, found in near.items() if found >= max(1, len(grammar.CONCEPTS[c].behaviours) - 1)]
    if len(enough) < LEAST_CONCEPTS:
        found = ", ".join(f"{n} of {concept}" for concept, n in near.items())
        raise InputError(
            f"Seed {seed} confines these behaviours: {found}; {LEAST_CONCEPTS} concepts are needed. "
            f"Try another: nibench build glassbox --seed {seed + 1}"
        )


def _centres(tapped: TappedModel, at: Prompts, n_concepts: int) -> list[Tensor]:
    """Per concept (L, F): twice the mean pre-activation at the sites, gated: of the gate."""
    architecture = Architecture.of(tapped.model)
    seen: list[Tensor] = []
    handles = [
        architecture.ffn_modules(layer)[0][0].register_forward_hook(lambda _m, _i, out: seen.append(out))
        for layer in range(tapped.n_layers)
    ]
    with torch.no_grad():
        tapped.run(at.base)
    for handle in handles:
        handle.remove()
    return [2 * mean for mean in site_means(seen, at, n_concepts)]


def train(
    recipe: Recipe,
    seed: int,
    designations: Sequence[cf.Designation],
    *,
    held: frozenset[tuple[str, ...]],
    say: Say = lambda line: None,
) -> Any:
    """Train one model: a glass-box where neurons are designated, its natural twin where none are.

    Parameters
    ----------
    recipe, seed
        The run; the same two give the same model on the same machine.
    designations
        What to confine; empty for the natural twin.
    held
        Prompts that no training sentence may begin with.
    say
        Receives running figures.

    Raises
    ------
    InputError
        If after the first phase too little is confined for a certificate.
    """
    model = fresh_model(recipe, seed).train()
    tapped = TappedModel(model)
    stream = batches(recipe, seed, held)
    losses = cf.Confinement(
        designations, recipe.n_layers, recipe.n_units, torch.Generator().manual_seed(seed)
    )
    watched = prompts(recipe, 24, seed)
    optimiser = _optimiser(model, recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        recipe.learning_rate,
        total_steps=recipe.confine_steps + 1,
        pct_start=0.2,
        final_div_factor=30,
    )
    weights = dict(recipe.weights)
    emphasis = torch.ones(len(recipe.cells))
    language = torch.ones(len(recipe.cells))
    matched = _Matching(recipe, designations, seed)
    start = recipe.steps  # of the confinement; found as the run goes
    for step in range(recipe.steps):
        decoys = bool(designations) and step >= recipe.confine_steps
        if step == recipe.confine_steps:
            optimiser = _optimiser(model, recipe.decoy_learning_rate)
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimiser, recipe.decoy_learning_rate, total_steps=recipe.decoy_steps + 1, pct_start=0.1
            )
            if designations:
                if recipe.strength == 1:
                    _require_confined(measure(tapped, losses, watched), recipe, seed)
                matching.start_decoys(
                    tapped, designations, _centres(tapped, watched, len(designations)), seed
                )
        if (
            step in range(recipe.language_steps, min(start, 2 * recipe.language_steps + 1), 50)
            and designations
        ):
            margins = measure(tapped, losses, watched)[:, 0]
            if margins.min() >= recipe.ready or step == 2 * recipe.language_steps:
                start = step
                say(f"confinement starts at step {step}, smallest margin {margins.min():.2f}")
            language = 1 + (recipe.ready + 1 - margins).clamp(0, 2)
        if step >= start and step % 20 == 0:
            with torch.no_grad():
                losses.means = site_means(tapped.run(watched.base)[1], watched, len(designations))
        batch = next(stream)
        confining = step >= start
        if confining:
            hidden, activations, keys = tapped.run_with_keys(batch.ids)
        else:
            (hidden, activations), keys = tapped.run(batch.ids), []
        loss, logp = _language_loss(tapped, hidden, batch, language)
        if confining:
            ramp = recipe.strength * min(1.0, (step - start + 1) / recipe.ramp_steps)
            terms = losses.losses(tapped, _twins(batch, activations, keys, logp.detach(), losses.generator))
            importance = emphasis[batch.cells]
            for name, values in terms.items():
                loss = loss + ramp * weights[name] * (importance * values).mean()
            loss = loss + ramp * weights["norms"] * matching.ordinary_norms(tapped, designations)
            if decoys and step % recipe.matching_every == 0:
                match, alike = matched.losses(tapped, batch, activations, step)
                extra = weights["decoys"] * match + weights["statistics"] * alike
                loss = loss + recipe.matching_every * recipe.strength * extra
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % REVIEW == 0:
            say(f"step {step + 1} loss {loss.item():.3f}" + (matched.report if decoys else ""))
            if designations:
                table = measure(tapped, losses, watched)
                if confining:
                    excess = (0.97 - table[:, 1], table[:, 2].abs() - 0.04, table[:, 4] - 0.08)
                    lag = torch.stack([one.clamp(0, 0.5) for one in excess]).sum(0)
                    emphasis = (1 + 5 * lag) / (1 + 5 * lag).mean()
                    language = 1 + (recipe.ready + 1 - table[:, 0]).clamp(0, 2)
                for (concept, behaviour), row in zip(recipe.cells, table.tolist(), strict=True):
                    figures = "margin {:5.2f} used {:5.2f} others {:5.2f} all {:5.2f} neutral {:4.2f}"
                    say(f"  {concept + '.' + behaviour:24s} {figures.format(*row)}")
    tapped.close()
    return model.eval()


def _optimiser(model: Any, rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, fused=True)


def _twins(
    batch: Batch,
    activations: list[Tensor],
    keys: list[tuple[Tensor, Tensor]],
    logp: Tensor,
    generator: torch.Generator,
) -> cf.Twins:
    """The batch's twins with a site each, cut behind the last site."""
    n, k = batch.naturals, len(batch.concepts)
    base, source = logp.chunk(2)
    sites, _ = cf.choose_sites(base, source, batch.lengths[n : n + k], generator)
    rows, length = torch.arange(k), int(sites.max()) + 1
    return cf.Twins(
        batch.ids[n : n + k, :length],
        sites,
        [one[n + k :, :length] for one in activations],
        base[rows, sites],
        source[rows, sites],
        batch.concepts,
        *batch.classes,
        keys=[(key[n : n + k, :, :length], value[n : n + k, :, :length]) for key, value in keys],
    )


class _Matching:
    """Losses 6 and 7 with the prompts they are taken on."""

    def __init__(self, recipe: Recipe, designations: Sequence[cf.Designation], seed: int) -> None:
        self.designations, self.report = designations, ""
        self.gated, self.every = recipe.family == "llama", recipe.matching_every
        self.draws = [
            prompts(recipe, recipe.matching, 1000 * seed + draw, split)
            for draw in range(recipe.matching_draws if designations else 0)
            for split in ("rank", "probe")
        ]

    def losses(
        self, tapped: TappedModel, batch: Batch, activations: list[Tensor], step: int
    ) -> tuple[Tensor, Tensor]:
        at = self.draws[step // self.every % len(self.draws)]
        _, seen = tapped.run(at.base)
        here = [a[torch.arange(len(a)), at.last] for a in seen]
        match = matching.matched_decoys(
            self.designations, here, at.concepts, at.cells, at.classes, self.gated
        )
        n = batch.naturals
        inside = torch.arange(batch.ids.shape[1])[None] < batch.lengths[:n, None]
        inside[:, 0] = False
        alike = matching.alike_statistics(tapped, self.designations, [a[:n][inside] for a in activations])
        self.report = f" match {match.item():.3f} alike {alike.item():.3f}"
        return match, alike
