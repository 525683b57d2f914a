"""Task: what is asked. A concept, its classes, where labelled items come from, and its control."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np

from nibench.errors import InputError
from nibench.neurons import Neurons

Split = Literal["rank", "probe", "eval"]
SPLITS: tuple[Split, ...] = get_args(Split)

Claim = Literal["associated", "responds", "carries", "required", "none"]
CLAIMS: tuple[Claim, ...] = ("associated", "responds", "carries", "required")

Site = Literal["residual", "mlp_post", "mlp_pre", "attn_out"]
SITES: tuple[Site, ...] = get_args(Site)

UNLABELLED = -1


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words of running text with one class id per word (-1: not labelled)."""

    words: tuple[str, ...]
    labels: tuple[int, ...]
    split: Split


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a behaviour: the model should continue ``text`` with ``answers[answer]``.

    ``source`` is the counterfactual twin of the text (same length in tokens, differing in the
    concept only) with its own correct answer; ``group`` is what items are clustered by. There are no answers,
    and so no behaviour, after a word on which no later word depends. ``word`` is the number of the word (between
    single spaces) that is asked about, where the text is seen as a whole; None: the end.
    """

    text: str
    label: int
    split: Split
    behaviour: str
    answers: tuple[str, ...]
    answer: int
    source: str | None = None
    source_answer: int | None = None
    group: str = ""
    word: int | None = field(default=None, repr=False)  # digests of other prompts are of their repr


@dataclass(frozen=True)
class TextCorpus:
    """Labelled sentences; every labelled word is one item."""

    sentences: tuple[Sentence, ...]
    classes: tuple[str, ...]
    digest: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PromptCorpus:
    """Prompts with answers; every prompt is one item, read at its last token."""

    prompts: tuple[Prompt, ...]
    classes: tuple[str, ...]
    digest: str
    intervene_at: Literal["last", "all"] = "last"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """Activations that were sampled, not read from a model: nothing can be intervened on."""

    activations: np.ndarray  # (N, D) float32
    labels: np.ndarray  # (N,) int
    word_types: np.ndarray  # (N,) int
    sentences: np.ndarray  # (N,) int
    splits: np.ndarray  # (N,) str, of SPLITS
    classes: tuple[str, ...]
    truth: "Truth | None"  # None where whoever drew it keeps it
    digest: str
    notes: tuple[str, ...] = ()


Corpus = TextCorpus | PromptCorpus | World


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of each neuron, per claim.

    Attributes
    ----------
    gains : claim -> float64 (D,)
        Graded truth, non-negative; 0 is irrelevant.
    sets : claim -> bool (D,)
        The right answer where it is a set (average precision is defined there only).
    roles : str (D,)
        One role per neuron: used, decoy, natural_decoy, background, ... (the failure page counts them).
    oracles : claim -> float64 (D,)
        What the claim's own exhaustive measurement, neuron by neuron, scores each neuron: shown beside the
        methods, so that one sees how far single effects can get.
    groups : int (D,), optional
        The group of interchangeable neurons (copies, backups) that each belongs to; -1: in none.
    neuron_labels : int (D,), optional
        The class that each neuron is selective for; -1: for none.
    null : bool
        No neuron is right: the task asks only whether a method claims one, and enters no mean.
    tier : str
        What the neurons belong to: ``world``, ``glass-box``, ``middle``, ``twin``; a word of its own elsewhere.
    lineage : str
        What was planted once: a glass-box, its twin and its middle share it. Bootstraps draw lineages.
    """

    gains: Mapping[Claim, np.ndarray]
    sets: Mapping[Claim, np.ndarray]
    roles: np.ndarray
    oracles: Mapping[Claim, np.ndarray] = field(default_factory=dict)
    groups: np.ndarray | None = None
    neuron_labels: np.ndarray | None = None
    null: bool = False
    tier: str = ""
    lineage: str = ""


