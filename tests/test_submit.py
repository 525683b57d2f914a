"""A submission is believed as far as it comes out again: honest ones stand, the others are refused by name."""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import typer
from pyarrow import csv, parquet

from nibench.cli_submit import submit
from nibench.confined import Limits
from nibench.disk import digest
from nibench.errors import InputError
from nibench.evaluation import evaluate
from nibench.given import Extent, GivenFile, scored
from nibench.leaderboard import build
from nibench.record import Card, Cell, read_arrays, read_record, write_record
from nibench.results import collect
from nibench.scaffold import METHOD, write_new
from nibench.stored import read_results
from nibench.submitted import MANIFEST, STANDING, Submission, read_submission, standing_of
from nibench.submitting import submit_rankings, submit_source
from nibench.suites import SUITES, Budget, Suite
from nibench.validation import Verdict, validate
from tests.synthetic_records import record
from tests.test_evaluation import WORLD

SOURCE = METHOD.format(title="My idea", name="my_idea", class_name="MyIdea")
LIMITS = Limits(seconds=90)
SMALL, MIXED = Extent("small"), Extent("mixed")


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite of two small worlds, for as long as these tests run."""
    root = tmp_path_factory.mktemp("tasks")
    names, world = ("small_world.py", "other_world.py"), WORLD.replace("n_items=900", "n_items=400")
    (root / names[0]).write_text(world)
    (root / names[1]).write_text(world.replace("n_signal=8", "n_signal=6"))
    budget = Budget(n_random=4, n_controls=2)
    SUITES["small"] = Suite("two small worlds", tuple(str(root / name) for name in names), (), budget=budget)
    yield SUITES["small"]
    del SUITES["small"]


@pytest.fixture(scope="module")
def results(small: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A method file and its records."""
    root = tmp_path_factory.mktemp("mine")
    (root / "my_idea.py").write_text(SOURCE)
    evaluate([str(root / "my_idea.py")], small.tasks, budget=small.budget, out=root)
    return root


@pytest.fixture(scope="module")
def handed_in(results: Path) -> Path:
    folder = results / "submissions" / "my_idea"
    submit_source(str(results / "my_idea.py"), SMALL, results, folder)
    return folder


@pytest.fixture
def folder(handed_in: Path, tmp_path: Path) -> Path:
    """An honest submission that a test may change."""
    copy = tmp_path / "my_idea"
    shutil.copytree(handed_in, copy)
    return copy


def resealed(folder: Path, **changed: object) -> None:
    """Make the manifest anew, as one who changed a file would."""
    old = Submission.model_validate_json((folder / MANIFEST).read_text())
    files = [
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in (MANIFEST, STANDING)
    ]
    listed = {path.relative_to(folder).as_posix(): digest(path) for path in files}
    new = old.model_copy(update={"digests": listed} | changed)
    (folder / MANIFEST).write_text(new.model_dump_json())


def forged(folder: Path, change: Callable, which: int = 0) -> str:
    """Change one record, or its arrays, with every digest as it should be; returns its stem."""
    path = sorted((folder / "records").glob("*.json"))[which]
    record, arrays = read_record(path), dict(read_arrays(path))
    path.unlink()
    path.with_suffix(".npz").unlink()
    written = write_record(change(record, arrays), arrays, folder / "records")
    resealed(folder)
    return written.stem


def with_source(folder: Path, text: str) -> None:
    """The same records, said to come from another source."""
    (folder / "my_idea.py").write_text(text)
    now = digest(folder / "my_idea.py")
    for number in range(2):
        forged(folder, lambda r, _: r.model_copy(update={"digests": {**r.digests, "method": now}}), number)


def refused(folder: Path, rerun: int = 0, limits: Limits = LIMITS) -> str:
    """Why a submission is refused."""
    verdict = validate(folder, rerun=rerun, limits=limits, seed=0)
    assert verdict.standing is None
    assert verdict.exit_code == 1
    assert not (folder / STANDING).exists()
    return verdict.problems[0]


