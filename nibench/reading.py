"""Reading: one neuron's activation at every token of a text, and what there is to see in it.

The strongest contexts alone mislead: a neuron may look like one thing at its top and do another below it. So the
lowest ones and samples from all quantiles stand beside them.

Papers: Bills et al., "Language models can explain neurons in language models", 2023 (top and random excerpts),
https://openaipublic.blob.core.windows.net/neuron-explainer/paper/index.html; Bolukbasi et al., "An
Interpretability Illusion for BERT", 2021 (why the top misleads), https://arxiv.org/abs/2104.07143
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from nibench.activations import read_windows
from nibench.errors import InputError, unknown
from nibench.order_statistics import auc
from nibench.passages import Label, Passages
from nibench.task import SITES
from nibench.words import align_tokens

if TYPE_CHECKING:
    from nibench.architecture import Tap
    from nibench.model import LanguageModel

AT_ONCE = 1 << 23  # activations held while a chunk of text is read: 32 MiB
BINS = 40
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BANDS = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)  # of the tokens, by activation
PER_BAND = 4
BEFORE, AFTER = 40, 20  # tokens shown around the one that a context is about, to whole words
LONGEST_WORD = 20  # tokens
MANY_ALIKE = 0.05  # share of tokens at the lowest value from which none is special, as after a ReLU or GELU
FULL_COLOUR = 0.995  # quantile of the distance from the median from which on the colour is full
MIN_COUNT = 5  # occurrences from which on a token's mean is shown
_NAME = re.compile(r"(?:L(\d+)\.(\w+)|embed)\.(\d+)")


def find_neuron(model: "LanguageModel", name: str) -> "tuple[Tap, int]":
    """Where the neuron of this name is read, and its number there.

    Raises
    ------
    InputError
        If the model has none; the message says how many there are, or the nearest name.
    """
    match = _NAME.fullmatch(name)
    site = "residual" if match and match[2] is None else match[2] if match else ""
    if match is None or site not in SITES:
        unit = name.rpartition(".")[2]
        near = [f"L{layer}.{site}.{unit}" for layer in range(model.n_layers) for site in SITES]
        raise unknown(
            "neuron",
            name,
            [*near, f"embed.{unit}"],
            f"Expected L2.mlp_post.15, of {', '.join(SITES)}, or embed.15.",
        )
    if match[1] is not None and int(match[1]) >= model.n_layers:
        raise InputError(
            f"No neuron named {name!r}: {model.name} has {model.n_layers} layers, L0 to L{model.n_layers - 1}."
        )
    (tap,) = model.taps(site, "embed" if match[1] is None else [int(match[1])])  # type: ignore[arg-type]
    block, unit = tap.block, int(match[3])
    if unit >= block.width:
        last = f"{block.name}.{block.width - 1}"
        raise InputError(f"No neuron named {name!r}: there are {block.width}, {block.name}.0 to {last}.")
    return tap, unit


@dataclass(frozen=True, eq=False)
class Reading:
    """One neuron's activation at the T tokens of P passages; special tokens are not among them.

    Attributes
    ----------
    values : float32 (T,)
    starts : int (P + 1,)
        Where each passage's tokens begin, then T.
    spans, words : int (T, 2) and (T,)
        Characters of the passage's text (words joined by single spaces), and the word that the token ends in.
    causal : bool
        Whether a token's activation depends on no later one.
    """

    neuron: str
    passages: Passages
    values: np.ndarray
    starts: np.ndarray
    spans: np.ndarray
    words: np.ndarray
    causal: bool

    @cached_property
    def texts(self) -> tuple[str, ...]:
        return tuple(" ".join(passage.words) for passage in self.passages.items)

    @cached_property
    def owners(self) -> np.ndarray:
        """int (T,): the passage of each token."""
        return np.repeat(np.arange(len(self.texts)), np.diff(self.starts))

    @cached_property
    def centre(self) -> float:
        """The median activation, which has no colour."""
        return float(np.median(self.values))

    @cached_property
    def limit(self) -> float:
        """The distance from it that has the full colour: at most one token in 200 lies beyond."""
        away = np.abs(self.values - self.centre)
        return float(np.quantile(away, FULL_COLOUR)) or float(away.max())

    def token(self, row: int) -> str:
        """A token's text; ``…`` before one that goes on within a word, ``␣`` for nothing but space."""
        start, stop = self.spans[row].tolist()
        text = self.texts[self.owners[row]]
        surface = text[start:stop]
        goes_on = start > 0 and not surface[:1].isspace() and not text[start - 1].isspace()
        return ("…" if goes_on else "") + (surface.strip() or "␣")

    @cached_property
    def tokens(self) -> np.ndarray:
        """object (T,): every token's text."""
        return np.array([self.token(row) for row in range(len(self.values))], dtype=object)

    def labelled(self) -> dict[str, list[tuple[int, str]]]:
        """Concept -> (token, class) of each labelled word, at its last token; words without one are left out."""
        found: dict[str, list[tuple[int, str]]] = {}
        for number, passage in enumerate(self.passages.items):
            for label in passage.labels:
                row = self._last_token(number, label)
                if row is not None:
                    found.setdefault(label.concept, []).append((row, label.name))
        return found

    def _last_token(self, number: int, label: Label) -> int | None:
        start, stop = self.starts[number : number + 2]
        row = int(start + np.searchsorted(self.words[start:stop], label.word, side="right")) - 1
        return row if row >= start and self.words[row] == label.word else None


