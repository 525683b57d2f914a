"""Carries and required: shares of the margin that the top neurons move in a real forward pass."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from nibench.interventions import N_DONORS, Behaviour
from nibench.metrics import Setting, Trial
from nibench.metrics.ablation import carried, required, resampled, zeroed
from nibench.metrics.ceiling import built
from nibench.metrics.curves import log_auc
from nibench.model import LanguageModel
from nibench.ranking import Ranking
from nibench.task import Prompt, Truth
from tests.references import ablation_metrics as slow
from tests.toy import LinearBehaviour

TEXT = "the a big red old dog cat man king near by runs run sees see sleeps sleep"
WORDS = TEXT.split()
KS = (1, 2, 4, 8)


def tiny_gpt2():
    backend = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(["<unk>", *WORDS])}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(WORDS) + 1, n_positions=8, n_embd=16, n_layer=3, n_head=2, n_inner=24)
    network = GPT2LMHeadModel(config)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():  # random, but large enough that neurons matter
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return LanguageModel.from_network(network, tokenizer)


def pair(model, number, rng):
    """A prompt and a twin that differ in their second word, turned so that the prompt wins."""
    frame = rng.choice(WORDS[:11], size=4).tolist()
    one, other = rng.choice(WORDS[5:9], size=2, replace=False).tolist()
    answers = tuple(rng.choice(WORDS[11:], size=2, replace=False).tolist())
    texts = [" ".join([frame[0], word, *frame[1:]]) for word in (one, other)]
    ids = [model.tokenizer(text)["input_ids"] for text in texts]
    tokens = model.tokenizer.convert_tokens_to_ids(list(answers))
    first, second = (slow.logits(model.network, row)[tokens] @ np.array([1, -1]) for row in ids)
    if first < second:
        texts = texts[::-1]
    return Prompt(
        texts[0],
        0,
        "eval",
        f"kind {number % 2}",
        answers,
        0,
        texts[1],
        source_answer=1,
        group=f"g{number % 15}",
    )


@pytest.fixture(scope="module")
def model():
    return tiny_gpt2()


@pytest.fixture(scope="module")
def setting(model):
    rng = np.random.default_rng(0)
    prompts = [pair(model, number, rng) for number in range(30)]
    behaviour = Behaviour.from_prompts(model, prompts, "mlp_post", reference=prompts, intervene_at="last")
    return Setting(behaviour.neurons, 2, {}, (), None, behaviour, (1,), KS, seed=0, n_random=6)


@pytest.fixture(scope="module")
def effects(setting):
    """(D,) nats moved by swapping each neuron alone: the oracle of single neurons."""
    return setting.behaviour.single_effects(to="source").sum(axis=0)


def tokens_of(model, prompt):
    ids = [model.tokenizer(text)["input_ids"] for text in (prompt.text, prompt.source)]
    return *ids, model.tokenizer.convert_tokens_to_ids(list(prompt.answers))


def literal_margins(model, setting, neurons, fill):
    """(M,) margins with some neurons replaced, one prompt at a time, from plain hooks."""
    found = []
    for prompt in setting.behaviour.prompts:
        base, source, (right, wrong) = tokens_of(model, prompt)
        fills = {"mean": setting.behaviour.means, "zero": np.zeros(72)}
        values = slow.hidden(model.network, source) if fill == "source" else fills[fill]
        found.append(slow.logits(model.network, base, list(neurons), values)[[right, wrong]] @ [1, -1])
    return np.array(found)


def literal_curve(model, setting, order, fill):
    """Ratio of sums over the prompts, from plain hooks."""
    moved, stake = np.zeros(len(KS)), 0.0
    for prompt in setting.behaviour.prompts:
        base, source, (right, wrong) = tokens_of(model, prompt)
        values = slow.hidden(model.network, source) if fill == "source" else setting.behaviour.means
        intact, twin = (slow.logits(model.network, ids)[[right, wrong]] @ [1, -1] for ids in (base, source))
        stake += intact - twin if fill == "source" else intact
        for i, k in enumerate(KS):
            margin = slow.logits(model.network, base, order[:k].tolist(), values)[[right, wrong]] @ [1, -1]
            moved[i] += intact - margin
    return moved / stake


@pytest.mark.parametrize(("metric", "fill"), [(carried, "source"), (required, "mean")])
def test_the_curve_is_the_share_moved_by_plain_hooks(model, setting, effects, metric, fill):
    ranking = Ranking.from_scores(np.abs(effects))
    found = metric(Trial(setting, ranking))
    np.testing.assert_allclose(found.curve, literal_curve(model, setting, ranking.order, fill), atol=1e-4)
    assert found.value == pytest.approx(log_auc(KS, np.array(found.curve)))


def test_swapping_every_neuron_of_the_right_kind_moves_more_than_random_ones(setting, effects):
    best = carried(Trial(setting, Ranking.from_scores(effects)))
    worst = carried(Trial(setting, Ranking.from_scores(-effects)))
    assert best.value > best.details["random"] > worst.value
    assert best.direction == 1
    assert best.unit == "share of margin"


def test_the_planted_neurons_are_the_ceiling_and_random_sets_the_floor(setting, effects):
    planted = np.isin(np.arange(72), np.argsort(-effects)[:5])
    truth = Truth(
        {"carries": np.where(planted, effects, 0.0)}, {"carries": planted}, np.full(72, "background")
    )
    known = replace(setting, truth=truth)
    oracle = carried(Trial(known, Ranking.from_scores(np.where(planted, effects, -1e9 + effects))))
    assert oracle.curve[:3] == pytest.approx(_ceiling_curve(known, effects)[:3])
    other = carried(Trial(known, Ranking.from_scores(np.random.default_rng(0).random(72))))
    assert other.ceiling == oracle.ceiling
    random = other.details["random"]
    assert other.normalised == pytest.approx((other.value - random) / (other.ceiling - random))


def _ceiling_curve(setting, effects):
    order = np.argsort(-effects)[:5]
    behaviour = setting.behaviour
    stake = (behaviour.margin() - behaviour.source_margin()).sum()
    return [(behaviour.margin() - behaviour.ablate(order[:k], to="source")).sum() / stake for k in KS]


def test_the_band_holds_the_middle_of_the_random_rankings(setting, effects):
    each = [carried(Trial(setting, Ranking.from_scores(-np.argsort(o)))) for o in setting.random_orders]
    curves = [score.curve for score in each]
    assert np.array(each[0].details["random_band"]) == pytest.approx(
        np.quantile(curves, [0.025, 0.975], axis=0), abs=1e-6
    )


def test_without_known_carriers_the_ceiling_is_all_neurons_and_it_is_said(setting, effects):
    found = carried(Trial(setting, Ranking.from_scores(effects)))
    behaviour = setting.behaviour
    moved = (behaviour.margin() - behaviour.ablate(np.arange(72), to="source")).sum()
    assert found.ceiling == pytest.approx(moved / (behaviour.margin() - behaviour.source_margin()).sum())
    assert any(flag.startswith("the ceiling is all neurons") for flag in found.flags)


def test_the_score_can_be_recomputed_from_its_groups(setting, effects):
    found = carried(Trial(setting, Ranking.from_scores(effects)))
    curve = found.clusters["moved"].sum(axis=0) / found.clusters["at_stake"].sum()
    np.testing.assert_allclose(curve, found.curve)
    assert found.n_clusters == 15
    assert found.n_items == 30
    assert found.ci95[0] <= found.value <= found.ci95[1]


def test_behaviours_are_shown_apart(setting, effects):
    ranking = Ranking.from_scores(effects)
    found = carried(Trial(setting, ranking))
    behaviour = setting.behaviour
    for name, area in found.details["behaviours"].items():
        rows = behaviour.behaviours == name
        stake = (behaviour.margin() - behaviour.source_margin())[rows].sum()
        moved = [(behaviour.margin() - behaviour.ablate(ranking.top(k), to="source"))[rows].sum() for k in KS]
        assert area == pytest.approx(log_auc(KS, np.array(moved) / stake))


def test_a_set_is_run_once_whichever_method_asks(setting, effects):
    ranking = Ranking.from_scores(effects)
    carried(Trial(setting, ranking))
    before = setting.behaviour.passes.forward
    again = carried(Trial(setting, Ranking.from_scores(effects * 2)))
    assert setting.behaviour.passes.forward == before
    assert again.value == carried(Trial(setting, ranking)).value


def test_a_behaviour_without_twins_has_nothing_to_swap(model, setting):
    prompts = [replace(p, source=None, source_answer=None) for p in setting.behaviour.prompts]
    behaviour = Behaviour.from_prompts(model, prompts, "mlp_post", reference=prompts, intervene_at="last")
    single = replace(setting, behaviour=behaviour)
    assert carried(Trial(single, Ranking.from_scores(np.arange(72.0)))) is None


def test_without_a_model_neither_applies(setting):
    nothing = replace(setting, behaviour=None)
    trial = Trial(nothing, Ranking.from_scores(np.arange(72.0)))
    assert carried(trial) is None
    assert required(trial) is None


def test_a_behaviour_the_model_does_not_have_cannot_be_lost(model, setting):
    prompts = [
        replace(p, text=p.source, source=p.text) for p in setting.behaviour.prompts
    ]  # wrong throughout
    behaviour = Behaviour.from_prompts(model, prompts, "mlp_post", reference=prompts, intervene_at="last")
    wrong = replace(setting, behaviour=behaviour)
    assert carried(Trial(wrong, Ranking.from_scores(np.arange(72.0)))) is None


def test_zero_is_a_column_of_its_own(model, setting, effects):
    ranking = Ranking.from_scores(np.abs(effects))
    found = zeroed(Trial(setting, ranking))
    intact = setting.behaviour.margin().sum()
    expected = [1 - literal_margins(model, setting, ranking.top(k), "zero").sum() / intact for k in KS]
    np.testing.assert_allclose(found.curve, expected, atol=1e-4)
    assert found.id == "abl.auc[zero]"


def test_other_items_are_five_donors_and_the_same_for_every_method(model, setting, effects):
    ranking = Ranking.from_scores(np.abs(effects))
    found = resampled(Trial(setting, ranking))
    assert N_DONORS == 5
    donors = Behaviour.from_prompts(
        model, setting.behaviour.prompts, "mlp_post", reference=setting.behaviour.prompts, intervene_at="last"
    )
    expected = [1 - donors.ablate(ranking.top(k), "resample").sum() / donors.margin().sum() for k in KS]
    np.testing.assert_allclose(found.curve, expected, atol=1e-5)
    assert found.id == "abl.auc[resample]"


@pytest.mark.parametrize("fill", ["source", "mean"])
def test_forward_selection_is_the_literal_one(setting, fill):
    ks = (1, 2, 3, 4)  # a round for each neuron, all 72 being candidates
    literal = slow.forward_selection(setting.behaviour, fill, 4, np.arange(72))
    assert built(setting.behaviour, fill, (*ks, 36))[:4].tolist() == literal


def test_forward_selection_finds_backups_and_takes_nothing_that_undoes_the_rest():
    class Backed(LinearBehaviour):
        """The margin holds while neuron 0 or 1 is there; 2 adds a little, and 3 takes from it."""

        def ablate_sets(self, sets, to="mean"):
            sets = [set(map(int, one)) for one in sets]
            return np.array(
                [[4.0 * (not one >= {0, 1}) + 0.5 * (2 not in one) + (3 in one)] * 5 for one in sets]
            )

        def margin(self):
            return self.ablate_sets([[]])[0]

        def contributions(self, kind, baseline="mean"):
            return np.broadcast_to([0.3, 0.2, 0.5, -1.0], (5, 4))

    behaviour = Backed(np.ones((5, 4)), np.ones(4), np.zeros((5, 4)))
    assert built(behaviour, "source", (1,)).tolist() == [2]
    assert built(behaviour, "source", (1, 2, 3, 4)).tolist() == [2, 0, 1]


def test_the_ceiling_is_built_on_other_prompts_and_measured_on_these(model, setting, effects):
    rng = np.random.default_rng(7)
    prompts = [replace(pair(model, number, rng), split="probe") for number in range(20)]
    probe = Behaviour.from_prompts(model, prompts, "mlp_post", reference=prompts, intervene_at="last")
    known = replace(setting, probe_behaviour=lambda: probe)
    found = carried(Trial(known, Ranking.from_scores(effects)))
    order = built(probe, "source", KS)
    stake = (setting.behaviour.margin() - setting.behaviour.source_margin()).sum()
    moved = [setting.behaviour.margin() - setting.behaviour.ablate(order[:k], "source") for k in KS]
    assert found.ceiling == pytest.approx(log_auc(KS, np.sum(moved, axis=1) / stake))
    assert found.ceiling > found.details["random"] + 0.1
    assert any("a set built greedily on the probe split" in flag for flag in found.flags)
    passes = probe.passes.forward
    carried(Trial(known, Ranking.from_scores(-effects)))
    assert probe.passes.forward == passes  # built once


def test_planted_neurons_are_the_ceiling_even_where_a_set_could_be_built(setting, effects):
    planted = np.isin(np.arange(72), np.argsort(-effects)[:5])
    truth = Truth({"carries": planted * effects}, {"carries": planted}, np.full(72, "background"))
    known = replace(setting, truth=truth, probe_behaviour=lambda: pytest.fail("not asked for"))
    found = carried(Trial(known, Ranking.from_scores(effects)))
    assert not any("the ceiling is" in flag for flag in found.flags)


@pytest.mark.parametrize(
    ("neuron", "kind", "accuracy_drop", "loss_rise"),
    [
        (0, "zero", 0.5, 0.5),
        (0, "mean", 0.5, 0.3863318531),
        (0, "source", 1.0, 1.0),
        (1, "zero", 0.0, 0.0),
        (1, "mean", 0.0, -0.0244834436),
        (1, "source", 0.0, 0.0),
        (2, "zero", 0.25, 0.0943691141),
        (2, "mean", 0.0, 0.0),
        (2, "source", 0.0, 0.0),
    ],
)
def test_what_each_replacement_does_to_a_model_worked_out_by_hand(neuron, kind, accuracy_drop, loss_rise):
    accuracy, loss = slow.linear_accuracy_and_loss(slow.ITEMS)  # oracle 7
    assert (accuracy, loss) == (1.0, pytest.approx(0.3377451311, abs=1e-9))
    new_accuracy, new_loss = slow.linear_accuracy_and_loss(slow.replaced(neuron, kind))
    assert accuracy - new_accuracy == pytest.approx(accuracy_drop)
    assert new_loss - loss == pytest.approx(loss_rise, abs=1e-9)
