"""Where labelled items come from. A source is a description; its ``load`` does the work.

``word_labels`` reads treebanks, ``glassbox`` the prompts of a model whose answer is known, ``world``
samples activations without a model. A new kind of data is a new function here, never logic in a task.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nibench.errors import InputError
from nibench.neurons import Neurons
from nibench.task import UNLABELLED, Prompt, PromptCorpus, Sentence, Split, TextCorpus, Truth, World

if TYPE_CHECKING:
    from nibench.truth.worlds import WorldSpec

TOKEN_FIELDS = ("form", "lemma", "upos", "xpos", "deprel")
NATURAL_DECOY_AUC = 0.95


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
        train, test = (_treebank(self.treebank, part, data) for part in ("train", "test"))
        rng = np.random.default_rng([seed, 1])
        drawn = rng.permutation(len(train))
        if cap is not None:
            words = np.cumsum([len(train[i]) for i in drawn])
            drawn = drawn[: max(1, int(np.searchsorted(words, cap, side="right")))]
        half = np.zeros(len(train), dtype=bool)
        half[drawn[::2]] = True
        parts: list[tuple[Split, Any]] = [
            *(("rank" if half[i] else "probe", train[i]) for i in sorted(drawn)),
            *(("eval", tokens) for tokens in test),
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
        digest = _sha256([repr(self), repr((seed, cap)), *(" ".join(s.words) for s in sentences)])
        return TextCorpus(sentences, tuple(classes), digest)

    def _label(self, token: Mapping[str, Any]) -> str | None:
        value = _column(token, self.column)
        allowed = all(_column(token, key) in values for key, values in self.where)
        return value if allowed else None

    def fingerprint(self, data: Path | str | None, folder: Path | None) -> str:
        if data is not None and Path(data).is_dir():
            paths = [_conllu_path(self.treebank, part, Path(data)) for part in ("train", "test")]
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


def _conllu_path(treebank: str, part: str, data: Path) -> Path:
    return data / f"{treebank}-ud-{part}.conllu"


def _treebank(treebank: str, part: str, data: Path | str | None) -> list[Any]:
    """The sentences of one part: lists of tokens with form, lemma, upos, xpos, feats, deprel."""
    if data is None:
        raise InputError(
            f"{treebank} is not shipped with nibench. Say where it is: --data DIR with "
            f"DIR/{treebank}-ud-{part}.conllu in it (universaldependencies.org), or --data OWNER/NAME on the hub."
        )
    if Path(data).is_dir():
        return read_conllu(_conllu_path(treebank, part, Path(data)))
    return _hub_treebank(treebank, part, str(data))


def read_conllu(path: Path) -> list[Any]:
    """The sentences of a CoNLL-U file as lists of tokens, without ranges and empty nodes.

    Raises
    ------
    InputError
        If the file is missing, empty or malformed; the message names the file and the line.
    """
    import conllu

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"Cannot read {path}: {error}. Pass --data DIR with {path.parent.name}/{path.name}."
        ) from None
    if not text.strip():
        raise InputError(f"{path} is empty; expected sentences in CoNLL-U.")
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.count("\t") + 1
        if line.strip() and not line.startswith("#") and (fields != 10 or not line[0].isdigit()):
            raise InputError(
                f"{path}, line {number}: {fields} tab-separated fields; CoNLL-U has 10, the first an id."
            )
    try:
        parsed = conllu.parse(text)
    except conllu.exceptions.ParseException as error:
        raise InputError(f"{path} is not CoNLL-U: {error}") from None
    sentences = [[token for token in sentence if isinstance(token["id"], int)] for sentence in parsed]
    return [tokens for tokens in sentences if tokens]


def _hub_treebank(treebank: str, part: str, name: str) -> list[Any]:
    import datasets

    configuration = treebank.rpartition("/")[2]
    try:
        table = datasets.load_dataset(name, configuration, split=part)
    except Exception as error:  # the hub client raises many unrelated types
        message = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"Cannot load {configuration!r} of data set {name!r}: {message} "
            f"Pass --data DIR with {treebank}-ud-{part}.conllu, or a hub id with tokens, upos and feats."
        ) from None
    missing = {"tokens", "upos", "feats"} - set(table.column_names)
    if missing:
        raise InputError(
            f"Data set {name!r} has no column {sorted(missing)[0]!r}; expected tokens, upos and feats."
        )
    upos = getattr(getattr(table.features["upos"], "feature", None), "names", None)
    return [[_hub_token(row, i, upos) for i in range(len(row["tokens"]))] for row in table]


def _hub_token(row: Mapping[str, Any], i: int, upos: list[str] | None) -> dict[str, Any]:
    tag, feats = row["upos"][i], row["feats"][i]
    if isinstance(feats, str):
        feats = dict(pair.split("=", 1) for pair in feats.split("|") if "=" in pair)
    others = {key: row[name][i] if name in row else None for key, name in _HUB_COLUMNS.items()}
    return {"form": row["tokens"][i], "upos": upos[tag] if upos else tag, "feats": feats, **others}


_HUB_COLUMNS = {"lemma": "lemmas", "xpos": "xpos", "deprel": "deprel"}


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
        from nibench.truth.grammar import sample_pairs

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
        from nibench.truth import files, grammar, lexicon

        parts: list[bytes | str] = [repr(self), *(_source(module) for module in (files, grammar, lexicon))]
        if folder is not None:
            box = files.glassbox_of(folder)
            known = files.read_truth(box).concept(self.concept)
            paths = [
                box / "truth.json",
                folder / "effects.npz",
                *(box / b.pairs for b in known.behaviours.values()),
            ]
            parts += [path.read_bytes() for path in paths]
        return _sha256(parts)

    def refuses(self, folder: Path | None) -> str | None:
        from nibench.truth.files import glassbox_of, read_truth

        if folder is None:
            return "it needs a glass-box model"
        if not any((folder / name).is_file() for name in ("truth.json", "twin.json")):
            return "its truth is known for glass-box models and their twins only"
        concepts = read_truth(glassbox_of(folder)).concepts
        return None if self.concept in concepts else f"the model has no certified concept {self.concept!r}"

    def truth(self, neurons: Neurons, folder: Path | None) -> Truth | None:
        """Gains per claim from the stored exhaustive effects; the planted set where the model has one.

        *associated* 2 |AUC - 1/2|, *responds* as measured, *required* |mean ablation|; *carries* the Shapley
        weight in a glass-box (a set, too), |interchange| in a natural twin. Each is the mean over behaviours.
        """
        from nibench.truth.files import CARRIERS, glassbox_of, read_effects, read_truth

        if folder is None or self.refuses(folder) is not None or not _is_ffn(neurons):
            return None
        effects = read_effects(folder)
        place = {name: i for i, name in enumerate(effects["neurons"].tolist())}
        chosen = np.array([place[name] for name in neurons])
        names = [f"{self.concept}.{behaviour}" for behaviour in self._behaviours(folder)]

        def mean(kind: str) -> np.ndarray:
            return np.mean([effects[f"{name}.{kind}"][chosen] for name in names], axis=0, dtype=np.float64)

        gains = {
            "associated": 2 * np.abs(mean("auc") - 0.5),
            "responds": mean("responds"),
            "carries": np.abs(mean("interchange")),
            "required": np.abs(mean("mean")),
        }
        roles = np.full(len(neurons), "background", dtype=object)
        sets = {}
        if glassbox_of(folder) == folder:
            known = read_truth(folder).concept(self.concept)
            roles[gains["associated"] / 2 + 0.5 >= NATURAL_DECOY_AUC] = "natural_decoy"
            weights = np.zeros(len(neurons))
            for i, name in enumerate(neurons):
                if name in known.neurons:
                    roles[i] = known.neurons[name].role
                    weights[i] = known.neurons[name].weight or 0.0
            gains["carries"] = weights
            sets["carries"] = np.isin(roles, list(CARRIERS))
        return Truth(gains, sets, roles.astype(str))


def _is_ffn(neurons: Neurons) -> bool:
    return all(block.name.endswith(".mlp_post") for block in neurons.blocks)


def _source(module: Any) -> bytes:
    return Path(module.__file__).read_bytes()


# ---------------------------------------------------------------- worlds without a model


def world(spec: "WorldSpec") -> "SampledWorld":
    """Activations sampled from a frozen spec: which columns carry the concept is known, no model is needed."""
    return SampledWorld(spec)


@dataclass(frozen=True)
class SampledWorld:
    """A world (see ``world``)."""

    spec: "WorldSpec"

    def load(self, *, seed: int, data: Path | str | None, folder: Path | None, cap: int | None) -> World:
        from nibench.truth.worlds import sample

        return sample(self.spec, seed)

    def fingerprint(self, data: Path | str | None, folder: Path | None) -> str:
        from nibench.truth import worlds

        return _sha256([repr(self.spec), _source(worlds)])

    def refuses(self, folder: Path | None) -> str | None:
        return None if folder is None else "it is sampled: it takes no model"

    def truth(self, neurons: Neurons, folder: Path | None) -> Truth | None:
        return None  # a world brings its truth with it
