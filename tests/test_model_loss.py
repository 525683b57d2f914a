"""What each neuron is worth to the next words, and the single effects of a natural model: exact, by hooks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import nibench as nb
from nibench.ground import Ground, Options
from nibench.interventions import Behaviour
from nibench.measured import measured_truth
from nibench.suites import Budget
from nibench.truth.files import layer_sizes
from nibench.truth.model_loss import loss_effects, model_truth, natural_corpus, sentences
from nibench.truth.planted import planted_model
from tests.tiny import WORDS, tiny

SENTENCES = [tuple(WORDS[i : i + n]) for i, n in ((0, 4), (2, 5), (1, 3))]


def literal(model, reference, measured, neuron):
    """The mean next-word loss with one neuron at its mean, every pass whole, one hook."""
    (layer, unit), taps = neuron, model.taps("mlp_post")
    special = torch.tensor(sorted(model.special_ids))
    values, total, count = [], 0.0, 0

    def run(words, change):
        ids = torch.tensor([model.tokenizer(" ".join(words))["input_ids"]])
        keep = ~torch.isin(ids[0], special)
        handle = taps[layer].attach(lambda x: change(x, keep))
        with torch.no_grad():
            logits = model.network(input_ids=ids).logits[0, :-1]
        handle.remove()
        return torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item(), len(ids[0]) - 1

    def note(x, keep):
        values.extend(x.view(len(keep), -1)[keep, unit].tolist())

    def put(x, keep):
        changed = x.clone().view(len(keep), -1)
        changed[keep, unit] = float(np.mean(values[:n_reference]))
        return changed.view(x.shape)

    for words in reference:
        run(words, note)
    n_reference = len(values)
    for words in measured:
        intact, n = run(words, lambda x, keep: None)
        ablated, _ = run(words, put)
        total, count = total + ablated - intact, count + n
    return total / count


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_every_effect_is_that_of_a_whole_pass_with_one_neuron_replaced(kind):
    model = tiny(kind)
    effects = loss_effects(model, SENTENCES[:2], SENTENCES[1:])
    neurons = model.neurons("mlp_post")
    assert effects.shape == (len(neurons),)
    for name in ("L0.mlp_post.3", "L1.mlp_post.0", "L2.mlp_post.23"):
        layer, unit = int(name[1]), int(name.rpartition(".")[2])
        expected = literal(model, SENTENCES[:2], SENTENCES[1:], (layer, unit))
        assert effects[neurons.index(name)] == pytest.approx(expected, abs=1e-5)
        assert abs(expected) > 1e-4


def test_a_model_without_next_words_is_refused():
    with pytest.raises(nb.InputError, match="no causal language model"):
        loss_effects(tiny("bert"), SENTENCES, SENTENCES)


def test_the_sentences_that_are_measured_are_the_same_for_every_seed_and_apart_from_those_of_rank():
    one, two = natural_corpus(20, 0), natural_corpus(20, 1)
    by_split = [
        {split: [s.words for s in c if s.split == split] for split in ("rank", "eval")} for c in (one, two)
    ]
    assert by_split[0]["eval"] == by_split[1]["eval"]
    assert by_split[0]["rank"] != by_split[1]["rank"]
    assert {len(set(s.labels)) for s in one} == {1}
    assert sentences(3) == sentences(5)[:3]


MODELS = Path(__file__).parent.parent / "tasks" / "models"


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The task without a concept on a shipped model; a sample of neurons stands for the measured truth."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("cache")
    patch.setenv("NIBENCH_CACHE", str(folder))
    patch.setattr("nibench.truth.model_loss.N_SENTENCES", 4)
    methods = ["variance", "weight_norm", "random_ranking", "probeless"]
    report = nb.evaluate(methods, ["__model__"], ["glass1"], out=tmp_path_factory.mktemp("out"))
    yield {record.cell.method: record for record in report.records}, folder
    patch.undo()


def test_without_a_concept_only_methods_that_need_none_are_scored(records):
    found, _ = records
    assert found["probeless"].status == "not_applicable"
    assert "this task asks for none" in found["probeless"].reason
    assert {score.id for score in found["variance"].scores} == {"gt.ndcg[model]", "gt.energy[model]"}
    assert (found["variance"].tier, found["variance"].lineage) == ("glass-box", "glass1")
    values = {
        name: found[name].score("gt.energy[model]").normalised for name in ("variance", "random_ranking")
    }
    assert values["variance"] > 0.2 > values["random_ranking"]


def test_the_measured_truth_is_kept_and_not_measured_again(records, monkeypatch):
    _, folder = records
    assert len(list((folder / "model-loss").glob("*.npy"))) == 1
    monkeypatch.setenv("NIBENCH_CACHE", str(folder))
    monkeypatch.setattr("nibench.truth.model_loss.N_SENTENCES", 4)
    monkeypatch.setattr("nibench.truth.model_loss.loss_effects", None)
    truth = model_truth(MODELS / "glass1")
    assert truth.gains["required"].shape == (np.prod(layer_sizes(MODELS / "glass1")),)
    assert (truth.gains["required"] >= 0).all()


# ---------------------------------------------------------------- a natural model, neuron by neuron


@pytest.fixture(scope="module")
def planted():
    made = planted_model()
    behaviour = Behaviour.from_prompts(
        made.model, made.prompts, "mlp_post", reference=made.prompts, intervene_at="last"
    )
    return behaviour, made


def test_single_effects_are_the_truth_of_a_natural_model(planted):
    behaviour, made = planted
    truth = measured_truth(behaviour, "tiny")
    assert truth is not None
    assert (truth.tier, truth.lineage, truth.sets) == ("language model", "tiny", {})
    for claim in ("carries", "required"):
        assert truth.gains[claim].argmax() == made.planted
    whole = behaviour.margin() - behaviour.source_margin()
    for neuron in (made.planted, 3):
        swapped = (behaviour.margin() - behaviour.ablate([neuron], "source")).mean() / whole.mean()
        lost = (behaviour.margin() - behaviour.ablate([neuron], "mean")).mean()
        assert truth.gains["carries"][neuron] == pytest.approx(abs(swapped), abs=1e-5)
        assert truth.gains["required"][neuron] == pytest.approx(abs(lost), abs=1e-5)
    assert truth.gains["associated"][made.planted] == 1.0
    assert truth.gains["responds"][made.planted] == pytest.approx(
        2, abs=0.05
    )  # from one value to another: two sd


def test_a_behaviour_without_pairs_or_without_an_effect_has_no_measured_truth(planted):
    _, made = planted
    alone = [replace(prompt, source=None, source_answer=None) for prompt in made.prompts]
    same = [replace(prompt, source=prompt.text, source_answer=1 - prompt.answer) for prompt in made.prompts]
    for prompts in (alone, same):
        behaviour = Behaviour.from_prompts(
            made.model, prompts, "mlp_post", reference=prompts, intervene_at="last"
        )
        assert measured_truth(behaviour, "tiny") is None


def test_the_budget_decides_whether_a_natural_model_is_measured(shared):
    model, task = nb.load_model(shared / "models" / "stories260K"), nb.load_task("she_he")
    for limit, tier in ((0, None), (1000, None), (10**6, "language model")):
        budget = Budget(eval_prompts=8, metrics="truth", exhaustive=limit)
        truth = Ground(task, model, Options(cap=80, budget=budget)).setting(0).truth
        assert (truth.tier if truth else None) == tier
