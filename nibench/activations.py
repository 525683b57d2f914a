"""extract: the activations of a task's items, with names, labels, splits; cached on disk by content."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from nibench.errors import InputError, unknown
from nibench.items import Items, by_sentence, drop_small_classes, prompt_items, renumber, text_items
from nibench.neurons import Block, Neurons
from nibench.task import (
    SPLITS,
    Corpus,
    Prompt,
    PromptCorpus,
    Site,
    Split,
    Task,
    TextCorpus,
    Truth,
    World,
)

if TYPE_CHECKING:
    from nibench.model import LanguageModel, Layers
    from nibench.words import Window

Aggregation = Literal["last", "first", "mean"]
Progress = Callable[[int, int], None]

EXTRACTION = 1  # raise it when the same input gives other numbers: old cache entries are then left alone


@dataclass(frozen=True, eq=False)
class SplitData:
    """The items of one split: activations (n, D), labels, word types and sentence ids (n,)."""

    activations: np.ndarray
    labels: np.ndarray
    word_types: np.ndarray
    sentences: np.ndarray


@dataclass(frozen=True, eq=False)
class Activations:
    """The activations of a task's items and what each item is. Items are ordered by split.

    Attributes
    ----------
    activations : float32 (N, D)
        Read-only; memory-mapped where the cache holds them.
    neurons : Neurons
        The D names.
    labels : int (N,)
        Class of each item, an index into ``classes``.
    classes : tuple of str
        The classes that are left; those under the task's minimum are gone, see ``notes``.
    word_types, sentences : int (N,)
        Which word (an index into ``words``; of a prompt, its last) and which sentence (of a prompt, its
        group): what controls and bootstraps go by.
    splits : str (N,)
        ``rank``, ``probe`` or ``eval``.
    prompts : tuple of Prompt, or None
        For a behaviour, the prompt of each item, labels as in ``labels``.
    notes : tuple of str
        What was dropped, cut, split or could not be cached, counted.
    digest : str
        sha256 of everything that determines the numbers.
    intervene_at : "last" or "all"
        For a behaviour, where ablations act.
    truth : Truth or None
        What a world says of its neurons.
    corpus, places, site
        What was read (None: a world), where in it each item is, (N, 2): sentence and word number; of a
        prompt, its number and 0; and whose neurons.
    """

    activations: np.ndarray
    neurons: Neurons
    labels: np.ndarray
    classes: tuple[str, ...]
    word_types: np.ndarray
    words: tuple[str, ...]
    sentences: np.ndarray
    splits: np.ndarray
    prompts: tuple[Prompt, ...] | None
    notes: tuple[str, ...]
    digest: str
    intervene_at: Literal["last", "all"] = "last"
    truth: Truth | None = None
    corpus: TextCorpus | PromptCorpus | None = None
    places: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=int))
    site: Site = "mlp_post"

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """The words of the sentence or prompt that each item belongs to; none of a world."""
        if isinstance(self.corpus, PromptCorpus):
            every = [tuple(prompt.text.split()) for prompt in self.corpus.prompts]
        else:
            every = [] if self.corpus is None else [sentence.words for sentence in self.corpus.sentences]
        return tuple(every[number] for number in self.places[:, 0])

    @property
    def positions(self) -> np.ndarray:
        """int (N,): which of these words each item is; -1 for a prompt."""
        of_prompts = isinstance(self.corpus, PromptCorpus)
        return np.full(len(self.places), -1) if of_prompts else self.places[:, 1]

    def rows(self, name: Split) -> np.ndarray:
        """int (n,): the items of one split."""
        if name not in SPLITS:
            raise unknown("split", name, SPLITS, f"There are {', '.join(SPLITS)}.")
        return np.flatnonzero(self.splits == name)

    def split(self, name: Split) -> SplitData:
        """The items of one split; its activations are a view where they lie together."""
        rows = self.rows(name)
        together = rows.size and rows[-1] - rows[0] + 1 == rows.size
        chosen: Any = slice(int(rows[0]), int(rows[-1]) + 1) if together else rows
        return SplitData(
            self.activations[chosen], self.labels[chosen], self.word_types[chosen], self.sentences[chosen]
        )

    def split_prompts(self, name: Split) -> tuple[Prompt, ...]:
        """The prompts of one split; none where the task has no behaviour."""
        return () if self.prompts is None else tuple(self.prompts[row] for row in self.rows(name))


def extract(
    model: "LanguageModel | None",
    task: Task | Corpus,
    *,
    site: Site | None = None,
    layers: "Layers" = None,
    aggregation: Aggregation = "last",
    data: Path | str | None = None,
    cap: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    cache: bool = True,
) -> Activations:
    """Read the activations of every item of a task.

    Every labelled word of running text is one item, read at its ``last`` or ``first`` sub-word or as the
    ``mean`` of them; every prompt is one item, read at its last token; a world brings its own activations.

    Parameters
    ----------
    model : LanguageModel or None
        None for a world only.
    task : Task or Corpus
        A task is loaded with ``data``, ``cap`` and ``seed`` and must have items in all three splits; its
        ``min_class`` rule drops small classes. A corpus is taken as it is.
    site, layers
        Whose neurons (default: the task's site, all layers).
    progress : callable, optional
        Called with (items done, items in all).
    cache : bool
        Keep the activations on disk and find them there the next time.

    Raises
    ------
    InputError
        For misaligned labels, a split without items, fewer than two classes left, activations that are NaN.
    """
    if aggregation not in get_args(Aggregation):
        raise unknown("aggregation", aggregation, get_args(Aggregation), "There are last, first, mean.")
    if isinstance(task, Task):
        folder = None if model is None else model.folder
        corpus = task.load(seed=seed, data=data, folder=folder, cap=cap)
        site, min_class, needed = site or task.site, task.min_class, SPLITS
    else:
        corpus, site, min_class, needed = task, site or "mlp_post", 1, ()
    if isinstance(corpus, World):
        return _from_world(corpus, min_class, needed)
    if model is None:
        raise InputError(
            "This task has text, which a model must read; expected model=load_model(...), got None."
        )
    items = text_items(corpus) if isinstance(corpus, TextCorpus) else prompt_items(corpus)
    if isinstance(task, Task) and task.concept_free:
        kept, classes, notes = np.arange(len(items.labels)), corpus.classes, []
    else:
        kept, classes, notes = drop_small_classes(
            items.labels, items.splits, corpus.classes, min_class, needed
        )
    items = items.take(kept)
    items = replace(items, labels=renumber(items.labels, corpus.classes, classes))
    key = extraction_key(
        model, corpus, site, layers, aggregation if isinstance(corpus, TextCorpus) else "last", kept
    )
    array, about = read_items(
        model, corpus, items, site, layers, aggregation, key if cache else None, progress
    )
    if about["dropped"]:
        items = items.take(np.setdiff1d(np.arange(len(items.labels)), about["dropped"]))
    prompts = None
    if isinstance(corpus, PromptCorpus):
        prompts = tuple(
            replace(corpus.prompts[number], label=int(label))
            for number, label in zip(items.places[:, 0], items.labels, strict=True)
        )
    vocabulary, word_types = items.vocabulary
    array.flags.writeable = False
    return Activations(
        activations=array,
        neurons=Neurons(tuple(Block(*block) for block in about["blocks"])),
        labels=items.labels,
        classes=classes,
        word_types=word_types,
        words=tuple(vocabulary.tolist()),
        sentences=items.sentences,
        splits=items.splits,
        prompts=prompts,
        notes=(*corpus.notes, *notes, *about["notes"]),
        digest=key,
        intervene_at=corpus.intervene_at if isinstance(corpus, PromptCorpus) else "last",
        corpus=corpus,
        places=items.places,
        site=site,
    )


def _from_world(world: World, min_class: int, needed: Sequence[str]) -> Activations:
    kept, classes, notes = drop_small_classes(world.labels, world.splits, world.classes, min_class, needed)
    rows: Any = slice(None) if len(kept) == len(world.labels) else kept
    words = np.unique(world.word_types)
    return Activations(
        activations=world.activations[rows],
        neurons=Neurons.anonymous(world.activations.shape[1]),
        labels=renumber(world.labels, world.classes, classes)[rows],
        classes=classes,
        word_types=np.searchsorted(words, world.word_types)[rows],
        words=tuple(str(word) for word in words),
        sentences=world.sentences[rows],
        splits=world.splits[rows],
        prompts=None,
        notes=(*world.notes, *notes),
        digest=world.digest,
        truth=world.truth,
    )


def extraction_key(
    model: "LanguageModel",
    corpus: TextCorpus | PromptCorpus,
    site: Site,
    layers: "Layers",
    aggregation: str,
    kept: np.ndarray,
) -> str:
    """sha256 of all that the numbers depend on."""
    from nibench.model import choose_layers

    what = {
        "code": EXTRACTION,
        "versions": [version("torch"), version("transformers"), version("tokenizers")],
        "model": model.digest,
        "device": model.device.type,
        "corpus": corpus.digest,
        "items": hashlib.sha256(kept.astype("<i8").tobytes()).hexdigest(),
        "site": site,
        "layers": choose_layers(layers, model.n_layers, site),
        "aggregation": aggregation,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def read_items(
    model: "LanguageModel",
    corpus: TextCorpus | PromptCorpus,
    items: Items,
    site: Site,
    layers: "Layers",
    aggregation: Aggregation,
    key: str | None,
    progress: Progress | None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """The activations (N, D) of the items and what is to be noted, from the cache if it has them."""
    from nibench.cache import ActivationCache
    from nibench.words import align_prompts, align_words

    store = ActivationCache() if key else None
    found = store.get(key) if store and key else None
    if found:
        return found
    dropped: list[int] = []
    if isinstance(corpus, TextCorpus):
        numbers, wanted = by_sentence(items)
        windows, dropped, notes = align_words(model, [corpus.sentences[n].words for n in numbers], wanted)
    else:
        windows, notes = align_prompts(model, [corpus.prompts[n] for n in items.places[:, 0]])
    shift = np.cumsum(np.bincount(dropped, minlength=len(items.labels)))  # rows close up over dropped words
    windows = [replace(window, rows=window.rows - shift[window.rows]) for window in windows]
    neurons = model.neurons(site, layers)
    words = np.delete(items.words, dropped)
    about = {
        "blocks": [(block.name, block.layer, block.width) for block in neurons.blocks],
        "dropped": dropped,
        "notes": notes,
    }

    def fill(array: np.ndarray) -> dict[str, Any]:
        read_windows(model, windows, site, layers, aggregation, array, words, progress)
        return about

    shape = (len(words), len(neurons))
    if store and key:
        array, about, problem = store.compute(key, shape, fill)
        return array, {**about, "notes": [*notes, *([problem] if problem else [])]}
    array = np.empty(shape, dtype=np.float32)
    return array, fill(array)


def read_windows(
    model: "LanguageModel",
    windows: "Sequence[Window]",
    site: Site,
    layers: "Layers",
    aggregation: Aggregation,
    array: np.ndarray,
    words: np.ndarray,
    progress: Progress | None = None,
) -> None:
    """Run the model over the windows and write each item's activations into its row of ``array`` (N, D).

    Raises
    ------
    InputError
        Naming the neuron and the word, for activations that are NaN or infinite.
    """
    import torch

    from nibench.words import batches

    taps = model.taps(site, layers)
    offsets = model.neurons(site, layers).offsets
    rows = np.zeros(0, dtype=int)
    places = owners = counts = torch.zeros(0)

    def keep(column: int, name: str) -> Callable[[Any], None]:
        def write(values: Any) -> None:
            chosen = values.reshape(-1, values.shape[-1]).index_select(0, places)
            if aggregation == "mean":
                sums = torch.zeros(len(rows), values.shape[-1], device=values.device)
                chosen = sums.index_add_(0, owners, chosen) / counts[:, None]
            block = chosen.cpu().numpy()
            if not torch.isfinite(chosen.sum()) and not np.isfinite(block).all():
                item, unit = np.argwhere(~np.isfinite(block))[0]
                raise InputError(
                    f"Neuron {name}.{unit} is {block[item, unit]} at the word {str(words[rows[item]])!r}; "
                    "expected numbers. Check the model's weights."
                )
            array[rows, column : column + block.shape[1]] = block

        return write

    handles = [
        tap.attach(keep(int(offset), tap.block.name)) for tap, offset in zip(taps, offsets, strict=False)
    ]
    done, total = 0, sum(len(window.rows) for window in windows)
    try:
        for batch in batches(windows):
            longest = len(batch[0].ids)
            rows = np.concatenate([window.rows for window in batch])
            shifts = np.repeat(np.arange(len(batch)) * longest, [len(window.rows) for window in batch])
            starts = np.concatenate([window.starts for window in batch]) + shifts
            stops = np.concatenate([window.stops for window in batch]) + shifts
            if aggregation == "mean":
                sizes = stops - starts
                owner = np.repeat(np.arange(len(rows)), sizes)
                place = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes) + starts[owner]
                owners = torch.from_numpy(owner).to(model.device)
                counts = torch.from_numpy(sizes).to(model.device)
            else:
                place = stops - 1 if aggregation == "last" else starts
            places = torch.from_numpy(place).to(model.device)
            model.run([window.ids for window in batch])
            done += len(rows)
            if progress:
                progress(done, total)
    finally:
        for handle in handles:
            handle.remove()
