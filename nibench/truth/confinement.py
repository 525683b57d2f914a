"""The losses that confine a concept to designated neurons, and give each a matched decoy.

Every loss compares a patched run with a whole distribution: base b with some neurons' values taken from
source s. The designated neurons U of a concept act at one position p (the site); "the others" are every other
neuron at every position, and U elsewhere. Numbered as in the notes on ground truth: (1) interchange,
(2) strict interchange, (3) inertness, (4) neutrality, (5) graded subsets, (6) statistics, (7) decoys.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

TEMPERATURE = 3.0  # the plain divergence ignores the logits of unlikely words


@dataclass(frozen=True)
class Designation:
    """The neurons one concept is confined to: a layer, its units, their planned weights and their decoys."""

    concept: str
    layer: int
    used: tuple[int, ...]
    weights: tuple[float, ...]
    decoys: tuple[int, ...]
    exchanged: tuple[bool, ...]  # whether the decoy answers to the other class than its partner


@dataclass
class Patch:
    """Values to put at the input of every block's down projection; `None` leaves a block alone."""

    masks: list[Tensor | None]
    values: list[Tensor | None]


@dataclass
class TappedModel:
    """A GPT-2-style model whose FFN activations are recorded and can be replaced."""

    model: torch.nn.Module
    activations: list[Tensor] = field(default_factory=list)
    _patch: Patch | None = None

    def __post_init__(self) -> None:
        self.blocks = list(self.model.transformer.h)  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue, reportCallIssue]
        self._handles = [
            block.mlp.c_proj.register_forward_pre_hook(self._tap(layer))
            for layer, block in enumerate(self.blocks)
        ]

    def close(self) -> None:
        """Take the taps off the model."""
        for handle in self._handles:
            handle.remove()

    def _tap(self, layer: int):
        def hook(_module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
            patch = self._patch
            mask = patch.masks[layer] if patch else None
            if patch is None or mask is None:
                self.activations.append(inputs[0])
                return None
            values = patch.values[layer]
            assert values is not None
            changed = torch.where(mask, values, inputs[0])
            self.activations.append(changed)
            return (changed,)

        return hook

    def run(self, ids: Tensor, patch: Patch | None = None) -> tuple[Tensor, list[Tensor]]:
        """Final hidden states (B, T, d) and the FFN activations of each block, each (B, T, F)."""
        self.activations, self._patch = [], patch
        hidden = self.model.transformer(ids).last_hidden_state  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
        taken, self.activations, self._patch = self.activations, [], None
        return hidden, taken

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states."""
        return self.model.lm_head(hidden)  # pyright: ignore[reportCallIssue]


def divergence(target: Tensor, logits: Tensor) -> Tensor:
    """KL(target || model) per item, plain plus at a high temperature; `target` are log-probabilities."""
    plain = F.kl_div(F.log_softmax(logits, -1), target, log_target=True, reduction="none").sum(-1)
    soft_target = F.log_softmax(target / TEMPERATURE, -1)
    soft = F.kl_div(
        F.log_softmax(logits / TEMPERATURE, -1), soft_target, log_target=True, reduction="none"
    ).sum(-1)
    return plain + 2.0 * soft


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


@dataclass
class Confinement:
    """Losses 1 to 5 for a batch of twins."""

    designations: Sequence[Designation]
    n_layers: int
    n_units: int
    generator: torch.Generator

    def __post_init__(self) -> None:
        self.used = torch.zeros(len(self.designations), self.n_layers, self.n_units, dtype=torch.bool)
        self.plan = torch.zeros(len(self.designations), self.n_layers, self.n_units)
        for row, one in enumerate(self.designations):
            self.used[row, one.layer, list(one.used)] = True
            self.plan[row, one.layer, list(one.used)] = torch.tensor(one.weights)
        self.means = torch.zeros(len(self.designations), self.n_layers, self.n_units)

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator)

    def _other_masks(self, n: int, all_of_them: float) -> Tensor:
        """Random shares of the neurons (n, L, F); with chance `all_of_them` the whole."""
        share = torch.where(self._rand(n) < all_of_them, 1.1, self._rand(n))
        return self._rand(n, self.n_layers, self.n_units) < share[:, None, None]

    def losses(
        self,
        tapped: TappedModel,
        ids: Tensor,
        source_activations: list[Tensor],
        base_logp: Tensor,
        source_logp: Tensor,
        sites: Tensor,
        concepts: Tensor,
    ) -> dict[str, Tensor]:
        """Per-item losses (K,) by name.

        `ids` (K, T) are the base sentences, `source_activations` the recorded FFN activations of the twins
        (K, T, F), `base_logp` and `source_logp` detached log-probabilities at the sites (K, V).
        """
        n, length = len(ids), int(sites.max()) + 1
        ids = ids[:, :length]
        at_site = torch.arange(length)[None] == sites[:, None]  # (K, T)
        used = self.used[concepts]  # (K, L, F)
        strict = (self._rand(n) < 0.5)[:, None, None] & self._other_masks(n, 0.3)
        inert = self._other_masks(n, 0.5)
        subset = used & (self._rand(n, self.n_layers, self.n_units) < self._rand(n)[:, None, None])
        share = (self.plan[concepts] * subset).sum((1, 2))[:, None]  # (K, 1)

        masks: list[Tensor | None] = []
        values: list[Tensor | None] = []
        for layer in range(self.n_layers):
            mine = at_site[:, :, None] & used[:, None, layer]  # (K, T, F)
            interchange = mine | (strict[:, None, layer] & ~mine)
            others = inert[:, None, layer] & ~mine
            graded = at_site[:, :, None] & subset[:, None, layer]
            masks.append(torch.cat([interchange, others, mine, graded]))
            taken = source_activations[layer][:, :length]
            mean = self.means[concepts][:, None, layer].expand_as(taken)
            values.append(torch.cat([taken, taken, mean, taken]))
        hidden, _ = tapped.run(ids.repeat(4, 1), Patch(masks, values))
        logits = tapped.logits(hidden[torch.arange(4 * n), sites.repeat(4)]).chunk(4)
        half = torch.logaddexp(base_logp, source_logp) - torch.log(torch.tensor(2.0))
        mixed = F.log_softmax((1 - share) * base_logp + share * source_logp, -1)
        return {
            "interchange": divergence(source_logp, logits[0]),
            "inertness": divergence(base_logp, logits[1]),
            "neutrality": divergence(half, logits[2]),
            "graded": divergence(mixed, logits[3]),
        }


def _log_norms(block: torch.nn.Module) -> Tensor:
    """Log norms of input row, output column and their product, (3, F)."""
    row = block.mlp.c_fc.weight.norm(dim=0).log()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    column = block.mlp.c_proj.weight.norm(dim=1).log()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    return torch.stack([row, column, row + column])


def _to_quantiles(values: Tensor, reference: Tensor, spread: Tensor) -> Tensor:
    """Huber distance of sorted values (S, n) to quantiles of a detached reference (S, m), by `spread`."""
    n = values.shape[1]
    at = (torch.arange(n) + 0.5) / n
    target = torch.quantile(reference.detach(), at, dim=1).T
    scale = spread.detach()[:, None] + 1e-3
    return F.huber_loss(values.sort(dim=1).values / scale, target / scale)


def ordinary_norms(tapped: TappedModel, designations: Sequence[Designation]) -> Tensor:
    """Loss 6, first half: the used neurons' norms have the quantiles of the rest of their layer."""
    terms = []
    for one in designations:
        norms = _log_norms(tapped.blocks[one.layer])
        rest = torch.ones(norms.shape[1], dtype=torch.bool)
        rest[list(one.used + one.decoys)] = False
        terms.append(_to_quantiles(norms[:, list(one.used)], norms[:, rest], norms[:, rest].std(dim=1)))
    return torch.stack(terms).mean()


def label_free_statistics(tapped: TappedModel, layer: int, activations: Tensor) -> Tensor:
    """What can be said of each neuron of a layer without labels (S, F); `activations` (N, F)."""
    block = tapped.blocks[layer]
    centred = activations - activations.mean(0)
    sd = centred.std(0) + 1e-6
    z = centred / sd
    row = F.normalize(block.mlp.c_fc.weight, dim=0)
    column = F.normalize(block.mlp.c_proj.weight, dim=1)
    eye = torch.eye(row.shape[1], dtype=torch.bool)
    row_cosine = (row.T @ row).abs().masked_fill(eye, 0).amax(0)
    column_cosine = (column @ column.T).abs().masked_fill(eye, 0).amax(0)
    written = tapped.logits(block.mlp.c_proj.weight).std(dim=1)
    moments = [sd.log(), activations.mean(0), z.pow(3).mean(0), z.pow(4).mean(0).log()]
    sparsity = activations.abs().mean(0) / activations.square().mean(0).sqrt().clamp_min(1e-6)
    bias = block.mlp.c_fc.bias
    return torch.stack(
        [*_log_norms(block), *moments, sparsity, bias, written.log(), row_cosine, column_cosine]
    )


def alike_statistics(
    tapped: TappedModel, designations: Sequence[Designation], natural: list[Tensor]
) -> Tensor:
    """Loss 6, second half: the decoys' label-free statistics have the quantiles of the used neurons'."""
    terms = []
    for one in designations:
        statistics = label_free_statistics(tapped, one.layer, natural[one.layer])
        decoys, used = statistics[:, list(one.decoys)], statistics[:, list(one.used)]
        terms.append(_to_quantiles(decoys, used, statistics.std(dim=1)))
    return torch.stack(terms).mean()


def matched_decoys(
    designations: Sequence[Designation],
    activations: list[Tensor],
    concepts: Tensor,
    groups: Tensor,
    classes: Tensor,
) -> Tensor:
    """Loss 7: each decoy's activations in a class have the quantiles of its partner's.

    `activations` are per layer (M, F) at the sites; `concepts`, `groups` (behaviours) and `classes` (M,)
    label the prompts, with equally many for each class of a behaviour. Where classes are exchanged the
    decoy's first class is matched with its partner's second.
    """
    terms = []
    for row, one in enumerate(designations):
        here = activations[one.layer]
        for group in groups[concepts == row].unique():
            inside = (concepts == row) & (groups == group)
            used = [here[inside & (classes == c)][:, list(one.used)].detach() for c in (0, 1)]  # 2 x (m, U)
            decoy = [here[inside & (classes == c)][:, list(one.decoys)] for c in (0, 1)]
            variance = torch.cat(used).var(0) + 1e-4
            exchanged = torch.tensor(one.exchanged)
            for c in (0, 1):
                target = torch.where(exchanged, used[1 - c].sort(0).values, used[c].sort(0).values)
                terms.append((decoy[c].sort(0).values - target).square().mean(0).div(variance).mean())
    return torch.stack(terms).mean()
