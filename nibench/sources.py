"""Where labelled items come from. A source is a description; its ``load`` does the work.

``word_labels`` reads treebanks, ``glassbox`` the prompts of a model whose answer is known, ``minimal_pairs``
makes those that a task file lists, ``world`` samples activations without a model. A new kind of data is a
new function here, never logic in a task.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nibench.errors import InputError
from nibench.minimal_pairs import MinimalPairs
from nibench.neurons import Neurons
from nibench.task import UNLABELLED, Prompt, PromptCorpus, Sentence, Source, Split, TextCorpus, Truth, World
from nibench.treebank import conllu_path, open_treebank

if TYPE_CHECKING:
    from nibench.truth.worlds import WorldSpec

TOKEN_FIELDS = ("form", "lemma", "upos", "xpos", "deprel")


def _sha256(parts: Iterable[bytes | str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()


# ---------------------------------------------------------------- words of a treebank


def word_labels(
    treebank: str, *, column: str, where: Mapping[str, tuple[str, ...]] | None = None
) -> "WordLabels":
    """Words of a Universal Dependencies treebank, labelled by one column or feature.

    Parameters
    ----------
    treebank : str
        ``ud/en_ewt`` means ``DIR/ud/en_ewt-ud-{train,test}.conllu``, DIR being the user's ``--data``,
        or the configuration ``en_ewt`` of the hub data set that ``--data`` names.
    column : str
        ``upos``, ``xpos``, ``deprel``, or a feature such as ``Number``. Words without it stay unlabelled.
    where : mapping, optional
        Label only words whose columns have one of these values, e.g. ``{"upos": ("NOUN",)}``.

    Returns
    -------
    WordLabels
        Multi-word ranges and empty nodes are skipped. The training part is halved by sentence into
        ``rank`` and ``probe``, the test part is ``eval``; ``cap`` draws whole training sentences up to
        so many words and leaves ``eval`` whole.

    References
    ----------
    Nivre et al., "Universal Dependencies v2", LREC 2020. https://aclanthology.org/2020.lrec-1.497
    """
    return WordLabels(treebank, column, tuple((key, tuple(values)) for key, values in (where or {}).items()))


@dataclass(frozen=True)
class WordLabels:
    """Labelled words of a treebank (see ``word_labels``)."""

    treebank: str
    column: str
    where: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def load(self, *, seed: int, data: Path | str | None, folder: Path | None, cap: int | None) -> TextCorpus:
        train, test = (open_treebank(self.treebank, part, data) for part in ("train", "test"))
        drawn = np.random.default_rng([seed, 1]).permutation(len(train))
        if cap is not None:
            words = np.cumsum([train.n_words(i) for i in drawn])
            drawn = drawn[: max(1, int(np.searchsorted(words, cap, side="right")))]
        rank = set(drawn[::2].tolist())
        parts: list[tuple[Split, Any]] = [
            *(("rank" if i in rank else "probe", train.tokens(i)) for i in sorted(drawn.tolist())),
            *(("eval", test.tokens(i)) for i in range(len(test))),
        ]
        labels = [[self._label(token) for token in tokens] for _, tokens in parts]
        classes = sorted({label for row in labels for label in row if label is not None})
        ids = {name: i for i, name in enumerate(classes)}
        sentences = tuple(
            Sentence(
                tuple(token["form"] for token in tokens),
                tuple(UNLABELLED if label is None else ids[label] for label in row),
                split,
            )
            for (split, tokens), row in zip(parts, labels, strict=True)
        )
        digest = _sha256([repr(self), repr((seed, cap)), *(repr(sentence) for sentence in sentences)])
        return TextCorpus(sentences, tuple(classes), digest)

    def _label(self, token: Mapping[str, Any]) -> str | None:
        value = _column(token, self.column)
        allowed = all(_column(token, key) in values for key, values in self.where)
        return value if allowed else None

    def fingerprint(self, data: Path | str | None, folder: Path | None) -> str:
        if data is not None and Path(data).is_dir():
            paths = [conllu_path(self.treebank, part, Path(data)) for part in ("train", "test")]
            return _sha256([repr(self), *(path.read_bytes() for path in paths if path.exists())])
        return _sha256([repr(self), str(data)])

    def refuses(self, folder: Path | None) -> str | None:
        return None if folder is not None else "it reads text: it needs a model"

    def truth(self, neurons: Neurons, folder: Path | None) -> Truth | None:
        return None


def _column(token: Mapping[str, Any], name: str) -> str | None:
    if name in TOKEN_FIELDS:
        return token[name]
    return (token["feats"] or {}).get(name)


# ---------------------------------------------------------------- prompts of a model whose answer is known

PROMPTS_PER_SPLIT = 1000


def glassbox(concept: str, *behaviours: str) -> "GlassBox":
    """Prompts of one concept of a glass-box model (or its natural twin), read at their last word.

    Parameters
    ----------
    concept : str
        A concept of the model's ``truth.json``, e.g. ``number``.
    *behaviours : str
        Some of its certified behaviours; none means all, with the same number of prompts from each.

    Returns
    -------
    GlassBox
        ``rank`` and ``probe`` come from the grammar (1,000 prompts each unless ``cap`` says otherwise),
        ``eval`` is the model's own pairs, of which training saw none.
    """
    return GlassBox(concept, behaviours)


@dataclass(frozen=True)
class GlassBox:
    """Prompts and truth of one concept of a glass-box model (see ``glassbox``)."""

    concept: str
    behaviours: tuple[str, ...] = ()

    def _behaviours(self, folder: Path) -> tuple[str, ...]:
        from nibench.truth.files import glassbox_of, read_truth

        certified = tuple(read_truth(glassbox_of(folder)).concept(self.concept).behaviours)
        missing = set(self.behaviours) - set(certified)
        if missing:
            raise InputError(
                f"{folder.name} has no certified behaviour {sorted(missing)[0]!r} of {self.concept}; "
                f"it has {', '.join(certified)}."
            )
        return self.behaviours or certified

    def load(
        self, *, seed: int, data: Path | str | None, folder: Path | None, cap: int | None
    ) -> PromptCorpus:
        from nibench.truth.files import glassbox_of, read_pairs, read_truth
        from nibench.truth.pairs import sample_pairs

        if folder is None:
            raise InputError(
                f"The prompts of {self.concept!r} come with a glass-box model; name one with --model."
            )
        behaviours = self._behaviours(folder)
        share = max(2, (cap or PROMPTS_PER_SPLIT) // len(behaviours))
        prompts = []
        for behaviour in behaviours:
            drawn: dict[Split, Any] = {
                "rank": sample_pairs(self.concept, behaviour, share, seed=seed, split="rank"),
                "probe": sample_pairs(self.concept, behaviour, share, seed=seed, split="probe"),
                "eval": read_pairs(folder, self.concept, behaviour),
            }
            prompts += [
                Prompt(
                    text=pair.base,
                    label=pair.base_class,
                    split=split,
                    behaviour=behaviour,
                    answers=pair.answers,
                    answer=pair.base_answer,
                    source=pair.source,
                    source_answer=pair.source_answer,
                    group=f"{pair.template}|{' '.join(pair.lexemes)}",
                )
                for split, pairs in drawn.items()
                for pair in pairs
            ]
        classes = read_truth(glassbox_of(folder)).concept(self.concept).classes
        digest = _sha256([repr(self), *(repr(prompt) for prompt in prompts)])
        return PromptCorpus(tuple(prompts), classes, digest, intervene_at="last")

    def fingerprint(self, data: Path | str | None, folder: Path | None) -> str:
        from nibench.truth import files, grammar, known, lexicon

        modules = (files, grammar, known, lexicon)
        parts: list[bytes | str] = [repr(self), *(_source(module) for module in modules)]
        if folder is not None:
            box = files.glassbox_of(folder)
            concept = files.read_truth(box).concept(self.concept)
            paths = [
                box / "truth.json",
                folder / "effects.npz",
                *(box / b.pairs for b in concept.behaviours.values()),
                *folder.glob("twin.json"),
            ]
            parts += [path.read_bytes() for path in paths]
        return _sha256(parts)

    def refuses(self, folder: Path | None) -> str | None:
        from nibench.truth.files import glassbox_of, read_truth

        if folder is None:
            return "it needs a glass-box model"
        if not any((folder / name).is_file() for name in ("truth.json", "twin.json")):
            return "its truth is known for glass-box models and their twins only"
        box = glassbox_of(folder)
        concepts = read_truth(box).concepts
        if self.concept not in concepts:
            return f"the model has no certified concept {self.concept!r}"
        if folder != box and concepts[self.concept].is_unused:
            return f"that no later word depends on {self.concept!r} is certified for the glass-box only"
        return None

    def truth(self, neurons: Neurons, folder: Path | None) -> Truth | None:
        """What is known of the concept's neurons (see `nibench.truth.known.known_truth`)."""
        from nibench.truth.known import known_truth

        if folder is None or self.refuses(folder) is not None or not _is_ffn(neurons):
            return None
        return known_truth(folder, self.concept, self._behaviours(folder), neurons)


