"""Score what was handed in for a hidden round against the truth that its holder keeps.

What is handed in are rankings: the results folder of ``nibench run --suite ROUND``, or a table of scores. Every
method must have ranked every cell. The records that come out know the scores and nothing else of the truth; but
many scores tell something of it together: publish them when the secret is told.
"""

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nibench.disk import digest
from nibench.errors import InputError
from nibench.harness import card_of, package_versions, score_record
from nibench.hidden import kept_model, same_world, scored_concepts, worlds
from nibench.metrics.curves import k_grid
from nibench.metrics.truth import decoys, truth_per_claim
from nibench.modelfiles import model_digest
from nibench.neurons import Block, Neurons
from nibench.ranking import Ranking
from nibench.rankings import Scored, read_rankings
from nibench.recompute import truth_trial
from nibench.record import (
    Card,
    Cell,
    Environment,
    Record,
    read_arrays,
    read_record,
    record_paths,
    write_record,
)
from nibench.rounds import Round, of_round
from nibench.secret import Secret
from nibench.submissions import find_method, names
from nibench.task import Truth
from nibench.truth.files import layer_sizes, read_truth
from nibench.truth.known import known_truth

if TYPE_CHECKING:
    from nibench.truth.exhaustive import Progress
    from nibench.truth.rows import Effort

Where = tuple[str, str]
"""Task and model, the model empty for a world."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What is known in one cell of a round; ``lineage`` is a world's kind, or the model."""

    truth: Truth
    neurons: Neurons
    concept: str
    classes: tuple[str, ...]
    tier: str
    lineage: str
    digests: dict[str, str]


@dataclass(frozen=True, eq=False)
class Handed:
    """One ranking as it was handed in: with its record, or with the scores of a table."""

    cell: Cell
    source: Path
    record: Record | None = None
    scores: np.ndarray | Scored | None = None


def score(
    found: Round,
    secret: Secret,
    handed: Sequence[Path],
    out: Path,
    *,
    claims: str | None = None,
    effort: "Effort | None" = None,
    say: "Progress" = lambda line: None,
) -> list[Path]:
    """Write a record for every cell of every method that was handed in; returns their paths.

    Parameters
    ----------
    handed : results folders or tables of scores (``nibench.rankings``); a table is named after its method.
    claims : what the rankings of tables claim, where they do not have the name of a bundled method.

    Raises
    ------
    InputError
        If a cell is missing, strange, of another file than the published one or has the wrong neurons.
    """
    whole = [one for path in handed for one in _read(found, path)]
    _require_whole(found, whole)
    known = answers(found, secret, effort, say)
    made = [
        (one, _record(found, one, known[_where(one.cell)], claims)) for one in whole
    ]  # before any is written
    return [write_record(record, arrays, out / "records") for _, (record, arrays) in made]


def answers(
    found: Round, secret: Secret, effort: "Effort | None" = None, say: "Progress" = lambda line: None
) -> dict[Where, Answer]:
    """What is known in each cell of the round."""
    from nibench.truth.rows import FULL

    known: dict[Where, Answer] = {}
    for made in worlds(secret, len(found.manifest.worlds)):
        world, path = made.world, found.task_file(made.name, "")
        assert world.truth is not None
        same, words = same_world(path, made)
        if not same:
            raise InputError(
                f"{words}: the round was built with nibench {found.manifest.nibench}, score it with that."
            )
        neurons = Neurons.anonymous(world.activations.shape[1])
        of = {"task": digest(path), "data": digest(path), "model": ""}
        known[made.name, ""] = Answer(world.truth, neurons, made.name, world.classes, "world", made.kind, of)
    for name in found.manifest.models:
        if not (secret.kept / name / "truth.json").is_file():
            say(f"{name}: its truth is not in {secret.kept}; it is measured again (minutes)")
        folder = kept_model(found, secret, name, effort or FULL, say, secret.kept)
        blocks, units = layer_sizes(folder)
        neurons = Neurons(tuple(Block(f"L{layer}.mlp_post", layer, units) for layer in range(blocks)))
        for concept in scored_concepts(folder):
            one, task = read_truth(folder).concept(concept), f"{name}.{concept}"
            truth = known_truth(folder, concept, tuple(one.behaviours), neurons)
            assert truth is not None
            path = found.task_file(task, name)
            of = {"task": digest(path), "data": digest(path), "model": model_digest(found.folder / name)}
            known[task, name] = Answer(truth, neurons, concept, one.classes, "glass-box", name, of)
    return known


