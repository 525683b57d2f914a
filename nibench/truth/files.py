"""The files of a truth model: `truth.json`, `twin.json`, `effects.npz` and the pairs.

A glass-box is an ordinary Hugging Face folder with a `truth.json` that says which neurons carry which
behaviour. Its natural twin is another such folder; it has a `twin.json` that names the glass-box, whose pairs
it uses. Reading checks what can be checked without running the model, and says in one line what is wrong with
which file. The module imports neither torch nor transformers.
"""

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nibench.disk import digest, write_atomic
from nibench.errors import InputError
from nibench.truth.grammar import NONE
from nibench.truth.pairs import Pair

Role = Literal[
    "used", "relay", "shared", "saturated", "sign_mixed", "conjunctive", "copy", "backup",
    "decoy", "cancelled", "enabler", "correlate", "loud", "dead",
]  # fmt: skip
CARRIERS = frozenset({"used", "relay", "shared", "saturated", "sign_mixed", "conjunctive", "copy", "backup"})
SINGLE_MOTIFS = (
    "lone",
    "ensemble",
    "shared",
    "relay",
)  # the carriers' single effects tell them from all others
UNUSED_MOTIF = "null_unused"  # a word's concept on which no later word depends: one behaviour, `none`
EFFECTS = ("auc", "responds", "interchange", "mean")
_Model = TypeVar("_Model", bound=BaseModel)
_NEURON = re.compile(r"L(\d+)\.mlp_post\.(\d+)")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Behaviour(_Strict):
    """Where a behaviour's pairs are, where `X` is read and where ablations act."""

    pairs: str
    observe_at: Literal["last"]
    intervene_at: Literal["last", "all"]


class Neuron(_Strict):
    """One neuron's role for a concept; `weight` is its measured Shapley share, the mean of `weights`."""

    role: Role
    weight: float | None = None
    weights: dict[str, float] = Field(default_factory=dict)
    decoy: str | None = None
    group: int | None = None


class ConceptTruth(_Strict):
    """What is known of one concept in one model; neurons not listed are background."""

    classes: tuple[str, ...] = Field(min_length=2)
    motif: str
    behaviours: dict[str, Behaviour] = Field(min_length=1)
    neurons: dict[str, Neuron] = Field(default_factory=dict)

    @property
    def is_null(self) -> bool:
        """Whether no neuron is right: the concept is encoded, and nothing is carried by few neurons."""
        return self.motif.startswith("null")

    @property
    def is_unused(self) -> bool:
        """Whether nothing depends on the concept: it has no answers, so no margin."""
        return self.motif == UNUSED_MOTIF

    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The carriers by group: the parts of a relay, of backups or of a conjunction; one group elsewhere."""
        found: dict[int, list[str]] = {}
        for name in self.carriers():
            found.setdefault(self.neurons[name].group or 0, []).append(name)
        return tuple(tuple(found[group]) for group in sorted(found))

    def carriers(self) -> tuple[str, ...]:
        """Names of the neurons whose role carries the concept."""
        return tuple(name for name, one in self.neurons.items() if one.role in CARRIERS)

    def decoys(self) -> tuple[str, ...]:
        """Names of the matched decoys."""
        return tuple(name for name, one in self.neurons.items() if one.role == "decoy")


class Truth(_Strict):
    """The contents of `truth.json`."""

    schema_: Literal[1] = Field(alias="schema")
    model_sha256: str
    seed: int
    split: Literal["dev", "test"]
    twin: str | None = None
    concepts: dict[str, ConceptTruth] = Field(min_length=1)

    def concept(self, name: str) -> ConceptTruth:
        """One concept's truth; `InputError` where the model has none."""
        if name not in self.concepts:
            raise InputError(f"This model has no truth for {name!r}. It has: {', '.join(self.concepts)}.")
        return self.concepts[name]


class TwinOf(_Strict):
    """The contents of `twin.json`: the folder, beside it, whose natural twin (or middle) this is."""

    schema_: Literal[1] = Field(alias="schema")
    of: str
    kind: Literal["natural", "middle"] = "natural"
    model_sha256: str


def neuron_name(layer: int, unit: int) -> str:
    """`L2.mlp_post.17` for unit 17 of layer 2."""
    return f"L{layer}.mlp_post.{unit}"


def parse_neuron(name: str) -> tuple[int, int]:
    """Layer and unit of a name such as `L2.mlp_post.17`."""
    match = _NEURON.fullmatch(name)
    if not match:
        raise InputError(f"{name!r} is no neuron of the FFN. Expected a name such as L2.mlp_post.17.")
    return int(match[1]), int(match[2])