# ---------------------------------------------------------------- natural sentences, no concept

SENTENCES = 150


def natural_text() -> "NaturalText":
    """Every word of natural sentences of a truth model's grammar, without a concept.

    For methods that ask for none. The truth is what each neuron is worth to the model's next words.
    """
    return NaturalText()


@dataclass(frozen=True)
class NaturalText:
    """Words without labels (see ``natural_text``); ``cap`` is the number of ``rank`` sentences."""

    def load(self, *, seed: int, data: Path | str | None, folder: Path | None, cap: int | None) -> TextCorpus:
        from nibench.truth.model_loss import natural_corpus

        sentences = natural_corpus(cap or SENTENCES, seed)
        return TextCorpus(sentences, ("word",), _sha256([repr(self), *(repr(one) for one in sentences)]))

    def fingerprint(self, data: Path | str | None, folder: Path | None) -> str:
        from nibench.truth import grammar, lexicon, model_loss

        return _sha256([repr(self), *(_source(module) for module in (grammar, lexicon, model_loss))])

    def refuses(self, folder: Path | None) -> str | None:
        if folder is None or not any((folder / name).is_file() for name in ("truth.json", "twin.json")):
            return "it needs a glass-box model or its twin, whose language is known"
        return None

    def truth(self, neurons: Neurons, folder: Path | None) -> Truth | None:
        from nibench.truth.model_loss import model_truth

        if folder is None or not _is_ffn(neurons):
            return None
        truth = model_truth(folder)
        return truth if len(truth.roles) == len(neurons) else None  # all layers: they are measured as one set


