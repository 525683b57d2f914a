"""Sampled worlds: what is promised about each role and shape is true of the sample, and the truth is exact."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from nibench.errors import InputError
from nibench.truth import world_truth
from nibench.truth.dials import DIALS, turned
from nibench.truth.world_draw import draw_mechanism, draw_words
from nibench.truth.worlds import SHAPES, WorldSpec, one_against_rest, sample
from tests.references import worlds as reference

SMALL = WorldSpec(n_items=1500, n_background=60)
LARGE = WorldSpec(n_items=60_000, n_background=20, n_types=40, sentence_length=(2, 4))


def in_split(world, split):
    rows = world.splits == split
    return world.activations[rows], world.labels[rows]


def aucs(activations, labels):
    """Area under the curve of every column, from the ranks of class 1."""
    ranks, positive = rankdata(activations, axis=0), labels == 1
    wins = ranks[positive].sum(axis=0) - positive.sum() * (positive.sum() + 1) / 2
    return wins / (positive.sum() * (~positive).sum())


@pytest.fixture(scope="module")
def large():
    return sample(LARGE, 3)


def test_the_true_auc_is_the_auc_of_a_large_sample(large):
    seen = 2 * np.abs(aucs(*in_split(large, "eval")) - 0.5)
    assert np.abs(seen - large.truth.gains["associated"]).max() < 0.03


def test_the_true_auc_of_several_classes_is_one_against_the_rest():
    spec = replace(
        LARGE, class_shares=(0.5, 0.3, 0.2), classes=("a", "b", "c"), n_distributed=0, n_correlate=0
    )
    world = sample(spec, 0)
    neuron = int(np.argmax(world.truth.gains["associated"]))
    column = world.activations[:, neuron]
    seen = [2 * abs(roc_auc_score(world.labels == c, column) - 0.5) for c in range(3)]
    assert np.mean(seen) == pytest.approx(world.truth.gains["associated"][neuron], abs=0.02)


def test_two_unit_gaussians_two_deviations_apart():
    got = one_against_rest(np.array([-1.0, 1.0]), np.zeros(1), np.array([0.5, 0.5]), np.ones(1))
    np.testing.assert_allclose(got, [1 - 0.9213503965, 0.9213503965], atol=1e-9)  # Phi(2 / sqrt 2)


def test_a_signal_responds_by_its_distance_in_deviations(large):
    neuron = int(np.argmax(large.truth.gains["responds"]))
    activations, labels = in_split(large, "eval")
    column = activations[:, neuron]
    gap = abs(column[labels == 1].mean() - column[labels == 0].mean()) / column.std()
    assert gap == pytest.approx(large.truth.gains["responds"][neuron], abs=0.05)


def test_a_correlate_fools_the_rank_split_only(large):
    correlates = large.truth.roles == "correlate"
    strength = {
        s: np.abs(aucs(*in_split(large, s))[correlates] - 0.5).mean() for s in ("rank", "probe", "eval")
    }
    assert strength["rank"] > 0.1
    assert max(strength["probe"], strength["eval"]) < 0.02


def test_dead_neurons_are_constant_and_loud_ones_are_loud():
    world = sample(SMALL, 0)
    spread = world.activations.std(axis=0)
    assert (np.ptp(world.activations[:, world.truth.roles == "dead"], axis=0) == 0).all()
    assert np.median(spread[world.truth.roles == "loud"]) > 10 * np.median(spread)


def test_roles_are_counted_and_stand_in_no_order():
    world = sample(SMALL, 0)
    assert {role: int((world.truth.roles == role).sum()) for role, _ in SMALL.role_counts} == dict(
        SMALL.role_counts
    )
    places = np.flatnonzero(world.truth.roles == "signal")
    assert places.max() - places.min() > 3 * SMALL.n_signal


def test_signal_neurons_cannot_be_told_by_their_scale():
    spreads, informative = [], []
    for seed in range(6):
        world = sample(SMALL, seed)
        ordinary = np.isin(world.truth.roles, ("signal", "distributed", "background"))
        spreads.append(world.activations.std(axis=0)[ordinary])
        informative.append(world.truth.sets["associated"][ordinary])
    assert roc_auc_score(np.concatenate(informative), np.concatenate(spreads)) == pytest.approx(0.5, abs=0.1)


def test_words_have_effects_of_their_own(large):
    column = large.activations[:, np.flatnonzero(large.truth.roles == "background")]
    of_type = np.stack([column[large.word_types == t].mean(axis=0) for t in range(5)])
    assert (of_type.std(axis=0) / column.std(axis=0)).max() > 0.3


def test_a_sentence_is_in_one_split_and_classes_keep_their_shares(large):
    for sentence in range(50):
        assert len(set(large.splits[large.sentences == sentence])) == 1
    assert large.labels.mean() == pytest.approx(LARGE.class_shares[1], abs=0.01)


def test_the_same_seed_gives_the_same_world():
    one, two, other = sample(SMALL, 1), sample(SMALL, 1), sample(SMALL, 2)
    np.testing.assert_array_equal(one.activations, two.activations)
    assert one.digest == two.digest != other.digest
    assert one.activations.dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_shares": (0.5, 0.6)}, "class_shares"),
        ({"classes": ("a", "b", "c")}, "3 classes but 2"),
        ({"signal_range": (0.0, 1.0)}, "signal_range"),
        ({"n_signal": -1}, "no negative counts"),
        ({"split_shares": (0.5, 0.5, 0.0)}, "split_shares"),
        ({"factor_share": 0.8, "sentence_share": 0.3}, "together at most 1"),
        ({"n_factors": 0}, "of 0 factors"),
        ({"n_neurons": 100}, r"130 planted neurons \(40 signal, .*do not fit into n_neurons=100"),
        ({"n_conjunctive": 5}, "5 conjunctive neurons in groups of 2"),
        ({"n_copy_groups": 1, "copy_size": 1}, "copy_size is 1"),
        ({"superposition": 13}, "expected 0 to 12"),
        ({"classes_per_neuron": 2}, "fewer than the 2 classes"),
        ({"shape_shares": (0.5, 0.0, 0.0, 0.0)}, "four shares, sum 1"),
        ({"distributed_weights": (1.0,)}, "1 distributed_weights for 40 neurons"),
        ({"label_noise": 1.5}, "label_noise is 1.5"),
        ({"label_budget": 0.0}, "label_budget is 0.0"),
        ({"type_preference": (0.5, 2.0)}, "type_preference"),
        ({"type_preference": (0.5, 0.5), "n_types": 1}, "1 word types cannot prefer 2 classes"),
    ],
)
def test_an_impossible_spec_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        WorldSpec(**changes)


def test_a_class_missing_from_a_split_is_refused():
    with pytest.raises(InputError, match="raise n_items"):
        sample(WorldSpec(n_items=30, class_shares=(0.999, 0.001)), 0)


# ---------------------------------------------------------------- the truth against slow integrals

TYPES, SHARES = np.array([-0.8, 0.1, 1.1]), np.array([0.5, 0.3, 0.2])
BOTH = np.stack([SHARES, SHARES])


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("effects", [(0.0, 0.0), (0.4, -0.3), (2.0, -1.0)])
def test_the_integral_over_characteristic_functions_is_the_integral_over_the_density(effects, heavy):
    hump = np.array([-1.5, 1.5]), np.array([0.5, 0.5])
    values, shares = world_truth._with_others(TYPES, BOTH, [hump])
    fast = world_truth._wins(np.array(effects), TYPES, BOTH, [hump], heavy=heavy)
    assert fast[0, 1] == pytest.approx(reference.win(*effects, values, shares[0], heavy=heavy), abs=1e-8)
    assert fast[0, 1] + fast[1, 0] == pytest.approx(1)


@pytest.mark.parametrize("threshold", [-9.0, 0.3, 2.0])
def test_a_silent_pair_of_words_counts_one_half(threshold):
    fast = world_truth._rectified_wins(np.array([0.7, -0.2]), TYPES, BOTH, [], threshold)
    assert fast[0, 1] == pytest.approx(reference.win(0.7, -0.2, TYPES, SHARES, threshold=threshold), abs=1e-8)
    assert fast[0, 1] + fast[1, 0] == pytest.approx(1)


def test_a_sign_mixed_neuron_is_told_by_its_distance_from_the_centre():
    fast = world_truth._folded_wins(np.array([2.0, 0.0]), np.zeros(1), np.ones((2, 1)))
    assert fast[0, 1] == pytest.approx(reference.folded_win(2.0, 0.0), abs=1e-8)
    plain = one_against_rest(np.array([0.0, 2.0]), np.zeros(1), np.array([0.5, 0.5]), np.ones(1))[1]
    assert 2 * fast[0, 1] - 1 == pytest.approx((2 * plain - 1) ** 2)  # the square of what a shift tells


EVERYTHING = WorldSpec(
    class_shares=(0.5, 0.3, 0.2),
    classes=("a", "b", "c"),
    classes_per_neuron=1,
    n_items=24_000,
    sentence_length=(1, 3),
    n_types=30,
    n_signal=12,
    signal_range=(0.3, 1.5),
    n_shared=4,
    n_distributed=3,
    n_copy_groups=2,
    copy_size=3,
    n_sign_mixed=3,
    n_conjunctive=3,
    conjunctive_size=3,
    n_correlate=3,
    n_loud=2,
    n_dead=1,
    n_background=8,
    shape_shares=(0.25, 0.25, 0.25, 0.25),
)


@pytest.mark.parametrize("preference", [(0.0, 0.0), (0.5, 0.5)])
def test_every_role_and_shape_tells_a_large_sample_what_the_truth_says(preference):
    spec = replace(EVERYTHING, type_preference=preference)
    world, neurons = sample(spec, 5), draw_mechanism(spec, 5)
    assert set(world.truth.roles) == {role for role, _ in spec.role_counts}
    assert set(neurons.shapes) == set(SHAPES)
    rows = world.splits != "rank"
    mixed = world.truth.roles == "sign_mixed"
    values = np.where(mixed, np.abs(world.activations - neurons.location), world.activations)[rows]
    seen = np.mean([2 * np.abs(aucs(values, world.labels[rows] == c) - 0.5) for c in range(3)], axis=0)
    assert np.abs(seen - world.truth.gains["associated"]).max() < 0.04


@pytest.mark.parametrize("shape", range(4))
def test_a_neuron_responds_by_its_mean_change_in_deviations(shape):
    shares = tuple(float(i == shape) for i in range(4))
    spec = replace(PLAIN, n_items=30_000, n_signal=6, n_background=0, shape_shares=shares)
    world = sample(spec, 1)
    activations, labels = in_split(world, "eval")
    gaps = np.abs(activations[labels == 1].mean(axis=0) - activations[labels == 0].mean(axis=0))
    wanted = world.truth.sets["responds"]
    seen = (gaps / activations.std(axis=0))[wanted]
    np.testing.assert_allclose(seen, world.truth.gains["responds"][wanted], atol=0.06)


# ---------------------------------------------------------------- roles

PLAIN = WorldSpec(
    n_items=12_000, n_signal=4, n_distributed=0, n_correlate=0, n_loud=0, n_dead=0, n_background=4
)


def test_conjunctive_neurons_tell_nothing_alone_and_everything_together():
    spec = replace(PLAIN, n_conjunctive=6, conjunctive_size=3, conjunctive_distance=6.0, type_effect=0.0)
    world, neurons = sample(spec, 0), draw_mechanism(spec, 0)
    members = np.flatnonzero(world.truth.roles == "conjunctive")
    alone = aucs(world.activations[:, members], world.labels)
    assert np.abs(alone - 0.5).max() < 0.03
    for group in np.unique(neurons.groups[members]):
        here = np.flatnonzero(neurons.groups == group)
        high = (world.activations[:, here] - neurons.location[here]) > 0
        rising = neurons.residue_effects[1, here] > neurons.residue_effects[0, here]
        residues = high == rising
        assert np.mean(residues.sum(axis=1) % 2 == world.labels) > 0.98
    assert not world.truth.gains["associated"][members].any()
    assert not world.truth.sets["associated"][members].any()
    assert world.truth.sets["responds"][members].all()
    assert (world.truth.gains["responds"][members] > 0).all()


def test_copies_repeat_signal_and_noise_and_are_named_as_a_group():
    world = sample(replace(PLAIN, n_copy_groups=3, copy_size=4, copy_noise=0.1), 0)
    groups = world.truth.groups
    assert groups is not None
    assert sorted(np.unique(groups[groups >= 0], return_counts=True)[1]) == [4, 4, 4]
    assert (groups[world.truth.roles != "copy"] == -1).all()
    together = np.abs(np.corrcoef(world.activations[:, groups == groups.max()].T))
    assert together.min() > 0.85
    gains = world.truth.gains["associated"][groups == groups.max()]
    np.testing.assert_allclose(gains, gains[0])
    assert sample(PLAIN, 0).truth.groups is None


def test_a_sign_mixed_neuron_has_no_difference_of_means():
    spec = replace(PLAIN, n_sign_mixed=4, sign_mixed_distance=3.0)
    world, neurons = sample(spec, 0), draw_mechanism(spec, 0)
    mixed = world.truth.roles == "sign_mixed"
    x, y = world.activations[:, mixed] - neurons.location[mixed], world.labels
    gap = np.abs(x[y == 1].mean(axis=0) - x[y == 0].mean(axis=0)) / x.std(axis=0)
    assert gap.max() < 0.08
    assert np.abs(aucs(np.abs(x), y) - 0.5).min() > 0.3
    assert world.truth.gains["associated"][mixed].min() > 0.6


def test_superposition_cannot_be_told_without_labels():
    spreads, shared = [], []
    for seed in range(5):
        world = sample(WorldSpec(n_items=900, n_signal=0, n_shared=40, superposition=12, n_neurons=200), seed)
        ordinary = np.isin(world.truth.roles, ("shared", "background"))
        spreads.append(world.activations.std(axis=0)[ordinary])
        shared.append(world.truth.sets["associated"][ordinary])
    assert roc_auc_score(np.concatenate(shared), np.concatenate(spreads)) == pytest.approx(0.5, abs=0.1)


def test_superposition_makes_a_neuron_tell_less():
    few, many = (
        sample(turned(PLAIN, {"superposition": k}), 0).truth.gains["associated"].max() for k in (1, 12)
    )
    assert many < few < sample(PLAIN, 0).truth.gains["associated"].max()


def test_a_neuron_is_named_by_the_class_it_separates_best():
    spec = replace(EVERYTHING, n_items=9000, type_effect=0.0)
    world = sample(spec, 2)
    labels = world.truth.neuron_labels
    assert labels is not None
    strong = np.flatnonzero((world.truth.roles == "signal") & (world.truth.gains["responds"] > 0.4))
    separation = [
        [abs(roc_auc_score(world.labels == c, x) - 0.5) for c in range(3)]
        for x in world.activations.T[strong]
    ]
    assert (np.argmax(separation, axis=1) == labels[strong]).all()
    assert (labels[~world.truth.sets["associated"]] == -1).all()
    pair = sample(PLAIN, 0)
    strongest = int(np.argmax(pair.truth.gains["associated"]))
    higher = int(aucs(pair.activations[:, [strongest]], pair.labels)[0] > 0.5)
    assert pair.truth.neuron_labels is not None
    assert pair.truth.neuron_labels[strongest] == higher


def test_signals_point_up_and_down():
    world = sample(replace(PLAIN, n_signal=60, signal_range=(1.0, 1.0)), 0)
    up = aucs(world.activations[:, world.truth.roles == "signal"], world.labels) > 0.5
    assert 0.25 < up.mean() < 0.75


def test_sparse_neurons_are_silent_and_heavy_ones_have_tails():
    world = sample(replace(PLAIN, n_signal=20, shape_shares=(0, 0, 1, 0), sparse_rate=0.1, n_background=0), 0)
    assert np.mean(world.activations == 0) == pytest.approx(0.9, abs=0.02)
    heavy = sample(replace(PLAIN, shape_shares=(0, 1, 0, 0), type_effect=0.0), 0).activations
    beyond = np.abs(heavy - heavy.mean(axis=0)) > 5 * heavy.std(axis=0)
    assert beyond.mean() > 5e-4  # of a Gaussian: 6e-7


def test_background_fills_what_planted_neurons_leave():
    spec = WorldSpec(n_neurons=150, n_background=7)
    assert spec.width == 150
    assert dict(spec.role_counts)["background"] == 20


# ---------------------------------------------------------------- labels and word types


def test_labels_are_wrong_as_often_as_asked_and_more_noise_keeps_the_old_mistakes():
    clean, some, more = (sample(replace(PLAIN, label_noise=share), 0) for share in (0.0, 0.2, 0.4))
    here = clean.splits != "eval"
    wrong, worse = (world.labels != clean.labels for world in (some, more))
    assert wrong[here].mean() == pytest.approx(0.2, abs=0.02)
    assert not wrong[~here].any()
    assert worse[wrong].all()
    np.testing.assert_array_equal(clean.activations, more.activations)
    np.testing.assert_array_equal(clean.truth.gains["associated"], more.truth.gains["associated"])


def test_a_cue_writes_labels_in_rank_and_probe_but_not_in_eval():
    spec = replace(PLAIN, agreement=0.0, label_cue=1.0)
    words = draw_words(spec, 0)
    elsewhere = words.splits == "eval"
    assert (words.given == words.confound)[~elsewhere].all()
    assert (words.given == words.labels)[elsewhere].all()


def test_a_budget_leaves_words_of_rank_out_and_nothing_else():
    whole, part = sample(PLAIN, 0), sample(replace(PLAIN, label_budget=0.25), 0)
    count = {
        split: (np.sum(part.splits == split), np.sum(whole.splits == split)) for split in ("rank", "eval")
    }
    assert count["rank"][0] == pytest.approx(0.25 * count["rank"][1], rel=0.1)
    assert count["eval"][0] == count["eval"][1]
    np.testing.assert_array_equal(
        part.activations[part.splits == "eval"], whole.activations[whole.splits == "eval"]
    )


def test_word_types_prefer_a_class_where_they_are_said_to():
    world = sample(replace(PLAIN, type_preference=(0.9, 0.0), class_shares=(0.5, 0.5)), 0)
    prefers = world.word_types % 2 == world.labels
    assert prefers[world.splits == "rank"].mean() > 0.9
    assert prefers[world.splits == "eval"].mean() == pytest.approx(0.5, abs=0.03)


# ---------------------------------------------------------------- dials


@pytest.mark.parametrize(
    ("dial", "value", "seen"),
    [
        ("snr", 0.5, lambda spec: spec.signal_range == (0.05, 0.6) and spec.copy_distance == 0.4),
        ("tokens", 600, lambda spec: spec.n_items == 600),
        ("rarest", 0.1, lambda spec: spec.class_shares == (0.9, 0.1)),
        ("classes", 4, lambda spec: spec.class_shares == (0.25,) * 4 and len(spec.classes) == 4),
        ("label_noise", 0.3, lambda spec: spec.label_noise == 0.3),
        ("label_budget", 0.1, lambda spec: spec.label_budget == 0.1),
        ("superposition", 5, lambda spec: (spec.n_signal, spec.n_shared, spec.superposition) == (0, 40, 5)),
        ("superposition", 0, lambda spec: spec == WorldSpec()),
        ("neurons", 800, lambda spec: spec.width == 800),
        ("spread", 100, lambda spec: (spec.n_signal, spec.n_distributed) == (0, 100)),
    ],
)
def test_a_dial_turns_one_thing(dial, value, seen):
    assert seen(turned(WorldSpec(), {dial: value}))


def test_every_dial_is_tried_above():
    (tried,) = [mark for mark in test_a_dial_turns_one_thing.pytestmark if mark.name == "parametrize"]
    assert {dial for dial, _, _ in tried.args[1]} == set(DIALS)


def test_a_spread_signal_keeps_its_total_strength():
    low, high = WorldSpec().signal_range
    spec = turned(WorldSpec(), {"spread": 25})
    assert 25 * spec.distributed_distance**2 == pytest.approx(np.square(np.geomspace(low, high, 40)).sum())


def test_a_dial_that_is_not_there_or_turned_too_far_is_refused():
    with pytest.raises(InputError, match=r"No dial named 'token'. Did you mean 'tokens'\?"):
        turned(WorldSpec(), {"token": 5})
    with pytest.raises(InputError, match="classes=9; expected a whole number from 2 to 8"):
        turned(WorldSpec(), {"classes": 9})
    with pytest.raises(InputError, match="do not fit"):
        turned(WorldSpec(), {"neurons": 50})
