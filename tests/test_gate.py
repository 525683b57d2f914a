"""The gate: what is the same passes, what is worse fails, what cannot be compared is said."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nibench.errors import InputError
from nibench.evaluation import evaluate
from nibench.gate import Gate, compare, gate
from nibench.record import Cost, write_record
from nibench.stored import Stored, read_results
from nibench.suites import find_suite
from tests.synthetic_records import record, score
from tests.test_evaluation import WORLD

ROOT = Path(__file__).parent.parent
METHOD = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from nibench import Method, Needs, Ranking

@dataclass(frozen=True)
class Mine(Method):
    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS

    def rank(self, data, rng):
        scores = np.abs(data.statistics.correlations[0])
        {then}
        return Ranking.from_scores(scores)
"""
SHUFFLED = """order = np.argsort(-scores)
        some = np.sort(np.random.default_rng(1).choice(len(order), len(order) // 10, replace=False))
        scores[order[some]] = np.random.default_rng(2).permutation(scores[order[some]])"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory):
    """A way to run one method, as it should be or degraded, into a folder of its own."""
    root = tmp_path_factory.mktemp("gate")
    (root / "small_world.py").write_text(WORLD)

    def run(name: str, then: str = "pass") -> Path:
        folder = root / name
        folder.mkdir()
        (folder / "mine.py").write_text(METHOD.format(then=then))
        tasks = [str(root / "small_world.py"), "graded_noise_world", "several_classes_world"]
        evaluate([str(folder / "mine.py")], tasks, out=folder / "results")
        return folder / "results"

    return run


@pytest.fixture(scope="module")
def right(runs) -> Path:
    return runs("right")


def test_unchanged_reruns_raise_no_alarm(runs, right: Path) -> None:
    for number in range(3):
        found = gate(right, runs(f"again{number}"))
        assert (found.exit_code, found.reproduced, found.cells) == (0, 3, 3)
        assert found.changes == ()


def test_a_tenth_of_the_order_shuffled_is_caught(runs, right: Path) -> None:
    found = gate(right, runs("degraded", SHUFFLED))
    assert found.exit_code == 1
    worst = found.changes[0]
    assert worst.verdict == "fail"
    assert worst.change is not None
    assert worst.bar is not None
    assert worst.change < worst.bar < 0


def test_a_method_that_got_better_passes_and_is_told(runs, right: Path) -> None:
    worse = runs("worse", SHUFFLED)
    found = gate(worse, right)
    fails = [one.metric for one in found.changes if one.verdict == "fail" and "mean of" in one.where]
    assert set(fails) <= {"gt.decoy[correlate]"}  # shuffled, it met fewer neurons of the confound
    assert found.reproduced < found.cells
    better = [change.change for change in found.changes if change.change is not None]
    assert sum(better) > 0


def noisy(rng: np.random.Generator, n_cells: int, shift: float, noise: float = 0.3) -> Gate:
    """Cells whose 40 clusters move by independent noise and by a shift, against themselves before."""
    before, after = {}, {}
    for number in range(n_cells):
        items = np.full(40, 10.0)
        hits = rng.binomial(10, 0.8, size=40).astype(float)
        moved = hits + noise * rng.normal(size=40) * np.sqrt(10) + shift * items
        for target, values in ((before, hits), (after, moved)):
            found = score("probe.auc[lda]", values.sum() / items.sum(), n_items=400, n_clusters=40, k=(1,))
            made = record(f"m{number}", scores=[found])
            target[made.cell.stem] = Stored(
                made, {"probe.auc[lda]/hits": values[:, None], "probe.auc[lda]/items": items}
            )
    return compare(before, after)


def test_noise_alone_seldom_fails_and_a_drop_does() -> None:
    rng = np.random.default_rng(0)
    quiet = [noisy(rng, 10, 0.0).exit_code for _ in range(200)]
    assert sum(quiet) <= 8  # .01 of 200 is two; nine or more has a chance under .001
    assert all(noisy(rng, 10, -0.1).exit_code == 1 for _ in range(20))


def test_many_small_drops_are_one_large() -> None:
    """Drops under the bar of every cell, one method on twenty tasks: the mean tells."""
    rng = np.random.default_rng(1)
    before, after = {}, {}
    for number in range(20):
        items, hits = np.full(40, 10.0), rng.binomial(10, 0.8, size=40).astype(float)
        moved = hits - 0.12 + 0.9 * rng.normal(size=40)
        for target, values in ((before, hits), (after, moved)):
            found = score("probe.auc[lda]", values.sum() / items.sum(), n_items=400, n_clusters=40, k=(1,))
            made = record("m", f"task{number}", scores=[found])
            target[made.cell.stem] = Stored(
                made, {"probe.auc[lda]/hits": values[:, None], "probe.auc[lda]/items": items}
            )
    found = compare(before, after)
    assert [change.where for change in found.changes if change.verdict == "fail"] == ["m: mean of 20 cells"]


def test_the_worked_cell_is_too_noisy_to_fail() -> None:  # oracle 30
    items, change = np.full(4, 5.0), np.array([0.0, -1.0, 0.0, -1.0])
    hits = np.full(4, 4.0)
    pair = []
    for values in (hits, hits + change):
        made = record("m", scores=[score("probe.auc[lda]", values.sum() / 20, n_items=2000, k=(1,))])
        arrays = {"probe.auc[lda]/hits": values[:, None], "probe.auc[lda]/items": items}
        pair.append({made.cell.stem: Stored(made, arrays)})
    (only,) = compare(*pair).changes
    assert only.change == pytest.approx(-0.1)
    assert only.se == pytest.approx(0.0577350269)
    assert only.bar == pytest.approx(-0.134, abs=5e-4)
    assert only.detectable == pytest.approx(0.183, abs=5e-4)
    assert only.verdict == "pass"


def one(made, **changed) -> dict[str, Stored]:
    return {made.cell.stem: Stored(made.model_copy(update=changed))}


def test_a_crash_a_lost_metric_and_more_passes_are_regressions() -> None:
    cost = Cost(seconds=0.1, forward=100, backward=0, peak_memory_mb=1)
    made = record("m", scores=[score("encodes", 0.8), score("layer.centre", 0.1, direction=0)], cost=cost)
    crashed = compare(one(made), one(made, status="failed", reason="boom", scores=[]))
    assert "boom" in crashed.changes[0].why
    lost = compare(one(made), one(made, scores=made.scores[1:]))
    assert [(change.metric, change.why) for change in lost.changes] == [("encodes", "not measured any more")]
    dearer = compare(one(made), one(made, cost=replace_cost(cost, forward=106)))
    assert [change.metric for change in dearer.changes] == ["cost.feq"]
    assert compare(one(made), one(made, cost=replace_cost(cost, forward=105))).exit_code == 0
    slow = compare(one(made), one(made, cost=replace_cost(cost, seconds=3)))
    assert (slow.exit_code, slow.changes[0].verdict) == (0, "warn")
    assert "baseline again" not in slow.verdict
    assert [found.exit_code for found in (crashed, lost, dearer)] == [1, 1, 1]


def replace_cost(cost: Cost, **changed: float) -> Cost:
    return cost.model_copy(update=changed)


def test_what_cannot_be_compared_is_named() -> None:
    made = record("m", scores=[score("encodes", 0.8)])
    missing = compare(one(made), {})
    assert missing.exit_code == 2
    assert "no such record" in missing.impossible[0]
    other = compare(one(made), one(made, digests={**made.digests, "data": "another"}))
    assert other.exit_code == 2
    assert "another data" in other.impossible[0]
    another_method = compare(one(made), one(made, digests={**made.digests, "method": "another"}))
    assert another_method.exit_code == 0  # that is what a gate is for


def nibench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "nibench", *arguments], capture_output=True, text=True)


def test_the_command_says_which_cells_and_by_how_much(tmp_path: Path, runs, right: Path) -> None:
    same = nibench("gate", "--baseline", str(right), "--results", str(right))
    assert same.returncode == 0
    assert "3 of 3 cells reproduce" in same.stderr
    worse = runs("shown", SHUFFLED)
    shown = nibench("gate", "--baseline", str(right), "--results", str(worse))
    assert shown.returncode == 1
    assert "mine · " in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    told = json.loads(nibench("gate", "--baseline", str(right), "--results", str(worse), "--json").stdout)
    assert told["exit_code"] == 1
    assert told["changes"][0]["change"] < told["changes"][0]["bar"]
    nowhere = nibench("gate", "--baseline", str(tmp_path / "none"))
    assert nowhere.returncode == 2
    assert len(nowhere.stderr.splitlines()) == 1


def test_half_a_record_is_no_result(tmp_path: Path, right: Path) -> None:
    for path in (right / "records").iterdir():
        (tmp_path / "records").mkdir(exist_ok=True)
        (tmp_path / "records" / path.name).write_bytes(path.read_bytes())
    broken = next((tmp_path / "records").glob("*.json"))
    broken.write_text(broken.read_text()[:300])
    with pytest.raises(InputError, match=broken.name):
        gate(right, tmp_path)


def test_part_of_a_baseline_is_compared_only_when_asked_for(tmp_path: Path) -> None:
    whole, part = (tmp_path / name / "records" for name in ("whole", "part"))
    for folder, methods in ((whole, ("a", "b")), (part, ("a",))):
        folder.mkdir(parents=True)
        for method in methods:
            write_record(record(method, scores=[score("encodes", 0.8)]), {}, folder)
    missing = gate(whole.parent, part.parent)
    assert (missing.exit_code, missing.cells, len(missing.impossible)) == (2, 2, 1)
    assert "--partial" in missing.impossible[0]
    found = gate(whole.parent, part.parent, partial=True)
    assert (found.exit_code, found.cells, found.reproduced, found.impossible) == (0, 1, 1, ())


def test_a_slim_record_does_not_know_whether_scores_changed() -> None:
    stored = Stored(record("m", scores=[score("encodes", 0.8)]), {"scores": np.array([1.0, 2.0])})
    moved = replace(stored, arrays={"scores": np.array([1.0, 3.0])})
    slim = replace(stored, arrays={})
    assert len(compare({"m": stored}, {"m": moved}).notes) == 1
    assert compare({"m": slim}, {"m": moved}).notes == compare({"m": moved}, {"m": slim}).notes == ()


def test_records_of_another_schema_are_refused(tmp_path: Path) -> None:
    made = record("m", scores=[score("encodes", 0.8)])
    (tmp_path / "records").mkdir()
    path = write_record(made, {}, tmp_path / "records")
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 9'))
    with pytest.raises(InputError, match="schema 9"):
        gate(tmp_path, tmp_path)


def test_the_committed_baseline_holds(tmp_path: Path) -> None:
    """A few cells of the records that the workflow compares with: when they move, the baseline is made again."""
    suite = find_suite("default")
    methods, tasks = ["mean_difference", "attribution_patching"], ["glass_tense", "graded_noise_world"]
    report = evaluate(methods, tasks, ["glass8"], budget=suite.budget, out=tmp_path)
    now = {record.cell.stem: record for record in report.records}
    committed = {
        stored.record.cell.stem: stored
        for stored in read_results([ROOT / "leaderboard" / "records" / "default.tar.xz"])
    }
    assert set(now) <= set(committed)
    again = {stored.record.cell.stem: stored for stored in read_results([tmp_path])}
    found = compare({stem: committed[stem] for stem in now}, again)
    assert found.exit_code == 0, found.verdict
