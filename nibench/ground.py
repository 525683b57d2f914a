"""Ground: one task in one model, and everything that methods and metrics share on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from nibench.control import CHAIN_CONTROLS, ChainControl, random_label_per_word_type
from nibench.errors import InputError
from nibench.method import Method, Needs, Observations
from nibench.moments import Statistics
from nibench.permutation import reassigned
from nibench.suites import Budget
from nibench.task import SPLITS, Prompt, PromptCorpus, Site, Split, Task, Truth

if TYPE_CHECKING:
    from nibench.activations import Activations
    from nibench.interventions import Behaviour
    from nibench.metrics import Setting
    from nibench.model import LanguageModel, Passes
    from nibench.soft_inputs import SoftInputs
    from nibench.texts import Text
    from nibench.weights import Weights

OTHER_PROMPTS = 300  # of another concept, from which its means are taken


@dataclass(frozen=True)
class Options:
    """How a task is read from a model: part of every cell's key.

    ``control`` breaks the chain at one place (see ``nibench.control.CHAIN_CONTROLS``): then nothing is to be found.
    """

    site: Site | None = None
    layers: str | None = None
    aggregation: Literal["last", "first", "mean"] = "last"
    cap: int | None = None
    data: str | None = None
    device: str = "auto"
    control: ChainControl | None = None
    budget: Budget = field(default_factory=Budget)


class Ground:
    """One task in one model, with everything that methods and metrics share, each made once when asked for."""

    def __init__(
        self,
        task: Task,
        model: "LanguageModel | None",
        options: Options,
        progress: Callable[[int, int], None] | None = None,
        others: Sequence[str] = (),
    ) -> None:
        from nibench.activations import extract

        if options.control == "random_model" and model is not None:
            model = model.reinitialised()
        self.task, self.model, self.options, self.others = task, model, options, tuple(others)
        read = extract(
            model,
            task,
            site=options.site,
            layers=options.layers,
            aggregation=options.aggregation,
            data=options.data,
            cap=options.cap,
            progress=progress,
        )
        self.data: Activations = under_control(read, options.control)
        rank_split = self.data.split("rank")
        self.statistics = Statistics(
            read_only(rank_split.activations), rank_split.labels, len(self.data.classes)
        )
        self._rank_split = rank_split
        self._behaviours: dict[Split, Behaviour | None] = {}
        self._halves: dict[bytes, Statistics] = {}

    @property
    def no_behaviour(self) -> str | None:
        """Why nothing can be intervened on here, or None."""
        if self.data.prompts is None:
            return "the task has no behaviour to intervene on"
        if not all(prompt.answers for prompt in self.data.prompts):
            return "no later word depends on the concept, so there is no margin to move"
        if self.model is None or self.model.has_head is None:
            return "the model has no language-model head, so no behaviour"
        return None

    def behaviour(self, split: Split) -> "Behaviour | None":
        """The behaviour methods see (``rank``), are scored on (``eval``) or metrics choose on (``probe``).

        Means are from ``rank`` for methods, else from ``probe``.
        """
        if split not in self._behaviours:
            self._behaviours[split] = self._make_behaviour(split)
        return self._behaviours[split]

    def _make_behaviour(self, split: Split) -> "Behaviour | None":
        if self.no_behaviour is not None:
            return None
        budget = self.options.budget
        mine = self.data.split_prompts(split)
        kinds = len({prompt.behaviour for prompt in mine})
        limit = {
            "rank": budget.rank_prompts,
            "probe": budget.build_prompts,
            "eval": budget.eval_prompts * kinds,
        }[split]
        reference = self.data.split_prompts("rank" if split == "rank" else "probe")
        return self._behaviour_of(balanced(mine, limit), reference)

    def _behaviour_of(
        self,
        prompts: Sequence[Prompt],
        reference: Sequence[Prompt],
        intervene_at: Literal["last", "all"] | None = None,
    ) -> "Behaviour":
        from nibench.interventions import Behaviour

        assert self.model is not None
        return Behaviour.from_prompts(
            self.model,
            prompts,
            site=self.options.site or self.task.site,
            layers=self.options.layers,
            reference=reference,
            intervene_at=intervene_at or self.data.intervene_at,
        )

    def _behaviour_on(self, rows: np.ndarray, labels: np.ndarray | None) -> "Behaviour | None":
        """The behaviour as methods see it, on some prompts of the ``rank`` split, or with other labels (N,)."""
        if self.no_behaviour is not None:
            return None
        mine = self.data.split_prompts("rank")
        given = [mine[row].label for row in rows] if labels is None else labels[rows].tolist()
        seen = [replace(mine[row], label=label) for row, label in zip(rows, given, strict=True)]
        return self._behaviour_of(balanced(seen, self.options.budget.rank_prompts), seen)

    @cached_property
    def other_behaviours(self) -> "dict[str, Behaviour]":
        """The same neurons' part in the model's other concepts, on ``eval`` prompts, by concept; not related ones."""
        from nibench.sources import other_concepts

        if self.model is None or self.model.folder is None or self.no_behaviour is not None:
            return {}
        found = {}
        for concept, source in other_concepts(self.task.source, self.model.folder).items():
            if concept in self.task.related:
                continue
            corpus = source.load(seed=0, data=self.options.data, folder=self.model.folder, cap=OTHER_PROMPTS)
            assert isinstance(corpus, PromptCorpus)
            parts = {split: [one for one in corpus.prompts if one.split == split] for split in SPLITS}
            kinds = len({prompt.behaviour for prompt in parts["eval"]})
            shown = balanced(parts["eval"], self.options.budget.eval_prompts * kinds)
            found[concept] = self._behaviour_of(shown, parts["probe"], corpus.intervene_at)
        return found

    @property
    def output_norms(self) -> np.ndarray | None:
        """(D,): how long the vectors are that the neurons write; None where they write none of their own."""
        try:
            return np.linalg.norm(self.weights.outputs.astype(np.float64), axis=1)
        except InputError:
            return None

    @cached_property
    def text(self) -> "Text | None":
        """The words of the ``rank`` items and a reader of others; None where there is no model."""
        return None if self.model is None else self._text_of(np.arange(len(self._rank_split.labels)))

    def _text_of(self, chosen: np.ndarray) -> "Text":
        """The words of some rows of the ``rank`` split, and a reader of others."""
        from nibench.texts import Text

        assert self.model is not None
        rows = self.data.rows("rank")[chosen]
        texts = self.data.texts
        words = tuple(texts[row] for row in rows)
        site = self.options.site or self.task.site
        return Text(words, self.data.positions[rows], self.model, site, self.options.layers)

    @cached_property
    def inputs(self) -> "SoftInputs | None":
        """The neurons as differentiable functions of the input; None where there is no model."""
        if self.model is None:
            return None
        from nibench.soft_inputs import SoftInputs

        return SoftInputs(self.model, self.options.site or self.task.site, self.options.layers)

    def passes(self, method: Method) -> "Passes | None":
        """Where the passes that this method makes are counted; None where it makes none."""
        if Needs.MODEL in method.needs and (behaviour := self.behaviour("rank")) is not None:
            if Needs.PAIRS in method.needs and behaviour.has_pairs:
                behaviour.source_margin()  # shared by all who need the twins: nobody's cost, whoever comes first
            return behaviour.passes
        reads = method.needs & (Needs.TEXT | Needs.EMBEDDINGS)
        return self.model.passes if reads and self.model is not None else None

    @cached_property
    def weights(self) -> "Weights":
        """What the neurons read and write (InputError where they are no feed-forward neurons of a model)."""
        from nibench.weights import read_weights

        if self.model is None:
            raise InputError("there is no model")
        return read_weights(self.model, self.data.neurons)

    @cached_property
    def beside(self) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """The ``rank`` items that the other models can read too, (n,), and what their neurons do on them."""
        from nibench.others import read_others

        return read_others(self.data, self.others, self.options)

    @cached_property
    def layout(self) -> np.ndarray:
        """(N, K) float64: where each ``rank`` item stands in its sentence, and how long that is."""
        from nibench.others import layout

        return layout(self.data)

    def notes(self, method: Method) -> list[str]:
        """What was dropped, cut or could not be cached, as far as this method is concerned."""
        notes = list(self.data.notes)
        lost = len(self._rank_split.labels) - len(self.beside[0]) if self._compares(method) else 0
        return [*notes, f"{lost} words that not all models can read were left out"] if lost else notes

    def _compares(self, method: Method) -> bool:
        return Needs.MODELS in method.needs and self.lacks(method) is None

    def observe(
        self, method: Method, name: str, labels: np.ndarray | None = None, rows: np.ndarray | None = None
    ) -> Observations:
        """What this method gets to see: of some rows of the ``rank`` split only, or under other labels (N,)."""
        split, every = self._rank_split, np.arange(len(self._rank_split.labels))
        readable, others = self.beside if Needs.MODELS in method.needs else (every, ())
        seen = every if rows is None else np.sort(rows)
        rows = np.intersect1d(readable, seen)
        statistics = self._statistics_of(rows)
        if labels is not None:
            statistics = statistics.relabel(read_only(labels[rows]), len(self.data.classes))
        behaviour = None
        if Needs.MODEL in method.needs:
            whole = labels is None and len(seen) == len(every)
            behaviour = self.behaviour("rank") if whole else self._behaviour_on(seen, labels)
        return Observations(
            self.data.neurons,
            len(self.data.classes),
            method.needs,
            name,
            statistics,
            _word_types=split.word_types[rows],
            _sentences=split.sentences[rows],
            _others=others
            if len(rows) == len(readable)
            else tuple(other[np.isin(readable, rows)] for other in others),
            _covariates=self.layout[rows],
            _behaviour=behaviour,
            _weights=self.weights if Needs.WEIGHTS in method.needs else None,
            _text=(self.text if len(rows) == len(every) else self._text_of(rows))
            if Needs.TEXT in method.needs
            else None,
            _inputs=self.inputs if Needs.EMBEDDINGS in method.needs else None,
        )

    def _statistics_of(self, rows: np.ndarray) -> Statistics:
        """Of some rows of the ``rank`` split; the halves that all methods are run on are summed up once."""
        split, key = self._rank_split, rows.tobytes()
        if len(rows) == len(split.labels):
            return self.statistics
        if key not in self._halves:
            self._halves[key] = Statistics(
                read_only(split.activations[rows]), split.labels[rows], len(self.data.classes)
            )
        return self._halves[key]

    def lacks(self, method: Method) -> str | None:
        """What the method needs and this task and model cannot give, or None."""
        if self.options.control not in (None, "random_model") and Needs.LABELS not in method.needs:
            return "reads no label: a control of the labels says nothing about it"
        if self.task.concept_free and (method.direction != "none" or Needs.LABELS in method.needs):
            return "looks for a concept: this task asks for none"
        if Needs.MODEL in method.needs and self.no_behaviour:
            return f"needs MODEL: {self.no_behaviour}"
        behaviour = self.behaviour("rank") if Needs.PAIRS in method.needs else None
        if Needs.PAIRS in method.needs and (behaviour is None or not behaviour.has_pairs):
            return "needs PAIRS: the task's prompts have no counterfactual twins"
        if Needs.WEIGHTS in method.needs:
            try:
                _ = self.weights
            except InputError as error:
                return f"needs WEIGHTS: {error}"
        if Needs.TEXT in method.needs and self.model is None:
            return "needs TEXT: there is no model to read any"
        if Needs.EMBEDDINGS in method.needs and self.inputs is None:
            return "needs EMBEDDINGS: there is no model to give words to"
        if Needs.MODELS in method.needs:
            if self.model is None:
                return "needs MODELS: a sampled world has no other model"
            if not self.others:
                return "needs MODELS: there is no other model; name one with --other"
            try:
                _ = self.beside
            except InputError as error:
                return f"needs MODELS: {error}"
        return None

    def setting(self, seed: int) -> "Setting":
        """What metrics share, for one seed of the control draws."""
        from nibench.metrics import Setting
        from nibench.metrics.curves import k_grid

        data, budget = self.data, self.options.budget
        controls = []
        controlled = not (budget.metrics == "truth" or self.task.concept_free)
        for draw in range(budget.n_controls if controlled else 0):
            rng = np.random.default_rng([seed, draw])
            labels = self.task.control(data.labels, data.word_types, len(data.classes), rng)
            controls.append({split: labels[data.splits == split] for split in ("rank", "probe", "eval")})
        folder = self.model.folder if self.model is not None else None
        truth = data.truth
        if truth is None and self.options.control is None:
            truth = self.task.source.truth(data.neurons, folder)
            if truth is None and budget.exhaustive and not getattr(self.task.source, "kept", False):
                truth = self._measured()
        ablates = budget.metrics != "truth" or (truth is not None and truth.null)
        return Setting(
            neurons=data.neurons,
            n_classes=len(data.classes),
            splits={split: data.split(split) for split in ("rank", "probe", "eval")},
            controls=tuple(controls),
            truth=truth,
            behaviour=self.behaviour("eval") if ablates else None,
            ks=k_grid(len(data.neurons)),
            ablation_ks=tuple(k for k in budget.ablation_ks if k <= len(data.neurons)),
            seed=0,
            n_random=budget.n_random,
            n_halves=budget.n_halves,
            metrics=budget.metrics,
            probe_behaviour=lambda: self.behaviour("probe"),
            other_behaviours=lambda: self.other_behaviours,
            output_norms=lambda: self.output_norms,
            null_ks=budget.null_ks if budget.metrics == "all" else (),
            null_sets=budget.null_sets,
            null_prompts=budget.null_prompts,
        )

    def _measured(self) -> Truth | None:
        """Every neuron's single effects on the ``eval`` prompts, where the budget allows that many."""
        from nibench.measured import measured_truth

        behaviour = self.behaviour("eval")
        if behaviour is None or behaviour.n_items * len(self.data.neurons) > self.options.budget.exhaustive:
            return None
        assert self.model is not None
        return measured_truth(behaviour, Path(self.model.name).name)


