"""Does agreement mean correctness, does truth transfer: worked rankings, planted answers, the command."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from nibench.cli import app
from nibench.errors import InputError
from nibench.metrics.agreement import agreement as agree
from nibench.ranking import Ranking
from nibench.record import Record, write_record
from nibench.results import collect
from nibench.stored import Stored
from nibench.studies import agreement, transfer
from nibench.studies.draws import interval_over
from nibench.studies.transfer import kendall
from tests.synthetic_records import record, score

# agreement of worked rankings: ten neurons, the first two of each compared


def ranking(*first: int, n: int = 10) -> Ranking:
    return Ranking.from_order([*first, *(i for i in range(n) if i not in first)], n)


def test_agreement_leaves_the_method_itself_out_and_is_zero_at_chance() -> None:
    found = agree({"a": ranking(0, 1), "b": ranking(0, 1), "c": ranking(0, 2)}, ["x", "y", "z"], k=2)
    chance = 4 / 10
    kappa = {2: 1.0, 1: (1 - chance) / (2 - chance)}
    assert found.avg_overlap == pytest.approx([(kappa[2] + kappa[1]) / 2] * 2 + [kappa[1]])
    assert found.published_overlap == pytest.approx([(1 + 1 + 1 / 3) / 3] * 2 + [(1 + 1 / 3 + 1 / 3) / 3])


def test_every_family_has_one_vote() -> None:
    """Three of one family against one of another: alone they would elect themselves."""
    up, down = Ranking.from_order(range(10), 10), Ranking.from_order(range(9, -1, -1), 10)
    found = agree({"a": up, "b": up, "c": up, "d": down, "e": down}, ["x", "x", "x", "y", "z"], k=2)
    zero = -(4 / 10) / (2 - 4 / 10)  # nothing shared
    assert found.avg_overlap[3] == pytest.approx((zero + 1) / 2)  # family x once, z once
    assert found.avg_overlap[0] == pytest.approx((1 + zero + zero) / 3)
    assert found.neuron_vote[0] == pytest.approx(zero)  # y and z elect 9 and 8 over x
    assert found.published_vote[0] == pytest.approx(1)  # three votes of five elect 0 and 1


def test_a_copy_of_another_method_wins_the_consensus_and_a_lone_right_one_loses() -> None:
    rng = np.random.default_rng(0)
    wrong = rng.permutation(200)
    rankings = {f"w{i}": Ranking.from_order(wrong, 200) for i in range(3)} | {
        "right": ranking(*wrong[::-1], n=200)
    }
    found = agree(rankings, list("abcd"))
    assert found.avg_overlap[:3].min() > 0.6 > 0 > found.avg_overlap[3]
    assert found.neuron_vote[:3] == pytest.approx([1, 1, 1])


def test_ties_share_their_places_in_the_vote() -> None:
    flat, pointed = Ranking.from_scores(np.ones(10)), ranking(0, 1)
    found = agree({"flat": flat, "other": pointed}, ["x", "y"], k=2)
    assert found.avg_overlap == pytest.approx([0, 0])
    assert found.neuron_vote == pytest.approx([0, 0])


def test_random_rankings_agree_by_chance() -> None:
    rng = np.random.default_rng(0)
    values = [
        agree({str(i): Ranking.from_order(rng.permutation(100), 100) for i in range(4)}, list("abcd"))
        for _ in range(100)
    ]
    for name in ("avg_overlap", "neuron_vote"):
        numbers = np.array([getattr(one, name).mean() for one in values])
        assert numbers.mean() == pytest.approx(0, abs=4 * numbers.std() / np.sqrt(100))


# records in which the answer is known


FAMILIES = {"a": "linear", "b": "corpus", "c": "gaussian", "d": "ablation", "e": "attribution"}


def cell(method: str, place: tuple[str, str | None], truth: float, scores: np.ndarray, **more) -> Stored:
    claim = more.pop("claim", "carries")
    card = {"family": FAMILIES.get(method, "baseline"), "claims": more.pop("claims", "carries")}
    value = score(f"gt.ndcg[{claim}]", truth, truth, chance=0.0, ceiling=1.0)
    return Stored(record(method, *place, scores=[value], card=card, **more), {"scores": scores})


def worlds(*, consensus_is_right: bool, n: int = 5) -> list[Stored]:
    """Four methods share one ranking, more and more loosely; truth follows or opposes that."""
    found = []
    for world in range(n):
        rng = np.random.default_rng(world)
        common = rng.random(1000)
        for i, method in enumerate("abcde"):
            scores = common + 0.01 * i * rng.random(1000)
            truth = 1 - i / 5 if consensus_is_right else i / 5
            found.append(cell(method, (f"w{world}", None), truth, scores, tier="world", lineage=f"w{world}"))
    return found


def test_correlations_have_the_sign_that_was_planted() -> None:
    for right, sign in ((True, 1), (False, -1)):
        found = agreement.study(collect(worlds(consensus_is_right=right)))
        own = next(
            c for c in found.correlations if (c.measure, c.claim, c.tier) == ("avg_overlap", "own", "all")
        )
        assert sign * own.value > 0.5
        assert own.ci95 is not None
        assert min(sign * end for end in own.ci95) > 0.2
        assert (own.resampled, own.places) == ("models", 5)
        assert set(found.per_place) == {f"w{i}" for i in range(5)}


def test_methods_that_claim_nothing_neither_vote_nor_are_compared() -> None:
    records = worlds(consensus_is_right=True)
    noise = [
        cell(
            "blind", (f"w{w}", None), 0.0, np.random.default_rng(w).random(1000), claims="none", tier="world"
        )
        for w in range(5)
    ]
    alone, together = (agreement.study(collect(r)) for r in (records, records + noise))
    assert [row.method for row in together.methods] == list("abcde")
    assert alone.as_dict() == together.as_dict()


def test_three_methods_or_no_truth_are_refused() -> None:
    few = [stored for stored in worlds(consensus_is_right=True) if stored.record.cell.method in "abc"]
    for records in (few, [Stored(record("a", "t", "m", scores=[score("encodes", 0.5, 0.5)]))]):
        with pytest.raises(InputError, match="nibench run --suite truth"):
            agreement.study(collect(records))


def test_an_interval_needs_three_units_and_covers_all_equal_values() -> None:
    numbers = np.array([0.3, 0.3, 0.3])

    def mean(weights: np.ndarray) -> float:
        return float(weights @ numbers / weights.sum())

    assert interval_over(["a", "b", "b"], mean) is None
    assert interval_over(["a", "b", "c"], mean) == pytest.approx((0.3, 0.3))


# transfer


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=8))
def test_kendall_s_tau_is_that_of_scipy_ties_included(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, dtype=float).T
    expected = np.asarray(kendalltau(x, y))[0]
    assert kendall(np.stack([x, -x], 1), np.stack([y, y], 1)) == pytest.approx(
        [expected, -expected], nan_ok=True
    )


def tiered(order: dict[str, Sequence[str]], n_models: int = 4, claim: str = "carries") -> list[Stored]:
    """In each tier the methods stand in the given order, on n models of four tasks' truth."""
    return [
        cell(
            method,
            ("t", f"m{model}-{tier}"),
            0.9 - place / 10 + 0.001 * model,
            np.random.default_rng(place).random(100),
            claim=claim,
            tier=tier,
            lineage=f"m{model}",
        )
        for tier, methods in order.items()
        for model in range(n_models)
        for place, method in enumerate(methods)
    ]


