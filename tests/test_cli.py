"""The command line: exit codes, one clear line for wrong use, JSON alone on standard output."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
        (["check", "nowhere.py"], "No file 'nowhere.py'"),
        (["new", "method", "No Good"], "is no id"),
        (["leaderboard", "--results", "nowhere"], "nowhere"),
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


def test_the_issue_s_methods_tasks_and_claims_are_there() -> None:
    listed = {row["method"]: row["claims"] for row in json.loads(nibench("list", "methods", "--json").stdout)}
    assert listed == {
        "random_ranking": "none",
        "variance": "none",
        "probeless": "associated",
        "mean_difference": "associated",
        "lca": "associated",
        "linear_l1": "associated",
        "linear_l2": "associated",
        "gaussian_probe": "associated",
        "expert_units": "associated",
        "concept_iou": "associated",
        "neuron_ablation": "required",
        "gradient_activation": "required",
        "integrated_gradients": "required",
    }


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
    assert "1 required checks failed" in done.stderr


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