def better(score, by: float):
    return score.model_copy(update={"value": score.value + by, "normalised": (score.normalised or 0) + by})


# ---------------------------------------------------------------- honest ones


def test_an_honest_method_is_verified_and_its_board_says_so(folder: Path, tmp_path: Path) -> None:
    manifest = read_submission(folder)
    assert manifest.card.summary == "My idea: say in one line how neurons are ranked."
    assert "nibench" in manifest.versions
    assert manifest.environment.processor
    assert standing_of(folder) == "self-reported"
    verdict = validate(folder, rerun=2, limits=LIMITS)
    assert (verdict.standing, verdict.problems, len(verdict.rerun)) == ("verified", (), 2)
    assert collect(read_results([folder])).standing("my_idea") == "verified"
    build([folder], tmp_path / "board")
    assert "my\\_idea (verified)" in (tmp_path / "board" / "leaderboard.md").read_text()
    assert "· verified</span>" in (tmp_path / "board" / "index.html").read_text()


def test_no_path_of_the_machine_it_was_made_on_is_handed_in(folder: Path, small: Suite) -> None:
    for path in (folder / "records").glob("*.json"):
        text = path.read_text().replace(small.tasks[0], "").replace(small.tasks[1], "")
        assert "leaderboard/submissions/my_idea/my_idea.py" in text
        assert str(Path.home()) not in text
        assert "/tmp" not in text


def test_a_standing_counts_for_the_very_folder_it_was_given_to(folder: Path) -> None:
    validate(folder, rerun=1, limits=LIMITS)
    assert standing_of(folder) == "verified"
    resealed(folder, versions={"nibench": "another"})
    assert standing_of(folder) == "self-reported"
    (folder / STANDING).write_text('{"standing": "verified"}')
    assert standing_of(folder) == "self-reported"
    (folder / "my_idea.py").write_text("")
    with pytest.raises(InputError, match=r"my_idea\.py is not the file"):
        read_results([folder])


def test_without_a_rerun_nobody_vouches_for_the_rankings(folder: Path) -> None:
    verdict = validate(folder, rerun=0)
    assert verdict.standing == "self-reported"
    assert "--rerun 0" in verdict.notes[0]


def test_cells_that_take_too_long_here_are_self_reported(folder: Path) -> None:
    forged(folder, lambda r, _: r.model_copy(update={"cost": r.cost.model_copy(update={"seconds": 1e4})}))
    verdict = validate(folder, rerun=1, limits=LIMITS)
    assert verdict.standing == "self-reported"
    assert "took too long" in verdict.notes[0]


def test_a_model_that_is_not_here_leaves_it_self_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SUITES, "text", Suite("words", ("number_ewt",), ()))
    shutil.rmtree(folder / "records")
    card = read_submission_card(folder)
    cell = Cell(method="my_idea", task="number_ewt", model="/nowhere/model", site="mlp_post")
    made = record("my_idea", status="failed", card=card.model_dump()).model_copy(
        update={"cell": cell, "card": card, "command": "nibench run --method my_idea.py"}
    )
    write_record(made, {}, folder / "records")
    resealed(folder, suite="text", models=("/nowhere/model",))
    verdict = validate(folder, rerun=1)
    assert verdict.standing == "self-reported"
    assert "No model folder '/nowhere/model'" in verdict.notes[0]
    resealed(folder, suite="text", models=("/nowhere/model", "/nowhere/other"))
    malformed(folder, "lacks the cells of the suite text, 1 in all")


def read_submission_card(folder: Path) -> Card:
    return Submission.model_validate_json((folder / MANIFEST).read_text()).card