def test_taus_between_tiers_by_hand() -> None:
    found = transfer.study(collect(tiered({"glass-box": "abcd", "twin": "bacd", "language model": "dcba"})))
    taus = {(t.first, t.second): t for t in found.taus}
    assert taus["glass-box", "twin"].value == pytest.approx(4 / 6)  # one of six pairs turned round
    assert taus["glass-box", "language model"].value == pytest.approx(-1)
    assert taus["twin", "language model"].value == pytest.approx(-4 / 6)
    assert taus["glass-box", "twin"].ci95 == pytest.approx((4 / 6, 4 / 6))
    assert taus["glass-box", "twin"].models == (4, 4)
    assert found.missing == ("world", "middle", "graft")
    assert list(found.orders["carries"]["language model"]) == list("dcba")
    assert found.orders["required"] == {}


def test_ranks_are_among_the_methods_of_every_tier_and_vary_with_the_models() -> None:
    """In one twin of four b and c change places, by so much that their means do where it is drawn."""
    records = tiered({"glass-box": "abcde", "twin": "abcde", "language model": "bcde"})
    other = tiered({"twin": "cdeba"})
    turned = [
        next(o for o in other if o.record.cell == s.record.cell) if s.record.cell.model == "m0-twin" else s
        for s in records
    ]
    found = transfer.study(collect(turned)).ranks["carries"]
    assert found["glass-box"] == {"b": (1, 1), "c": (2, 2), "d": (3, 3), "e": (4, 4)}
    assert found["twin"]["b"] == (1, 4)
    assert found["twin"]["c"] == (1, 2)
    assert found["twin"]["e"] == (3, 4)


