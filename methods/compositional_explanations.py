"""Compositional explanations: describe what a neuron is on for by a logical formula of concepts.

A neuron may answer to no single concept and yet to "a noun, but not at the end of the sentence". A beam search
grows formulas by AND, OR and AND NOT, one concept at a time, for the largest overlap with the items the neuron is on
for. The concepts are the classes, the most frequent words, and the first and last place of a sentence.

Paper: Mu & Andreas, "Compositional Explanations of Neurons", NeurIPS 2020, section 3.
https://arxiv.org/abs/2006.14032

Deviations: formulas that hold for the same items are one formula, the shortest found first, where the original keeps
every way of writing it and so fills its beam with copies; a formula is searched on half of the sentences and its
overlap measured on the others, since any neuron gets a formula where it was searched; the neuron is on for as many of
its most active items as a class has on average, where the paper takes activations above 0
(`compositional_explanations@muandreas2020`) or the top half percent (`@muandreas2020vision`); word neighbourhoods and
sentence-pair concepts are left out. Ranking for a class is ours: by the best formula that asserts it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from typing import ClassVar, Literal

import numpy as np
from scipy.stats import hypergeom

from nibench import (
    Claim,
    Direction,
    Formulas,
    Method,
    Needs,
    Observations,
    Ranking,
    Scalability,
    excess_iou,
)

Formula = int | tuple[str, tuple["Formula", ...]]  # a concept, or an operator with what it joins
OPERATORS = ("AND", "OR", "AND NOT")
ENTRIES = 1 << 24  # of a matrix of masks held at a time


@dataclass(frozen=True)
class CompositionalExplanations(Method):
    """Held-out IoU above chance of the best formula that asserts the class, at least 0; mean over classes.

    A class that stands under NOT only is not asserted. 0 for constant neurons. Evidence: `Formulas`.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    direction: ClassVar[Direction] = "neuron->concept"
    family: ClassVar[str] = "corpus"
    paper: ClassVar[str] = (
        "Mu & Andreas, Compositional Explanations of Neurons, 2020, https://arxiv.org/abs/2006.14032"
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "muandreas2020": {"on": "positive", "length": 5, "fewest": 500},
        "muandreas2020vision": {"share": 0.005, "beam": 5},
    }
    scalability: ClassVar[Scalability] = "medium"
    complexity: ClassVar[str] = "O(D b N P) for each operator added: a beam of b formulas, P concepts"
    limits: ClassVar[str] = (
        "Only the most active items are read; only concepts on the list can be found; many formulas fit almost "
        "equally well."
    )

    on: Literal["most active", "positive"] = "most active"
    share: float = 0.0  # of the items, that a neuron is on for; 0: that of an average class
    length: int = 3  # concepts in a formula
    beam: int = 10
    words: int = 40  # concepts that are words
    fewest: int = 1  # a neuron on for fewer items has no formula
    level: float = 0.01

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        fit, held_out = next(data.folds(2))
        rows = np.concatenate([fit, held_out])
        names, concepts = self._concepts(data)
        search = Search(concepts[:, rows], len(fit), self.length, self.beam)
        n_neurons, n_held = len(data.neurons), len(held_out)
        per_class, named = np.zeros((data.n_classes, n_neurons)), np.full(n_neurons, -1)
        formulas, atoms = np.full(n_neurons, "", dtype=object), np.full(n_neurons, "", dtype=object)
        fit_iou, held_iou, atom_iou = np.zeros((3, n_neurons))
        for neurons, active in self._active(data):
            for neuron, on, beam in zip(neurons, active[:, rows], search.run(active[:, rows]), strict=True):
                if not beam or on.sum() < self.fewest:
                    continue
                formulas[neuron], fit_iou[neuron] = render(beam[0].formula, names), beam[0].iou
                atoms[neuron], atom_iou[neuron] = render(beam[0].atom, names), beam[0].atom_iou
                seen: set[int] = set()
                for place, found in enumerate(beam):
                    mask, mine = found.mask[len(fit) :], on[len(fit) :]
                    hits, size, lit = int((mask & mine).sum()), int(mask.sum()), int(mine.sum())
                    above = excess_iou(hits, lit, size, n_held) if size and lit else 0.0
                    asserted = [c for c in asserts(found.formula) if c < data.n_classes]
                    for label in set(asserted) - seen:
                        per_class[label, neuron] = max(above, 0.0)
                    seen |= set(asserted)
                    if place == 0:
                        held_iou[neuron] = hits / max(size + lit - hits, 1)
                        if asserted and hypergeom.sf(hits - 1, n_held, size, lit) < self.level:
                            named[neuron] = max(asserted, key=lambda c: (concepts[c][rows] & on).sum())
        evidence = Formulas(formulas.astype(str), atoms.astype(str), fit_iou, held_iou, atom_iou, named)
        return Ranking.from_scores(data.statistics.mean_over_classes(per_class), per_class, evidence)

    def _concepts(self, data: Observations) -> tuple[list[str], np.ndarray]:
        """Names and bool (P, N) masks: the classes first."""
        names = [f"class {label}" for label in range(data.n_classes)]
        masks = [data.labels == label for label in range(data.n_classes)]
        words, sentences = data.given("word_types"), data.given("sentences")
        if words is not None:
            ids, counts = np.unique(words, return_counts=True)
            for word in ids[np.argsort(-counts, kind="stable")][: self.words]:
                names.append(f"word {word}")
                masks.append(words == word)
        if sentences is not None:
            border = sentences[1:] != sentences[:-1]
            names += ["first", "last"]
            masks += [np.append(True, border), np.append(border, True)]
        return names, np.array(masks)

    def _active(self, data: Observations) -> Iterator[tuple[range, np.ndarray]]:
        """Blocks of neurons: their ids, and bool (B, N), the items that each is on for."""
        n_items, n_neurons = len(data.labels), len(data.neurons)
        width = max(1, ENTRIES // (self.beam * n_items))
        if self.on == "positive":
            for start in range(0, n_neurons, width):
                yield (
                    range(n_neurons)[start : start + width],
                    (data.part(slice(None), slice(start, start + width)) > 0).T,
                )
            return
        share = self.share or 1 / np.count_nonzero(data.statistics.counts)
        wanted = min(max(1, round(share * n_items)), n_items - 1)
        for block in data.sorted_blocks():
            off = block.groups()[1][
                :, n_items - wanted - 1 : n_items - wanted
            ]  # (B, 1): the last that is off
            active = np.zeros(block.order.shape, dtype=bool)
            np.put_along_axis(active, block.order, np.arange(n_items) > off, axis=1)
            ids = range(n_neurons)[block.columns]
            for start in range(0, len(ids), width):
                yield ids[start : start + width], active[start : start + width]


@dataclass(frozen=True, eq=False)
class Found:
    """A formula, the items it holds for (N,), and its IoU with the neuron where it was searched.

    ``atom`` and ``atom_iou`` are those of the best single concept for the same neuron.
    """

    formula: Formula
    mask: np.ndarray
    iou: float
    atom: int
    atom_iou: float


@dataclass(frozen=True, eq=False)
class Search:
    """Beam search over formulas of `concepts` (P, N), judged on the first `n_fit` items."""

    concepts: np.ndarray
    n_fit: int
    length: int
    width: int

    def run(self, active: np.ndarray) -> list[list[Found]]:
        """For each neuron, given as bool (B, N), its best formulas, best first; none where it is never on."""
        on = active[:, : self.n_fit].astype(np.float32)
        concepts = self.concepts[:, : self.n_fit].astype(np.float32)
        hits, own = on @ concepts.T, concepts.sum(axis=1)
        iou = hits / np.maximum(on.sum(axis=1)[:, None] + own - hits, 1)
        beams = [self._keep(self._atoms(row)) for row in iou]
        for _ in range(self.length - 1):
            beams = self._grow(beams, on, concepts, hits)
        return beams

    def _atoms(self, iou: np.ndarray) -> Iterator[Found]:
        order = np.argsort(-iou, kind="stable").tolist()
        for concept in order:
            yield Found(concept, self.concepts[concept], float(iou[concept]), order[0], float(iou[order[0]]))

    def _grow(
        self, beams: list[list[Found]], on: np.ndarray, concepts: np.ndarray, hit_concepts: np.ndarray
    ) -> list[list[Found]]:
        """Join every formula with every concept by every operator and keep the best.

        All overlaps come from two products with the concepts: of the formulas, and of the formulas where the neuron
        is on.
        """
        lengths = [len(beam) for beam in beams]
        owners = np.repeat(np.arange(len(beams)), lengths)
        if not owners.size:
            return beams
        masks = np.array([found.mask[: self.n_fit] for beam in beams for found in beam], dtype=np.float32)
        hit_masks = masks * on[owners]
        both, hit_both = masks @ concepts.T, hit_masks @ concepts.T  # (F, P)
        size, hit_size = masks.sum(axis=1)[:, None], hit_masks.sum(axis=1)[:, None]
        hit_own = hit_concepts[owners]
        holds = np.stack([both, size + concepts.sum(axis=1) - both, size - both], axis=1)  # (F, 3, P)
        hits = np.stack([hit_both, hit_size + hit_own - hit_both, hit_size - hit_both], axis=1)
        iou = hits / np.maximum(on.sum(axis=1)[owners][:, None, None] + holds - hits, 1)
        iou[holds == size[:, None]] = 0  # nothing new
        parts = np.split(iou, np.cumsum(lengths)[:-1])
        return [
            self._keep(
                merge(beam, self._joined(beam, part), key=lambda found: -found.iou)
            )  # the old ones first
            for beam, part in zip(beams, parts, strict=True)
        ]

    def _joined(self, beam: list[Found], iou: np.ndarray) -> Iterator[Found]:
        """The formulas made of those of a beam, best first; iou is (len(beam), 3, P)."""
        for index in np.argsort(-iou, axis=None, kind="stable"):
            place, operator, concept = (int(i) for i in np.unravel_index(index, iou.shape))
            parent, value = beam[place], float(iou[place, operator, concept])
            mask = combine(OPERATORS[operator], parent.mask, self.concepts[concept])
            joined = join(OPERATORS[operator], parent.formula, concept)
            yield Found(joined, mask, value, parent.atom, parent.atom_iou)

    def _keep(self, candidates: Iterable[Found]) -> list[Found]:
        """The best candidates that overlap at all and hold for different items; they come best first."""
        beam, seen = [], set()
        for found in candidates:
            if found.iou <= 0 or len(beam) == self.width:
                break
            key = np.packbits(found.mask[: self.n_fit]).tobytes()
            if key not in seen:
                seen.add(key)
                beam.append(found)
        return beam


def combine(operator: str, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The items for which a formula of two holds."""
    return left & right if operator == "AND" else left | right if operator == "OR" else left & ~right


def join(operator: str, formula: Formula, concept: int) -> Formula:
    """One way of writing each formula: what AND or OR joins stands flat and in order."""
    if operator == "AND NOT":
        return (operator, (formula, concept))
    parts = formula[1] if isinstance(formula, tuple) and formula[0] == operator else (formula,)
    return (operator, tuple(sorted((*parts, concept), key=str)))


def asserts(formula: Formula) -> list[int]:
    """The concepts of a formula that do not stand under NOT."""
    if isinstance(formula, int):
        return [formula]
    operator, parts = formula
    return [c for part in (parts[:1] if operator == "AND NOT" else parts) for c in asserts(part)]


def render(formula: Formula, names: list[str]) -> str:
    """As people write it: ``(class 0 OR word 3) AND NOT last``."""
    if isinstance(formula, int):
        return names[formula]
    operator, parts = formula
    texts = [render(part, names) if isinstance(part, int) else f"({render(part, names)})" for part in parts]
    return f" {operator} ".join(texts)