@pytest.mark.slow
def test_a_method_that_asks_the_model_is_verified_beside_worlds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(rank_prompts=40, eval_prompts=20, n_random=4, n_controls=2)
    suite = Suite("one of each", ("glass_tense", "random_labels_world"), ("glass8",), budget=budget)
    monkeypatch.setitem(SUITES, "mixed", suite)
    file = tmp_path / "my_patching.py"
    shutil.copy(Path(__file__).parent.parent / "methods" / "attribution_patching.py", file)
    evaluate([str(file)], suite.tasks, suite.models, budget=budget, out=tmp_path)
    made, _ = submit_source(str(file), MIXED, tmp_path, tmp_path / "my_patching")
    verdict = validate(made, limits=LIMITS)
    assert (verdict.standing, verdict.problems, len(verdict.rerun)) == ("verified", (), 1)


def table_of(folder: Path) -> pa.Table:
    """The rankings of a submission as somebody without nibench would write them."""
    rows = []
    for path in sorted((folder / "records").glob("*.json")):
        scores = read_arrays(path)["scores"]
        task = read_record(path).cell.task
        rows += [
            {"task": task, "model": "", "neuron": f"neuron.{i}", "score": s} for i, s in enumerate(scores)
        ]
    return pa.Table.from_pylist(rows)


def without_code(table: pa.Table, root: Path, ending: str = "csv") -> Path:
    file = root / f"elsewhere.{ending}"
    (csv.write_csv if ending == "csv" else parquet.write_table)(table, file)
    write_new("card", "elsewhere", root) if not (root / "elsewhere.json").exists() else None
    out = root / "submissions" / "elsewhere"
    return submit_rankings(file, root / "elsewhere.json", SMALL, out=out)[0]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_rankings_without_code_are_measured_here(handed_in: Path, tmp_path: Path, ending: str) -> None:
    made = without_code(table_of(handed_in), tmp_path, ending)
    assert validate(made).standing == "rankings only"
    of = {
        path.name.partition("--")[2][:11]: read_record(path)
        for path in (handed_in / "records").glob("*.json")
    }
    for path in (made / "records").glob("*.json"):
        mine, theirs = read_record(path), of[path.name.partition("--")[2][:11]]
        assert mine.scores == theirs.scores
        assert mine.cost is None
    assert collect(read_results([handed_in, made])).standing("elsewhere") == "rankings only"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[1:], "scores for 45 of 46 neurons; neuron.0 has none"),
        (lambda rows: [*rows, rows[0]], "scores neuron.0 twice"),
        (lambda rows: [*rows, {**rows[0], "neuron": "neuron.46"}], "no neuron 'neuron.46'"),
        (lambda rows: [{**rows[0], "score": float("nan")}, *rows[1:]], "NaN"),
        (lambda rows: rows[:46], "no ranking for 1 of the 2 cells"),
        (
            lambda rows: [*rows, {**rows[0], "task": "glass_tense"}],
            "ranks glass_tense, seed 0, which is no cell",
        ),
        (lambda rows: [{"task": "x", "score": 1.0}], "no column 'model'"),
    ],
)
def test_rankings_that_are_not_of_these_neurons_are_refused(
    handed_in: Path, tmp_path: Path, change: Callable, words: str
) -> None:
    rows = table_of(handed_in).to_pylist()
    with pytest.raises(InputError, match=words):
        without_code(pa.Table.from_pylist(change(rows)), tmp_path)