def test_few_models_give_a_tau_and_no_interval() -> None:
    (tau,) = transfer.study(collect(tiered({"glass-box": "abcd", "twin": "abcd"}, n_models=3))).taus
    assert (tau.value, tau.ci95) == (pytest.approx(1), None)


def test_only_methods_that_ran_everywhere_in_both_tiers_are_compared() -> None:
    records = tiered({"glass-box": "abcde", "twin": "abcde"})
    records = [s for s in records if (s.record.cell.method, s.record.cell.model) != ("e", "m1-twin")]
    (tau,) = transfer.study(collect(records)).taus
    assert tau.methods == 4


def test_each_claim_has_its_own_order() -> None:
    records = tiered({"glass-box": "abcd", "twin": "abcd"})
    other = [
        s.record.model_copy(update={"scores": [*s.record.scores, *o.record.scores]})
        for s, o in zip(
            records, tiered({"glass-box": "abcd", "twin": "dcba"}, claim="required"), strict=False
        )
        if s.record.lineage == o.record.lineage
    ]
    assert transfer.study(collect(other)).orders["required"]["glass-box"].keys() == set("abcd")


def calibration(order: Sequence[str], refused: Sequence[str] = ()) -> dict:
    """What `nibench calibrate` writes, with the methods in a given order in each of four draws."""
    scores = {method: {"recall": 1 - place / 10} for place, method in enumerate(order)}
    draws = [{"seed": seed, "scores": scores} for seed in range(4)]
    return {"model": "m", "task": "t", "refused": list(refused), "draws": draws}


def test_calibrations_are_the_tier_of_grafts_for_what_is_required() -> None:
    records = collect(tiered({"glass-box": "abcd"}, claim="required"))
    found = transfer.study(records, [calibration("bacd")])
    (tau,) = found.taus
    assert (tau.claim, tau.first, tau.second) == ("required", "glass-box", "graft")
    assert (tau.value, tau.ci95) == (pytest.approx(4 / 6), pytest.approx((4 / 6, 4 / 6)))
    assert "graft" not in found.missing
    refused = transfer.study(records, [calibration("bacd", refused=["draw 0: the model moved"])])
    assert (refused.taus, "graft" in refused.missing) == ((), True)


def test_calibrations_are_read_from_the_results_folder(tmp_path: Path) -> None:
    (tmp_path / "calibrations").mkdir()
    path = tmp_path / "calibrations" / "m_t.json"
    path.write_text(json.dumps(calibration("abcd")))
    assert transfer.read_calibrations([tmp_path]) == [calibration("abcd")]
    path.write_text("{")
    with pytest.raises(InputError, match="not a whole JSON file"):
        transfer.read_calibrations([tmp_path])


def test_no_known_tier_is_refused() -> None:
    with pytest.raises(InputError, match="No task in these records has a known answer"):
        transfer.study(collect([record("a", "t", "m", scores=[score("encodes", 0.5, 0.5)])]))


# the command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for stored in tiered({"glass-box": "abcde", "language model": "badce"}):
        write_record(_named(stored.record), dict(stored.arrays), tmp_path / "records")
    return tmp_path


def _named(one: Record) -> Record:
    """With a name as long as real ones, to see that the table fits."""
    names = dict(zip("abcde", ("correlation_clustering", "integrated_gradients", "c", "d", "e"), strict=True))
    key = one.cell.model_copy(update={"method": names[one.cell.method]})
    digests = {**one.digests, "method": key.method}
    return one.model_copy(update={"cell": key, "digests": digests})


@pytest.mark.parametrize("name", ["agreement", "transfer"])
def test_a_study_prints_tables_of_80_columns_or_one_json_document(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    app(["study", name, "--results", str(folder)], standalone_mode=False)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    words = {"agreement": "integrated_gradients", "transfer": "No records of: world, middle, twin, graft."}
    assert words[name] in " ".join(text.split())
    app(["study", name, "--results", str(folder), "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["taus" if name == "transfer" else "correlations"]


def test_a_study_of_nothing_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No records in"):
        app(["study", "transfer", "--results", str(tmp_path)], standalone_mode=False)
