"""Every bundled file passes the checks that a stranger's file must pass."""

from pathlib import Path

import pytest

from nibench.check import check_file, check_method
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
        "card: claims, direction and needs are of the contract"
    ]
