"""Every bundled file passes the checks that a stranger's file must pass."""

from pathlib import Path

import pytest

from nibench.catalogue import card
from nibench.check import badges as badges_of
from nibench.check import check_file
from nibench.scaffold import METHOD
from nibench.submissions import find_method, names

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", [*names("methods"), *names("tasks")])
def test_every_bundled_file_passes_every_required_check(name: str) -> None:
    failed = [f"{r.name}: {r.detail}" for r in check_file(name) if r.required and not r.passed]
    assert not failed


def badges(name: str) -> dict[str, bool]:
    return badges_of(find_method(name))


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
    assert badges("pca_loading@z")["scale-invariant"]
    assert not badges("pca_loading")["scale-invariant"]


RANKERS = (
    *(
        "probeless",
        "mean_difference",
        "point_biserial",
        "fisher_score",
        "auc",
        "mutual_information",
        "mean_select",
    ),
    *("expert_units", "concept_iou", "activation_heatmap"),
)


@pytest.mark.parametrize("name", RANKERS)
def test_statistics_of_one_neuron_keep_every_law(name: str) -> None:
    broken = [law for law, kept in badges(name).items() if not kept]
    assert broken == []


def test_badges_say_what_breaks_each_law() -> None:
    assert not badges("random_ranking")["seed-invariant"]
    assert not badges("random_ranking")["constant neurons come last"]
    assert not badges("gaussian_probe")["copies of a neuron score alike"]
    assert not badges("compositional_explanations")["order of the items does not matter"]  # first, last
    assert not badges("activation_heatmap@karpathy2015")["shift-invariant"]


def test_the_card_shows_the_badges() -> None:
    assert card("probeless@antverg2022")["badges"] == badges("probeless@antverg2022")


ONE_LAW = """
scores = np.abs(data.statistics.class_means[1] - data.statistics.class_means[0])
return Ranking.from_scores(scores + {term})
"""


@pytest.mark.parametrize(
    ("term", "law"),
    [
        ("np.arange(24)", "scores move with the neurons (permutation)"),
        ("rng.random(24)", "seed-invariant"),
        ("data.variance()", "scale-invariant"),
        ("data.mean()", "sign-invariant"),
        ("data.mean()", "shift-invariant"),
        ("np.arange(24)", "copies of a neuron score alike"),
        ("(data.variance() == 0)", "constant neurons come last"),
        ("data.statistics.class_means[1]", "names of the classes do not matter"),
        ("data.activations[0]", "order of the items does not matter"),
        ("data.activations[0]", "order of tied items does not matter"),
    ],
)
def test_each_law_can_be_broken(tmp_path: Path, term: str, law: str) -> None:
    path = tmp_path / "broken.py"
    body = "\n        ".join(ONE_LAW.format(term=term).strip().splitlines())
    card_lines = 'complexity, limits = "O(ND)", "none"\n    claims ='
    path.write_text(BROKEN.format(body=body, claims="associated").replace("claims =", card_lines))
    assert badges(str(path))[law] is False


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