def test_rankings_need_a_card_of_the_contract(handed_in: Path, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.csv"
    csv.write_csv(table_of(handed_in), file)
    arguments = (file, tmp_path / "elsewhere.json", SMALL, None, tmp_path / "elsewhere")
    with pytest.raises(InputError, match="nibench new card elsewhere"):
        submit_rankings(*arguments)
    card = json.loads(write_new("card", "elsewhere", tmp_path).read_text())
    for changed, words in (
        ({"claims": "everything"}, "claims = 'everything'; expected one of"),
        ({"needs": ["EVERYTHING"]}, "needs 'EVERYTHING'; expected some of"),
        ({"needs": "LABELS"}, "are lists"),
        ({"colour": "red"}, "expected the fields"),
        ({"limits": ""}, "limits is empty"),
    ):
        (tmp_path / "elsewhere.json").write_text(json.dumps(card | changed))
        with pytest.raises(InputError, match=words):
            submit_rankings(*arguments)


# ---------------------------------------------------------------- made up


def test_made_up_results_do_not_come_out_again(folder: Path) -> None:
    """Numbers that follow from their rankings, in every digit; but the method does not rank like this."""
    card = read_submission(folder).card
    plan = SMALL.plan(GivenFile("my_idea", folder / "my_idea.py", card=card))
    for group in plan.groups:
        ((_, cell),) = group.cells
        path = folder / "records" / f"{cell.stem}.json"
        truth = read_arrays(path)["truth/gains[associated]"].astype(float)
        file = GivenFile("my_idea", folder / "my_idea.py", card=card, arrays={"scores": truth})
        (made,) = scored(group, SMALL, [(file, cell)])
        write_record(
            made.record.model_copy(update={"cost": read_record(path).cost}), made.arrays, folder / "records"
        )
    resealed(folder)
    assert validate(folder, rerun=0).standing == "self-reported"
    assert "does not come out again" in refused(folder, rerun=1)


def test_another_methods_records_do_not_come_out_again(folder: Path) -> None:
    with_source(folder, SOURCE.replace("gap**self.power", "-(gap**self.power)"))
    assert "does not come out again" in refused(folder, rerun=1)


def test_a_score_edited_by_hand_does_not_follow_from_its_arrays(folder: Path) -> None:
    stem = forged(
        folder, lambda r, _: r.model_copy(update={"scores": [better(one, 0.02) for one in r.scores]})
    )
    assert refused(folder).startswith(f"{stem}: edited: ")


def test_a_scale_edited_with_its_score_is_not_ours(folder: Path) -> None:
    def raised(record, _):
        first = record.score("encodes")
        ceiling = first.ceiling - 0.05
        random = first.details["random"]
        easier = {"ceiling": ceiling, "normalised": (first.value - random) / (ceiling - random)}
        changed = [one.model_copy(update=easier) if one.id == "encodes" else one for one in record.scores]
        return record.model_copy(update={"scores": changed})

    forged(folder, raised)
    assert "made up: encodes" in refused(folder)


def test_arrays_that_narrow_the_intervals_are_not_ours(folder: Path) -> None:
    def surer(record, arrays):
        for name in list(arrays):
            if name.endswith(("/hits", "/items")) and not name.startswith("clusters"):
                arrays[name] = np.concatenate([arrays[name], arrays[name]]) / 2
        return record

    forged(folder, surer)
    assert "of another kind" in refused(folder)


def test_neurons_named_first_are_those_of_the_scores(folder: Path) -> None:
    forged(folder, lambda r, _: r.model_copy(update={"top": r.top[::-1]}))
    assert "not those of its scores" in refused(folder)


# ---------------------------------------------------------------- cards that lie


def test_a_card_that_is_not_that_of_the_source_is_caught(folder: Path) -> None:
    card = read_submission(folder).card.model_copy(update={"claims": "carries"})
    for number in range(2):
        forged(folder, lambda r, _: r.model_copy(update={"card": card}), number)
    resealed(folder, card=card)
    assert "the card says claims = 'carries', the source 'associated'" in refused(folder, rerun=1)


def test_a_record_with_a_card_of_its_own_is_caught(folder: Path) -> None:
    forged(folder, lambda r, _: r.model_copy(update={"card": r.card.model_copy(update={"claims": "none"})}))
    assert "its card is not that of the submission" in refused(folder)


def lying(folder: Path, needs: str, body: str) -> None:
    """A source with other needs, a body of its own in front, and records and manifest that agree with its card."""
    text = SOURCE.replace("Needs.ACTIVATIONS | Needs.LABELS", needs)
    with_source(folder, text.replace("        means = np", f"        {body}\n        means = np"))
    declared = needs.replace("Needs.", "").split(" | ")
    card = read_submission(folder).card.model_copy(
        update={"needs": declared, "supervision": "LABELS" in declared, "causation": "MODEL" in declared}
    )
    for number in range(2):
        forged(folder, lambda r, _: r.model_copy(update={"card": card}), number)
    resealed(folder, card=card)


def test_reading_what_is_not_declared_fails_the_checks(folder: Path) -> None:
    lying(folder, "Needs.ACTIVATIONS | Needs.LABELS", "data.behaviour.margin()")
    assert "declares needs" in refused(folder, rerun=1)


def test_labels_taken_by_the_back_door_mean_nothing(folder: Path) -> None:
    back = "data = __import__('dataclasses').replace(data, needs=Needs.ACTIVATIONS | Needs.LABELS)"
    lying(folder, "Needs.ACTIVATIONS", back)
    assert "does not come out again" in refused(folder, rerun=1)


def test_the_truth_is_not_for_methods(folder: Path) -> None:
    from nibench.submissions import bundled_models

    truth = bundled_models()["glass8"] / "truth.json"
    peek = f"import contextlib\n        with contextlib.suppress(OSError): open({str(truth)!r}).read()"
    with_source(folder, SOURCE.replace("        means = np", f"        {peek}\n        means = np"))
    assert "reached for truth.json" in refused(folder, rerun=1)


# ---------------------------------------------------------------- code that does not end well


def test_a_method_that_hangs_is_ended(folder: Path) -> None:
    with_source(folder, SOURCE.replace("        means = np", "        while True: pass\n        means = np"))
    assert "took over" in refused(folder, rerun=1, limits=Limits(seconds=6))


def test_a_method_that_sleeps_is_ended(folder: Path) -> None:
    with_source(
        folder,
        SOURCE.replace("        means = np", "        import time; time.sleep(1e6)\n        means = np"),
    )
    assert "took over 10 s by the wall" in refused(folder, rerun=1, limits=Limits(seconds=2))


def test_a_method_that_takes_all_memory_is_ended(folder: Path) -> None:
    with_source(
        folder, SOURCE.replace("        means = np", "        x = np.ones(2**31)\n        means = np")
    )
    assert "MemoryError" in refused(folder, rerun=1, limits=replace(LIMITS, memory=2))


def test_a_method_that_leaves_at_once_is_told(folder: Path) -> None:
    leave = "import os; os._exit(3)"
    with_source(folder, SOURCE.replace("        means = np", f"        {leave}\n        means = np"))
    assert "ended with code 3" in refused(folder, rerun=1)


def test_a_method_starts_no_programs_and_sees_no_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "1")
    look = "import os, subprocess\n        assert 'SECRET_TOKEN' not in os.environ\n        subprocess.run(['true'])"
    with_source(folder, SOURCE.replace("        means = np", f"        {look}\n        means = np"))
    assert "starts no programs" in refused(folder, rerun=1)


