"""A null: a concept that a word shows, on which no later word depends, read at that word.

Many neurons tell its classes apart, and the model has no use for them. There are no answers, so no margin:
what an intervention does is stated as the divergence of the next word, KL(intact || changed) in nats. This
module measures, for `certificate` and for `assembly`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np
import torch
from torch import Tensor

from nibench.groups import Group
from nibench.interventions import Behaviour
from nibench.prompts import EncodedPrompts, read_ids
from nibench.truth import decoys as dc
from nibench.truth import exhaustive as ex
from nibench.truth import files, grammar
from nibench.truth.known import NATURAL_DECOY_AUC
from nibench.truth.pairs import Pair
from nibench.truth.rows import TOP, WHOLE, Effort, Row
from nibench.truth.shares import interval

MOST = 0.01  # nats, of any set of neurons; a behaviour's answers are 3 nats apart or more
MOST_ALONE = 0.005  # nats, of any one neuron
NEXT, SINGLE = "next word, divergence", "largest single divergence"  # checks that `nibench certify` prints


@dataclass(frozen=True, eq=False)
class _WholeWords(Group):
    """Prompts whose "margin" is minus the divergence of the next word from `intact` (n, V)."""

    intact: Tensor = field(default_factory=lambda: torch.zeros(0))

    def margin(self, logits: Tensor) -> Tensor:
        changed = logits.log_softmax(-1)
        return -(self.intact.exp() * (self.intact - changed)).sum(-1)


class NextWord(Behaviour):
    """A behaviour without answers: its margin is 0 intact and minus a divergence in nats otherwise."""

    def _encode(self) -> EncodedPrompts:
        ids = [read_ids(self.model, prompt.text)[0] for prompt in self.prompts]
        sources = [read_ids(self.model, prompt.source or "")[0] for prompt in self.prompts]
        others = np.arange(1, self.model.network.config.vocab_size)  # every word is read, none is right
        return EncodedPrompts(
            ids=tuple(ids),
            sources=tuple(sources),
            read=np.array([len(one) - 1 for one in ids]),
            correct=np.zeros(len(ids), dtype=int),
            wrong=np.tile(others, (len(ids), 1)),
        )

    def _group(self, rows: np.ndarray) -> Group:
        group = _WholeWords.of(self.model, self._encoded, rows, at_last=True)
        with torch.no_grad():
            logits = self.model.network(input_ids=group.ids).logits[:, -1]
        return replace(group, intact=logits.log_softmax(-1))


def known(concept: str, folder: str) -> files.ConceptTruth:
    """The concept's truth; its pairs lie in a folder beside the model's."""
    place = files.Behaviour(
        pairs=f"../{folder}/{concept}.{grammar.NONE}.jsonl", observe_at="last", intervene_at="last"
    )
    classes = grammar.CONCEPTS[grammar.UNUSED[concept][0]].classes
    return files.ConceptTruth(classes=classes, motif=files.UNUSED_MOTIF, behaviours={grammar.NONE: place})


def _effects(engine: ex.Engine, concept: str, pairs: Sequence[Pair], effort: Effort) -> dict[str, np.ndarray]:
    """Every neuron's single effects at the word, as in `effects.npz`; divergences for shares and drops."""
    means = ex.concept_means(engine, concept, [grammar.NONE], effort.probe_pairs)
    opened = engine.behaviour(pairs[: effort.single_pairs], means, NextWord)
    swapped, ablated = (opened.single_effects(to).mean(0) for to in ("source", "mean"))
    auc, responds = ex.encoding(engine, concept, grammar.NONE, effort.probe_pairs)
    found = {"auc": auc, "responds": responds, "interchange": swapped, "mean": ablated}
    return {f"{concept}.{grammar.NONE}.{kind}": one.astype(np.float32) for kind, one in found.items()}


def rows(
    engine: ex.Engine, concept: str, pairs: Sequence[Pair], effort: Effort
) -> tuple[list[Row], dict[str, np.ndarray]]:
    """That neurons tell the classes apart at the word, and that nothing done to them there moves later words.

    Returns the rows, and every neuron's single effects.
    """
    measured = _effects(engine, concept, pairs, effort)
    name, single = engine.folder.name, measured[f"{concept}.{grammar.NONE}.interchange"]
    auc = measured[f"{concept}.{grammar.NONE}.auc"]
    opened = engine.behaviour(pairs[: effort.pairs], None, NextWord)
    largest = np.argsort(-single, kind="stable")[:TOP]
    telling = np.flatnonzero(np.maximum(auc, 1 - auc) >= NATURAL_DECOY_AUC)
    generator = np.random.default_rng(0)
    halves = [np.flatnonzero(generator.random(len(single)) < 0.5) for _ in range(effort.halves)]
    sets = [np.arange(len(single)), telling, largest, *halves]
    every, those, eight, *half = -opened.ablate_sets(sets, to="source")
    found: list[Row] = []

    def bounded(check: str, nats: np.ndarray, behaviour: str = grammar.NONE) -> None:
        low, high = interval(lambda at: nats[at].mean(), len(nats), effort.resamples)
        bound = f"<= {MOST:g} nats"
        found.append(
            Row(name, concept, behaviour, check, float(nats.mean()), low, high, bound, bool(high <= MOST))
        )

    bounded(NEXT, -opened.source_margin())
    bounded("all neurons swapped, divergence", every)
    bounded("natural decoys swapped, divergence", those)
    bounded(f"{TOP} largest swapped, divergence", eight)
    bounded("random halves swapped, divergence", max(half, key=lambda one: one.mean()))
    bounded("later words, divergence", _later_words(engine, concept, effort))
    largest_alone = float(single.max())
    found.append(
        Row(
            name, concept, grammar.NONE, SINGLE, largest_alone, None, None, f"<= {MOST_ALONE:g} nats",
            largest_alone <= MOST_ALONE,
        )
    )  # fmt: skip
    truth, own = known(concept, ""), {grammar.NONE: pairs}
    count, share, probe = dc.natural_decoys(engine, concept, truth, own, effort.probe_pairs)
    accuracy = probe or 0.0
    found += [
        Row(name, concept, WHOLE, "natural decoys", float(count), None, None, f">= {TOP}", count >= TOP),
        Row(name, concept, WHOLE, "natural decoys, share", share, None, None, "published", None),
        Row(name, concept, WHOLE, "natural decoys, probe", accuracy, None, None, ">= .99", accuracy >= 0.99),
    ]
    return found, measured


def _later_words(engine: ex.Engine, concept: str, effort: Effort) -> np.ndarray:
    """Mean divergence of what follows the word to the sentence's end, in nats, for each of some twins (n,)."""
    shown, behaviour = grammar.UNUSED[concept]
    rng, bases, sources, places = Random(f"free.{concept}"), [], [], []
    while len(bases) < effort.free_sentences:
        sentence = grammar.draw(rng, shown, behaviour)
        if sentence.split(shown) == "eval":
            bases.append(" ".join(sentence.words()))
            sources.append(" ".join(sentence.twin(shown).words()))
            places.append(1 + len(sentence.prompt(behaviour)))  # of the word itself, behind BOS
    ids, last = engine.encode(bases)
    base = engine.run(ids)[0].log_softmax(-1)
    source = engine.run(engine.encode(sources)[0])[0].log_softmax(-1)
    divergence = (base.exp() * (base - source)).sum(-1)
    position = torch.arange(ids.shape[1])[None]
    later = (position >= torch.tensor(places)[:, None]) & (position < last[:, None])
    return (torch.where(later, divergence, 0).sum(1) / later.sum(1)).double().numpy()
