"""Hidden rounds: fresh worlds and glass-box models from a secret, of which only the hash is published.

Whatever is shipped with its truth can be tuned on. A round is drawn from a secret: which kinds of world, their
sizes, which neurons are right, which of them a model's concepts are confined to, and the order of all neurons.
The published folder (see ``rounds``) has activations, models and prompts. What is right stays with the secret:
it is a function of the secret and of the published files, kept beside the secret only because it takes minutes.

Anyone can verify a round once its secret is revealed. Worlds are drawn again and compared. Trained weights are
not the same on every machine; so a model is verified by its certificate, measured anew on the published weights
for the neurons that the secret designates.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nibench.disk import digest, write_atomic
from nibench.errors import InputError, NotCertified
from nibench.published import PROMPTS, WORLD, world_bytes, write_prompts
from nibench.rounds import MODEL_FILES, NAME, Round, is_round, listed, read_round, require_silent, round_id
from nibench.secret import HOW, Secret, read_secret
from nibench.sources import SampledWorld, glassbox
from nibench.submissions import find_task
from nibench.suites import NULLS, WORLDS
from nibench.task import World
from nibench.truth import files
from nibench.truth.worlds import WorldSpec, sample

if TYPE_CHECKING:
    from nibench.truth.exhaustive import Progress
    from nibench.truth.rows import Effort

ATTEMPTS = 10  # derived seeds that are tried for one model, or one world
KINDS = tuple(name for name in WORLDS if name not in NULLS)  # in a null no neuron is right: nothing to score
ROUNDING = 1e-6  # another processor may round the last bit of a float32 otherwise
WORK = ".work"  # what is not whole yet
README = """Hidden round {id}

The truth of these worlds and models is kept; round.json holds the hash of the secret it comes from.

Rank with a method:        nibench run --suite . --method METHOD --out rankings
Or with anything else:     a table (CSV or parquet) with the columns task, model, neuron, score, for every cell
                           (models have all neurons of mlp_post; an npz file has neuron.0, neuron.1 ...)
Hand in the folder or the table. The holder scores it: nibench score-hidden DIR --secret FILE --rankings PATH
When the secret is told:   nibench score-hidden . --secret FILE --verify
"""


def open_round(folder: Path, secret_file: Path) -> tuple[Round, Secret]:
    """A published round with its secret.

    Raises
    ------
    InputError
        If the folder is not whole, or the secret is another round's.
    """
    found, secret = read_round(folder), read_secret(secret_file)
    if secret.commitment != found.manifest.commitment:
        raise InputError(
            f"{secret_file} is not the secret of the round in {folder}: its hash is {secret.commitment[:12]}..., "
            f"{NAME} says {found.manifest.commitment[:12]}.... Give the secret that this round was built with."
        )
    return found, secret


# ---------------------------------------------------------------- worlds


@dataclass(frozen=True)
class HiddenWorld:
    """A world of a round; ``kind`` is the bundled task whose difficulty it has."""

    name: str
    kind: str
    spec: WorldSpec
    seed: int

    @cached_property
    def world(self) -> World:
        return sample(self.spec, self.seed)


def worlds(secret: Secret, n_worlds: int) -> list[HiddenWorld]:
    """The worlds of a round: kinds in an order drawn from the secret, each of another size than the bundled one.

    What makes a kind easy or hard (distances, noise, labels) stays, so that its public score is what an honest
    method should get; the number of words and of neurons without a role changes by up to a quarter, so that size
    tells less of the kind.
    """
    order = np.random.default_rng(secret.seed("kinds")).permutation(len(KINDS))
    found = []
    for number in range(n_worlds):
        kind = KINDS[order[number % len(KINDS)]]
        source = find_task(kind).load().source
        assert isinstance(source, SampledWorld)
        found.append(_drawn(secret, secret.name("world", number + 1), kind, source.spec))
    return found


def _drawn(secret: Secret, name: str, kind: str, spec: WorldSpec) -> HiddenWorld:
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng(secret.seed(name, "size", attempt))
        items, rest = np.exp(rng.uniform(-0.22, 0.22, size=2))
        background = max(1, round(dict(spec.role_counts)["background"] * rest))
        sized = replace(
            spec,
            n_items=round(spec.n_items * items),
            n_background=background,
            n_neurons=None,
        )
        made = HiddenWorld(name, kind, sized, secret.seed(name, "draw", attempt))
        try:
            _ = made.world
        except InputError:  # a class without a word in some split
            continue
        return made
    raise InputError(f"{name}: no draw of {kind} has every class in every split. Use another secret. {HOW}")


# ---------------------------------------------------------------- models


def model_seed(secret: Secret, name: str, attempt: int) -> int:
    """Decides all of a model: its plan, its weights' beginnings, which neurons are designated, their order."""
    return secret.seed(name, "model", attempt)


