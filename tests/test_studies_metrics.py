"""The study of metrics: what follows the truth is said to, what does not is not."""

import numpy as np
import pytest

from nibench.errors import InputError
from nibench.results import collect
from nibench.stored import Stored
from nibench.studies.metrics import claim_of, spearman, study, to_markdown
from tests.synthetic_records import record, score

METHODS = tuple(f"m{i}" for i in range(8))


def cell(method: str, task: str, right: float, seed: int, rng: np.random.Generator, control=None) -> Stored:
    """A cell in which ``encodes`` follows the truth, ``abl.auc[mean]`` does not, sentences carry the first."""
    noise = rng.normal(size=2)
    skill = 0 if control else right
    hits = rng.binomial(20, np.clip(0.5 + 0.45 * skill, 0, 1), size=(60, 1)).astype(float)
    follows = float(hits.sum() / 1200)
    scores = [
        score("gt.ndcg[associated]", right, right),
        score("gt.ndcg[required]", float(noise[0]), float(noise[0])),
        score("probe.auc[lda]", follows, (follows - 0.5) * 2, ceiling=1.0, chance=0.5, k=(1,)),
        score("abl.auc[mean]", float(noise[1]), float(noise[1])),
        score("sel.kappa", 1 - right, None, chance=0.0),
        score("layer.centre", right, None, direction=0),
    ]
    made = record(method, task, f"model-{task}", scores=scores, seed=seed, lineage=task, tier="glass-box")
    if control:
        made = made.model_copy(update={"cell": made.cell.model_copy(update={"control": control})})
    return Stored(made, {"probe.auc[lda]/hits": hits, "probe.auc[lda]/items": np.full(60, 20.0)})


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(0)
    stored = [
        cell(method, f"task{t}", number / 7, seed, rng)
        for t in range(6)
        for number, method in enumerate(METHODS)
        for seed in range(2)
    ]
    stored += [cell(method, "task0", 0.5, 0, rng, control="shuffle") for method in METHODS]
    return study(collect(stored))


def test_what_follows_the_truth_tracks_it_and_what_does_not_does_not(found) -> None:
    cards = {card.metric: card for card in found.cards}
    assert set(cards) == {"probe.auc[lda]", "abl.auc[mean]", "sel.kappa"}  # neither truth nor description
    assert cards["probe.auc[lda]"].tracks
    assert cards["probe.auc[lda]"].truth["associated"].value > 0.9
    assert not cards["abl.auc[mean]"].tracks
    assert cards["sel.kappa"].truth["associated"].value == pytest.approx(-1)
    assert not cards["sel.kappa"].tracks


def test_reseeding_halves_saturation_and_controls(found) -> None:
    cards = {card.metric: card for card in found.cards}
    good, noise = cards["probe.auc[lda]"], cards["abl.auc[mean]"]
    assert good.reseed < 0.2 < 0.5 < noise.reseed
    assert good.halves.value > 0.9
    assert noise.halves is None  # no statistics per sentence
    assert good.controls["shuffle"] == pytest.approx(0, abs=0.05)
    assert good.not_at_chance == ()
    assert cards["sel.kappa"].not_at_chance == ("shuffle",)
    assert cards["abl.auc[mean]"].controls.keys() == {"shuffle"}
    assert 0 <= good.saturation < 0.2


def test_the_cards_can_be_read(found) -> None:
    page = to_markdown(found)
    assert "| `probe.auc[lda]` | associated | yes |" in page
    assert "## `abl.auc[mean]`" in page
    assert found.as_dict()["cards"][0]["tracks"] in (True, False, None)


def test_names_say_what_a_metric_is_about() -> None:
    assert claim_of("abl.auc[interchange]") == "carries"
    assert claim_of("abl.auc[mean]") == "required"
    assert claim_of("probe.mdl") == "associated"
    assert claim_of("stab.data") == ""
    assert np.isnan(spearman([(0.0, 1.0)] * 9))
    assert spearman([(i, i**3) for i in range(6)]) == pytest.approx(1)


def test_records_without_truth_are_refused() -> None:
    with pytest.raises(InputError, match="known answer"):
        study(collect([record(m, scores=[score("encodes", 0.5)]) for m in METHODS]))
