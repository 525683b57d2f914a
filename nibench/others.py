"""Other models: which ones a model is compared with, and what their neurons do on its items.

Importing this module imports neither torch nor transformers, so that a plan of many cells stays cheap.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nibench.errors import InputError
from nibench.submissions import bundled_models, resolve_model
from nibench.task import PromptCorpus, Split

if TYPE_CHECKING:
    from nibench.activations import Activations, Aggregation
    from nibench.ground import Options
    from nibench.model import LanguageModel, Layers

N_KIN = 3  # models that a truth model is compared with


def companions(
    model: str | None, folder: Path | None, concept: str, given: Sequence[str] = (), run: Sequence[str] = ()
) -> tuple[str, ...]:
    """The models that ``model`` is compared with, by what to type for them.

    Those that are given; else, of a glass-box, its kin (so that its cells do not depend on what else is run); else
    the other models of the run. None for a world.
    """
    if model is None or folder is None:
        return ()
    own = Path(resolve_model(model)).resolve()
    named = () if given else kin(folder, concept)
    named = named or [name for name in given or run if Path(resolve_model(name)).resolve() != own]
    return tuple(dict.fromkeys(named))


@cache
def kin(folder: Path, concept: str) -> tuple[str, ...]:
    """Three truth models of the same kind: glass-boxes for a glass-box, natural twins for a twin or a middle.

    Models of other seeds that lie beside it; first those in which the concept is certified, then by their
    distance in seeds, going up and round. Those that hold nulls alone are left out. Empty for any other model.
    """
    from nibench.truth.files import glassbox_of, read_truth

    try:
        own = glassbox_of(folder)
    except InputError:
        return ()
    seed = read_truth(own).seed
    found = []
    for path in own.parent.glob("*/truth.json"):
        truth = read_truth(path.parent)
        member = path.parent if folder == own else path.parent.parent / (truth.twin or "")
        planted = any(not known.is_null for known in truth.concepts.values())
        if planted and path.parent != own and (folder == own or truth.twin) and member.is_dir():
            found.append((concept not in truth.concepts, (truth.seed - seed) % 1000, member))
    bundled = bundled_models()
    return tuple(
        member.name if bundled.get(member.name) == member else str(member)
        for _, _, member in sorted(found)[:N_KIN]
    )


def reread(
    data: "Activations",
    model: "LanguageModel",
    split: Split,
    layers: "Layers" = None,
    aggregation: "Aggregation" = "last",
) -> tuple[np.ndarray, np.ndarray]:
    """What another model's neurons do on the items of one split, at the same site.

    Also which items of the split they are, (n',): all but words that this model's tokenizer drops.
    """
    from nibench.activations import extraction_key, read_items
    from nibench.items import Items

    assert data.corpus is not None, "a world has one model only: none"
    rows = data.rows(split)
    items = Items(
        data.labels[rows],
        data.splits[rows],
        np.array(data.words)[data.word_types[rows]],
        data.sentences[rows],
        data.places[rows],
    )
    which = np.concatenate([[-1], items.places.ravel()])  # unlike any list of rows that `extract` hashes
    key = extraction_key(model, data.corpus, data.site, layers, aggregation, which)
    array, about = read_items(model, data.corpus, items, data.site, layers, aggregation, key, None)
    return array, np.setdiff1d(np.arange(len(rows)), about["dropped"])


def read_others(
    data: "Activations", names: Sequence[str], options: "Options"
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """What other models' neurons do on the ``rank`` items: (n,) rows that all of them can read, and arrays (n, D').

    Read as the first model was: same site, layers, sub-words.
    """
    from nibench.model import load_model

    read = []
    for name in names:
        model = load_model(resolve_model(name), device=options.device)
        read.append(reread(data, model, "rank", options.layers, options.aggregation))
    rows = read[0][1]
    for _, present in read[1:]:
        rows = np.intersect1d(rows, present)
    arrays = [array[np.isin(present, rows)] if len(present) > len(rows) else array for array, present in read]
    for array in arrays:
        array.flags.writeable = False
    return rows, tuple(arrays)


def layout(data: "Activations") -> np.ndarray:
    """(n, 2): where each ``rank`` item stands in its sentence and how long that is, in words; (n, 0) in a world."""
    rows = data.rows("rank")
    if data.corpus is None:
        return np.zeros((len(rows), 0))
    numbers, positions = data.places[rows].T
    if isinstance(data.corpus, PromptCorpus):  # read at the last word
        lengths = np.array([len(prompt.text.split()) for prompt in data.corpus.prompts])[numbers]
        return np.stack([lengths - 1, lengths], axis=1).astype(np.float64)
    lengths = np.array([len(sentence.words) for sentence in data.corpus.sentences])[numbers]
    return np.stack([positions, lengths], axis=1).astype(np.float64)
