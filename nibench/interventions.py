"""Behaviour: what a model answers to a set of prompts, and what ablations and gradients do to it."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from nibench.errors import InputError, unknown
from nibench.means import MAX_ITEMS, reference_means, taps_of
from nibench.model import LanguageModel, Layers, Passes
from nibench.neurons import Neurons
from nibench.prompts import EncodedPrompts, by_length, encode_prompts
from nibench.task import Prompt, Site

if TYPE_CHECKING:
    from torch import Tensor

    from nibench.attribution import Baseline, Contribution, Rule
    from nibench.groups import Group, Target
    from nibench.runs import Patch, Run

Replacement = Literal["mean", "zero", "resample", "source"]

N_DONORS = 5  # draws that a resample ablation is averaged over
MAX_TOKENS = 4096  # tokens in one batch: many more do not fit the processor's cache
MAX_VARIANTS = 128  # interventions in one batch


class Behaviour:
    """M prompts, the model's margins on them, and interventions on D neurons.

    The margin of a prompt is in nats: with a twin, logit of its answer minus logit of the twin's answer;
    otherwise logit of its answer minus the log-sum-exp of the others. Positive is right.

    Parameters
    ----------
    prompts : sequence of Prompt
        In this order everywhere.
    neurons : Neurons
        Of one site; their flat ids are what the methods take.
    means : float64 (D,), optional
        What ``to="mean"`` sets a neuron to (see `reference_means`).
    intervene_at : "last" or "all"
        Ablations act at the token whose logits hold the answer, or at every token that is not special.
    donors_seed : int
        Seeds the other items that ``to="resample"`` takes values from; the same for every method.
    passes : Passes, optional
        Where passes are counted; a new meter by default.
    proven : Behaviour, optional
        The same prompts in a model of other weights or widths: ways to run parts of a pass that were proven there.

    Attributes
    ----------
    passes : Passes
        Item passes made since the last ``passes.reset()``, parts of a pass counted as such. Opening a
        behaviour makes one pass per prompt, two with twins.

    Raises
    ------
    InputError
        If an answer is not one token, a twin is not as long as its prompt, or the model has no head.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompts: Sequence[Prompt],
        neurons: Neurons,
        *,
        means: np.ndarray | None,
        intervene_at: Literal["last", "all"],
        donors_seed: int = 0,
        passes: Passes | None = None,
        proven: "Behaviour | None" = None,
    ) -> None:
        if intervene_at not in ("last", "all"):
            raise unknown("place", intervene_at, ("last", "all"), "There are last, all.")
        if means is not None and means.shape != (len(neurons),):
            raise InputError(
                f"means have shape {means.shape} for {len(neurons)} neurons; expected one per neuron."
            )
        self.model, self.prompts, self.neurons = model, tuple(prompts), neurons
        self.means, self.donors_seed = means, donors_seed
        self.intervene_at: Literal["last", "all"] = intervene_at
        self.passes = passes or Passes()
        self.behaviours = np.array([prompt.behaviour for prompt in prompts])
        self.labels = np.array([prompt.label for prompt in prompts], dtype=np.int64)
        self.groups = np.array([prompt.group or f"#{number}" for number, prompt in enumerate(prompts)])
        self._encoded = self._encode()
        self._taps = taps_of(model, neurons)
        self._runs = self._open_runs(proven)
        self._margin = np.empty(self.n_items)
        for run in self._runs:
            self._margin[run.group.rows] = _numpy(run.base)

    @classmethod
    def from_prompts(
        cls,
        model: LanguageModel,
        prompts: Sequence[Prompt],
        site: Site,
        layers: Layers = None,
        *,
        reference: Sequence[Prompt],
        intervene_at: Literal["last", "all"],
        donors_seed: int = 0,
    ) -> "Behaviour":
        """A behaviour whose means are those of the reference prompts (see `reference_means`)."""
        neurons = model.neurons(site, layers)
        means = reference_means(model, reference, neurons, intervene_at)
        return cls(model, prompts, neurons, means=means, intervene_at=intervene_at, donors_seed=donors_seed)

    def some(self, rows: Any) -> "Behaviour":
        """The same behaviour on some of its prompts only (row ids), counting passes on the same meter."""
        chosen = np.asarray(rows)
        return type(self)(
            self.model,
            [self.prompts[row] for row in chosen],
            self.neurons,
            means=self.means,
            intervene_at=self.intervene_at,
            donors_seed=self.donors_seed,
            passes=self.passes,
        )

    def _encode(self) -> EncodedPrompts:
        return encode_prompts(self.model, self.prompts)

    def _group(self, rows: np.ndarray) -> "Group":
        from nibench.groups import Group

        return Group.of(self.model, self._encoded, rows, self.intervene_at == "last")

    def _open_runs(self, proven: "Behaviour | None") -> "list[Run]":
        from nibench.runs import FullPass
        from nibench.suffix import NotReproduced
        from nibench.suffix_causal import AllPositions, LastPosition
        from nibench.suffix_masked import BothDirections

        runs: list[Run] = []
        at_last = self.intervene_at == "last"
        road = LastPosition if at_last else AllPositions
        if self.model.has_head != "causal":
            road = BothDirections
        for rows in by_length(self._encoded.ids):
            for start in range(0, len(rows), MAX_ITEMS):
                group = self._group(rows[start : start + MAX_ITEMS])
                earlier: Any = None if proven is None else proven._runs[len(runs)]
                try:
                    if isinstance(earlier, FullPass):
                        raise NotReproduced
                    runs.append(road(self.model, group, self._taps, self.passes, earlier))
                except NotReproduced:
                    runs.append(FullPass(self.model, group, self._taps, self.passes))
        return runs

    @property
    def n_items(self) -> int:
        """M, the number of prompts."""
        return len(self.prompts)

    @property
    def has_pairs(self) -> bool:
        """Whether every prompt has a twin: ``to="source"`` needs that."""
        return all(source is not None for source in self._encoded.sources)

    @property
    def fast(self) -> bool:
        """Whether single effects run on parts of the network (else: on all of it, for every neuron)."""
        from nibench.suffix import Suffix

        return all(isinstance(run, Suffix) for run in self._runs)

    def margin(self) -> np.ndarray:
        """float64 (M,): the margin of the intact model, in nats."""
        return self._margin.copy()

    def source_margin(self) -> np.ndarray:
        """float64 (M,): the same difference of logits read in the twin's run; negative is right there."""
        margins = np.empty(self.n_items)
        for run, (values, _) in zip(self._runs, self._sources, strict=True):
            margins[run.group.rows] = _numpy(values)
        return margins

    def ablate(self, neurons: Any, to: Replacement = "mean") -> np.ndarray:
        """float64 (M,): the margins with all these neurons replaced together.

        Parameters
        ----------
        neurons : int ids
            Flat ids, positions in ``self.neurons``.
        to : "mean", "zero", "resample" or "source"
            What they are set to; ``source`` is their value in the twin's run (interchange), ``resample`` the
            value in another item's run, margins averaged over five draws.
        """
        return self.ablate_sets([neurons], to)[0]

    def ablate_sets(self, sets: Sequence[Any], to: Replacement = "mean") -> np.ndarray:
        """float64 (S, M): the margins under each of S joint interventions, many in one batch."""
        ids = [self._ids(chosen) for chosen in sets]
        margins = np.zeros((len(ids), self.n_items))
        first = [
            self._taps[self._tap_of[chosen.min()]].block.layer if chosen.size else 10**9 for chosen in ids
        ]
        order = np.argsort(first, kind="stable")  # sets that leave the first blocks alone need fewer of them
        for run, replacements in self._with_replacements(to):
            for chunk in _chunks(len(order), _variants(run.n_tokens)):
                chosen = [ids[number] for number in order[chunk]]
                margins[np.ix_(order[chunk], run.group.rows)] += self._joint(run, chosen, replacements)
        return margins / (N_DONORS if to == "resample" else 1)

    def single_effects(self, to: Replacement = "mean", neurons: Any = None) -> np.ndarray:
        """float64 (M, K): margin of the intact model minus margin with one neuron replaced; exact for each.

        Of all D neurons, or of the K flat ids given. A neuron of the residual stream or of a feed-forward
        layer adds its change to the stream behind its block, so only the later blocks are run, and only at
        the positions that change.
        """
        ids = np.arange(len(self.neurons)) if neurons is None else self._ids(neurons)
        effects = np.zeros((self.n_items, len(ids)))
        for run, replacements in self._with_replacements(to):
            for number, offset in enumerate(self.neurons.offsets[:-1]):
                columns = np.flatnonzero(self._tap_of[ids] == number)
                for chunk in _chunks(len(columns), _variants(run.n_tokens)):
                    some = columns[chunk]
                    margins = self._single(run, number, ids[some] - int(offset), replacements[number])
                    effects[np.ix_(run.group.rows, some)] += _numpy(run.base)[:, None] - margins.T
        return effects / (N_DONORS if to == "resample" else 1)

    def contributions(
        self,
        kind: "Contribution",
        nodes: int | None = None,
        baseline: "Baseline" = "mean",
        rule: "Rule | None" = None,
        target: "Target" = "margin",
    ) -> np.ndarray:
        """float64 (M, D): first-order contributions of each neuron to the margin, summed over positions.

        From a `baseline` of the neurons, at the intervened positions: ``gradient``: dF/da.
        ``gradient_activation``: (a - baseline) dF/da, the first-order estimate of `single_effects`.
        ``integrated_gradients``: the same with the gradient averaged along the straight path from the baseline,
        all neurons of one layer moving together; the sum over a layer is the margin minus the margin with that
        layer at its baseline.

        From a baseline of the words (the twin's, the mean word embedding of the prompts, zero; special tokens
        keep theirs), read at the intervened positions: ``input_gradients``: the change of a since the baseline
        times the gradient averaged along the straight path of the word embeddings. ``conductance``: the gradient
        times the change of a, added up along that path. ``deeplift``: the change of a times the product of
        secants from the baseline, attention and norms frozen (`nibench.rescale`).

        Parameters
        ----------
        nodes, rule
            Points of the path (see `nibench.attribution.Path`). Default: 20 of ``gauss`` for
            ``integrated_gradients``, 32 of ``trapezoid`` for ``conductance``, 5 of ``right`` for ``input_gradients``.
        target : "margin", "log_probability" or "probability"
            What is attributed: the margin in nats, or that of the right answer among all words.
        """
        from nibench import attribution
        from nibench.groups import Target

        for what, value, known in (
            ("contribution", kind, get_args(attribution.Contribution)),
            ("baseline", baseline, get_args(attribution.Baseline)),
            ("target", target, get_args(Target)),
        ):
            if value not in known:
                raise unknown(what, value, known, "See Behaviour.contributions.")
        path = attribution.Path.of(
            rule or attribution.PATHS[kind][0], attribution.PATHS[kind][1] if nodes is None else nodes
        )
        if baseline == "source":
            _ = self._sources  # says which prompt has no twin
        if kind in attribution.ON_WORDS:
            found = (
                attribution.from_words(
                    kind, inputs, start, path, target, _variants(inputs.own.shape[:2].numel())
                )
                for inputs, start in attribution.word_starts(self._runs, baseline)
            )
        else:
            found = (
                attribution.from_values(kind, run, starts, path, target, _variants(run.n_tokens))
                for run, starts in self._with_replacements("zero" if kind == "gradient" else baseline)
            )
        result = np.zeros((self.n_items, len(self.neurons)))
        for run, totals in zip(self._runs, found, strict=True):
            result[run.group.rows] = np.concatenate([_numpy(total) for total in totals], axis=1)
        return result

    @cached_property
    def _tap_of(self) -> np.ndarray:
        """(D,) the tap each neuron belongs to."""
        return np.repeat(np.arange(len(self._taps)), [tap.block.width for tap in self._taps])

    @cached_property
    def _sources(self) -> "list[tuple[Tensor, list[Tensor]]]":
        if not self.has_pairs:
            lone = next(p for p, s in zip(self.prompts, self._encoded.sources, strict=True) if s is None)
            raise InputError(
                f"The prompt {lone.text!r} has no twin; expected pairs. Choose to='mean' or 'zero'."
            )
        return [run.of_source() for run in self._runs]

    def _ids(self, neurons: Any) -> np.ndarray:
        ids = np.asarray(neurons).reshape(-1)
        if ids.size and not np.issubdtype(ids.dtype, np.integer):
            raise InputError(
                f"Neurons to ablate are {ids.dtype}; expected flat ids 0..{len(self.neurons) - 1}."
            )
        if ids.size and (ids.min() < 0 or ids.max() >= len(self.neurons)):
            raise InputError(f"No neuron {ids.max()}; expected flat ids 0..{len(self.neurons) - 1}.")
        return ids.astype(np.int64)

    def _with_replacements(self, to: str) -> "Iterator[tuple[Run, list[Tensor]]]":
        """Each run with the values (n or 1, Q or 1, width) its taps are set to; resample: five times over."""
        import torch

        if to not in (*get_args(Replacement),):
            raise unknown("replacement", to, get_args(Replacement), "See Behaviour.ablate.")
        if to == "mean" and self.means is None:
            raise InputError("This behaviour has no means; pass means= or use Behaviour.from_prompts.")
        if to == "resample":
            for draw in range(N_DONORS):
                yield from zip(self._runs, self._donated(draw), strict=True)
            return
        for number, run in enumerate(self._runs):
            if to == "source":
                yield run, self._sources[number][1]
                continue
            flat = self.means if to == "mean" and self.means is not None else np.zeros(len(self.neurons))
            parts = np.split(flat.astype(np.float32), self.neurons.offsets[1:-1])
            yield run, [torch.from_numpy(part).to(self.model.device)[None, None] for part in parts]

    def _donated(self, draw: int) -> "Iterator[list[Tensor]]":
        """For each run, the values of another item at each position, whole vectors from one place."""
        import torch

        owners = np.concatenate(
            [np.repeat(run.group.rows, run.acts.sum(dim=1).cpu().numpy()) for run in self._runs]
        )
        if self.n_items < 2:
            raise InputError("to='resample' takes values from other prompts; expected two prompts or more.")
        pools = [
            torch.cat([run.sites[number][run.acts] for run in self._runs])
            for number in range(len(self._taps))
        ]
        for run in self._runs:
            picks = np.zeros(tuple(run.acts.shape), dtype=np.int64)
            for place, row in enumerate(run.group.rows):
                rng = np.random.default_rng([self.donors_seed, draw, int(row)])
                picks[place] = rng.choice(np.flatnonzero(owners != row), size=picks.shape[1])
            index = torch.from_numpy(picks).to(self.model.device)
            yield [pool[index] for pool in pools]

    def _joint(self, run: "Run", sets: Sequence[np.ndarray], replacements: "list[Tensor]") -> np.ndarray:
        """(J, n): the margins under each joint intervention."""
        import torch

        patches: dict[int, Patch] = {}
        touched = np.unique(self._tap_of[np.concatenate(sets)]) if sets else []
        for number in touched:
            offset, width = int(self.neurons.offsets[number]), self._taps[number].block.width
            masks = np.zeros((len(sets), width), dtype=bool)
            for mask, ids in zip(masks, sets, strict=True):
                mask[ids[(ids >= offset) & (ids < offset + width)] - offset] = True
            values = replacements[number].expand(*run.acts.shape, -1)
            patches[int(number)] = run.setting(torch.from_numpy(masks).to(self.model.device), values[None])
        with torch.no_grad():
            return _numpy(run.run(len(sets), patches))

    def _single(self, run: "Run", number: int, units: np.ndarray, replacement: "Tensor") -> np.ndarray:
        """(J, n): the margins with each of some units of a tap replaced alone."""
        import torch

        index = torch.from_numpy(units).to(self.model.device)
        values = replacement[..., index].expand(*run.acts.shape, -1)
        same = (values == run.sites[number][..., index]) | ~run.acts[..., None]
        with torch.no_grad():
            margins = run.shifted(number, index, values)
            if margins is None:
                sets = list(int(self.neurons.offsets[number]) + units[:, None])
                blank = [replacement] * len(self._taps)
                return self._joint(run, sets, blank)
            return _numpy(torch.where(same.all(dim=1).T, run.base, margins))  # what is set to itself is exact


def _variants(n_tokens: int) -> int:
    return int(np.clip(MAX_TOKENS // n_tokens, 1, MAX_VARIANTS))


def _chunks(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(total, start + size))


def _numpy(tensor: "Tensor") -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float64)
