"""The gap between public and hidden truth: its statistics are the textbook's, and it accuses nobody lightly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nibench import gap
from nibench.record import Record
from nibench.results import collect
from tests.synthetic_records import record, score

CARRIES, ASSOCIATED = "gt.ndcg[carries]", "gt.ndcg[associated]"
shares = st.floats(0, 1).map(lambda x: round(x, 3))


def cell(method: str, task: str, model: str | None, metric: str, value: float, **more) -> Record:
    claims = metric.removeprefix("gt.ndcg[").removesuffix("]")
    hidden = more.pop("round", None)
    made = record(method, task, model, scores=[score(metric, value, value)], card={"claims": claims}, **more)
    return made.model_copy(update={"cell": made.cell.model_copy(update={"round": hidden})})


def models(method: str, values: list[float], **more) -> list[Record]:
    prefix = "hidden" if "round" in more else "glass"
    return [
        cell(
            method, "number", f"{prefix}{i}", CARRIES, value, tier="glass-box", lineage=f"{prefix}{i}", **more
        )
        for i, value in enumerate(values)
    ]


def worlds(method: str, values: list[float], **more) -> list[Record]:
    task = "hidden-{}" if "round" in more else "kind{}"
    return [
        cell(method, task.format(i), None, ASSOCIATED, value, tier="world", lineage=f"kind{i}", **more)
        for i, value in enumerate(values)
    ]


@settings(max_examples=30, deadline=None)
@given(public=st.lists(shares, min_size=3, max_size=9), hidden=st.lists(shares, min_size=1, max_size=4))
def test_models_are_two_samples_with_a_common_variance(public, hidden):
    (one,) = gap.gaps(collect([*models("m", public), *models("m", hidden, round="1a2b3c4d")]))
    assert one.gap == pytest.approx(np.mean(public) - np.mean(hidden), abs=1e-9)
    assert (one.n_public, one.n_hidden, one.tier) == (len(public), len(hidden), "models")
    if np.ptp(public) > 0.01:
        n, m = len(public), len(hidden)
        pooled = (n * np.var(public) + m * np.var(hidden)) / (n + m - 2)
        se = np.sqrt(pooled * (1 / n + 1 / m))
        half = stats.t.ppf(0.975, n + m - 2) * se
        assert one.p == pytest.approx(2 * stats.t.sf(abs(one.gap) / se, n + m - 2), abs=1e-6)
        assert one.ci95 == pytest.approx((one.gap - half, one.gap + half), abs=1e-6)
        if np.ptp(hidden) > 0.01:  # scipy's own test warns of a constant sample, and refuses a single value
            expected = stats.ttest_ind(public, hidden)
            assert one.p == pytest.approx(expected.pvalue, abs=1e-6)
            assert one.ci95 == pytest.approx(tuple(expected.confidence_interval()), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(pairs=st.lists(st.tuples(shares, shares), min_size=3, max_size=9))
def test_worlds_are_paired_by_their_kind(pairs):
    public, hidden = map(list, zip(*pairs, strict=True))
    unpaired = worlds("m", [*public, 0.1])[-1]  # a kind that the round has not
    (one,) = gap.gaps(collect([*worlds("m", public), unpaired, *worlds("m", hidden, round="1a2b3c4d")]))
    differences = np.subtract(public, hidden)
    assert one.gap == pytest.approx(differences.mean(), abs=1e-9)
    assert one.public - one.hidden == pytest.approx(one.gap)
    if np.ptp(differences) > 0.01:
        expected = stats.ttest_rel(public, hidden)
        assert one.p == pytest.approx(expected.pvalue, abs=1e-6)
        assert one.ci95 == pytest.approx(tuple(expected.confidence_interval()), abs=1e-6)


def test_only_a_clear_loss_is_marked_not_a_gain_a_trifle_or_one_of_many():
    steady = [0.9, 0.91, 0.92, 0.9]
    given = {
        "tuned": ([0.98, 0.99, 1.0, 0.99], [0.1, 0.2]),
        "gained": ([0.1, 0.12, 0.11, 0.1], [0.9, 0.95]),
        "trifle": ([1.0, 1.0, 1.0, 1.0], [0.97, 0.97]),  # sure, and too small to matter
        "steady": (steady, steady[:2]),
        "noisy": ([0.2, 0.9, 0.4, 0.8], [0.1]),
    }
    made = [
        one
        for name, (p, h) in given.items()
        for one in (*models(name, p), *models(name, h, round="1a2b3c4d"))
    ]
    found = {one.method: one for one in gap.gaps(collect(made))}
    assert [name for name, one in found.items() if one.flagged] == ["tuned"]
    assert next(iter(found)) == "tuned"
    assert found["trifle"].p == 0
    alone = gap.gaps(collect([one for one in made if one.cell.method == "tuned"]))[0]
    assert found["tuned"].p == pytest.approx(5 * alone.p, rel=0.3) or found["tuned"].p > alone.p


@pytest.mark.parametrize("n_public", [0, 1, 2])
def test_without_a_spread_there_is_neither_interval_nor_mark(n_public):
    hidden = models("m", [0.1], round="1a2b3c4d")
    (one,) = gap.gaps(collect([*models("m", [1.0] * n_public), *hidden]))
    assert (one.ci95, one.p, one.flagged) == (None, None, False)
    assert (one.gap is None) == (n_public == 0)


def test_a_method_is_judged_by_its_claim_and_one_that_claims_nothing_by_what_is_known():
    given = [
        *models("m", [0.5, 0.6, 0.7]), *models("m", [0.6], round="1a2b3c4d"),
        *worlds("m", [0.5, 0.6, 0.7]), *worlds("m", [0.5, 0.6, 0.7], round="1a2b3c4d"),
    ]  # fmt: skip
    for claims, expected in {
        "none": {("associated", "worlds"), ("carries", "models")},
        "carries": {("carries", "models")},
        "required": set(),  # no hidden cell knows it
    }.items():
        rows = [
            one.model_copy(update={"card": one.card.model_copy(update={"claims": claims})}) for one in given
        ]
        assert {(one.claim, one.tier) for one in gap.gaps(collect(rows))} == expected


def test_rankings_of_another_source_are_named():
    public = models("m", [0.5, 0.6, 0.7])
    hidden = models(
        "m", [0.6], round="1a2b3c4d", digests={"method": "other", "task": "t", "data": "d", "model": "x"}
    )
    (one,) = gap.gaps(collect([*public, *hidden]))
    assert one.other_source
    assert "another source" in "\n".join(gap.markdown(collect([*public, *hidden]), str))
