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
from nibench.truth import confinement as cf
from nibench.truth import grammar, matching
from nibench.truth.recipe import Recipe, fresh_model
from nibench.truth.tapped import TappedModel
from nibench.truth.watch import (
    encode,
    measure,
    prompts,
    quieten_decoys,
    require_confined,
    site_means,
)

Say = Callable[[str], None]

REPORT = 200  # steps between two reports
LOOK = 20  # steps between two looks at every behaviour, after which each is weighed anew
QUIETEN = 50  # steps of the second phase between two looks for decoys that act
GENTLE = 0.05  # of the confinement's weight in a middle, so that it stops where it shall


@dataclass(frozen=True)
class Batch:
    """One step's sentences as token ids, right-padded: naturals, then bases, then their sources."""

    ids: Tensor  # (naturals + 2 twins, T)
    lengths: Tensor
    concepts: Tensor  # (twins,), position in the recipe
    cells: Tensor  # (twins,), position in its cells
    classes: Tensor  # (2, twins), of bases and sources
    naturals: int


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
    run = _Run(model, recipe, seed, designations, say)
    stream = batches(recipe, seed, held)
    run.schedule(recipe.learning_rate, recipe.confine_steps, rising=0.2, final_div_factor=30)
    start = recipe.steps  # of the confinement; found as the run goes
    for step in range(recipe.steps):
        decoys = bool(designations) and step >= recipe.confine_steps
        if step == recipe.confine_steps:
            run.schedule(recipe.decoy_learning_rate, recipe.decoy_steps, rising=0.1)
            if designations:
                if recipe.carried == 1:
                    require_confined(run.measure(), recipe, seed)
                matching.start_decoys(run.tapped, designations, run.centres(), seed)
        if (
            step in range(recipe.language_steps, min(start, 2 * recipe.language_steps + 1), 50)
            and designations
        ):
            margins = run.measure()[:, 0]
            if margins.min() >= recipe.ready or step == 2 * recipe.language_steps:
                start = step
                say(f"confinement starts at step {step}, smallest margin {margins.min():.2f}")
            run.language = 1 + (recipe.ready + 1 - margins).clamp(0, 2)
        ramp = run.weight * min(1.0, (step - start + 1) / recipe.ramp_steps) if step >= start else 0.0
        if decoys and (step - recipe.confine_steps) % QUIETEN == QUIETEN - 1:
            quieten_decoys(run.tapped, run.watched, designations)
        weight = run.weights["statistics"] if decoys else None
        run.step(next(stream), step, ramp, weight)
    run.tapped.close()
    return model.eval()


class _Run:
    """A model in training: its losses, what they are weighed by, and the prompts it is watched on."""

    def __init__(
        self, model: Any, recipe: Recipe, seed: int, designations: Sequence[cf.Designation], say: Say
    ) -> None:
        self.model, self.recipe, self.designations, self.say = model, recipe, designations, say
        self.tapped = TappedModel(model)
        generator = torch.Generator().manual_seed(seed)
        self.losses = cf.Confinement(designations, recipe.n_layers, recipe.n_units, generator)
        self.watched = prompts(recipe, 24, seed)
        self.matched = _Matching(recipe, designations, seed)
        self.weights = dict(recipe.weights)
        self.weight = 1.0 if recipe.carried == 1 else GENTLE  # of all losses but the next-word loss
        self.emphasis = torch.ones(len(recipe.cells))  # of the confinement, by behaviour
        self.language = torch.ones(len(recipe.cells))  # of the words that differ, by behaviour

    def schedule(self, rate: float, steps: int, rising: float, final_div_factor: float = 1e4) -> None:
        """A fresh optimiser whose rate rises and falls once over so many steps."""
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=rate, weight_decay=0.01, fused=True)
        self.rate = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, rate, total_steps=steps + 1, pct_start=rising, final_div_factor=final_div_factor
        )

    def measure(self) -> Tensor:
        return measure(self.tapped, self.losses, self.watched)

    def centres(self) -> list[Tensor]:
        """Per concept (L, F): twice the mean pre-activation at the sites, gated: of the gate."""
        architecture = Architecture.of(self.model)
        seen: list[Tensor] = []

        def note(_module: Any, _inputs: Any, output: Any) -> None:
            seen.append(output)

        handles = [
            architecture.ffn_modules(layer)[0][0].register_forward_hook(note)
            for layer in range(self.tapped.n_layers)
        ]
        with torch.no_grad():
            self.tapped.run(self.watched.base)
        for handle in handles:
            handle.remove()
        return [2 * mean for mean in site_means(seen, self.watched, len(self.designations))]

    def attend(self, table: Tensor) -> None:
        """Weigh behaviours that lag behind their bounds more, and leave one alone whose margin breaks down.

        A margin that the confinement has pressed to nothing does not come back under it.
        """
        margin, carried, others, _, neutral = table.T
        if self.recipe.carried < 1:
            self.emphasis = (4 * (self.recipe.carried - carried)).clamp(0, 1)
        else:
            excess = (0.97 - carried, others.abs() - 0.04, neutral - 0.08)
            urgency = 1 + 5 * torch.stack([one.clamp(0, 0.5) for one in excess]).sum(0)
            standing = (margin / self.recipe.ready).clamp(0.1, 1).square()
            self.emphasis = standing * urgency / urgency.mean()
        self.language = 1 + (self.recipe.ready + 1 - margin).clamp(0, 2)

    def step(self, batch: Batch, step: int, ramp: float, statistics: float | None) -> None:
        """One step: `ramp` weighs the confinement, `statistics` loss 6 beside the decoys (`None`: neither)."""
        recipe, tapped, confining = self.recipe, self.tapped, ramp > 0
        if confining and step % LOOK == 0:
            self.attend(self.measure())
            with torch.no_grad():
                seen = tapped.run(self.watched.base)[1]
                self.losses.means = site_means(seen, self.watched, len(self.designations))
        if confining:
            hidden, activations, keys = tapped.run_with_keys(batch.ids)
        else:
            (hidden, activations), keys = tapped.run(batch.ids), []
        loss, logp = _language_loss(tapped, hidden, batch, self.language)
        if confining:
            twins = _twins(batch, activations, keys, logp.detach(), self.losses.generator)
            importance = self.emphasis[batch.cells]
            for name, values in self.losses.losses(tapped, twins).items():
                loss = loss + ramp * self.weights[name] * (importance * values).mean()
            norms = matching.ordinary_norms(tapped, self.designations)
            loss = loss + ramp * self.weights["norms"] * norms
            if statistics is not None and step % recipe.matching_every == 0:
                match, alike = self.matched.losses(tapped, batch, activations, step)
                extra = self.weights["decoys"] * match + statistics * alike
                loss = loss + recipe.matching_every * self.weight * extra
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.rate.step()
        if (step + 1) % REPORT == 0:
            self.say(f"step {step + 1} loss {loss.item():.3f}{self.matched.report if statistics else ''}")
            if self.designations:
                self._report()

    def _report(self) -> None:
        for (concept, behaviour), row in zip(self.recipe.cells, self.measure().tolist(), strict=True):
            figures = "margin {:5.2f} used {:5.2f} others {:5.2f} all {:5.2f} neutral {:4.2f}"
            self.say(f"  {concept + '.' + behaviour:24s} {figures.format(*row)}")


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
        own=[one[n : n + k, :length] for one in activations],
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
