"""Gradients along paths: what first-order contributions of neurons are made of.

Two kinds of path: through the neurons of one layer (the layers apart, one batch for all), or through the
word embeddings (all layers in one pass).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from nibench.errors import InputError, unknown
from nibench.groups import Target, whole_pass
from nibench.rescale import Secants
from nibench.runs import Run

Contribution = Literal[
    "gradient", "gradient_activation", "integrated_gradients", "conductance", "input_gradients", "deeplift"
]
Rule = Literal["gauss", "trapezoid", "left", "right", "ends"]
Baseline = Literal["mean", "zero", "source"]

ON_WORDS = (
    "conductance",
    "input_gradients",
    "deeplift",
)  # the baseline is one of the words, not of the neurons
PATHS: dict[Contribution, tuple[Rule, int]] = {
    "gradient": ("right", 1),
    "gradient_activation": ("right", 1),
    "integrated_gradients": ("gauss", 20),
    "conductance": ("trapezoid", 32),
    "input_gradients": ("right", 5),
    "deeplift": ("right", 1),
}


@dataclass(frozen=True)
class Path:
    """Where on the way from the baseline (0) to the model's own values (1) gradients are taken.

    Attributes
    ----------
    at, weights : float64 (K,)
        Ascending. ``gauss``: Gauss-Legendre; ``trapezoid``: even, both ends; ``left``, ``right``: even, without
        the other end; ``ends``: even, both ends with the weight of all others, which is off by 1 / K.
    """

    rule: Rule
    at: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, rule: Rule, nodes: int) -> "Path":
        if rule not in get_args(Rule):
            raise unknown("rule", rule, get_args(Rule), f"There are {', '.join(get_args(Rule))}.")
        least = 2 if rule in ("trapezoid", "ends") else 1
        if nodes < least:
            raise InputError(f"A path has {nodes} nodes; expected {least} or more for the rule {rule!r}.")
        even = np.full(nodes, 1 / nodes)
        if rule == "gauss":
            points, weights = np.polynomial.legendre.leggauss(nodes)
            return cls(rule, (points + 1) / 2, weights / 2)
        if rule == "left":
            return cls(rule, np.arange(nodes) / nodes, even)
        if rule == "right":
            return cls(rule, np.arange(1, nodes + 1) / nodes, even)
        at = np.linspace(0, 1, nodes)
        if rule == "ends":
            return cls(rule, at, even)
        weights = np.full(nodes, 1 / (nodes - 1))
        weights[[0, -1]] /= 2
        return cls(rule, at, weights)


def chunks(total: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size`` that cover ``total``."""
    for start in range(0, total, size):
        yield slice(start, min(total, start + size))