def under_control(data: "Activations", control: ChainControl | None) -> "Activations":
    """The same items under labels that mean nothing, split by split; nothing is known of the neurons then."""
    if control is None:
        return data
    noted = replace(data, truth=None, notes=(*data.notes, f"control: {CHAIN_CONTROLS[control]}"))
    if control == "random_model":
        return noted
    rng = np.random.default_rng(11)
    labels = data.labels.copy()
    if control in ("type", "sequence"):  # a type, or a kind of sentence, has one label in all splits
        surfaces = [f"{words[:1]} {len(words)}" for words in data.texts]  # first word, number of words
        kinds = data.word_types if control == "type" else np.unique(surfaces, return_inverse=True)[1]
        labels = random_label_per_word_type()(labels, kinds, len(data.classes), rng)
    else:
        for split in np.unique(data.splits):
            rows = np.flatnonzero(data.splits == split)
            labels[rows] = reassigned(data.labels[rows], data.sentences[rows], 1, rng, in_order=True)[0]
    prompts = data.prompts
    if prompts is not None:
        prompts = tuple(replace(p, label=label) for p, label in zip(prompts, labels.tolist(), strict=True))
    return replace(noted, labels=labels, prompts=prompts)


def read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def balanced(prompts: Sequence[Prompt], limit: int) -> list[Prompt]:
    """At most ``limit`` prompts, in turn from each (behaviour, class), in their own order."""
    cells: dict[tuple[str, int], list[Prompt]] = {}
    for prompt in prompts:
        cells.setdefault((prompt.behaviour, prompt.label), []).append(prompt)
    share = max(1, limit // max(1, len(cells)))
    return [prompt for key in sorted(cells) for prompt in cells[key][:share]]
