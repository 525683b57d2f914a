"""The losses that make used neurons look ordinary and give each a decoy that looks like it.

Numbered as in the notes on ground truth: (6) statistics that need no labels, (7) matched decoys.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nibench.architecture import Architecture, projection
from nibench.truth.confinement import Designation, Part
from nibench.truth.tapped import TappedModel


def parts(designations: Sequence[Designation]) -> Iterator[Part]:
    """Every part of every concept."""
    for one in designations:
        yield from one.parts


class Weights:
    """A block's FFN weights with their gradients: input rows (each (F, d)), offsets, output rows (F, d)."""

    def __init__(self, model: Any, layer: int) -> None:
        inner, outer = Architecture.of(model).ffn_modules(layer)
        self.rows: list[Tensor] = [projection(module).T for module in inner]
        self.offsets: list[nn.Parameter] = [
            module.bias for module in inner if isinstance(module.bias, nn.Parameter)
        ]
        self.output: Tensor = projection(outer)

    @property
    def all_rows(self) -> Tensor:
        """(F, d), gated: (F, 2 d), gate and up side by side."""
        return torch.cat(self.rows, 1)


def _log_norms(weights: Weights) -> Tensor:
    """Log norms of input row (gated: the mean of both), output column and their product, (3, F)."""
    row = torch.stack([one.norm(dim=1) for one in weights.rows]).mean(0).log()
    column = weights.output.norm(dim=1).log()
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
    for one in parts(designations):
        norms = _log_norms(Weights(tapped.model, one.layer))
        rest = torch.ones(norms.shape[1], dtype=torch.bool)
        rest[list(one.used + one.decoys)] = False
        terms.append(_to_quantiles(norms[:, list(one.used)], norms[:, rest], norms[:, rest].std(dim=1)))
    return torch.stack(terms).mean() if terms else torch.zeros(())


def label_free_statistics(tapped: TappedModel, layer: int, activations: Tensor) -> Tensor:
    """What can be said of each neuron of a layer without labels (S, F); `activations` (N, F)."""
    weights = Weights(tapped.model, layer)
    centred = activations - activations.mean(0)
    sd = centred.std(0) + 1e-6
    z = centred / sd
    row = F.normalize(weights.all_rows, dim=1)
    column = F.normalize(weights.output, dim=1)
    eye = torch.eye(len(row), dtype=torch.bool)
    row_cosine = (row @ row.T).abs().masked_fill(eye, 0).amax(0)
    column_cosine = (column @ column.T).abs().masked_fill(eye, 0).amax(0)
    written = tapped.logits(weights.output).std(dim=1)
    moments = [sd.log(), activations.mean(0), z.pow(3).mean(0), z.pow(4).mean(0).clamp_min(1e-2).log()]
    sparsity = activations.abs().mean(0) / activations.square().mean(0).sqrt().clamp_min(1e-6)
    return torch.stack(
        [*_log_norms(weights), *moments, sparsity, *weights.offsets, written.log(), row_cosine, column_cosine]
    )


def alike_statistics(
    tapped: TappedModel, designations: Sequence[Designation], natural: list[Tensor]
) -> Tensor:
    """Loss 6, second half: the decoys' label-free statistics have the quantiles of the used neurons'."""
    terms = []
    for one in parts(designations):
        statistics = label_free_statistics(tapped, one.layer, natural[one.layer])
        decoys, used = statistics[:, list(one.decoys)], statistics[:, list(one.used)]
        terms.append(_to_quantiles(decoys, used, statistics.std(dim=1)))
    return torch.stack(terms).mean() if terms else torch.zeros(())


def matched_decoys(
    designations: Sequence[Designation],
    activations: list[Tensor],
    concepts: Tensor,
    groups: Tensor,
    classes: Tensor,
    gated: bool,
) -> Tensor:
    """Loss 7: each decoy's activations in a class have the quantiles of its partner's.

    `activations` are per layer (M, F) at the sites; `concepts`, `groups` (behaviours) and `classes` (M,)
    label the prompts, with equally many for each class of a behaviour. Where classes are exchanged the
    decoy's class c is matched with its partner's last but c (gated units can be their partner's negative
    instead, which exchanges the order too).
    """
    terms = []
    for row, designation in enumerate(designations):
        for one in designation.parts:
            here, exchanged = activations[one.layer], torch.tensor(one.exchanged)
            for group in groups[concepts == row].unique():
                inside = (concepts == row) & (groups == group)
                ids = classes[inside].unique().tolist()
                used = [here[inside & (classes == c)][:, list(one.used)].detach() for c in ids]  # C x (m, U)
                variance = torch.cat(used).var(0) + 1e-4
                for index, c in enumerate(ids):
                    decoy = here[inside & (classes == c)][:, list(one.decoys)]
                    other = -used[index] if gated else used[-1 - index]
                    target = torch.where(exchanged, other.sort(0).values, used[index].sort(0).values)
                    terms.append((decoy.sort(0).values - target).square().mean(0).div(variance).mean())
    return torch.stack(terms).mean() if terms else torch.zeros(())


def disguise(tapped: TappedModel, generator: torch.Generator) -> Tensor:
    """An orthogonal map (d, d) that turns output columns, but not what is seen of them without labels.

    Random signs in the eigenbasis of what the unembedding reads: lengths, angles between columns and the
    spread of the logits that a column writes stay as they are.
    """
    written = tapped.logits(torch.eye(tapped.model.config.hidden_size))
    centred = written - written.mean(1, keepdim=True)
    _, basis = torch.linalg.eigh(centred @ centred.T)
    signs = 2.0 * torch.randint(0, 2, (len(basis),), generator=generator) - 1
    return basis * signs @ basis.T


@torch.no_grad()
def start_decoys(
    tapped: TappedModel,
    designations: Sequence[Designation],
    centres: list[Tensor],
    seed: int,
) -> None:
    """Start each decoy from its partner's input rows and noise, and its output column turned in disguise.

    The decoys of a part turn alike, so that they stand to each other as the used neurons do.

    `centres` (C, F) per concept are the sums of the pre-activation's two class means at the sites, by which
    a decoy with exchanged classes is offset; gated units have their linear half negated instead.
    """
    generator = torch.Generator().manual_seed(seed)
    for designation, centre in zip(designations, centres, strict=True):
        for one in designation.parts:
            weights = Weights(tapped.model, one.layer)
            turn = disguise(tapped, generator)
            for used, decoy, exchanged in zip(one.used, one.decoys, one.exchanged, strict=True):
                for number, rows in enumerate(weights.rows):
                    negated = exchanged and number == len(weights.rows) - 1
                    direction = rows[used]
                    noise = torch.randn(direction.shape, generator=generator)
                    noise *= 0.2 * direction.norm() / noise.norm()
                    rows[decoy] = (-direction if negated else direction) + noise
                for offset in weights.offsets:
                    offset[decoy] = centre[one.layer, used] - offset[used] if exchanged else offset[used]
                weights.output[decoy] = turn @ weights.output[used]