# ---------------------------------------------------------------- malformed


def malformed(folder: Path, words: str) -> None:
    with pytest.raises(InputError, match=words):
        validate(folder, rerun=1, limits=LIMITS)


def test_another_version_of_the_task_is_named(folder: Path) -> None:
    forged(folder, lambda r, _: r.model_copy(update={"digests": {**r.digests, "task": "0" * 64}}))
    malformed(folder, "was made with another version of the task")


def test_missing_and_extra_cells_are_named(folder: Path) -> None:
    gone = sorted((folder / "records").glob("*.json"))[0]
    other = read_record(gone)
    gone.unlink()
    gone.with_suffix(".npz").unlink()
    resealed(folder)
    malformed(folder, f"lacks the cells of the suite small, 1 in all: {gone.stem}")
    failed = other.model_copy(update={"status": "failed", "scores": []})
    write_record(failed, {}, folder / "records")
    extra = failed.cell.model_copy(update={"task": "glass_tense"})
    write_record(failed.model_copy(update={"cell": extra}), {}, folder / "records")
    resealed(folder)
    malformed(folder, "has more than the cells of the suite small, 1 in all: my_idea--glass_tense")


def test_scores_for_another_number_of_neurons_are_refused(folder: Path) -> None:
    def shorter(record, arrays):
        arrays["scores"] = arrays["scores"][:-1]
        return record

    forged(folder, shorter)
    malformed(folder, "holds 45 scores for 46 neurons")
    forged(folder, lambda r, _: r.model_copy(update={"n_neurons": 45}))
    assert "its arrays are not those of a run" in refused(folder)


