"""The command line: exit codes, one clear line for wrong use, JSON alone on standard output."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nibench.rankings import read_rankings

WORLD = Path(__file__).parent.parent / "tasks" / "graded_noise_world.py"


def nibench(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.run(
        [sys.executable, "-m", "nibench", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "--method", "probles"], "No method named 'probles'. Did you mean 'probeless'?"),
        (["run", "--task", "nonsense"], "No task named 'nonsense'."),
        (["run", "--suite", "defalt"], "No suite named 'defalt'. Did you mean 'default'?"),
        (["run", "--task", "number_ewt"], "it reads text: it needs a model (name one with --model)"),
        (
            ["run", "--method", "probeless@nobody1999", "--task", "graded_noise_world"],
            "No preset of probeless",
        ),
        (["show", "probles"], "Did you mean 'probeless'?"),
        (
            ["rank", "neuron_ablation", "--task", "graded_noise_world"],
            "needs MODEL: the task has no behaviour",
        ),
        (["rank", "probeless", "--task", "graded_noise_world", "--out", "x.txt"], "ends in .parquet or .csv"),
        (["rank", "lca", "--task", "glass_number", "--model", "glass0"], "Did you mean 'glass"),
        (["rank", "auc", "--task", "graded_noise_world", "--fdr", ".1", "--top", "3"], "are two answers"),
        (["rank", "auc", "--task", "graded_noise_world", "--unit", "sentence"], "add e.g. --fdr 0.1"),
        (
            ["rank", "lca", "--task", "graded_noise_world", "--fdr", ".1"],
            "no procedure with a known error rate",
        ),
        (["certify", "glass1-natural"], "glass1"),
        (["run", "--task", "number_ewt", "--model", "glass1", "--data", "."], "Cannot read ud/en_ewt"),
        (["check", "nowhere.py"], "No file 'nowhere.py'"),
        (["new", "method", "No Good"], "is no id"),
        (["leaderboard", "--results", "nowhere"], "nowhere"),
        (["leaderboard", "--port", "8000"], "add --serve"),
        (["compare", "lca", "lda", "--results", "nowhere"], "No records in nowhere"),
        (["compare"], "Missing argument 'methods'"),
        (["list", "everything"], "everything"),
        (["run", "--seeds", "0"], "seeds"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(arguments: list[str], line: str, tmp_path: Path) -> None:
    done = nibench(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("nibench: ")
    assert len(done.stderr.splitlines()) == 1
    assert line in done.stderr


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = nibench(
        "run", "--task", "graded_noise_world", "--method", "variance", "--out", "file/x", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "Cannot write to file/x" in done.stderr


def test_lists_are_json_and_nothing_else_when_asked(tmp_path: Path) -> None:
    for kind, key in (("methods", "method"), ("tasks", "task"), ("models", "model"), ("suites", "suite")):
        done = nibench("list", kind, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert all(row[key] for row in json.loads(done.stdout))


def test_every_method_is_listed_with_what_it_claims() -> None:
    listed = {row["method"]: row["claims"] for row in json.loads(nibench("list", "methods", "--json").stdout)}
    assert listed.keys() == {path.stem for path in (Path(__file__).parents[1] / "methods").glob("*.py")}
    by_claim = {claim: {name for name, own in listed.items() if own == claim} for claim in listed.values()}
    assert by_claim["carries"] == {"activation_patching", "attribution_patching", "deeplift"}
    assert by_claim["required"] == {
        *("neuron_ablation", "greedy_ablation", "gradient", "gradient_activation", "integrated_gradients"),
        *("conductance", "knowledge_neurons"),
    }
    assert by_claim["none"] == {
        *("random_ranking", "variance", "weight_norm", "pca_loading", "kurtosis", "bimodality"),
        *("correlation_clustering", "matrix_factorization"),
        *("max_correlation", "min_correlation", "linear_regression_across_models", "svcca"),
    }
    assert by_claim["responds"] == {"corpus_generation"}
    assert by_claim.keys() == {"carries", "required", "none", "associated", "responds"}


def test_show_says_which_roles_fill_a_method_s_top(tmp_path: Path) -> None:
    run = nibench("run", "--task", "graded_noise_world", "--method", "variance", "--jobs", "1", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    shown = nibench("show", "variance", "--results", "nibench-results", "--json", cwd=tmp_path)
    (row,) = json.loads(shown.stdout)["anatomy"]
    assert (row["task"], row["n"], row["truth"]) == ("graded_noise_world", 80, "–")  # it claims nothing
    assert row["first 10"] == {"loud": 10.0}
    assert sum(row["first n"].values()) == pytest.approx(80, abs=0.2)
    assert "loud=10.0" in nibench("show", "variance", "--results", "nibench-results", cwd=tmp_path).stdout
    for name, line in (("lca", "No record of lca"), ("graded_noise_world", "is no method")):
        done = nibench("show", name, "--results", "nibench-results", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert line in done.stderr


def test_new_then_check_then_run(tmp_path: Path) -> None:
    assert nibench("new", "method", "my_idea", cwd=tmp_path).returncode == 0
    checked = nibench("check", "my_idea.py", "--json", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert all(result["passed"] for result in json.loads(checked.stdout) if result["required"])
    done = nibench(
        "run", "--method", "my_idea.py", "--task", "graded_noise_world", "--jobs", "1", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "my_idea" in done.stdout
    assert (tmp_path / "nibench-results" / "index.html").is_file()
    assert len(list((tmp_path / "nibench-results" / "records").glob("*.json"))) == 1


def test_check_says_no_with_exit_code_1(tmp_path: Path) -> None:
    assert nibench("new", "method", "my_idea", cwd=tmp_path).returncode == 0
    path = tmp_path / "my_idea.py"
    path.write_text(path.read_text().replace("Needs.ACTIVATIONS | Needs.LABELS", "Needs.LABELS"))
    done = nibench("check", "my_idea.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "Add Needs.ACTIVATIONS to it" in done.stdout.replace("\n     ", " ")
    assert done.stderr == "my_idea.py: 1 required check failed.\n"


def test_rank_prints_neurons_and_writes_them_all(tmp_path: Path) -> None:
    done = nibench(
        "rank", "probeless", "--task", "graded_noise_world", "--top", "3", "--json", "--out", "all.csv", cwd=tmp_path
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["neurons"]
    assert [row["rank"] for row in rows] == [1, 2, 3]
    lines = (tmp_path / "all.csv").read_text().splitlines()
    assert len(lines) == 601
    assert rows[0]["neuron"] in lines[1]
    ((cell, scored),) = read_rankings(tmp_path / "all.csv").items()  # a table that submit takes
    assert cell == ("graded_noise_world", "", 0)
    assert (scored.neurons[0], scored.scores[0]) == (rows[0]["neuron"], rows[0]["score"])


def test_a_method_that_fails_everywhere_has_a_row_too(tmp_path: Path) -> None:
    assert nibench("new", "method", "my_idea", cwd=tmp_path).returncode == 0
    path = tmp_path / "my_idea.py"
    path.write_text(
        path.read_text().replace("return Ranking", "raise RuntimeError('boom')\n        return Ranking")
    )
    done = nibench("run", "--method", "my_idea.py", "--task", "graded_noise_world", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "my_idea failed*" in done.stdout
    assert "RuntimeError: boom" in done.stderr
    checked = nibench("check", "my_idea.py", cwd=tmp_path)
    assert re.search(r"RuntimeError, line \d+, boom", checked.stdout)
    assert checked.stdout.count("boom") == 1  # once is enough


def test_rank_prints_what_one_may_report_and_on_what_grounds(tmp_path: Path) -> None:
    asked = ("rank", "auc", "--task", "graded_noise_world")
    done = nibench(*asked, "--fdr", "0.1", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["unit"] == "sentence and word type"
    assert found["fdr"] == 0.1
    assert "Benjamini-Hochberg" in found["procedure"]
    assert found["neurons"]
    assert all(row["p"] <= row["q"] <= 0.1 for row in found["neurons"])
    assert [row["rank"] for row in found["neurons"]] == sorted(row["rank"] for row in found["neurons"])


def test_no_neuron_is_an_answer(tmp_path: Path) -> None:
    done = nibench("rank", "auc", "--task", "random_labels_world", "--fdr", "0.1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
    assert "None of the 200 neurons may be reported" in done.stderr
    assert "a false discovery is a neuron with no marginal association" in done.stderr


SLOW = """
import time
from dataclasses import dataclass
from typing import ClassVar
from nibench import Method, Needs, Ranking

@dataclass(frozen=True)
class Slow(Method):
    needs: ClassVar[Needs] = Needs.ACTIVATIONS

    def rank(self, data, rng):
        time.sleep(60)
        return Ranking.from_scores(data.activations.std(axis=0))
"""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_leaves_whole_records_and_the_next_run_goes_on(tmp_path: Path, jobs: str) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text(SLOW)
    other = tmp_path / "another_world.py"
    other.write_text(WORLD.read_text().replace("n_background=470", "n_background=100"))
    run = ["run", "--method", "variance", "--method", "slow.py", "--jobs", jobs]
    run += ["--task", "graded_noise_world", "--task", "another_world.py"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen(
        [sys.executable, "-m", "nibench", *run],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
    )
    records = tmp_path / "nibench-results" / "records"
    deadline = time.monotonic() + 60
    while not list(records.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on from there" in error
    kept = list(records.glob("*.json"))
    assert kept
    assert all(json.loads(path.read_text())["status"] == "ok" for path in kept)
    slow.write_text(SLOW.replace("time.sleep(60)", "pass"))
    done = nibench(*run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{4 - len(kept)} cells computed, {len(kept)} already there" in done.stderr
