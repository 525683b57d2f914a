"""The losses that confine a concept to designated neurons.

Every loss compares a patched run with a whole distribution: base b with some neurons' values taken from
source s. The designated neurons U of a concept act at one position p (the site); "the others" are every other
neuron at every position, and U elsewhere. Numbered as in the notes on ground truth: (1) interchange,
(2) strict interchange, (3) inertness, (4) neutrality, (5) graded subsets. `matching` has (6) and (7).

What U's parts do differs by motif:

============== ==========================================================================================
motif          one part from s; both; one at its mean
============== ==========================================================================================
lone, ensemble (one part) moves the answer to s, each neuron by its planned weight
shared         the same; the neurons of two concepts overlap
relay          either part moves it to s, the later reads the earlier
backup         with the other at its mean, moves it to s; both do; one at its mean changes nothing
conjunctive    the answer is the second class only where both parts say so
null_attention no parts: no neuron moves it
null_rotated   no parts: some directions of a layer's neurons do, as U of an ensemble, and no few neurons
============== ==========================================================================================
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from nibench.truth.grammar import CONCEPTS
from nibench.truth.tapped import Along, Patch, TappedModel

Motif = Literal[
    "lone", "ensemble", "shared", "relay", "backup", "conjunctive", "null_attention", "null_rotated"
]

TEMPERATURE = 3.0  # the plain divergence ignores the logits of unlikely words


@dataclass(frozen=True)
class Part:
    """Designated neurons of one layer: units, planned weights (sum 1), a decoy for each.

    `exchanged` says whether a decoy answers to other classes than its partner.
    """

    layer: int
    used: tuple[int, ...]
    weights: tuple[float, ...]
    decoys: tuple[int, ...]
    exchanged: tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class Rotated:
    """Orthonormal directions (F, k) of the neurons of one layer."""

    layer: int
    directions: Tensor


@dataclass(frozen=True)
class Designation:
    """The neurons that one concept is confined to, in one part or two, or the directions."""

    concept: str
    motif: Motif
    parts: tuple[Part, ...]
    rotated: Rotated | None = None


def divergence(target: Tensor, logits: Tensor) -> Tensor:
    """KL(target || model) per item, plain plus at a high temperature; `target` are log-probabilities."""
    plain = F.kl_div(F.log_softmax(logits, -1), target, log_target=True, reduction="none").sum(-1)
    soft_target = F.log_softmax(target / TEMPERATURE, -1)
    soft = F.kl_div(
        F.log_softmax(logits / TEMPERATURE, -1), soft_target, log_target=True, reduction="none"
    ).sum(-1)
    return plain + 2.0 * soft


def undecided(base: Tensor, source: Tensor, rivals: Tensor) -> Tensor:
    """Log-probabilities (K, V) between a base's and one source's: over all sources no class is favoured.

    With `rivals` (K,) classes besides the base's, the base weighs 1 / (rivals + 1). Half and half would leave
    a base of four classes three times as likely as each other, which something besides U would have to carry.
    """
    n = rivals[:, None].float()
    return torch.logaddexp(base - (n + 1).log(), source + (n / (n + 1)).log())


def choose_sites(
    base: Tensor, source: Tensor, lengths: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """One position a twin, drawn in proportion to the clipped divergence of the next word.

    Returns positions (K,) and the divergence there (K,); `base` and `source` are log-probabilities (K, T, V).
    """
    gap = F.kl_div(source, base, log_target=True, reduction="none").sum(-1).clamp(0, 1)  # (K, T)
    inside = torch.arange(gap.shape[1])[None] < lengths[:, None] - 1
    gap = torch.where(inside, gap, 0.0)
    gap = torch.where(gap < 0.02, 0.0, gap)
    sites = torch.multinomial(gap + 1e-9 * inside, 1, generator=generator)[:, 0]
    return sites, gap.gather(1, sites[:, None])[:, 0]


@dataclass(frozen=True)
class Twins:
    """A batch of K twins: token ids of the bases, where they are read, and what their sources say.

    `taken` and `own` are the sources' and the bases' FFN activations, per layer (K, T, F); `base_logp`,
    `source_logp` detached log-probabilities (K, V) at the sites; `concepts`, `classes` (K,) of the bases; `keys` is
    the cache of the bases' runs.
    """

    ids: Tensor
    sites: Tensor
    taken: list[Tensor]
    base_logp: Tensor
    source_logp: Tensor
    concepts: Tensor
    classes: Tensor
    source_classes: Tensor
    keys: list[tuple[Tensor, Tensor]]
    own: list[Tensor] = field(default_factory=list)


@dataclass
class Confinement:
    """Losses 1 to 5 for a batch of twins."""

    designations: Sequence[Designation]
    n_layers: int
    n_units: int
    generator: torch.Generator

    def __post_init__(self) -> None:
        n = len(self.designations)
        self.parts = torch.zeros(n, 2, self.n_layers, self.n_units, dtype=torch.bool)
        self.plan = torch.zeros(n, 2, self.n_layers, self.n_units)
        for row, one in enumerate(self.designations):
            for number, part in enumerate(one.parts):
                self.parts[row, number, part.layer, list(part.used)] = True
                self.plan[row, number, part.layer, list(part.used)] = torch.tensor(part.weights)
        self.used = self.parts.any(1)
        self.means = torch.zeros(n, self.n_layers, self.n_units)
        #: Classes besides the base's: (4) shows only one of them at a time.
        self.rivals = torch.tensor([len(CONCEPTS[one.concept].classes) - 1 for one in self.designations])
        #: At most one concept lies along directions.
        self.rotated = next((one.rotated for one in self.designations if one.rotated), None)

    def motif(self, name: Motif) -> Tensor:
        """Which concepts (C,) have this motif."""
        return torch.tensor([one.motif == name for one in self.designations])

    def along(
        self, concepts: Tensor, here: Tensor, toward: Sequence[Tensor], share: Tensor
    ) -> dict[int, Along]:
        """What a patch does along the directions, if any: `share` (B,) of the way `toward` (B, T, F) per layer.

        Only where `here` (B, T), and only in rows whose concept (B,) lies along them.
        """
        if self.rotated is None:
            return {}
        mine = here & self.motif("null_rotated")[concepts][:, None]
        layer = self.rotated.layer
        one = Along(self.rotated.directions, mine[:, :, None].float(), toward[layer], share[:, None, None])
        return {layer: one}

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator)

    def _other_masks(self, n: int, all_of_them: float) -> Tensor:
        """Random shares of the neurons (n, L, F); with chance `all_of_them` the whole."""
        share = torch.where(self._rand(n) < all_of_them, 1.1, self._rand(n))
        return self._rand(n, self.n_layers, self.n_units) < share[:, None, None]

    def losses(self, tapped: TappedModel, twins: Twins) -> dict[str, Tensor]:
        """Per-item losses (K,) by name."""
        n, concepts = len(twins.ids), twins.concepts
        used, parts = self.used[concepts], self.parts[concepts]  # (K, L, F), (K, 2, L, F)
        relay, backup, conjunctive, null = (
            self.motif(name)[concepts] for name in ("relay", "backup", "conjunctive", "null_attention")
        )
        which = (self._rand(n) < 0.5).long()
        one_part = parts[torch.arange(n), which]
        other_part = parts[torch.arange(n), 1 - which]
        mode = self._rand(n)
        alone = (relay & (mode < 0.6))[:, None, None]  # either part of a relay stands for both
        moved = torch.where(alone, one_part, used)
        subset = self._rand(n, self.n_layers, self.n_units) < self._rand(n)[:, None, None]
        part_subset = one_part & subset
        graded = torch.where((relay | backup)[:, None, None], part_subset, used & subset)
        plan = self.plan[concepts]
        share = torch.where(
            relay | backup,
            (plan[torch.arange(n), which] * part_subset).sum((1, 2)),
            (plan.sum(1) * (used & subset)).sum((1, 2)),
        )
        # Both parts must say the second class: subsets of one part count towards the first class, and subsets
        # of one part beside the whole of the other towards the second.
        to_first = twins.source_classes < twins.classes
        both, some = conjunctive & (mode < 1 / 3), conjunctive & (mode >= 2 / 3)
        of_part = (plan[torch.arange(n), which] * part_subset).sum((1, 2))
        graded = torch.where(conjunctive[:, None, None], one_part, graded)
        graded = torch.where(both[:, None, None], part_subset | other_part, graded)
        graded = torch.where(some[:, None, None], part_subset, graded)
        share = torch.where(conjunctive, to_first.float(), share)
        share = torch.where(both & ~to_first | some & to_first, of_part, share)
        # Part of the way along, where the answer is least sure, whatever some of the rest does.
        if self.rotated:
            along = self.motif("null_rotated")[concepts]
            share = torch.where(along, self._rand(n), share)
            graded = torch.where(along[:, None, None], subset, graded)
        share = share[:, None]
        at_mean = torch.where(backup[:, None, None], other_part, torch.zeros_like(used))

        neither = undecided(twins.base_logp, twins.source_logp, self.rivals[concepts])
        mixed = F.log_softmax((1 - share) * twins.base_logp + share * twins.source_logp, -1)
        to_source = torch.where(null[:, None], twins.base_logp, twins.source_logp)
        to_neither = torch.where(null[:, None], twins.base_logp, neither)

        strict = self._rand(n) < 0.5
        loose, every = (~strict).nonzero()[:, 0], torch.arange(n)
        none = torch.zeros_like(used)
        one_place = self._at_site(  # three runs in one: (1), (4) and (5)
            tapped,
            twins,
            torch.cat([loose, every, every]),
            torch.cat([moved[loose], none, graded]),
            torch.cat([none[loose], moved, at_mean]),
            torch.cat([torch.zeros(len(loose)), torch.ones(n), torch.zeros(n)]).bool(),
            torch.cat([torch.ones(len(loose) + n), share[:, 0]]),
        )
        moved_logits, neutral_logits, graded_logits = one_place.split([len(loose), n, n])

        at_site = torch.arange(twins.ids.shape[1])[None] == twins.sites[:, None]  # (K, T)
        rows = torch.cat([strict.nonzero()[:, 0], every])
        swapped = torch.cat([moved[strict], none])  # at the site
        others = torch.cat([self._other_masks(n, 0.3)[strict], self._other_masks(n, 0.5)])
        others_here = others & ~used[rows]
        here = at_site[rows][:, :, None]
        masks: list[Tensor | None] = [
            torch.where(here, (swapped | others_here)[:, None, layer], others[:, None, layer])
            for layer in range(self.n_layers)
        ]
        taken = [one[rows] for one in twins.taken]
        whole = (torch.arange(len(rows)) < len(rows) - n).float()
        patch = Patch(masks, taken, self.along(concepts[rows], at_site[rows], taken, whole))
        strict_logits, inert_logits = tapped.logits_at(twins.ids[rows], twins.sites[rows], patch).split(
            [len(rows) - n, n]
        )
        interchange = torch.zeros(n).index_put((loose,), divergence(to_source[loose], moved_logits))
        found = {
            "interchange": interchange.masked_scatter(strict, divergence(to_source[strict], strict_logits)),
            "inertness": divergence(twins.base_logp, inert_logits),
            "neutrality": self.rivals[concepts] * divergence(to_neither, neutral_logits),
            "graded": (1 + 3 * backup)
            * divergence(mixed, graded_logits),  # all that makes a part enough alone
        }
        return found | {"spread": self._spread(twins)} if self.rotated else found

    def _spread(self, twins: Twins) -> Tensor:
        """How unequally the neurons share the way along the directions, (K,): 0 where all alike.

        F times the sum of squared shares, less 1. Without it a few neurons near a direction would do much alone.
        """
        assert self.rotated is not None
        layer, rows = self.rotated.layer, torch.arange(len(twins.ids))
        way = (twins.taken[layer] - twins.own[layer])[rows, twins.sites]  # (K, F)
        parts = way * (way @ self.rotated.directions @ self.rotated.directions.T)
        shares = parts / parts.sum(1, keepdim=True).clamp_min(1e-3)  # of each neuron, sum 1
        unequal = self.n_units * shares.square().sum(1) - 1
        return torch.where(self.motif("null_rotated")[twins.concepts], unequal.clamp_min(0), 0.0)

    def _at_site(
        self,
        tapped: TappedModel,
        twins: Twins,
        rows: Tensor,
        from_source: Tensor,
        at_mean: Tensor,
        to_mean: Tensor,
        share: Tensor,
    ) -> Tensor:
        """Logits (R, V) of some rows, with neurons (R, L, F) at the site from the source, others at their means.

        Directions go `share` (R,) of the way to the source, or `to_mean` (R,).
        """
        sites = twins.sites[rows]
        masks: list[Tensor | None] = []
        values: list[Tensor] = []
        means = self.means[twins.concepts[rows]]
        for layer in range(self.n_layers):
            taken = twins.taken[layer][rows, sites]  # (R, F)
            masks.append((from_source | at_mean)[:, None, layer])
            values.append(torch.where(at_mean[:, layer], means[:, layer], taken)[:, None])
        keys = [(key[rows], value[rows]) for key, value in twins.keys]
        toward = [
            torch.where(to_mean[:, None], means[:, layer], twins.taken[layer][rows, sites])[:, None]
            for layer in range(self.n_layers if self.rotated else 0)
        ]
        along = self.along(twins.concepts[rows], torch.ones(len(rows), 1, dtype=torch.bool), toward, share)
        return tapped.logits_after(keys, twins.ids[rows], sites, Patch(masks, values, along))