def read_json(path: Path) -> Any:
    """Parse a JSON file; `InputError` names the file and line where it cannot be."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing. {_remedy(path)}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "not UTF-8"
        raise InputError(f"{path} is no JSON ({where}: {_one_line(error)}). {_remedy(path)}") from None


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing."""
    write_atomic(path, text.encode())


def layer_sizes(folder: Path) -> tuple[int, int]:
    """Number of blocks, and of FFN neurons in each, by `config.json`."""
    config = read_json(folder / "config.json")
    blocks = config.get("n_layer", config.get("num_hidden_layers"))
    units = config.get("n_inner", config.get("intermediate_size")) or 4 * config.get("n_embd", 0)
    if not isinstance(blocks, int) or not isinstance(units, int) or not units:
        raise InputError(
            f"{folder / 'config.json'} does not say how many layers and FFN neurons the model has."
        )
    return blocks, units


def read_truth(folder: Path) -> Truth:
    """Read and check `truth.json` of a glass-box.

    Raises
    ------
    InputError
        If the file is missing, no JSON or not of this form; if a neuron is not in the model or a decoy is not
        declared; if `model.safetensors` is not the file the truth was certified for.
    """
    folder = Path(folder)
    path = folder / "truth.json"
    truth = _validate(Truth, path)
    blocks, units = layer_sizes(folder)
    for concept, known in truth.concepts.items():
        where = f"{path}: concept {concept!r}"
        if known.is_null == bool(known.carriers()):
            problem = (
                "is a null but has neurons that carry"
                if known.is_null
                else "has no neuron whose role carries"
            )
            raise InputError(f"{where} {problem} it. {_remedy(path)}")
        alone = set(known.behaviours) == {NONE}
        if known.is_unused != alone or alone != (NONE in known.behaviours):
            raise InputError(
                f"{where} has motif {known.motif!r} and behaviours {', '.join(known.behaviours)}: {NONE!r} is the one "
                f"behaviour of {UNUSED_MOTIF!r} and of no other motif. {_remedy(path)}"
            )
        for name, neuron in known.neurons.items():
            try:
                layer, unit = parse_neuron(name)
            except InputError as error:
                raise InputError(f"{where}: {error} {_remedy(path)}") from None
            if layer >= blocks or unit >= units:
                shape = f"{blocks} layers of {units} FFN neurons"
                raise InputError(f"{where} lists {name}, but the model has {shape}. {_remedy(path)}")
            if neuron.decoy is not None and neuron.decoy not in known.decoys():
                raise InputError(
                    f"{where}: {name} names {neuron.decoy}, which is no decoy there. {_remedy(path)}"
                )
            unknown = sorted(set(neuron.weights) - set(known.behaviours))
            if unknown:
                raise InputError(
                    f"{where}: {name} has a weight for {unknown[0]!r}, no behaviour. {_remedy(path)}"
                )
    check_digest(folder, truth.model_sha256, path)
    return truth


def check_digest(folder: Path, expected: str, stated_in: Path) -> None:
    """Refuse weights other than those a file was written for."""
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise InputError(f"{weights} is missing. {_remedy(weights)}")
    if digest(weights) != expected:
        raise InputError(
            f"{weights} is not the file that {stated_in.name} was written for (its SHA-256 differs): "
            f"it was changed or cut short. {_remedy(weights)}"
        )


def read_twin(folder: Path) -> TwinOf | None:
    """What the folder is the natural twin or the middle of; `None` where it is neither."""
    path = Path(folder) / "twin.json"
    if not path.is_file():
        return None
    twin = _validate(TwinOf, path)
    check_digest(Path(folder), twin.model_sha256, path)
    return twin


def glassbox_of(folder: Path) -> Path:
    """The folder whose `truth.json` applies: the folder itself, or the glass-box of a natural twin."""
    folder = Path(folder)
    if (folder / "truth.json").is_file():
        return folder
    twin = read_twin(folder)
    if twin is None:
        raise InputError(f"{folder} is no truth model: it has neither truth.json nor twin.json.")
    other = folder.parent / twin.of
    if not (other / "truth.json").is_file():
        raise InputError(
            f"{folder / 'twin.json'} names {twin.of!r}, which is not beside it. {_remedy(folder)}"
        )
    return other