def other_concepts(source: Source, folder: Path) -> dict[str, Source]:
    """The model's other concepts that it has a behaviour for, by name; empty where no file says which."""
    if not isinstance(source, GlassBox) or source.refuses(folder) is not None:
        return {}
    from nibench.truth.files import glassbox_of, read_truth

    found = read_truth(glassbox_of(folder)).concepts
    return {
        name: GlassBox(name)
        for name, known in found.items()
        if name != source.concept and not known.is_unused
    }


def _is_ffn(neurons: Neurons) -> bool:
    return all(block.name.endswith(".mlp_post") for block in neurons.blocks)


def _source(module: Any) -> bytes:
    return Path(module.__file__).read_bytes()


# ---------------------------------------------------------------- prompts given in the task file


def minimal_pairs(
    templates: Iterable[str], words: Mapping[str, Iterable[str]], answers: Mapping[str, str]
) -> MinimalPairs:
    """Prompts that differ in one word, for any model that knows the words; read at their last token.

    Parameters
    ----------
    templates : texts with one ``{}``
        Whole templates make up the splits, a third each.
    words : class -> words
        Equally many for each class; the k-th of each are counterfactuals of each other.
    answers : class -> word
        What the model should say next; one token.
    """
    return MinimalPairs(
        tuple(templates), tuple((name, tuple(own)) for name, own in words.items()), tuple(answers.items())
    )


# ---------------------------------------------------------------- worlds without a model


def world(**parameters: Any) -> "SampledWorld":
    """Activations sampled from a frozen spec: which columns carry the concept is known, no model is needed.

    Parameters
    ----------
    **parameters
        Fields of ``nibench.truth.worlds.WorldSpec``: how many neurons of each role, how strong their signal.
    """
    from nibench.truth.worlds import WorldSpec

    return SampledWorld(WorldSpec(**parameters))


@dataclass(frozen=True)
class SampledWorld:
    """A world (see ``world``); ``draw`` is added to the seed: other neurons, other words, the same spec."""

    spec: "WorldSpec"
    draw: int = 0

    def turned(self, dials: Mapping[str, float]) -> "SampledWorld":
        """The same world, harder or easier: ``draw``, and the dials of ``nibench.truth.dials``.

        Raises
        ------
        InputError
            For an unknown dial, or a value that makes no world.
        """
        from nibench.truth.dials import turned

        others = {name: value for name, value in dials.items() if name != "draw"}
        return SampledWorld(turned(self.spec, others), int(dials.get("draw", self.draw)))

    def load(self, *, seed: int, data: Path | str | None, folder: Path | None, cap: int | None) -> World:
        from nibench.truth.worlds import sample

        return sample(self.spec, seed + self.draw)

    def fingerprint(self, data: Path | str | None, folder: Path | None) -> str:
        from nibench.truth import world_draw, world_truth, worlds

        return _sha256([repr(self), *(_source(module) for module in (worlds, world_draw, world_truth))])

    def refuses(self, folder: Path | None) -> str | None:
        return None if folder is None else "it is sampled: it takes no model"

    def truth(self, neurons: Neurons, folder: Path | None) -> Truth | None:
        return None  # a world brings its truth with it
