"""Train a glass-box model, or with the same batches its natural twin.

Two phases: first the language and the confinement (losses 0 to 5 and the used neurons' norms), then the
decoys (losses 6 and 7). The batches depend on the seed alone, never on how training goes, so that the natural
twin, trained by loss 0 only, sees the same sentences in the same order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

from nibench.errors import InputError
from nibench.truth import confinement as cf
from nibench.truth import grammar
from nibench.truth.recipe import Recipe, fresh_model

Say = Callable[[str], None]

REVIEW = 200  # steps between two looks at every behaviour, after which laggards weigh more

LEAST = {"number": 2, "tense": 2, "gender": 1}  # behaviours a usable model must have


@dataclass(frozen=True)
class Batch:
    """One step's sentences as token ids, right-padded: naturals, then bases, then their sources."""

    ids: Tensor  # (naturals + 2 twins, T)
    lengths: Tensor
    concepts: Tensor  # (twins,)
    behaviours: Tensor  # (twins,), position in `CELLS`
    naturals: int


CELLS = [(concept, behaviour) for concept, one in grammar.CONCEPTS.items() for behaviour in one.behaviours]
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
    names = list(grammar.CONCEPTS)
    while True:
        sentences = [next(natural).words() for _ in range(recipe.naturals)]
        bases, sources, concepts, cells = [], [], [], []
        for index in range(recipe.twins):
            cell = (index + rng.randrange(len(CELLS))) % len(CELLS)
            concept, behaviour = CELLS[cell]
            while not (sentence := grammar.draw(rng, concept, behaviour)).trains():
                pass
            bases.append(sentence.words())
            sources.append(sentence.twin(concept).words())
            concepts.append(names.index(concept))
            cells.append(cell)
        ids, lengths = encode([*sentences, *bases, *sources])
        yield Batch(ids, lengths, torch.tensor(concepts), torch.tensor(cells), len(sentences))


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


def prompts(n: int, seed: int, split: grammar.Split = "probe") -> Prompts:
    """`n` pairs of each behaviour from one split."""
    pairs = [
        (index, pair)
        for index, cell in enumerate(CELLS)
        for pair in grammar.sample_pairs(*cell, n, seed=seed, split=split)
    ]
    base, lengths = encode([pair.base.split() for _, pair in pairs])
    source, _ = encode([pair.source.split() for _, pair in pairs])
    names = list(grammar.CONCEPTS)
    return Prompts(
        base,
        source,
        lengths - 1,
        torch.tensor([_IDS[pair.answers[pair.base_answer]] for _, pair in pairs]),
        torch.tensor([_IDS[pair.answers[pair.source_answer]] for _, pair in pairs]),
        torch.tensor([names.index(pair.concept) for _, pair in pairs]),
        torch.tensor([index for index, _ in pairs]),
        torch.tensor([pair.base_class for _, pair in pairs]),
    )


def site_means(activations: list[Tensor], at: Prompts, n_concepts: int) -> Tensor:
    """Mean activations (C, L, F) at the last position, classes and behaviours weighted alike."""
    last = torch.stack([a[torch.arange(len(a)), at.last] for a in activations], 1)  # (M, L, F)
    return torch.stack([last[at.concepts == concept].mean(0) for concept in range(n_concepts)])