def read_pairs(folder: Path, concept: str, behaviour: str) -> list[Pair]:
    """Read the `eval` pairs of one behaviour, for a glass-box or its natural twin.

    Answers stand in the order of the concept's classes, so `base_class` is `base_answer`.
    """
    glassbox = glassbox_of(folder)
    known = read_truth(glassbox).concept(concept)
    if behaviour not in known.behaviours:
        raise InputError(
            f"{glassbox.name} has no certified behaviour {behaviour!r} of {concept}. "
            f"It has: {', '.join(known.behaviours)}."
        )
    return read_pair_file(glassbox / known.behaviours[behaviour].pairs, concept, behaviour)


def read_pair_file(path: Path, concept: str, behaviour: str) -> list[Pair]:
    """Read one file of pairs; `InputError` names the line that is none. Those of `none` have no answers."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({_one_line(error)}). {_remedy(path)}") from None
    pairs = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if (behaviour == NONE) == ("answers" in row):
                expected = "none" if behaviour == NONE else "`answers`, which only behaviour 'none' may lack"
                raise IndexError(f"answers: expected {expected}")
            pair = Pair(
                base=row["base"],
                source=row["source"],
                answers=tuple(row.get("answers", ())),
                base_answer=row["base_answer"],
                source_answer=row["source_answer"],
                template=row["template"],
                lexemes=tuple(row.get("lexemes", ())),
                concept=concept,
                behaviour=behaviour,
                base_class=row["base_answer"],
                source_class=row["source_answer"],
            )
            if pair.answers and not {pair.base_answer, pair.source_answer} <= set(range(len(pair.answers))):
                raise IndexError("an answer is not among `answers`")
        except (json.JSONDecodeError, KeyError, TypeError, IndexError) as error:
            raise InputError(
                f"{path}, line {number} is no pair ({_one_line(error)}). {_remedy(path)}"
            ) from None
        pairs.append(pair)
    if not pairs:
        raise InputError(f"{path} has no pairs. {_remedy(path)}")
    return pairs


def write_pair_file(path: Path, pairs: Sequence[Pair]) -> None:
    """Write pairs, one JSON object a line."""
    keys = ("base", "source", "answers", "base_answer", "source_answer", "template", "lexemes")
    lines = [
        json.dumps({key: getattr(pair, key) for key in keys if key != "answers" or pair.answers})
        for pair in pairs
    ]
    write_text(path, "\n".join(lines) + "\n")


def read_effects(folder: Path) -> dict[str, np.ndarray]:
    """Read `effects.npz`: every neuron's single effects, measured one by one.

    Returns
    -------
    dict
        `neurons` (D,), and per `{concept}.{behaviour}` four float32 arrays (D,): `.auc` of the activations
        for the second class over `probe`; `.responds`, mean absolute change between the twins in units of the
        neuron's sd (0 for constants); `.interchange`, share of the base-to-source margin moved when its value
        alone is taken from the source; `.mean`, drop of the margin in nats when it alone is put at its mean.
        Behaviour `none` has no margin: there both are the divergence of the next word, in nats.
    """
    folder = Path(folder)
    path = folder / "effects.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            effects = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise InputError(f"{path} is missing. {_remedy(path)}") from None
    except (
        Exception
    ) as error:  # a damaged archive fails in zipfile, zlib, struct or numpy, whichever comes first
        raise InputError(f"{path} is damaged ({_one_line(error)}). {_remedy(path)}") from None
    blocks, units = layer_sizes(folder)
    names = [neuron_name(layer, unit) for layer in range(blocks) for unit in range(units)]
    if "neurons" not in effects or effects["neurons"].tolist() != names:
        raise InputError(
            f"{path} does not list the model's {len(names)} FFN neurons in order. {_remedy(path)}"
        )
    for name, values in effects.items():
        if name != "neurons" and (values.shape != (len(names),) or not np.isfinite(values).all()):
            raise InputError(f"{path}: {name} is not one finite number a neuron. {_remedy(path)}")
    return effects


def write_effects(path: Path, effects: dict[str, np.ndarray]) -> None:
    """Write `effects.npz`, whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **effects)
    write_atomic(path, buffer.getvalue())


def _validate(kind: type[_Model], path: Path) -> _Model:
    content = read_json(path)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise InputError(f"{path}: {place}: {first['msg']}. {_remedy(path)}") from None


def _one_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _remedy(path: Path) -> str:
    folder = path if path.suffix == "" else path.parent
    return f"Restore {folder.name}/ as it was shipped, or make one: nibench build glassbox --seed N --out DIR"