class Source(Protocol):
    """Where a task's items come from: a description, cheap to make; ``load`` does the work."""

    def load(self, *, seed: int, data: Path | str | None, folder: Path | None, cap: int | None) -> Corpus:
        """The labelled items.

        Parameters
        ----------
        seed : int
            Seeds what is drawn (splits, prompts).
        data : folder or hub id, optional
            Where the text is, for sources that ship none.
        folder : Path, optional
            The model's folder, for sources that read their items or truth from it.
        cap : int, optional
            At most so many words (whole sentences) or prompts per split.
        """
        ...

    def fingerprint(self, data: Path | str | None, folder: Path | None) -> str:
        """Digest of what ``load`` and ``truth`` would read: cheap, and changes when they would."""
        ...

    def refuses(self, folder: Path | None) -> str | None:
        """Why this source does not apply to the model in ``folder`` (None: no model), or None."""
        ...

    def truth(self, neurons: Neurons, folder: Path | None) -> Truth | None:
        """What is known of the neurons of the model in ``folder``; None where nothing is."""
        ...


Control = Callable[[np.ndarray, np.ndarray, int, np.random.Generator], np.ndarray]
"""Labels of a control task: (labels (N,), word_types (N,), n_classes, rng) -> labels (N,)."""


@dataclass(frozen=True)
class Task:
    """A concept task: a declaration, no control flow (see ``tasks/README.md``).

    Parameters
    ----------
    concept : str
        The property asked for, e.g. ``number``.
    classes : tuple of str
        Its values, at least two, distinct. Empty: taken from the data, sorted.
    source : Source
        From ``nibench.sources``.
    control : Control
        From ``nibench.control``.
    site : Site
        Whose neurons are ranked when the user does not say.
    related : tuple of str
        Concepts that are part of this one, or it of them (tense, past tense): specificity leaves them out.
    concept_free : bool
        No concept is asked for; the labels mean nothing, and only methods of direction ``none`` apply.
    min_class : int
        A class with fewer items than this in any split is dropped for everybody and listed.
    """

    concept: str
    classes: tuple[str, ...]
    source: Source
    control: Control
    paper: str = ""
    licence: str = ""
    site: Site = "mlp_post"
    min_class: int = 30
    related: tuple[str, ...] = ()
    concept_free: bool = False
    summary: str = field(default="")

    def __post_init__(self) -> None:
        if self.classes and (len(self.classes) < 2 or len(set(self.classes)) != len(self.classes)):
            raise InputError(
                f"Task {self.concept!r} has classes {self.classes}; expected two or more, all different."
            )
        if self.site not in SITES:
            raise InputError(
                f"Task {self.concept!r} has site {self.site!r}; expected one of {', '.join(SITES)}."
            )

    def load(
        self,
        *,
        seed: int = 0,
        data: Path | str | None = None,
        folder: Path | None = None,
        cap: int | None = None,
    ) -> Corpus:
        """The labelled items of this task (see ``Source.load``), in the classes it names.

        Raises
        ------
        InputError
            If a named class has no items at all, or a sentence has not one label per word.
        """
        corpus = self.source.load(seed=seed, data=data, folder=folder, cap=cap)
        missing = [name for name in self.classes if name not in corpus.classes]
        if missing:
            raise InputError(
                f"Task {self.concept!r}: no item of class {missing[0]!r}; the data has {', '.join(corpus.classes)}."
            )
        if isinstance(corpus, TextCorpus):
            for sentence in corpus.sentences:
                if len(sentence.words) != len(sentence.labels):
                    raise InputError(
                        f"Task {self.concept!r}: {len(sentence.labels)} labels for {len(sentence.words)} words in "
                        f"{' '.join(sentence.words[:8])!r}; give one label per word, -1 where there is none."
                    )
            if self.classes and self.classes != corpus.classes:
                return _restricted(corpus, self.classes)
        return corpus


def _restricted(corpus: TextCorpus, classes: tuple[str, ...]) -> TextCorpus:
    """The corpus with its labels in the given classes; words of other classes become unlabelled."""
    new = {old: classes.index(name) for old, name in enumerate(corpus.classes) if name in classes}
    sentences = tuple(
        replace(sentence, labels=tuple(new.get(label, UNLABELLED) for label in sentence.labels))
        for sentence in corpus.sentences
    )
    return replace(corpus, sentences=sentences, classes=classes)