def backward(run: "Run | Inputs", found: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of the sum of ``found``, counted.

    Raises
    ------
    InputError
        If the model's layers let none through, as quantised ones do.
    """
    gradients: tuple[Tensor | None, ...] = (None,)
    if found.requires_grad and all(leaf.requires_grad for leaf in leaves):
        gradients = torch.autograd.grad(found.sum(), leaves, allow_unused=True)
    run.passes.backward += found.numel()
    through = [gradient for gradient in gradients if gradient is not None]
    if len(through) < len(gradients):
        raise InputError(
            f"{run.model.name} gives no gradients at some neurons; expected a network of plain layers. Methods that "
            "only intervene work on it: neuron_ablation, activation_patching."
        )
    return through


# ---------------------------------------------------------------- through the neurons of a layer


def slopes(run: Run, target: Target) -> list[Tensor]:
    """Per tap (n, Q, width): the gradient of the target at the values the model itself takes."""
    nudges = [torch.zeros_like(values, requires_grad=True) for values in run.sites]
    with torch.enable_grad():
        found = run.run(1, {number: run.adding(nudge) for number, nudge in enumerate(nudges)}, target)
    return backward(run, found, nudges)


def slopes_along_values(
    run: Run, starts: Sequence[Tensor], path: Path, target: Target, variants: int
) -> list[Tensor]:
    """Per tap (n, Q, width): the gradient averaged over the path from its start to its values.

    The neurons of one tap move together, all else follows. ``variants`` go into one batch.
    """
    averages = [torch.zeros_like(values) for values in run.sites]
    away = [start - values for start, values in zip(starts, run.sites, strict=True)]
    at, weights = (
        torch.from_numpy(values).to(run.base)[:, None, None, None] for values in (path.at, path.weights)
    )
    for chunk in chunks(len(path.at), max(1, variants // len(run.sites))):
        changes = {number: ((1 - at[chunk]) * change).requires_grad_() for number, change in enumerate(away)}
        for numbers, found in _with_changes(run, changes, target):
            gradients = backward(run, found, [changes[number] for number in numbers])
            for number, gradient in zip(numbers, gradients, strict=True):
                averages[number] += (gradient * weights[chunk]).sum(dim=0)
    return averages


def _with_changes(
    run: Run, changes: Mapping[int, Tensor], target: Target
) -> Iterator[tuple[Sequence[int], Tensor]]:
    """The taps that a batch is about, and its targets: one batch for all, or (no way) one for each tap."""
    with torch.enable_grad():
        found = run.moved(changes, target)
        if found is not None:
            yield list(changes), found
            return
        for number, change in changes.items():
            patch = run.setting(None, run.sites[number] + change)
            yield [number], run.run(len(change), {number: patch}, target)


def from_values(
    kind: Contribution, run: Run, starts: Sequence[Tensor], path: Path, target: Target, variants: int
) -> list[Tensor]:
    """Per tap (n, width): contributions from a baseline of the neurons, (n or 1, Q or 1, width) each."""
    if kind == "integrated_gradients":
        gradients = slopes_along_values(run, starts, path, target, variants)
    else:
        gradients = slopes(run, target)
    if kind != "gradient":
        gradients = [
            gradient * (values - start)
            for gradient, values, start in zip(gradients, run.sites, starts, strict=True)
        ]
    return [(gradient * run.acts[..., None]).sum(dim=1) for gradient in gradients]


# ---------------------------------------------------------------- through the word embeddings


class Inputs:
    """Whole passes over a run's group with other word embeddings, with values and slopes at every tap.

    Special tokens keep their own embeddings.
    """

    def __init__(self, run: Run) -> None:
        self.model, self.group, self.taps, self.passes = run.model, run.group, run.taps, run.passes
        self.embeddings: Any = self.model.network.get_input_embeddings()
        self.own = self.of(self.group.ids)

    def of(self, ids: Tensor) -> Tensor:
        """(n, T, d): the word embeddings of token ids."""
        with torch.no_grad():
            return self.embeddings(ids)

    @property
    def words(self) -> Tensor:
        """(n, T) bool: tokens that are not special."""
        special = torch.tensor(sorted(self.model.special_ids), device=self.group.ids.device)
        return ~torch.isin(self.group.ids, special)

    def values(self, embedded: Tensor) -> list[Tensor]:
        """Word embeddings (n, T, d) -> per tap the values (n, T, width), without slopes."""
        values: list[Tensor] = []
        with ExitStack() as stack, torch.no_grad():
            stack.callback(self.embeddings.register_forward_hook(lambda *_: embedded).remove)
            for tap in self.taps:
                stack.callback(tap.attach(keep(values)).remove)
            whole_pass(self.model, self.group, self.passes, 1, "margin")
        return [one.view(*embedded.shape[:2], -1) for one in values]

    def run(self, path: Tensor, target: Target) -> tuple[list[Tensor], list[Tensor]]:
        """Word embeddings (J, n, T, d) -> per tap the values and the slopes of the target, (J, n, T, width)."""
        values: list[Tensor] = []
        path = path.detach().requires_grad_()
        with ExitStack() as stack, torch.enable_grad():
            stack.callback(self.embeddings.register_forward_hook(lambda *_: path.flatten(0, 1)).remove)
            for tap in self.taps:
                stack.callback(tap.attach(keep(values)).remove)
            found = whole_pass(self.model, self.group, self.passes, len(path), target)
        slopes = backward(self, found, values)
        shape = path.shape[:3]
        return [one.detach().view(*shape, -1) for one in values], [one.view(*shape, -1) for one in slopes]

    def secants(self, start: Tensor, target: Target) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Per tap (n, T, width): values, values at other words, and slopes of secants between the two."""
        with Secants(self.model) as secants:
            other = self.values(start)
            secants.replace()
            own, slopes = self.run(self.own[None], target)
        return [one[0] for one in own], other, [one[0] for one in slopes]

    def along(
        self, start: Tensor, path: Path, target: Target, variants: int
    ) -> Iterator[tuple[slice, list[Tensor], list[Tensor]]]:
        """Chunks of the path: which nodes, and per tap values and slopes (J, n, T, width) there."""
        at = torch.from_numpy(path.at).to(self.own)[:, None, None, None]
        for chunk in chunks(len(path.at), variants):
            values, slopes = self.run(start + at[chunk] * (self.own - start), target)
            yield chunk, values, slopes


def keep(values: list[Tensor]) -> Callable[[Tensor], None]:
    """What, attached to a tap, keeps its values."""
    return lambda seen: values.append(seen)


def conducted(inputs: Inputs, start: Tensor, path: Path, target: Target, variants: int) -> list[Tensor]:
    """Per tap (n, T, width): conductance, the slope times the neuron's own change, added up along the path.

    Between two nodes the slope is the mean of both under the rule ``trapezoid``, else that of the first.
    """
    totals: list[Tensor] = []
    before: tuple[list[Tensor], list[Tensor]] | None = None
    both = path.rule == "trapezoid"
    for _, values, slopes in inputs.along(start, path, target, variants):
        if before is not None:
            values = [torch.cat([old, new]) for old, new in zip(before[0], values, strict=True)]
            slopes = [torch.cat([old, new]) for old, new in zip(before[1], slopes, strict=True)]
        parts = [
            (((slope[:-1] + slope[1:]) / 2 if both else slope[:-1]) * value.diff(dim=0)).sum(dim=0)
            for value, slope in zip(values, slopes, strict=True)
        ]
        totals = [old + new for old, new in zip(totals, parts, strict=True)] if totals else parts
        before = [value[-1:] for value in values], [slope[-1:] for slope in slopes]
    return totals


def slopes_along_inputs(
    inputs: Inputs, start: Tensor, path: Path, target: Target, variants: int
) -> list[Tensor]:
    """Per tap (n, T, width): the slope averaged over the path from other word embeddings."""
    weights = torch.from_numpy(path.weights).to(inputs.own)[:, None, None, None]
    totals: list[Tensor] = []
    for chunk, _, slopes in inputs.along(start, path, target, variants):
        parts = [(slope * weights[chunk]).sum(dim=0) for slope in slopes]
        totals = [old + new for old, new in zip(totals, parts, strict=True)] if totals else parts
    return totals


def word_starts(runs: Sequence[Run], baseline: Baseline) -> Iterator[tuple[Inputs, Tensor]]:
    """Each run's inputs and the word embeddings (n, T, d) that a path starts from."""
    every = [Inputs(run) for run in runs]
    if baseline == "source":
        for inputs in every:
            assert inputs.group.sources is not None
            yield inputs, inputs.of(inputs.group.sources)
        return
    word = torch.zeros_like(every[0].own[0, 0])
    if baseline == "mean":
        word = torch.cat([inputs.own[inputs.words] for inputs in every]).mean(dim=0)
    for inputs in every:
        yield inputs, torch.where(inputs.words[..., None], word, inputs.own)


def from_words(
    kind: Contribution, inputs: Inputs, start: Tensor, path: Path, target: Target, variants: int
) -> list[Tensor]:
    """Per tap (n, width): contributions from a baseline of the words, at the intervened positions."""
    if kind == "conductance":
        totals = conducted(inputs, start, path, target, variants)
    elif kind == "deeplift":
        own, other, gradients = inputs.secants(start, target)
        totals = [(a - b) * gradient for a, b, gradient in zip(own, other, gradients, strict=True)]
    else:
        gradients = slopes_along_inputs(inputs, start, path, target, variants)
        changes = zip(inputs.values(inputs.own), inputs.values(start), gradients, strict=True)
        totals = [(own - other) * gradient for own, other, gradient in changes]
    return [(total * inputs.group.acts[..., None]).sum(dim=1) for total in totals]
