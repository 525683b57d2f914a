"""evaluate(): every cell is a record; what is done is not done twice; what fails is a row, not a gap."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nibench as nb
from nibench.errors import InputError
from nibench.evaluation import evaluate, locked
from nibench.record import Record, read_record
from nibench.suites import Budget

WORLD = """
from nibench import Task, control, sources
task = Task(
    concept="small_world",
    classes=("off", "on"),
    source=sources.world(
        n_items=900, n_signal=8, signal_range=(0.8, 1.6), n_distributed=0, n_correlate=4, n_loud=4, n_dead=2,
        n_background=30,
    ),
    control=control.random_label_per_word_type(),
)
"""
CRASHES = """
from dataclasses import dataclass
from typing import ClassVar
from nibench import Method, Needs, Ranking

@dataclass(frozen=True)
class Crashes(Method):
    needs: ClassVar[Needs] = Needs.ACTIVATIONS

    def rank(self, data, rng):
        {body}
"""


@pytest.fixture
def world(tmp_path: Path) -> str:
    (tmp_path / "small_world.py").write_text(WORLD)
    return str(tmp_path / "small_world.py")


def crashing(tmp_path: Path, body: str) -> str:
    (tmp_path / "crashes.py").write_text(CRASHES.format(body=body))
    return str(tmp_path / "crashes.py")


def without_cost(record: Record) -> dict[str, object]:
    return record.model_dump(exclude={"cost", "environment"})


def test_every_cell_becomes_a_record_with_its_provenance(tmp_path: Path, world: str) -> None:
    report = evaluate(["probeless", "random_ranking"], [world], seeds=2, out=tmp_path / "out")
    assert [(r.cell.method, r.cell.seed) for r in report.records] == [
        ("probeless", 0), ("probeless", 1), ("random_ranking", 0), ("random_ranking", 1),
    ]  # fmt: skip
    record = report.records[0]
    assert record.status == "ok"
    assert set(record.digests) == {"task", "data", "budget", "model", "method"}
    assert record.command == f"nibench run --method probeless --task {world}"
    assert record.cost is not None
    assert record.cost.peak_memory_mb > 0
    assert record.score("encodes") is not None
    assert record.score("gt.ap[associated]") is not None


def test_the_concept_is_found_by_those_who_look_and_not_by_chance(tmp_path: Path, world: str) -> None:
    report = evaluate(["probeless", "random_ranking"], [world], out=tmp_path / "out")
    found, chance = (r.score("gt.ap[associated]").normalised for r in report.records)  # type: ignore[union-attr]
    assert found > 0.5  # type: ignore[operator]
    assert abs(chance) < 0.3  # type: ignore[arg-type]


def test_an_unchanged_cell_is_never_computed_twice(tmp_path: Path, world: str) -> None:
    first = evaluate(["variance"], [world], out=tmp_path / "out")
    path = next((tmp_path / "out" / "records").glob("*.json"))
    stamp = path.stat().st_mtime_ns
    second = evaluate(["variance"], [world], out=tmp_path / "out")
    assert (first.computed, second.computed) == (1, 0)
    assert path.stat().st_mtime_ns == stamp
    assert [r.model_dump() for r in second.records] == [r.model_dump() for r in first.records]


def test_a_changed_task_file_is_computed_again(tmp_path: Path, world: str) -> None:
    evaluate(["variance"], [world], out=tmp_path / "out")
    Path(world).write_text(WORLD.replace("n_signal=8", "n_signal=9"))
    assert evaluate(["variance"], [world], out=tmp_path / "out").computed == 1


def test_records_are_the_same_bytes_whatever_the_jobs(tmp_path: Path, world: str) -> None:
    other = tmp_path / "other_world.py"
    other.write_text(WORLD.replace("small_world", "other_world"))
    tasks = [world, str(other)]
    alone = evaluate(["lca", "random_ranking"], tasks, out=tmp_path / "a", jobs=1)
    together = evaluate(["lca", "random_ranking"], tasks, out=tmp_path / "b", jobs=2)
    assert [without_cost(r) for r in alone.records] == [without_cost(r) for r in together.records]


def test_a_crashing_method_is_a_flagged_row_that_is_tried_again(tmp_path: Path, world: str) -> None:
    method = crashing(tmp_path, "raise RuntimeError('out of luck')")
    report = evaluate([method, "variance"], [world], out=tmp_path / "out")
    failed, fine = report.records
    assert (failed.status, failed.reason) == ("failed", "RuntimeError: out of luck")
    assert failed.flags == ["failed"]
    assert fine.status == "ok"
    assert evaluate([method, "variance"], [world], out=tmp_path / "out").computed == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return Ranking.from_scores(data.activations.std(axis=0)[1:])", r"returned 47 scores for 48 neurons"),
        ("return Ranking.from_scores(data.activations.std(axis=0) * float('nan'))", r"48 of 48 scores are NaN"),
        ("return Ranking.from_order([0, 0], n_neurons=48)", r"names a neuron twice"),
        ("return data.activations.std(axis=0)", r"returned ndarray; expected Ranking"),
        ("return Ranking.from_scores(data.labels)", r"read data.labels but declares needs = .*Add Needs.LABELS"),
        ("data.activations[0] = 0", r"read-only"),
    ],
)  # fmt: skip
def test_what_a_method_did_wrong_is_said_in_its_record(
    tmp_path: Path, world: str, body: str, reason: str
) -> None:
    report = evaluate([crashing(tmp_path, body)], [world], out=tmp_path / "out")
    assert report.records[0].status == "failed"
    import re

    assert re.search(reason, report.records[0].reason)


def test_a_method_that_needs_a_model_does_not_apply_to_a_world(tmp_path: Path, world: str) -> None:
    report = evaluate(["neuron_ablation"], [world], out=tmp_path / "out")
    assert report.records[0].status == "not_applicable"
    assert report.records[0].reason == "needs MODEL: the task has no behaviour to intervene on"


def test_a_second_run_in_one_folder_names_the_lock(tmp_path: Path, world: str) -> None:
    with locked(tmp_path / "out"), pytest.raises(InputError, match=r"Another run is writing to .*\.lock"):
        evaluate(["variance"], [world], out=tmp_path / "out")


def test_nothing_to_run_says_why(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"number_ewt: it reads text: it needs a model \(name one with --model\)"
    ):
        evaluate(["variance"], ["number_ewt"], out=tmp_path / "out")


def test_a_half_written_record_is_not_taken_for_a_result(tmp_path: Path, world: str) -> None:
    evaluate(["variance"], [world], out=tmp_path / "out")
    path = next((tmp_path / "out" / "records").glob("*.json"))
    path.write_text(path.read_text()[:200])
    report = evaluate(["variance"], [world], out=tmp_path / "out")
    assert report.computed == 1
    assert read_record(path).status == "ok"


def test_compare_pairs_two_methods_on_every_board(tmp_path: Path, world: str) -> None:
    report = evaluate(["probeless", "variance"], [world], seeds=2, out=tmp_path / "out")
    found = report.compare("probeless", "variance")
    encodes = next(board for board in found.boards if board.axis == "encodes").pairs[0]
    assert encodes.difference > 0
    assert encodes.level == "sentences"
    assert encodes.p is not None
    assert encodes.p < 0.05
    assert "A probeless, B variance" in str(found)
    with pytest.raises(InputError, match="No method named 'lca'"):
        report.compare("probeless", "lca")


def test_a_cached_rerun_imports_neither_torch_nor_transformers(tmp_path: Path, world: str) -> None:
    evaluate(["variance"], [world], out=tmp_path / "out")
    code = (
        "import json, sys, nibench as nb\n"
        f"report = nb.evaluate(['variance'], [{world!r}], out={str(tmp_path / 'out')!r})\n"
        "print(json.dumps([report.computed, sorted({'torch', 'transformers'} & set(sys.modules))]))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == [0, []]


def test_arrays_in_ranking_out() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    y = np.array(["off", "on"])[rng.integers(0, 2, 200)]
    X = rng.normal(size=(200, 6))
    X[:, 4] += 2.0 * (y == "on")
    ranking = nb.rank("probeless", X, y)
    assert ranking.order[0] == 4
    assert ranking.scores.shape == (6,)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([[1.0, 2.0]], [0, 1], "y has 2 entries for 1 rows of X"),
        ([1.0, 2.0], [0, 1], r"X has shape \(2,\); expected \(N, D\)"),
        ([[1.0], [float("nan")]], [0, 1], r"X holds NaN or infinity \(first: row 1, neuron 0\)"),
        ([[1.0], [2.0]], [1, 1], "y has one class only"),
    ],
)
def test_wrong_arrays_are_one_clear_line(X: object, y: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        nb.rank("variance", X, y)


def test_arrays_are_not_enough_for_a_method_that_needs_a_model() -> None:
    with pytest.raises(
        InputError, match=r"neuron_ablation needs MODEL: arrays are not enough\. Use: nibench rank"
    ):
        nb.rank("neuron_ablation", [[1.0], [2.0]], [0, 1])


def test_every_score_in_a_record_is_explained(tmp_path: Path, world: str) -> None:
    from nibench.metrics import ABOUT
    from nibench.task import CLAIMS

    known = {name.replace("CLAIM", claim) for name in ABOUT for claim in CLAIMS}
    scores = evaluate(["probeless"], [world], out=tmp_path / "out").records[0].scores
    assert {score.id for score in scores} <= known


def test_a_task_that_keeps_fewer_than_two_classes_is_left_out_and_named(shared: Path, tmp_path: Path) -> None:
    model = str(shared / "models" / "stories260K")
    quick = Budget(metrics="truth")
    few: dict[str, Any] = {
        "data": shared / "data",
        "cap": 6000,
        "out": tmp_path,
        "budget": quick,
    }  # enough for number only
    report = evaluate(["auc"], ["number_ewt", "tense_ewt"], [model], **few)
    assert {record.cell.task for record in report.records} == {"number_ewt"}
    assert report.computed == 1
    (reason,) = report.skipped
    assert reason.startswith(
        f"tense_ewt on {model}: Fewer than two classes are left of 2: class Past dropped"
    )
    with pytest.raises(InputError, match="Nothing to run: tense_ewt on .*: Fewer than two classes"):
        evaluate(["auc"], ["tense_ewt"], [model], **few)