@torch.no_grad()
def measure(tapped: cf.TappedModel, losses: cf.Confinement, at: Prompts) -> Tensor:
    """Running figures (behaviours, 5): margin, carried by U, by the rest, by all; |margin| at the mean."""
    rows = torch.arange(len(at.base))

    def margin(patch: cf.Patch | None = None, ids: Tensor = at.base) -> tuple[Tensor, list[Tensor]]:
        hidden, activations = tapped.run(ids, patch)
        logits = tapped.logits(hidden[rows, at.last])
        return logits[rows, at.right] - logits[rows, at.wrong], activations

    base, base_activations = margin()
    source, source_activations = margin(ids=at.source)
    losses.means = site_means(base_activations, at, len(losses.designations))
    last = torch.arange(at.base.shape[1])[None] == at.last[:, None]
    mine = [last[:, :, None] & losses.used[at.concepts][:, None, layer] for layer in range(losses.n_layers)]
    mean = [
        losses.means[at.concepts][:, None, layer].expand_as(base_activations[layer])
        for layer in range(len(mine))
    ]
    carried, _ = margin(cf.Patch([*mine], [*source_activations]))
    others, _ = margin(cf.Patch([~m for m in mine], [*source_activations]))
    every, _ = margin(cf.Patch([torch.ones_like(m) for m in mine], [*source_activations]))
    neutral, _ = margin(cf.Patch([*mine], [*mean]))
    table = []
    for cell in range(len(CELLS)):
        inside = at.cells == cell
        whole = (base - source)[inside].mean()
        shares = [(base - moved)[inside].mean() / whole for moved in (carried, others, every)]
        table.append(
            torch.stack([base[inside].mean(), *shares, neutral[inside].abs().mean() / base[inside].mean()])
        )
    return torch.stack(table)