def read_neuron(
    model: "LanguageModel",
    neuron: str,
    passages: Passages,
    progress: Callable[[int, int], None] | None = None,
) -> Reading:
    """Run the model over the passages; memory grows with the text by a few bytes a token, not with the layer.

    Raises
    ------
    InputError
        If there is no such neuron, no token in the text, or an activation is no number.
    """
    tap, unit = find_neuron(model, neuron)
    layers = "embed" if tap.block.name == "embed" else [tap.block.layer]
    site = "residual" if tap.block.name == "embed" else tap.block.name.partition(".")[2]
    values, read, done = [], [], 0
    for chunk in _chunks(passages, AT_ONCE // tap.block.width):
        windows, tokens = align_tokens(model, [passage.words for passage in chunk])
        array = np.zeros((sum(len(one.words) for one in tokens), tap.block.width), dtype=np.float32)
        names = np.concatenate(
            [np.array(p.words, dtype=object)[t.words] for p, t in zip(chunk, tokens, strict=True)]
        )
        read_windows(model, windows, site, layers, "last", array, names)  # type: ignore[arg-type]
        values.append(array[:, unit].copy())
        read += zip(chunk, tokens, strict=True)
        done += sum(len(passage.words) for passage in chunk)
        if progress:
            progress(done, passages.n_words)
    kept = [(passage, tokens) for passage, tokens in read if len(tokens.words)]
    if not kept:
        raise InputError(f"{passages.source} has no token that {model.name} knows; give some text.")
    lengths = [len(tokens.words) for _, tokens in kept]
    return Reading(
        neuron,
        Passages(tuple(passage for passage, _ in kept), passages.source, passages.notes),
        np.concatenate(values),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([tokens.spans for _, tokens in kept]),
        np.concatenate([tokens.words for _, tokens in kept]),
        model.has_head == "causal",
    )


def _chunks(passages: Passages, n_tokens: int) -> Iterator[list[Any]]:
    """Passages in groups of about so many tokens, at least one passage each."""
    chunk, size = [], 0
    for passage in passages.items:
        chunk.append(passage)
        size += sum(map(len, passage.words)) + len(passage.words)  # characters: more than tokens
        if size >= n_tokens:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


# ---------------------------------------------------------------- numbers


def plain(value: Any) -> float:
    """The shortest decimal number that is this float32."""
    return float(str(np.float32(value)))


def statistics(reading: Reading) -> dict[str, Any]:
    """Mean, spread, quantiles and a histogram of all tokens."""
    values = reading.values.astype(np.float64)
    edges = np.linspace(values.min(), values.max(), BINS + 1)
    return {
        "tokens": len(values),
        "mean": plain(values.mean()),
        "sd": plain(values.std()),
        "min": plain(values.min()),
        "max": plain(values.max()),
        "share_above_zero": float((values > 0).mean()),
        "quantiles": {
            f"{q:g}": plain(v) for q, v in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)
        },
        "edges": [plain(edge) for edge in edges],
        "counts": _histogram(values, edges),
    }


def _histogram(values: np.ndarray, edges: np.ndarray) -> list[int]:
    if edges[0] == edges[-1]:
        return [len(values)] + [0] * (len(edges) - 2)
    return np.histogram(values, edges)[0].tolist()


def concepts(reading: Reading) -> list[dict[str, Any]]:
    """Per labelled concept and class: items, mean, spread, histogram, and how well the neuron tells the class.

    ``auc``: the chance that an item of the class is more active than one of another class, ties counting half;
    None where there is no other class.
    """
    everything = reading.values.astype(np.float64)
    edges = np.linspace(everything.min(), everything.max(), BINS + 1)
    found = []
    for concept, items in reading.labelled().items():
        values = everything[[row for row, _ in items]]
        names = np.array([name for _, name in items])
        rows = []
        for name in sorted(set(names.tolist())):
            own = names == name
            rows.append(
                {
                    "class": name,
                    "items": int(own.sum()),
                    "mean": plain(values[own].mean()),
                    "sd": plain(values[own].std()),
                    "auc": None if own.all() else round(float(auc(values[:, None], own.astype(int))[0]), 4),
                    "counts": _histogram(values[own], edges),
                }
            )
        found.append({"concept": concept, "classes": rows})
    return found