def build_model(secret: Secret, name: str, effort: "Effort", say: "Progress") -> int:
    """Train and certify a model into the kept folder; returns which derived seed did it. Resumes."""
    from nibench.truth.glassbox import export, planted, write_pairs
    from nibench.truth.recipe import recipe_for

    kept, work = secret.kept, secret.kept / WORK
    log = kept / f"{name}.json"  # the attempts so far: [why not, ..., null where it certified]
    tried: list[str | None] = files.read_json(log) if log.is_file() else []
    while not tried or tried[-1] is not None:
        attempt = len(tried)
        if attempt == ATTEMPTS:
            raise InputError(f"{name}: {ATTEMPTS} seeds did not certify. Use another secret. {HOW}")
        seed = model_seed(secret, name, attempt)
        say(f"{name}: seed {attempt + 1} is trained")
        held = write_pairs(_pairs_folder(work))
        try:
            model, designations, _ = planted(
                work / f"{name}-{attempt}.safetensors", recipe_for(seed), seed, held, say
            )
            export(model, work / name)
            certify_model(work / name, designations, seed, effort, say)
            tried.append(None)
        except NotCertified as error:
            say(f"{name}: seed {attempt + 1} did not certify")
            tried.append(str(error))
        else:
            _finish(work, kept, name)
        write_atomic(log, json.dumps(tried).encode())
    shutil.rmtree(work, ignore_errors=True)
    return len(tried) - 1


def certify_model(folder: Path, designations: "list", seed: int, effort: "Effort", say: "Progress") -> None:
    """Write the truth of a folder's weights beside them, as measured for the designated neurons."""
    from nibench.truth.assembly import assemble
    from nibench.truth.exhaustive import one_thread
    from nibench.truth.recipe import recipe_for

    cells = recipe_for(seed).cells
    shared = _pairs_folder(folder.parent)
    pairs = {cell: files.read_pair_file(shared / f"{cell[0]}.{cell[1]}.jsonl", *cell) for cell in cells}
    header = {"seed": seed, "split": "test", "twin": None}
    with one_thread():
        assemble(folder, designations, pairs, header=header, notes={}, effort=effort, progress=say)


def designated(seed: int) -> list:
    """The neurons that a seed designates, under the indices they have in the published weights."""
    from nibench.truth.glassbox import operate
    from nibench.truth.recipe import designate, fresh_model, recipe_for

    recipe = recipe_for(seed)
    return operate(fresh_model(recipe, seed), designate(recipe, seed), seed)[0]


def kept_model(
    found: Round, secret: Secret, name: str, effort: "Effort", say: "Progress", into: Path
) -> Path:
    """The folder ``into / name`` with the model's truth: what is there, or made from weights and secret."""
    from nibench.truth.glassbox import write_pairs

    truth = into / name / "truth.json"
    if truth.is_file() and files.read_truth(truth.parent).model_sha256 == digest(
        found.folder / name / "model.safetensors"
    ):
        return truth.parent
    work = into / WORK
    shutil.rmtree(work, ignore_errors=True)
    (work / name).mkdir(parents=True)
    for file in MODEL_FILES:
        shutil.copyfile(found.folder / name / file, work / name / file)
    write_pairs(_pairs_folder(work))
    seed = model_seed(secret, name, found.manifest.models[name].attempt)
    certify_model(work / name, designated(seed), seed, effort, say)
    return _finish(work, into, name)


def _finish(work: Path, kept: Path, name: str) -> Path:
    """Move a model whose truth is whole to where it is kept."""
    shutil.rmtree(kept / name, ignore_errors=True)
    shutil.copytree(_pairs_folder(work), _pairs_folder(kept), dirs_exist_ok=True)
    os.replace(work / name, kept / name)
    return kept / name


def scored_concepts(folder: Path) -> tuple[str, ...]:
    """The concepts of a truth model that some neurons carry; where none is right there is nothing to score."""
    return tuple(name for name, one in files.read_truth(folder).concepts.items() if not one.is_null)


def _pairs_folder(folder: Path) -> Path:
    from nibench.truth.assembly import PAIRS_FOLDER

    return folder / PAIRS_FOLDER


# ---------------------------------------------------------------- a round


