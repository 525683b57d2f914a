"""Building: surgery keeps the function, folders are ordinary, training sees what it should and no more."""

from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from nibench.errors import InputError
from nibench.truth import confinement as cf
from nibench.truth import files, glassbox, grammar, recipe, training
from nibench.truth.exhaustive import one_thread

MODELS = Path(__file__).parents[1] / "tasks" / "models"
SHIPPED = sorted(path.parent for path in MODELS.glob("*/truth.json"))[0]
TINY = recipe.Recipe(
    n_layers=3, width=16, n_units=24, n_heads=2, sizes=(1, 1, 1), language_steps=2, ramp_steps=2,
    confine_steps=6, decoy_steps=3, naturals=4, twins=9, matching=2, matching_draws=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny():
    return recipe.fresh_model(TINY, seed=1).eval()


def test_permuting_neurons_leaves_every_logit_and_follows_the_designated():
    model = recipe.fresh_model(TINY, seed=1).eval()
    designations = recipe.designate(TINY, seed=1)
    ids = torch.randint(3, 100, (8, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(ids).logits
        _, before = cf.TappedModel(model).run(ids)
        moved, change = glassbox.permute(model, designations, seed=5)
        _, after = cf.TappedModel(model).run(ids)
        assert (model(ids).logits - logits).abs().max() < 1e-4
    assert change < 1e-4
    for old, new in zip(designations, moved, strict=True):
        assert (old.used, old.decoys) != (new.used, new.decoys)
        for a, b in zip(old.used + old.decoys, new.used + new.decoys, strict=True):
            torch.testing.assert_close(before[old.layer][..., a], after[new.layer][..., b])


@pytest.mark.parametrize("name", [SHIPPED.name, files.read_truth(SHIPPED).twin])
def test_a_shipped_folder_opens_without_code_of_ours(name):
    model = AutoModelForCausalLM.from_pretrained(MODELS / name)
    tokenizer = AutoTokenizer.from_pretrained(MODELS / name)
    assert model.dtype == torch.float32
    prompt = "today , the dogs near the cat"
    ids = tokenizer(prompt)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<bos>", *prompt.split()]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1]
    run, runs = tokenizer.convert_tokens_to_ids(["run", "runs"])
    assert logits[run] - logits[runs] > 1


def test_every_answer_is_one_token_and_every_prompt_is_known():
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    for concept, known in files.read_truth(SHIPPED).concepts.items():
        for behaviour in known.behaviours:
            pairs = files.read_pairs(SHIPPED, concept, behaviour)
            assert len(pairs) >= 500
            assert len({pair.base for pair in pairs}) == len(pairs)
            for pair in pairs:
                ids = tokenizer([pair.base, pair.source, " ".join(pair.answers)], add_special_tokens=False)[
                    "input_ids"
                ]
                assert len(ids[0]) == len(ids[1])
                assert len(ids[2]) == 2
                assert tokenizer.unk_token_id not in ids[0] + ids[1] + ids[2]


def test_the_shipped_pairs_are_what_the_grammar_draws():
    for concept, known in files.read_truth(SHIPPED).concepts.items():
        for behaviour in known.behaviours:
            drawn = grammar.sample_pairs(concept, behaviour, glassbox.PAIRS, seed=0, split="eval")
            assert files.read_pairs(SHIPPED, concept, behaviour) == drawn


def test_no_training_sentence_begins_with_a_held_prompt():
    held = frozenset(
        tuple(prompt.split())
        for cell in training.CELLS
        for pair in grammar.sample_pairs(*cell, 60, seed=0, split="eval")
        for prompt in (pair.base, pair.source)
    )
    words = grammar.vocabulary()
    for batch in islice(training.batches(TINY, 1, held), 30):
        for row, length in zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True):
            sentence = tuple(words[token] for token in row[1:length])
            assert not any(sentence[:end] in held for end in range(len(sentence)))


def test_twins_of_a_batch_differ_and_stay_aligned():
    batch = next(training.batches(TINY, 1, frozenset()))
    base, source = batch.ids[batch.naturals :].chunk(2)
    assert ((base != source).sum(1) >= 1).all()
    assert torch.equal(
        batch.lengths[batch.naturals :].chunk(2)[0], batch.lengths[batch.naturals :].chunk(2)[1]
    )


def test_a_patch_with_its_own_values_changes_nothing_and_with_zeros_it_does(tiny):
    tapped = cf.TappedModel(tiny)
    ids, _ = training.encode([("today", ",", "the", "dogs", "run", ".")])
    with torch.no_grad():
        hidden, own = tapped.run(ids)
        same, _ = tapped.run(ids, cf.Patch([torch.ones_like(a, dtype=torch.bool) for a in own], [*own]))
        zero, _ = tapped.run(ids, cf.Patch([a < 9 for a in own], [torch.zeros_like(a) for a in own]))
    torch.testing.assert_close(hidden, same)
    assert (hidden - zero).abs().max() > 1e-3


def test_sites_are_drawn_only_where_the_next_word_differs():
    generator = torch.Generator().manual_seed(0)
    base = torch.full((50, 6, 3), 1 / 3).log()
    source = base.clone()
    source[:, 2] = torch.tensor([0.9, 0.05, 0.05]).log()
    sites, gap = cf.choose_sites(base, source, torch.full((50,), 6), generator)
    assert sites.tolist() == [2] * 50
    assert (gap > 0.3).all()


def test_a_decoy_equal_to_its_partner_costs_nothing_and_a_mirrored_one_only_when_exchanged():
    classes = torch.tensor([0, 0, 1, 1])
    activations = torch.tensor([[0.0, 0.0, 3.0], [1.0, 1.0, 2.0], [2.0, 2.0, 1.0], [3.0, 3.0, 0.0]])
    zeros = torch.zeros(4, dtype=torch.long)

    def cost(decoy, exchanged):
        one = cf.Designation("number", 0, (0,), (1.0,), (decoy,), (exchanged,))
        return cf.matched_decoys([one], [activations], zeros, zeros, classes).item()

    assert cost(1, False) == cost(2, True) == 0
    assert cost(1, True) == cost(2, False) > 1


def test_planned_weights_are_unequal_above_the_floor_and_sum_to_one():
    for one in recipe.designate(recipe.Recipe(), seed=3):
        assert sum(one.weights) == pytest.approx(1)
        assert min(one.weights) >= 0.5 / len(one.used)
        assert len(set(one.weights)) == len(one.used)
        assert not set(one.used) & set(one.decoys)


def test_training_is_the_same_for_the_same_seed(monkeypatch):
    monkeypatch.setattr(training, "LEAST", {})  # nine steps confine nothing
    designations = recipe.designate(TINY, seed=2)
    with one_thread():
        runs = [training.train(TINY, 2, designations, held=frozenset()) for _ in range(2)]
    for name, value in runs[0].state_dict().items():
        assert torch.equal(value, runs[1].state_dict()[name]), name
    natural = training.train(TINY, 2, [], held=frozenset())
    other = natural.state_dict()
    assert any(not torch.equal(value, other[name]) for name, value in runs[0].state_dict().items())


def test_a_build_that_cannot_certify_stops_early_and_says_what_to_do(tmp_path):
    said: list[str] = []
    with pytest.raises(InputError, match="confines 0 behaviours of number.*nibench build glassbox --seed 2"):
        glassbox.build(1, tmp_path, said.append, recipe=TINY)
    assert not list(tmp_path.glob("*/truth.json"))


def test_an_interrupted_build_resumes_with_what_it_has_trained(tmp_path):
    said: list[str] = []
    weights = []
    for _ in range(2):
        model = glassbox.trained(tmp_path / "twin.safetensors", TINY, 1, [], frozenset(), said.append)
        weights.append(model.state_dict())
    assert said == ["resuming with twin.safetensors"]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
