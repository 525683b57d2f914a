"""nibench calibrate: scores of grafts against a slow reference, intervals by hand, wrong use in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from nibench import calibration
from nibench.calibration import Calibration, Draw, MeanOfDraws, calibrate
from nibench.cli import app
from nibench.errors import InputError
from nibench.ranking import Ranking
from nibench.truth import graft_scores
from nibench.truth.graft_doses import Graft
from nibench.truth.graft_scores import natural_share, score_grafts
from tests.test_cli import nibench


def graft(use: float, auc: float = 0.8) -> Graft:
    return Graft("L1.mlp_post.0", "used", 0, "linear", "logistic", "direct", auc, auc, use, use, use, 1.0)


def literal(scores: list[float], grafts: list[Graft]) -> tuple[float, float]:
    """Recall and decoy rate by counting, ties shared out."""
    judged = [(s, g.kind) for s, g in zip(scores, grafts, strict=True) if g.kind]
    used = [s for s, kind in judged if kind == "used"]
    decoys = [s for s, kind in judged if kind == "decoy"]
    found = 0.0
    for score in used:
        above = sum(other > score for other, _ in judged)
        tied = sum(other == score for other, _ in judged)
        found += min(1.0, max(0.0, (len(used) - above) / tied))
    first = sum((d > u) + 0.5 * (d == u) for d in decoys for u in used)
    return found / len(used), first / (len(used) * len(decoys))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from([0.0, 0.005, 0.012, 0.06, -0.2])),
        min_size=3,
        max_size=20,
    )
)
def test_scores_of_grafts_are_what_counting_gives(rows: list[tuple[int, float]]) -> None:
    grafts = [graft(0.2), graft(0.0), *(graft(use) for _, use in rows)]
    scores = [1.0, 1.0, *(float(score) for score, _ in rows)]
    natural = np.full(7, 99.0)  # neurons that are not judged, all ranked first
    ranking = Ranking.from_scores(np.concatenate([natural, scores]))
    found = score_grafts(ranking, np.arange(7, 7 + len(grafts)), grafts)
    recall, first = literal(scores, grafts)
    assert found["recall"] == pytest.approx(recall)
    assert found["decoy_first"] == pytest.approx(first)


def test_the_dose_itself_scores_1_and_its_reverse_0() -> None:
    grafts = [
        graft(use, auc) for use, auc in [(0.2, 0.7), (-0.06, 0.8), (0.02, 0.9), (0.001, 0.95), (0.0, 0.99)]
    ]
    best = score_grafts(Ranking.from_scores([abs(g.use) for g in grafts]), np.arange(5), grafts)
    assert best == pytest.approx({"recall": 1.0, "decoy_first": 0.0, "rho_encoding": -1.0, "rho_use": 1.0})
    worst = score_grafts(Ranking.from_scores([g.auc for g in grafts]), np.arange(5), grafts)
    assert worst == pytest.approx({"recall": 1 / 3, "decoy_first": 1.0, "rho_encoding": 1.0, "rho_use": -1.0})
    blind = score_grafts(Ranking.from_scores(np.zeros(5)), np.arange(5), grafts)
    assert blind == pytest.approx({"recall": 0.6, "decoy_first": 0.5, "rho_encoding": 0.0, "rho_use": 0.0})


def test_the_natural_share_counts_natural_neurons_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graft_scores, "N_NATURAL", 2)
    effects = np.array([0.5, 0.1, 0.3, 0.0])
    ranking = Ranking.from_scores([9.0, 4.0, 3.0, 1.0, 0.5])  # the first is a graft
    assert natural_share(ranking, np.array([1, 2, 3, 4]), effects) == pytest.approx((0.5 + 0.1) / 0.8)


def test_intervals_are_student_s() -> None:
    found = MeanOfDraws.of([0.8, 0.9, 1.0])
    assert found.mean == pytest.approx(0.9)
    assert found.ci95 is not None
    assert found.ci95[1] - found.mean == pytest.approx(4.302653 * 0.1 / np.sqrt(3), rel=1e-5)
    assert MeanOfDraws.of([0.8, float("nan")]).ci95 is None


def draw(seed: int, refusals: list[str], **scores: tuple[float, float]) -> Draw:
    moved = {"accuracy": (1.0, 1.0), "margin": (3.0, 3.1), "loss": None, "landed": 0.9, "refusals": refusals}
    rows = {
        name: {"recall": recall, "decoy_first": 0.1, "rho_encoding": 0.2, "rho_use": 0.3, "natural": natural}
        for name, (recall, natural) in scores.items()
    }
    return Draw(seed, (graft(0.2), graft(0.0)), {**moved, "attempts": 1}, rows, {})


def test_one_refused_draw_refuses_the_calibration_and_gives_no_table(tmp_path: Path) -> None:
    rows = {"a": (0.9, 0.8), "b": (0.7, 0.5), "c": (0.5, 0.6)}
    good = [draw(seed, [], **rows) for seed in range(3)]
    held = Calibration("task", "model", ("a", "b", "c"), tuple(good), 860, 1000.0)
    assert list(held.table()) == ["a", "b", "c"]
    assert held.natural
    assert held.chance == 0.5
    agreement = held.agreement()
    assert agreement is not None
    assert agreement.mean == pytest.approx(1 / 3)  # a before b and c in both; b and c the other way round
    refused = Calibration("task", "model", ("a",), (*good[:2], draw(2, ["30% landed"])), 860, 1.0)
    assert refused.table() == {}
    assert refused.refusals == ["draw 2: 30% landed"]
    document = json.loads(refused.write(tmp_path).read_text())
    assert document["refused"] == ["draw 2: 30% landed"]
    assert document["methods"] == {}
    assert len(document["draws"]) == 3


@pytest.mark.parametrize("refused", [False, True])
def test_the_command_prints_within_80_columns_and_its_exit_code_is_the_verdict(
    refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {
        "gradient_activation": (1.0, 0.8),
        "integrated_gradients": (0.7, 0.5),
        "random_ranking": (0.5, 0.6),
    }
    draws = [draw(seed, ["30% landed"] if refused and seed == 1 else [], **rows) for seed in range(3)]
    made = Calibration("she_he", "stories260K", tuple(rows), tuple(draws), 860, 123456.0)
    monkeypatch.setattr(calibration, "calibrate", lambda *_, **__: made)
    monkeypatch.setenv("COLUMNS", "80")
    arguments = ["calibrate", "--model", "stories260K", "--task", "she_he", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == (1 if refused else 0), done.output
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert ("Refused, draw 1: 30% landed." in done.stderr) is refused
    assert ("gradient_activation" in done.stdout) is not refused
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert json.loads(done.stdout)["refused"] == made.refusals


def test_a_method_that_costs_too_much_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = (
        "it would ablate each of 9,216 neurons alone on 72 prompts, in whole sequences; ask with --method"
    )
    draws = [draw(seed, [], variance=(0.7, 0.5)) for seed in range(3)]
    made = Calibration(
        "t", "m", ("variance",), tuple(draws), 9216, 1.0, "propagates", {"neuron_ablation": reason}
    )
    assert made.document()["skipped"] == {"neuron_ablation": reason}
    monkeypatch.setattr(calibration, "calibrate", lambda *_, **__: made)
    monkeypatch.setenv("COLUMNS", "80")
    done = CliRunner().invoke(app, ["calibrate", "--model", "m", "--task", "t", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "neuron_ablation: not run, it would ablate each of 9,216 neurons" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_wrong_use_is_said_before_any_work() -> None:
    with pytest.raises(InputError, match="--draws 2: an interval needs 3 draws"):
        calibrate("glass1", "glass_tense", draws=2)
    with pytest.raises(InputError, match="it is sampled: it takes no model"):
        calibrate("glass1", "graded_noise_world")
    with pytest.raises(InputError, match="Did you mean 'probeless'"):
        calibrate("glass1", "glass_tense", ["probles"])


def test_wrong_use_on_the_command_line_is_one_line(tmp_path: Path) -> None:
    done = nibench("calibrate", "--model", "glass1", "--task", "she_he", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "expected one token" in done.stderr
    done = nibench("calibrate", "--model", "glass1", cwd=tmp_path)
    assert done.returncode == 2
    assert "--task" in done.stderr