def build(
    secret_file: Path,
    out: Path,
    *,
    n_worlds: int = 6,
    n_models: int = 2,
    effort: "Effort | None" = None,
    say: "Progress" = lambda line: None,
) -> Round:
    """Build a round: train what is to be trained, keep the truth beside the secret, publish the rest in ``out``.

    An interrupted build goes on where it stopped; ``round.json`` comes last, and without it a folder is no round.

    Raises
    ------
    InputError
        If the secret can be guessed or lies in ``out``, ``out`` holds another round or tells a truth, or nothing is
        asked for.
    """
    from nibench.truth.rows import FULL

    secret = read_secret(secret_file)
    if n_worlds + n_models < 1:
        raise InputError(
            "A round of 0 worlds and 0 models scores nothing; expected --worlds 1 or --models 1 at least."
        )
    if secret.path.resolve().is_relative_to(out.resolve()):
        raise InputError(f"{secret_file} lies in {out}, which is to be published. Keep it somewhere else.")
    if is_round(out):
        return open_round(out, secret_file)[0]
    out.mkdir(parents=True, exist_ok=True)
    published: list[str] = []
    for made in worlds(secret, n_worlds):
        write_atomic(out / f"{made.name}{WORLD}", world_bytes(made.world))
        published.append(f"{made.name}{WORLD}")
        say(f"{made.name}: {made.world.activations.shape[1]} neurons, {len(made.world.labels)} words")
    models = {}
    for number in range(n_models):
        name = secret.name("model", number + 1)
        attempt = build_model(secret, name, effort or FULL, say)
        names, concepts = publish_model(secret.kept / name, out)
        published += names
        models[name] = {"attempt": attempt, "concepts": concepts}
    write_atomic(out / "README.md", README.format(id=round_id(secret.commitment)).encode())
    require_silent(out)
    manifest = {
        "schema": 1,
        "commitment": secret.commitment,
        "nibench": _version(),
        "worlds": [secret.name("world", number + 1) for number in range(n_worlds)],
        "models": models,
        "files": listed(out, [*published, "README.md"]),
    }
    write_atomic(out / NAME, (json.dumps(manifest, indent=1) + "\n").encode())
    return read_round(out)


def publish_model(kept: Path, out: Path) -> tuple[list[str], tuple[str, ...]]:
    """Copy what a method needs of a model, and nothing that names neurons: (files, concepts)."""
    names = [f"{kept.name}/{file}" for file in MODEL_FILES]
    (out / kept.name).mkdir(parents=True, exist_ok=True)
    for name in names:
        write_atomic(out / name, (kept.parent / name).read_bytes())
    concepts = scored_concepts(kept)
    for concept in concepts:
        corpus = glassbox(concept).load(seed=0, data=None, folder=kept, cap=None)
        names.append(f"{kept.name}.{concept}{PROMPTS}")
        write_prompts(out / names[-1], corpus, concept, out / kept.name)
    return names, concepts


def verify(
    found: Round, secret: Secret, into: Path, effort: "Effort", say: "Progress"
) -> Iterator[tuple[bool, str]]:
    """What holds of a round whose secret is told, line by line: (holds, what was compared).

    The kept truth is not looked at: everything is made again under ``into``.
    """
    yield True, f"the secret is the one committed to ({secret.commitment[:12]}...)"
    for made in worlds(secret, len(found.manifest.worlds)):
        yield same_world(found.folder / f"{made.name}{WORLD}", made)
    for name, one in found.manifest.models.items():
        try:
            again = kept_model(found, secret, name, effort, say, into)
        except NotCertified as error:
            yield False, f"{name}: the neurons that the secret designates do not carry its concepts ({error})"
            continue
        names, concepts = publish_model(again, into / "published")
        texts = [file for file in names if file.endswith(PROMPTS)]
        same = concepts == one.concepts and all(
            (into / "published" / file).read_bytes() == (found.folder / file).read_bytes() for file in texts
        )
        n_right = sum(len(files.read_truth(again).concept(c).carriers()) for c in concepts)
        yield (
            same,
            f"{name}: {n_right} neurons designated by the secret are certified on the published weights, concepts "
            f"{', '.join(concepts)}; prompts {'the same bytes' if same else 'are not those that were published'}",
        )


def same_world(path: Path, made: HiddenWorld) -> tuple[bool, str]:
    """A published world against the one drawn again: bytes, or up to the rounding of another processor."""
    drawn = world_bytes(made.world)
    if path.read_bytes() == drawn:
        return True, f"{made.name}: drawn again from the secret, the same bytes ({made.kind})"
    with np.load(path, allow_pickle=False) as archive:
        given = {name: archive[name] for name in archive.files}
    mine = {name: getattr(made.world, name) for name in ("labels", "word_types", "sentences", "splits")}
    if given["activations"].shape != made.world.activations.shape or any(
        not np.array_equal(given[name], values) for name, values in mine.items()
    ):
        return False, f"{made.name}: is not what the secret draws"
    drawn_again = made.world.activations
    off = (np.abs(given["activations"] - drawn_again) / np.abs(drawn_again).max(axis=0)).max()
    return bool(off < ROUNDING), (
        f"{made.name}: drawn again from the secret, the same words, activations within {off:.0e} of each neuron's "
        f"largest ({made.kind})"
    )


def _version() -> str:
    try:
        return version("nibench")
    except PackageNotFoundError:  # in a bare checkout
        return "not installed"