def _read(found: Round, path: Path) -> Iterator[Handed]:
    """The rankings of the round in a results folder or a table; what belongs to no round is let be."""
    if not path.is_dir():
        for (task, model, seed), scored in read_rankings(path).items():
            stem, _, preset = path.stem.partition("@")
            site = "mlp_post" if model else None
            cell = Cell(
                method=stem, preset=preset or None, task=task, model=model or None, site=site, seed=seed
            )
            yield Handed(cell, path, None, scored)
        return
    n_found = 0
    for file in record_paths(path):
        record = read_record(file)
        if of_round(record.cell.task) == found.id and record.cell.control is None:
            n_found += 1
            yield Handed(record.cell, path, record, read_arrays(file).get("scores"))
    if not n_found:
        raise InputError(
            f"{path} has no ranking of round {found.id}. Make them: nibench run --suite {found.folder} "
            f"--method METHOD --out {path}"
        )


def _where(cell: Cell) -> Where:
    return cell.task, Path(cell.model).name if cell.model else ""


def _require_whole(found: Round, whole: Sequence[Handed]) -> None:
    """Every method, with every seed, has every cell of the round, once, and no other."""
    expected = set(found.cells)
    by_run: dict[tuple[str, str, int], list[Handed]] = {}
    for one in whole:
        by_run.setdefault((one.cell.label, str(one.cell.parameters), one.cell.seed), []).append(one)
    for (label, _, seed), some in by_run.items():
        there = [_where(one.cell) for one in some]
        who = f"{label} (seed {seed}, {some[0].source})"
        strange = sorted(set(there) - expected)
        if strange:
            named = " · ".join(filter(None, strange[0]))
            raise InputError(
                f"{who} ranks {named}, which is no cell of round {found.id}; it has {_listed(expected)}."
            )
        missing = expected - set(there)
        if missing:
            raise InputError(
                f"{who} lacks {len(missing)} of {len(expected)} cells of round {found.id}: {_listed(missing)}. "
                f"Every cell must be ranked: nibench run --suite {found.folder} --method METHOD --out DIR"
            )
        twice = next((cell for cell in there if there.count(cell) > 1), None)
        if twice is not None:
            raise InputError(
                f"{who} ranks {' · '.join(filter(None, twice))} twice; hand in one ranking of a cell."
            )


def _listed(cells: set[Where]) -> str:
    return ", ".join(sorted(task for task, _ in cells))


def _record(
    found: Round, one: Handed, answer: Answer, claims: str | None
) -> tuple[Record, dict[str, np.ndarray]]:
    where, given = f"{one.source}, {one.cell.label} on {one.cell.task}", one.record
    model = _where(one.cell)[1]
    digests = {"method": digest(one.source) if given is None else given.digests["method"], **answer.digests}
    for what in ("task", "model") if given is not None else ():
        if given is not None and given.digests.get(what) != digests[what]:
            raise InputError(
                f"{where}: was ranked on another {what} than the published one. Fetch the round again."
            )
    scores, arrays, reason = [], {}, "" if given is None else given.reason
    if given is None or given.status == "ok":
        values = _values(one, answer, where)
        truths = truth_trial(
            Ranking.from_scores(values), answer.truth, len(answer.classes), k_grid(len(answer.neurons))
        )
        scores = [score_record(s) for s in (*(truth_per_claim(truths) or ()), *(decoys(truths) or ()))]
        arrays = {"scores": values}
    record = Record(
        cell=one.cell.model_copy(update={"model": model or None, "round": found.id}),
        status="ok" if given is None else given.status,
        reason=reason,
        card=_card(one, claims) if given is None else given.card,
        concept=answer.concept,
        classes=list(answer.classes),
        digests=digests,
        versions=package_versions(),
        tier=answer.tier,
        lineage=answer.lineage,
        n_neurons=len(answer.neurons),
        scores=scores,
        flags=["rankings only"] if given is None else given.flags,
        command=f"nibench score-hidden {found.folder} --secret FILE --rankings {one.source}",
        cost=None if given is None else given.cost,
        environment=_here() if given is None else given.environment,
    )
    return record, arrays


def _values(one: Handed, answer: Answer, where: str) -> np.ndarray:
    """float64 (D,): a score for each neuron of the cell."""
    if isinstance(one.scores, Scored):
        return one.scores.aligned(answer.neurons, where)
    given = np.zeros(0) if one.scores is None else one.scores
    if given.shape != (len(answer.neurons),):
        raise InputError(
            f"{where}: {len(given)} scores for {len(answer.neurons)} neurons; rank all of mlp_post."
        )
    if np.isnan(given).any() or (given == np.inf).any():
        raise InputError(f"{where}: holds NaN or +inf; score every neuron, -inf says 'cannot tell'.")
    return given


def _card(one: Handed, claims: str | None) -> Card:
    """Of a table: the bundled method's with that name, else what is claimed for it."""
    if one.cell.method in names("methods"):
        return card_of(find_method(one.cell.label))
    return Card(family="unknown", claims=claims or "none", direction="concept->neurons", needs=[])


def _here() -> Environment:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    here = platform.platform(), platform.machine()
    return Environment(date=now, platform=here[0], processor=here[1], device="", threads=1, versions={})