def by_token(reading: Reading, k: int) -> dict[str, Any]:
    """The tokens on which the neuron is highest and lowest in the mean, of those that occur often enough."""
    tokens, inverse, counts = np.unique(reading.tokens, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, reading.values.astype(np.float64)) / counts
    fewest = min(MIN_COUNT, int(counts.max()))
    often = np.flatnonzero(counts >= fewest)
    order = often[np.argsort(-means[often], kind="stable")]
    k = min(k, (len(order) + 1) // 2)

    def rows(chosen: np.ndarray) -> list[dict[str, Any]]:
        return [
            {"token": str(tokens[i]), "count": int(counts[i]), "mean": plain(means[i])}
            for i in chosen.tolist()
        ]

    return {
        "min_count": fewest,
        "different": len(tokens),
        "highest": rows(order[:k]),
        "lowest": rows(order[::-1][: len(order) - k][:k]),
    }


# ---------------------------------------------------------------- contexts


def extremes(reading: Reading, k: int) -> dict[str, list[dict[str, Any]]]:
    """The k strongest contexts and the k lowest: one a passage, and none twice as far as the neuron could see.

    None are lowest where more than `MANY_ALIKE` of the tokens are, to a hundredth of the range.
    """
    low, high = float(reading.values.min()), float(reading.values.max())
    alike = float((reading.values <= low + (high - low) / 100).mean())
    return {
        "highest": _strongest(reading, reading.values, k),
        "lowest": [] if alike > MANY_ALIKE else _strongest(reading, -reading.values, k),
    }


def _strongest(reading: Reading, values: np.ndarray, k: int) -> list[dict[str, Any]]:
    peaks = np.maximum.reduceat(values, reading.starts[:-1])
    seen: set[str] = set()
    found = []
    for number in np.argsort(-peaks, kind="stable").tolist():
        start, stop = reading.starts[number : number + 2].tolist()
        row = start + int(values[start:stop].argmax())
        text = reading.texts[number]
        key = text[: reading.spans[row, 1]] if reading.causal else text
        if key not in seen:
            seen.add(key)
            found.append(context(reading, row))
        if len(found) == k:
            break
    return found


def bands(reading: Reading, seed: int = 0) -> list[dict[str, Any]]:
    """Tokens drawn at random from each quantile band of the activation; bands of one value are joined."""
    values = reading.values
    edges = np.unique(np.quantile(values, BANDS, method="inverted_cdf"))
    limits = list(pairwise(edges))
    inside = [(values > low) & (values <= high) for low, high in limits]
    lowest = values == edges[0]
    if not inside or lowest.mean() > MANY_ALIKE:
        inside, limits = [lowest, *inside], [(edges[0], edges[0]), *limits]
    else:
        inside[0] |= lowest
    rng = np.random.default_rng(seed)
    found = []
    for members, (low, high) in zip(inside, limits, strict=True):
        rows = rng.permutation(np.flatnonzero(members))[: 25 * PER_BAND]
        _, first = np.unique(reading.owners[rows], return_index=True)  # of different passages
        chosen = rows[np.sort(first)][:PER_BAND]
        found.append(
            {
                "low": plain(low),
                "high": plain(high),
                "share": float(members.mean()),
                "contexts": [context(reading, int(row)) for row in chosen],
            }
        )
    return [band for band in found if band["contexts"]]


def context(reading: Reading, row: int) -> dict[str, Any]:
    """A token with those around it.

    ``pieces`` are [text, activation, whether a space precedes]; tokens that share a character are one piece, with
    the activation farthest from the median. ``peak`` is the piece that the context is about.
    """
    number = int(reading.owners[row])
    start, stop = reading.starts[number : number + 2].tolist()
    text = reading.texts[number]
    first, last = max(start, row - BEFORE), min(stop, row + AFTER + 1)
    words = reading.words
    while first > max(start, row - BEFORE - LONGEST_WORD) and words[first - 1] == words[first]:
        first -= 1
    while last < min(stop, row + AFTER + LONGEST_WORD) and words[last] == words[last - 1]:
        last += 1
    pieces: list[list[Any]] = []
    peak, end, spaced = -1, int(reading.spans[first, 0]), False
    for at in range(first, last):
        cut = text[end : reading.spans[at, 1]]
        end = max(end, int(reading.spans[at, 1]))
        value = plain(reading.values[at])
        spaced |= cut[:1].isspace()
        if cut.strip() or not pieces or (at == row and cut):
            pieces.append([cut.strip() or "␣", value, spaced])
            spaced = cut[-1:].isspace()
        elif at == row or (
            peak < len(pieces) - 1 and abs(value - reading.centre) > abs(pieces[-1][1] - reading.centre)
        ):
            pieces[-1][1] = value
        if at == row:
            peak = len(pieces) - 1
    labels = [label for label in reading.passages.items[number].labels if label.word == reading.words[row]]
    return {
        "value": plain(reading.values[row]),
        "token": reading.token(row),
        "passage": number,
        "labels": [f"{label.concept}: {label.name}" for label in labels],
        "cut": [first > start, last < stop],
        "peak": peak,
        "pieces": pieces,
    }