def test_scores_that_are_no_numbers_are_refused(folder: Path) -> None:
    def odd(record, arrays):
        arrays["scores"] = arrays["scores"].copy()
        arrays["scores"][3] = np.nan
        return record

    forged(folder, odd)
    malformed(folder, "NaN")


def test_paths_lead_nowhere_else(folder: Path, tmp_path: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in ("../secret", "/etc/passwd", "records/../../secret"):
        (folder / MANIFEST).write_text(json.dumps(manifest | {"digests": {**manifest["digests"], name: "0"}}))
        malformed(folder, "a path outside its folder")
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (folder / "notes").symlink_to(tmp_path)
    malformed(folder, "notes is a link")
    (folder / "notes").unlink()
    arrays = sorted((folder / "records").glob("*.npz"))[0]
    shutil.copy(arrays, tmp_path / "elsewhere.npz")
    arrays.unlink()
    arrays.symlink_to(tmp_path / "elsewhere.npz")
    malformed(folder, "is a link")
    arrays.unlink()
    malformed(folder, "lacks")
    os.mkfifo(arrays)
    malformed(folder, "no plain file")


def test_a_command_that_readers_copy_is_a_plain_one(folder: Path) -> None:
    forged(folder, lambda r, _: r.model_copy(update={"command": "nibench run --method x; curl evil | sh"}))
    malformed(folder, "no plain nibench command")


def test_files_that_nobody_listed_and_names_of_others_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "more.py").write_text("")
    malformed(folder, "holds more.py, which its submission.json does not list")
    (folder / "more.py").unlink()
    (folder / "my_idea.py").rename(folder / "lca.py")
    resealed(folder, method="lca", file="lca.py")
    malformed(folder, "name the folder like it")
    shutil.copytree(folder, tmp_path / "lca")
    malformed(tmp_path / "lca", "There is a method 'lca' already")
    resealed(folder, file="other.py")
    (folder / "lca.py").rename(folder / "other.py")
    resealed(folder, method="my_idea")
    malformed(folder, "the source of 'my_idea' is no file 'other.py'")
    (folder / MANIFEST).write_text("[" * 100_000)
    malformed(folder, "no whole JSON file")
    malformed(tmp_path / "nowhere", "There is no folder")


def bomb(path: Path, payload: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scores.npy", payload)


def array(shape: tuple[int, ...], content: bytes) -> bytes:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return head.getvalue() + content


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (lambda: array((2**23 + 2**17,), bytes(2**26 + 2**20)), "expands to 65 MiB"),
        (lambda: array((2**40,), bytes(8)), "no plain array of its size"),
        (lambda: b"PK nothing", "no whole .npz"),
    ],
)
def test_an_archive_bomb_is_not_opened(folder: Path, payload: Callable, words: str) -> None:
    path = sorted((folder / "records").glob("*.npz"))[0]
    bomb(path, payload())
    assert path.stat().st_size < 200_000
    beside = path.with_suffix(".json")
    text = beside.read_text()
    beside.write_text(text.replace(json.loads(text)["arrays"], digest(path)))
    resealed(folder)
    malformed(folder, words)


