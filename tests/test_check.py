"""Every bundled file passes the checks that a stranger's file must pass."""

from pathlib import Path

import pytest

from nibench.check import check_file, check_method
from nibench.scaffold import METHOD
from nibench.submissions import find_method, names

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", [*names("methods"), *names("tasks")])
def test_every_bundled_file_passes_every_required_check(name: str) -> None:
    failed = [f"{r.name}: {r.detail}" for r in check_file(name) if r.required and not r.passed]
    assert not failed


def badges(name: str) -> dict[str, bool]:
    return {result.name: result.passed for result in check_method(find_method(name)) if not result.required}


@pytest.mark.parametrize("name", [n for n in names("methods") if find_method(n).load().claims != "none"])
def test_every_method_that_looks_finds_the_planted_neuron_wherever_it_is(name: str) -> None:
    found = badges(name)
    assert found["finds a planted neuron"]
    assert found["scores move with the neurons (permutation)"]


def test_badges_say_what_scale_does() -> None:
    assert badges("probeless")["scale-invariant"]
    assert not badges("probeless@antverg2022")["scale-invariant"]
    assert not badges("variance")["scale-invariant"]
    assert badges("expert_units")["sign-invariant"]
    assert not badges("expert_units@suau2020")["sign-invariant"]


BROKEN = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from nibench import Method, Needs, Ranking

@dataclass(frozen=True)
class Broken(Method):
    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims = {claims!r}

    def rank(self, data, rng):
        {body}
"""


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('scope = "everywhere"', "scope = 'everywhere'; expected one of global, local, both."),
        ('scalability = "huge"', "scalability = 'huge'; expected one of high, medium, low."),
        ('direction = "up"', "direction = 'up'; expected one of concept->neurons, neuron->concept, none."),
        ('human_in_the_loop = "no"', "human_in_the_loop = 'no'; expected True or False."),
        ('limits = ""', "limits is empty; say it in a line"),
    ],
)
def test_a_card_that_is_not_of_the_contract_says_what_to_type(
    tmp_path: Path, line: str, problem: str
) -> None:
    (tmp_path / "mine.py").write_text(METHOD.format(name="mine", title="Mine", class_name="Mine"))
    path = tmp_path / "mine.py"
    text = path.read_text()
    path.write_text(text.replace("    power: float", f"    {line}\n    power: float"))
    (failed,) = [r for r in check_file(str(path)) if r.required and not r.passed]
    assert failed.detail.startswith(problem)


def test_the_survey_s_criteria_that_can_be_derived_are() -> None:
    ablation, contexts, variance = (
        find_method(n).kind().criteria() for n in ("neuron_ablation", "top_contexts", "variance")
    )
    assert (ablation["supervision"], ablation["causation"], ablation["scope"]) == (False, True, "both")
    assert (contexts["input"], contexts["output"], contexts["supervision"]) == ("neuron", "concept", True)
    assert (variance["input"], variance["output"], variance["human_in_the_loop"]) == (
        "neurons",
        "neurons",
        False,
    )


@pytest.mark.parametrize(
    ("body", "check"),
    [
        ("return Ranking.from_scores(np.random.default_rng().random(len(data.neurons)))", "same seed, same scores"),
        ("return Ranking.from_scores(np.zeros(3))", "ranks every neuron once"),
        ("return Ranking.from_scores(np.full(len(data.neurons), np.nan))", "ranks every neuron once"),
        ("data.activations.setflags(write=True); data.activations[:] = 0; return Ranking.from_scores(np.zeros(24))",
         "leaves its input unchanged"),
        ("return Ranking.from_scores(data.behaviour.margin())", "ranks every neuron once"),
    ],
)  # fmt: skip
def test_each_broken_promise_is_caught_by_its_check(tmp_path: Path, body: str, check: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(BROKEN.format(body=body, claims="associated"))
    failed = [r.name for r in check_file(str(path)) if r.required and not r.passed]
    assert any(name.startswith(check) for name in failed), failed


def test_a_claim_outside_the_contract_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(BROKEN.format(body="return Ranking.from_scores(np.zeros(24))", claims="proves"))
    assert [r.name for r in check_file(str(path)) if r.required and not r.passed] == [
        "card: complete, and of the contract"
    ]
