"""Building: shipped folders are ordinary, surgery keeps the function, training sees what it should and no more."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from nibench.errors import InputError
from nibench.truth import confinement as cf
from nibench.truth import files, glassbox, grammar, matching, pairs, recipe, training, watch
from nibench.truth.exhaustive import one_thread
from nibench.truth.tapped import Patch, TappedModel

MODELS = Path(__file__).parents[1] / "tasks" / "models"
SHIPPED = sorted(path.parent for path in MODELS.glob("*/truth.json"))
TINY = recipe.Recipe(
    ("number", "tense", "gender"), (("ensemble", 2), ("lone", 1), ("ensemble", 1)),
    n_layers=3, width=16, n_units=24, n_heads=2, language_steps=2, ramp_steps=2, confine_steps=6, decoy_steps=3,
    naturals=4, twins=9, matching=2, matching_draws=1,
)  # fmt: skip
FAMILIES = [("gpt2", "gelu"), ("gpt2", "relu"), ("llama", "silu"), ("gpt_neox", "gelu")]


def tiny_model(family="gpt2", activation="gelu"):
    return recipe.fresh_model(replace(TINY, family=family, activation=activation), seed=1).eval()


# ---------------------------------------------------------------- what is shipped


@pytest.mark.parametrize(
    "folder", [f for box in SHIPPED for f in (box.name, files.read_truth(box).twin) if f]
)
def test_a_shipped_folder_opens_without_code_of_ours(folder):
    model = AutoModelForCausalLM.from_pretrained(MODELS / folder)
    tokenizer = AutoTokenizer.from_pretrained(MODELS / folder)
    assert model.dtype == torch.float32
    prompt = "today , the dogs near the cat"
    ids = tokenizer(prompt)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<bos>", *prompt.split()]
    with torch.no_grad():
        assert model(torch.tensor([ids])).logits.shape == (1, len(ids), len(grammar.vocabulary()))


def test_the_shipped_models_differ_as_the_shapes_do():
    configs = [AutoModelForCausalLM.from_pretrained(box).config for box in SHIPPED]
    assert len({config.model_type for config in configs}) == 3
    assert len({config.num_hidden_layers for config in configs}) >= 3
    assert len({config.hidden_size for config in configs}) >= 2
    splits = [files.read_truth(box).split for box in SHIPPED]
    assert {"dev", "test"} == set(splits)


def test_the_shipped_pairs_are_what_the_grammar_draws_and_single_tokens():
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED[0])
    for concept, one in grammar.CONCEPTS.items():
        for behaviour in one.behaviours:
            path = MODELS / f"pairs-{grammar.NAME}" / f"{concept}.{behaviour}.jsonl"
            found = files.read_pair_file(path, concept, behaviour)
            assert found == pairs.sample_pairs(concept, behaviour, glassbox.PAIRS, seed=0, split="eval")
            assert len(found) >= 500
            for pair in found[:50]:
                texts = [pair.base, pair.source, " ".join(pair.answers)]
                ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
                assert len(ids[0]) == len(ids[1])
                assert len(ids[2]) == len(pair.answers)
                assert tokenizer.unk_token_id not in ids[0] + ids[1] + ids[2]


@pytest.mark.parametrize("concept", grammar.UNUSED)
def test_the_shipped_pairs_of_an_unused_word_are_what_the_grammar_draws(concept):
    path = MODELS / f"pairs-{grammar.NAME}" / f"{concept}.none.jsonl"
    found = files.read_pair_file(path, concept, "none")
    assert found == pairs.sample_pairs(concept, "none", glassbox.PAIRS, seed=0, split="eval")


# ---------------------------------------------------------------- surgery before export


@pytest.mark.parametrize(("family", "activation"), FAMILIES)
def test_permuting_and_rescaling_keep_every_logit_and_follow_the_designated(family, activation):
    model, designations = tiny_model(family, activation), recipe.designate(TINY, seed=1)
    ids = torch.randint(3, 100, (8, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(ids).logits
        _, before = TappedModel(model).run(ids)
        moved, change = glassbox.operate(model, designations, seed=5)
        _, after = TappedModel(model).run(ids)
        assert (model(ids).logits - logits).abs().max() < 1e-4
    assert change < 1e-4
    for old, new in zip(designations, moved, strict=True):
        for one, two in zip(old.parts, new.parts, strict=True):
            assert (one.used, one.decoys) != (two.used, two.decoys)
            ratios = []
            for a, b in zip(one.used + one.decoys, two.used + two.decoys, strict=True):
                ratio = after[one.layer][..., b].std() / before[one.layer][..., a].std()
                torch.testing.assert_close(ratio * before[one.layer][..., a], after[one.layer][..., b])
                ratios.append(ratio.item())
            size = len(one.used)
            assert ratios[:size] == pytest.approx(ratios[size:], rel=1e-3)
            scaled = family == "llama" or activation == "relu"
            assert (max(abs(ratio - 1) for ratio in ratios) > 0.01) == scaled


# ---------------------------------------------------------------- what training sees


def test_no_training_sentence_begins_with_a_held_prompt():
    held = frozenset(
        tuple(prompt.split())
        for cell in TINY.cells
        for pair in pairs.sample_pairs(*cell, 60, seed=0, split="eval")
        for prompt in (pair.base, pair.source)
    )
    words = grammar.vocabulary()
    for batch in islice(training.batches(TINY, 1, held), 30):
        for row, length in zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True):
            sentence = tuple(words[token] for token in row[1:length])
            assert not any(sentence[:end] in held for end in range(len(sentence)))


def test_twins_of_a_batch_differ_stay_aligned_and_show_every_behaviour():
    batch = next(training.batches(TINY, 1, frozenset()))
    base, source = batch.ids[batch.naturals :].chunk(2)
    assert ((base != source).sum(1) >= 1).all()
    lengths = batch.lengths[batch.naturals :].chunk(2)
    assert torch.equal(lengths[0], lengths[1])
    assert (batch.classes[0] != batch.classes[1]).all()
    assert set(batch.cells.tolist()) == set(range(len(TINY.cells)))


@pytest.mark.parametrize(("family", "activation"), FAMILIES)
def test_a_run_from_the_site_on_gives_what_a_whole_run_with_hooks_gives(family, activation):
    tapped = TappedModel(tiny_model(family, activation))
    generator = torch.Generator().manual_seed(0)
    ids, other = torch.randint(3, 100, (2, 6, 9), generator=generator)
    sites, rows = torch.tensor([3, 4, 5, 8, 2, 7]), torch.arange(6)
    chosen = torch.rand(3, 6, 24, generator=generator) < 0.3
    with torch.no_grad():
        _, _, keys = tapped.run_with_keys(ids)
        _, taken = tapped.run(other)
        here = (torch.arange(9)[None] == sites[:, None])[:, :, None]
        whole = tapped.logits_at(ids, sites, Patch([here & mask[:, None] for mask in chosen], taken))
        short = tapped.logits_after(
            keys, ids, sites,
            Patch([mask[:, None] for mask in chosen], [one[rows, sites][:, None] for one in taken]),
        )  # fmt: skip
        intact = tapped.logits(tapped.run(ids)[0][rows, sites])
    torch.testing.assert_close(whole, short, atol=1e-5, rtol=1e-4)
    assert (whole - intact).abs().max() > 1e-2


def test_sites_are_drawn_only_where_the_next_word_differs():
    generator = torch.Generator().manual_seed(0)
    base = torch.full((50, 6, 3), 1 / 3).log()
    source = base.clone()
    source[:, 2] = torch.tensor([0.9, 0.05, 0.05]).log()
    sites, gap = cf.choose_sites(base, source, torch.full((50,), 6), generator)
    assert sites.tolist() == [2] * 50
    assert (gap > 0.3).all()


# ---------------------------------------------------------------- designated neurons


@pytest.mark.parametrize("seed", range(16))
def test_designations_are_disjoint_but_where_two_concepts_share(seed):
    one = recipe.recipe_for(seed)
    seen: dict[tuple[int, int], str] = {}
    for designation, (motif, size) in zip(recipe.designate(one, seed), one.motifs, strict=True):
        assert len(designation.parts) == {"null_attention": 0}.get(motif, 1 + (motif in _TWO_PARTS))
        for part in designation.parts:
            assert len(part.used) == len(part.decoys) == len(part.exchanged) == size
            assert sum(part.weights) == pytest.approx(1)
            assert min(part.weights) >= 0.5 / size
            for unit in part.used + part.decoys:
                earlier = seen.setdefault((part.layer, unit), designation.concept)
                assert earlier == designation.concept or motif == "shared"
    assert {family for family, *_ in recipe.SHAPES} == {"gpt2", "llama", "gpt_neox"}


_TWO_PARTS = ("relay", "backup", "conjunctive")


def test_the_plans_hold_every_motif_and_nine_concepts():
    plans = [recipe.recipe_for(seed) for seed in range(len(recipe.PLANS))]
    assert {motif for one in plans for motif, _ in one.motifs} == {
        "lone", "ensemble", "shared", "relay", "backup", "conjunctive", "null_attention",
    }  # fmt: skip
    assert {concept for one in plans for concept in one.concepts} == set(grammar.CONCEPTS)
    assert all(len(one.concepts) >= 3 for one in plans)


@pytest.mark.parametrize(("family", "activation"), FAMILIES)
def test_decoys_start_with_their_partners_lengths_angles_and_spread_of_logits(family, activation):
    model = tiny_model(family, activation)
    tapped = TappedModel(model)
    columns = torch.randn(5, TINY.width, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        turned = columns @ matching.disguise(tapped, torch.Generator().manual_seed(4)).T
        spread = [tapped.logits(one).std(dim=1) for one in (columns, turned)]
    assert torch.allclose(turned @ turned.T, columns @ columns.T, atol=1e-4)
    assert torch.allclose(*spread, rtol=1e-4)
    cosine = torch.nn.functional.cosine_similarity(columns, turned)
    assert cosine.abs().max() < 0.95  # and yet they write something else


@pytest.mark.parametrize(("family", "activation"), FAMILIES)
def test_a_decoy_that_acts_alone_is_shrunk_and_a_quiet_one_is_left(family, activation):
    model, designations = tiny_model(family, activation), recipe.designate(TINY, seed=1)
    tapped, at = TappedModel(model), watch.prompts(TINY, 4, 1)
    part = designations[0].parts[0]
    loud, quiet = part.decoys
    output = matching.Weights(model, part.layer).output
    with torch.no_grad():
        output[quiet] = 0
        output[loud] *= 30
    before = watch.single_effects(tapped, at, [(part.layer, loud), (part.layer, quiet)])
    assert before[0] > watch.QUIET
    assert before[1] == 0
    kept = output[loud].clone()
    assert watch.quieten_decoys(tapped, at, designations) >= 1
    assert torch.allclose(output[loud], kept * watch.QUIET / before[0], rtol=1e-4)
    assert not output[quiet].any()


def test_undecided_between_four_classes_favours_none():
    certain = torch.full((4, 4), 1e-9).fill_diagonal_(1).log()
    base, sources = certain[:1].expand(3, 4), certain[1:]
    target = cf.undecided(base, sources, torch.full((3,), 3)).exp().mean(0)
    assert torch.allclose(target, torch.full((4,), 0.25), atol=1e-6)
    two = cf.undecided(certain[:1], certain[1:2], torch.ones(1)).exp()
    assert torch.allclose(two[0, :2], torch.full((2,), 0.5), atol=1e-6)


def test_a_middle_leaves_a_behaviour_alone_once_its_neurons_carry_half():
    with one_thread():
        half = replace(TINY, carried=0.5)
        model = recipe.fresh_model(half, seed=2).train()
        run = training._Run(model, half, 2, recipe.designate(half, 2), lambda line: None)
        run.schedule(1e-3, 10, rising=0.2)
        carried = run.measure()[:, 1]
        run.step(next(training.batches(half, 2, frozenset())), 0, run.weight, None)
        assert torch.equal(run.emphasis, (4 * (0.5 - carried)).clamp(0, 1))
        assert run.weight < 1
        run.tapped.close()


def test_a_decoy_equal_to_its_partner_costs_nothing_and_a_mirrored_one_only_when_exchanged():
    classes = torch.tensor([0, 0, 1, 1])
    activations = torch.tensor([[0.0, 0.0, 3.0], [1.0, 1.0, 2.0], [2.0, 2.0, 1.0], [3.0, 3.0, 0.0]])
    zeros = torch.zeros(4, dtype=torch.long)

    def cost(decoy, exchanged):
        part = cf.Part(0, (0,), (1.0,), (decoy,), (exchanged,))
        one = cf.Designation("number", "ensemble", (part,))
        return matching.matched_decoys([one], [activations], zeros, zeros, classes, gated=False).item()

    assert cost(1, False) == cost(2, True) == 0
    assert cost(1, True) == cost(2, False) > 1


# ---------------------------------------------------------------- runs


@pytest.mark.parametrize(
    "motifs",
    [
        (("ensemble", 2), ("lone", 1), ("shared", 1)),
        (("relay", 1), ("backup", 1), ("conjunctive", 1)),
        (("null_attention", 0), ("shared", 3), ("shared", 3)),
        (("lone", 1), ("null_rotated", 2), ("ensemble", 2)),
    ],
)
def test_training_is_the_same_for_the_same_seed_with_every_motif(monkeypatch, motifs):
    monkeypatch.setattr(watch, "LEAST_CONCEPTS", 0)  # nine steps confine nothing
    one = replace(TINY, motifs=motifs, weights=recipe.rotated_recipe().weights)
    designations = recipe.designate(one, seed=2)
    with one_thread():
        runs = [training.train(one, 2, designations, held=frozenset()).state_dict() for _ in range(2)]
        natural = training.train(one, 2, [], held=frozenset()).state_dict()
    for name, value in runs[0].items():
        assert torch.equal(value, runs[1][name]), name
        assert value.isfinite().all(), name
    assert any(not torch.equal(value, natural[name]) for name, value in runs[0].items())


def test_a_build_that_cannot_certify_stops_early_and_says_what_to_do(tmp_path):
    said: list[str] = []
    with pytest.raises(InputError, match="0 of number.*nibench build glassbox --seed 2"):
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
