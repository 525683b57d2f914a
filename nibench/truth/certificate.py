"""The certificate of a glass-box model: is what `truth.json` says true of the saved weights?

Shares nothing with the training: it opens the folder like anybody, replaces activations by hooks, and
measures on pairs that training never saw. `rows` measures, this module gathers, judges and writes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nibench.errors import InputError
from nibench.truth import exhaustive as ex
from nibench.truth import files, grammar, labelfree, unused
from nibench.truth.rows import FULL, QUICK, TOP, WHOLE, Effort, Row, concept_rows

SHOWN = (  # (what a behaviour's line calls the figure, its check, its digits)
    ("used", "carried by used", 2),
    ("along", "carried by directions", 2),
    ("rest", "everything else", 2),
    ("mean", "used at mean", 2),
    ("mean", "directions at mean", 2),
    ("eight", f"{TOP} largest together", 3),
    ("single", "largest single other", 3),
    ("nats", unused.NEXT, 4),
    ("single", unused.SINGLE, 4),
)


@dataclass(frozen=True)
class Certificate:
    """All rows of one model, and what was left out of its truth with the figures that kept it out."""

    model: str
    rows: tuple[Row, ...]
    left_out: tuple[Row, ...] = ()

    def behaviours(self) -> list[tuple[str, str]]:
        """The (concept, behaviour) cells that were measured."""
        return list(
            dict.fromkeys((row.concept, row.behaviour) for row in self.rows if row.behaviour != WHOLE)
        )

    def passed(self, concept: str, behaviour: str) -> bool:
        """Whether every row of the behaviour, and of its concept as a whole, holds."""
        rows = [row for row in self.rows if row.concept == concept and row.behaviour in (behaviour, WHOLE)]
        return any(row.behaviour == behaviour for row in rows) and all(
            row.passed is not False for row in rows
        )

    def ok(self) -> bool:
        """Whether everything that the truth claims holds."""
        return all(row.passed is not False for row in self.rows)

    def failures(self) -> list[Row]:
        """The rows that miss."""
        return [row for row in self.rows if row.passed is False]

    def has(self, concept: str, behaviour: str, check: str) -> bool:
        """Whether the figure was measured: nulls have no carriers."""
        return any(
            (row.concept, row.behaviour, row.check) == (concept, behaviour, check) for row in self.rows
        )

    def value(self, concept: str, behaviour: str, check: str) -> float:
        """One figure."""
        for row in self.rows:
            if (row.concept, row.behaviour, row.check) == (concept, behaviour, check):
                return row.value
        raise InputError(f"The certificate of {self.model} has no row {concept}.{behaviour} {check!r}.")

    def lines(self) -> Iterator[str]:
        """One line of at most 80 columns for each behaviour, then one for each row that misses."""
        for concept, behaviour in self.behaviours():
            verdict = "pass" if self.passed(concept, behaviour) else "FAIL"
            head = f"{verdict} {self.model} {concept}.{behaviour}"
            figures = " ".join(
                f"{short} {self.value(concept, behaviour, check):.{digits}f}"
                for short, check, digits in SHOWN
                if self.has(concept, behaviour, check)
            )
            yield f"{head:36} {figures}"[:80]
        for row in self.failures():
            figure = f"{row.check} {row.value:.3f}, required {row.bound}"
            yield f"  misses {row.concept}.{row.behaviour}: {figure}"[:80]
        for concept, behaviour in dict.fromkeys((row.concept, row.behaviour) for row in self.left_out):
            rows = [row for row in self.left_out if (row.concept, row.behaviour) == (concept, behaviour)]
            worst = next((row for row in rows if row.passed is False), rows[0])
            figure = f"{worst.check} {worst.value:.3f}, required {worst.bound}"
            yield f"left out {concept}.{behaviour}: {figure}"[:80]


@ex.one_thread()
def certify(
    folder: Path, *, quick: bool = False, effort: Effort | None = None, progress: ex.Progress = ex.silent
) -> Certificate:
    """Measure everything that `truth.json` of a glass-box claims, anew.

    Parameters
    ----------
    folder
        A glass-box model.
    quick
        Measure on a subsample: for tests, under 20 s.
    effort
        How much to measure, instead of the two presets.
    progress
        Receives a line for each behaviour.

    Raises
    ------
    InputError
        If the folder is a natural twin or no truth model, or one of its files is damaged.
    """
    folder = Path(folder)
    twin = None if (folder / "truth.json").is_file() else files.read_twin(folder)
    if twin:
        kind = "natural twin" if twin.kind == "natural" else "half-confined middle"
        raise InputError(
            f"{folder.name} is the {kind} of {twin.of} and claims nothing; certify {twin.of} instead."
        )
    truth = files.read_truth(folder)
    effort = effort or (QUICK if quick else FULL)
    engine = ex.Engine(folder)
    pairs = {
        (concept, behaviour): files.read_pairs(folder, concept, behaviour)
        for concept, known in truth.concepts.items()
        for behaviour in known.behaviours
        if not known.is_unused
    }
    measured = ex.effects(engine, pairs, n=effort.single_pairs, n_probe=effort.probe_pairs, progress=progress)
    rows: list[Row] = []
    for concept, known in truth.concepts.items():
        progress(f"{folder.name} {concept}: shares")
        if known.is_unused:
            rows += unused.rows(engine, concept, files.read_pairs(folder, concept, grammar.NONE), effort)[0]
            continue
        own = {behaviour: pairs[concept, behaviour] for behaviour in known.behaviours}
        rows += concept_rows(engine, concept, known, own, measured, effort)
    rows += leak_rows(engine, truth)
    return Certificate(folder.name, tuple(rows), _stored_left_out(folder))


def leak_rows(engine: ex.Engine, truth: files.Truth) -> list[Row]:
    """Whether anything that needs no labels tells used neurons from decoys, in this one model."""
    return [
        Row(engine.folder.name, WHOLE, WHOLE, check, value, low, high, "no verdict with one model", None)
        for check, value, low, high in labelfree.leaks(labelfree.couples(engine, truth))
    ]


LEAST_MODELS = 4  # for a verdict on leaks


@ex.one_thread()
def pooled_leaks(folders: Sequence[Path]) -> list[Row]:
    """Whether anything that needs no labels tells used neurons from decoys, over several models together.

    A classifier scores each model's neurons without having seen that model. Expected in [.4, .6]; nothing
    with fewer than four models that have decoys.
    """
    truths = {folder: files.read_truth(folder) for folder in folders}
    truths = {
        folder: truth
        for folder, truth in truths.items()
        if any(known.decoys() for known in truth.concepts.values())
    }
    if len(truths) < LEAST_MODELS:
        return []
    models = {folder.name: labelfree.couples(ex.Engine(folder), truth) for folder, truth in truths.items()}
    label = f"{len(models)} models"
    return [
        Row(label, WHOLE, WHOLE, check, value, low, high, "in [.4, .6]", 0.4 <= value <= 0.6)
        for check, value, low, high in labelfree.leaks(labelfree.pooled(models))
    ]


def _stored_left_out(folder: Path) -> tuple[Row, ...]:
    """What the stored certificate lists as left out; nothing where there is none yet."""
    path = folder / "certificate.json"
    if not path.is_file():
        return ()
    try:
        return tuple(Row(**row) for row in files.read_json(path).get("left_out", ()))
    except (TypeError, AttributeError):
        raise InputError(f"{path} is not a certificate. Restore {folder.name}/ as it was shipped.") from None


def plain(row: Row) -> dict[str, object]:
    """A row as it is written."""
    return {key: round(one, 5) if isinstance(one, float) else one for key, one in asdict(row).items()}


def certificate_json(
    certificate: Certificate, model_sha256: str, notes: Mapping[str, object]
) -> dict[str, object]:
    """The contents of `certificate.json`."""
    return {
        "schema": 1,
        "model": certificate.model,
        "model_sha256": model_sha256,
        "rows": [plain(row) for row in certificate.rows],
        "left_out": [plain(row) for row in certificate.left_out],
        **notes,
    }