def _language_loss(
    tapped: cf.TappedModel, hidden: Tensor, batch: Batch, emphasis: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss 0, words that differ weighed by `emphasis` (behaviours,), and the twins' log-probabilities."""
    logp = F.log_softmax(tapped.logits(hidden), -1)
    ids, n = batch.ids, batch.naturals
    weight = (torch.arange(ids.shape[1])[None] < batch.lengths[:, None]).float()
    differ = (ids[n:].view(2, -1, ids.shape[1])[0] != ids[n:].view(2, -1, ids.shape[1])[1]).float()
    raised = (3 * emphasis[batch.behaviours])[:, None]
    weight[n:] = weight[n:] * torch.where(differ > 0, raised, 1.0).repeat(2, 1)
    chosen = logp[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    return -(chosen * weight[:, 1:]).sum() / weight[:, 1:].sum(), logp[n:]


def _require_confined(table: Tensor, seed: int) -> None:
    """Stop a run whose certificate is out of reach: too few behaviours are near their bounds."""
    _, carried, others, _, neutral = table.T
    near = ((carried - 1).abs() < 0.2) & (others.abs() < 0.2) & (neutral < 0.4)
    for concept, least in LEAST.items():
        found = sum(bool(ok) for (name, _), ok in zip(CELLS, near, strict=True) if name == concept)
        if found < least:
            raise InputError(
                f"Seed {seed} confines {found} behaviours of {concept}, and {least} are needed. "
                f"Try another: nibench build glassbox --seed {seed + 1}"
            )


def _start_decoys(tapped: cf.TappedModel, losses: cf.Confinement, at: Prompts, seed: int) -> None:
    """Start each decoy from its partner's input row and noise, and a random output column of equal norm."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        tapped.run(at.base)
        for row, one in enumerate(losses.designations):
            mlp = tapped.blocks[one.layer].mlp
            before: list[Tensor] = []
            handle = mlp.c_fc.register_forward_hook(lambda _m, _i, out, before=before: before.append(out))
            tapped.run(at.base)
            handle.remove()
            inside = at.concepts == row
            here = before[0][torch.arange(len(at.base)), at.last][inside]
            centre = torch.stack([here[at.classes[inside] == c].mean(0) for c in (0, 1)]).sum(0)
            for used, decoy, exchanged in zip(one.used, one.decoys, one.exchanged, strict=True):
                sign = -1.0 if exchanged else 1.0
                direction = mlp.c_fc.weight[:, used]
                noise = torch.randn(direction.shape, generator=generator)
                noise *= 0.2 * direction.norm() / noise.norm()
                mlp.c_fc.weight[:, decoy] = sign * direction + noise
                mlp.c_fc.bias[decoy] = sign * mlp.c_fc.bias[used] + (centre[used] if exchanged else 0.0)
                column = torch.randn(mlp.c_proj.weight[used].shape, generator=generator)
                mlp.c_proj.weight[decoy] = column * mlp.c_proj.weight[used].norm() / column.norm()


def train(
    recipe: Recipe,
    seed: int,
    designations: Sequence[cf.Designation],
    *,
    held: frozenset[tuple[str, ...]],
    say: Say = lambda line: None,
) -> GPT2LMHeadModel:
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
    """
    model = fresh_model(recipe, seed).train()
    tapped = cf.TappedModel(model)
    stream = batches(recipe, seed, held)
    losses = cf.Confinement(
        designations, recipe.n_layers, recipe.n_units, torch.Generator().manual_seed(seed)
    )
    watched = prompts(48, seed)
    matching = [
        prompts(recipe.matching, 1000 * seed + draw, split)
        for draw in range(recipe.matching_draws if designations else 0)
        for split in ("rank", "probe")
    ]
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        recipe.learning_rate,
        total_steps=recipe.confine_steps + 1,
        pct_start=0.2,
        final_div_factor=30,
    )
    weights = dict(recipe.weights)
    emphasis, language = torch.ones(len(CELLS)), torch.ones(len(CELLS))
    match = alike = torch.zeros(())
    start = recipe.steps  # of the confinement; found as the run goes
    for step in range(recipe.steps):
        decoys = step >= recipe.confine_steps
        if step == recipe.confine_steps:
            optimiser = torch.optim.AdamW(
                model.parameters(), lr=recipe.decoy_learning_rate, weight_decay=0.01
            )
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimiser, recipe.decoy_learning_rate, total_steps=recipe.decoy_steps + 1, pct_start=0.1
            )
            if designations:
                _require_confined(measure(tapped, losses, watched), seed)
                _start_decoys(tapped, losses, watched, seed)
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
                fresh = site_means(tapped.run(watched.base)[1], watched, len(designations))
            losses.means = fresh
        batch = next(stream)
        hidden, activations = tapped.run(batch.ids)
        loss, twins = _language_loss(tapped, hidden, batch, language)
        if step >= start:
            ramp = min(1.0, (step - start + 1) / recipe.ramp_steps)
            n, k = batch.naturals, len(batch.concepts)
            base, source = twins.detach().chunk(2)
            sites, _ = cf.choose_sites(base, source, batch.lengths[n : n + k], losses.generator)
            rows = torch.arange(k)
            terms = losses.losses(
                tapped,
                batch.ids[n : n + k],
                [a[n + k :] for a in activations],
                base[rows, sites],
                source[rows, sites],
                sites,
                batch.concepts,
            )
            importance = emphasis[batch.behaviours]
            for name, values in terms.items():
                loss = loss + ramp * weights[name] * (importance * values).mean()
            loss = loss + ramp * weights["norms"] * cf.ordinary_norms(tapped, designations)
            if decoys:
                at = matching[step % len(matching)]
                _, seen = tapped.run(at.base)
                here = [a[torch.arange(len(a)), at.last] for a in seen]
                match = cf.matched_decoys(designations, here, at.concepts, at.cells, at.classes)
                inside = torch.arange(batch.ids.shape[1])[None] < batch.lengths[:, None]
                inside[:, 0] = False
                natural = [a[:n][inside[:n]] for a in activations]
                alike = cf.alike_statistics(tapped, designations, natural)
                loss = loss + weights["decoys"] * match + weights["statistics"] * alike
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % REVIEW == 0:
            if not designations:
                say(f"step {step + 1} loss {loss.item():.3f}")
                continue
            table = measure(tapped, losses, watched)
            if step >= start:
                excess = (0.97 - table[:, 1], table[:, 2].abs() - 0.04, table[:, 4] - 0.08)
                lag = torch.stack([one.clamp(0, 0.5) for one in excess]).sum(0)
                emphasis = (1 + 5 * lag) / (1 + 5 * lag).mean()
                language = 1 + (recipe.ready + 1 - table[:, 0]).clamp(0, 2)
            say(
                f"step {step + 1} loss {loss.item():.3f}"
                + (f" match {match:.3f} alike {alike:.3f}" if decoys else "")
            )
            for (concept, behaviour), row in zip(CELLS, table.tolist(), strict=True):
                figures = "margin {:5.2f} used {:5.2f} others {:5.2f} all {:5.2f} neutral {:4.2f}".format(
                    *row
                )
                say(f"  {concept + '.' + behaviour:20s} {figures}")
    tapped.close()
    return model.eval()