def test_a_table_of_too_many_rows_is_not_read(
    handed_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nibench.rankings.MOST_ROWS", 60)
    with pytest.raises(InputError, match="has 94 rows; at most 60"):
        without_code(table_of(handed_in), tmp_path, "parquet")


# ---------------------------------------------------------------- handing in


def test_what_was_not_run_is_not_handed_in(results: Path, tmp_path: Path) -> None:
    file = tmp_path / "my_idea.py"
    file.write_text(SOURCE.replace("power: float = 1.0", "power: float = 2.0"))
    with pytest.raises(
        InputError,
        match=r"2 of the 2 cells .* \(of another version\)\. Type: nibench run --method .* --suite small --out",
    ):
        submit_source(str(file), SMALL, results, tmp_path / "s" / "my_idea")
    with pytest.raises(InputError, match="2 of the 2 cells"):
        submit_source(str(results / "my_idea.py"), SMALL, tmp_path, tmp_path / "s" / "my_idea")
    with pytest.raises(InputError, match="There is a method 'lca' already"):
        submit_source("lca", SMALL, results)
    assert not (tmp_path / "s").exists()


def test_real_text_and_several_seeds_are_handed_in_and_come_out_again(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = str(shared / "models" / "stories260K"), str(shared / "data")
    suite = Suite("words of a treebank", ("number_ewt",), (), budget=Budget(n_random=4, n_controls=2))
    monkeypatch.setitem(SUITES, "text", suite)
    file = tmp_path / "my_idea.py"
    file.write_text(SOURCE)
    asked = {"data": data, "cap": 6000, "seeds": 2}
    evaluate([str(file)], suite.tasks, [model], budget=suite.budget, out=tmp_path, **asked)
    folder, extent = tmp_path / "s" / "my_idea", Extent("text", (model,), **asked)
    _, made = submit_source(str(file), extent, tmp_path, folder)
    assert (made.seeds, made.cap, len(made.digests)) == (2, 6000, 5)
    with pytest.raises(InputError, match=rf"--model {model} --data {data} --cap 99 --seeds 2 --out"):
        submit_source(str(file), replace(extent, cap=99), tmp_path, folder)
    assert validate(folder, rerun=1, limits=LIMITS, data=data).standing == "verified"
    without = validate(folder, rerun=1, limits=LIMITS)
    assert (without.standing, without.rerun) == ("self-reported", ())
    assert "name it with --data" in without.notes[0]


def test_a_folder_of_something_else_is_not_replaced(results: Path, tmp_path: Path) -> None:
    mine = tmp_path / "my_idea"
    mine.mkdir()
    (mine / "thesis.tex").write_text("all of it")
    with pytest.raises(InputError, match="exists and is no submission"):
        submit_source(str(results / "my_idea.py"), SMALL, results, mine)
    assert (mine / "thesis.tex").exists()


def nibench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "nibench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


def test_the_command_ends_in_one_line_and_the_right_code(tmp_path: Path) -> None:
    (tmp_path / "my_idea.py").write_text(SOURCE)
    lacking = nibench("submit", "my_idea.py", cwd=tmp_path)
    assert lacking.returncode == 2
    assert len(lacking.stderr.splitlines()) == 1
    assert "Type: nibench run --method my_idea.py --suite default --out" in lacking.stderr
    nothing = nibench("submit", ".", "--validate", cwd=tmp_path)
    assert (nothing.returncode, len(nothing.stderr.splitlines())) == (2, 1)


def test_what_fails_a_check_is_not_handed_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my_idea.py"
    file.write_text(SOURCE.replace("return Ranking", "data.behaviour; return Ranking"))
    with pytest.raises(typer.Exit) as ended:
        submit(file)
    assert ended.value.exit_code == 1
    assert "fails a check" in capsys.readouterr().err


def test_a_verdict_is_plain_json() -> None:
    assert json.loads(json.dumps(Verdict("m", None, ("made up",)).as_dict()))["exit_code"] == 1
