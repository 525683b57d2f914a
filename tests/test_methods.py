"""What each bundled method finds and does not find, on planted truth, and the laws it keeps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import kurtosis as scipy_kurtosis
from scipy.stats import pearsonr
from sklearn.feature_selection import f_classif

import nibench as nb
from nibench import Needs, Observations
from nibench.ground import Ground, Options
from nibench.interventions import Behaviour
from nibench.moments import Statistics
from nibench.neurons import Neurons
from nibench.submissions import find_method
from nibench.task import PromptCorpus, Sentence, TextCorpus
from nibench.texts import Text
from nibench.truth.planted import planted_model
from nibench.weights import Weights, read_weights
from tests.references import formulas as slow_formulas
from tests.tiny import tiny

RANK_BASED = ("expert_units", "concept_iou", "auc", "mutual_information")
MOMENTS = ("probeless", "mean_difference", "point_biserial", "fisher_score", "mean_select")
UNIVARIATE = (*MOMENTS, *RANK_BASED, "activation_heatmap")
LINEAR = ("lca", "linear_l1", "linear_l2", "linear_unregularised")
SPARSE = ("sparse_heuristic", "sparse_thresholding", "sparse_exact")
SUPERVISED = (*UNIVARIATE, *LINEAR, *SPARSE, "lda", "gaussian_probe", "gaussian_single")
LABEL_FREE = ("variance", "kurtosis", "bimodality", "correlation_clustering", "pca_loading")
ON_ARRAYS = (*SUPERVISED, *LABEL_FREE, "top_contexts", "compositional_explanations", "random_ranking")

each_supervised = pytest.mark.parametrize("method", SUPERVISED)
each_univariate = pytest.mark.parametrize("method", UNIVARIATE)
each_on_arrays = pytest.mark.parametrize("method", ON_ARRAYS)


def planted(n_items=240, n_neurons=12, n_classes=2, seed=0, at=5, effect=2.0):
    """Noise, and one neuron that is the label plus noise."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n_items) % n_classes)
    x = rng.normal(size=(n_items, n_neurons))
    x[:, at] += effect * labels
    return x, labels


@each_supervised
@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_planted_neuron_comes_first(method, n_classes):
    assert nb.rank(method, *planted(n_classes=n_classes)).order[0] == 5


@each_supervised
def test_a_neuron_that_is_less_active_on_the_class_is_found_too(method):
    assert nb.rank(method, *planted(effect=-2.0)).order[0] == 5


@pytest.mark.parametrize("preset", ["suau2020", "neurox"])
def test_one_sided_average_precision_misses_it(preset):
    x, labels = planted(effect=-2.0)
    per_class = nb.rank(f"expert_units@{preset}", x, labels).per_class
    assert per_class[1, 5] == per_class[1].min()


@each_univariate
def test_exact_copies_get_equal_scores(method):
    x, labels = planted()
    x[:, 2] = x[:, 5]
    ranking = nb.rank(method, x, labels)
    assert ranking.scores[2] == ranking.scores[5]
    assert set(ranking.top(2)) == {2, 5}


@pytest.mark.parametrize("method", ["lca", "linear_l2", "linear_unregularised", "lda"])
def test_a_squared_penalty_gives_exact_copies_equal_scores(method):
    x, labels = planted()
    x[:, 2] = x[:, 5]
    scores = nb.rank(method, x, labels).scores
    assert scores[2] == pytest.approx(scores[5], abs=1e-6)


def test_the_gaussian_probe_takes_one_copy_first_and_the_other_last():
    x, labels = planted()
    x[:, 2] = x[:, 5]
    order = nb.rank("gaussian_probe", x, labels).order
    assert {order[0], order[-1]} == {2, 5}


def test_an_xor_pair_is_visible_to_the_gaussian_probe_only():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (800, 2))
    labels = bits[:, 0] ^ bits[:, 1]
    x = rng.normal(size=(800, 10))
    x[:, [3, 7]] += 4 * bits - 2
    information = nb.rank("gaussian_probe", x, labels, steps=10).evidence.information
    picks = nb.rank("gaussian_probe", x, labels, steps=10).evidence.order.tolist()
    second = max(picks.index(3), picks.index(7))
    assert information[second] > information[second - 1] + 0.3
    for method in ("mean_difference", "expert_units", "linear_l2"):
        scores = nb.rank(method, x, labels).scores
        others = np.delete(scores, [3, 7])
        assert scores[[3, 7]].max() <= 1.5 * others.max()


@each_supervised
def test_a_loud_irrelevant_neuron_does_not_lead(method):
    x, labels = planted()
    x[:, 9] *= 100
    assert nb.rank(method, x, labels).order[0] == 5


@pytest.mark.parametrize("method", ["variance", "probeless@antverg2022", "mean_difference@raw"])
def test_a_loud_irrelevant_neuron_leads_on_raw_activations(method):
    x, labels = planted()
    x[:, 9] *= 1000
    assert nb.rank(method, x, labels).order[0] == 9


@each_supervised
def test_shuffled_labels_rank_uniformly(method):
    x, labels = planted(n_items=80, n_neurons=20)
    rng = np.random.default_rng(0)
    places = [
        int(np.flatnonzero(nb.rank(method, x, rng.permutation(labels), seed=i).order == 5)[0])
        for i in range(12)
    ]
    assert 2 < np.mean(places) < 17  # 9.5 expected, standard deviation 1.7


@pytest.mark.parametrize("method", [*SUPERVISED, "variance"])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), n_classes=st.integers(2, 4))
def test_scores_move_with_the_neurons(method, seed, n_classes):
    x, labels = planted(n_items=90, n_neurons=8, n_classes=n_classes, seed=seed, effect=0.5)
    order = np.random.default_rng(seed).permutation(8)
    np.testing.assert_allclose(
        nb.rank(method, x[:, order], labels).scores, nb.rank(method, x, labels).scores[order], atol=1e-6
    )


@each_supervised
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_scale_of_a_neuron_does_not_matter(method, seed):
    x, labels = planted(n_items=90, n_neurons=8, seed=seed, effect=0.5)
    scale = 2.0 ** np.random.default_rng(seed).integers(-10, 11, 8)  # exact in float32
    np.testing.assert_allclose(
        nb.rank(method, x * scale, labels).scores, nb.rank(method, x, labels).scores, atol=1e-6
    )


@each_on_arrays
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_zero_point_of_a_neuron_does_not_matter(method, seed):
    x, labels = planted(n_items=90, n_neurons=8, seed=seed, effect=0.5)
    x = np.round(x * 64) / 64  # so that the shift is exact in float32
    shift = np.random.default_rng(seed).integers(-8, 9, 8)
    np.testing.assert_allclose(
        nb.rank(method, x + shift, labels).scores, nb.rank(method, x, labels).scores, atol=1e-6
    )


@each_supervised
def test_swapping_the_names_of_the_classes_swaps_their_scores_only(method):
    x, labels = planted(effect=0.7)
    plain, swapped = nb.rank(method, x, labels), nb.rank(method, x, 1 - labels)
    np.testing.assert_allclose(swapped.scores, plain.scores, atol=1e-6)
    if plain.per_class is not None:
        np.testing.assert_allclose(swapped.per_class, plain.per_class[::-1], atol=1e-6)


@each_on_arrays
def test_labels_that_are_not_needed_are_not_read(method):
    x, labels = planted(seed=1)  # seed 0 would shuffle the labels as `folds` shuffles the items
    same = np.array_equal(nb.rank(method, x, labels).scores, nb.rank(method, x, labels[::-1].copy()).scores)
    assert same == (method in (*LABEL_FREE, "random_ranking"))


@each_on_arrays
def test_the_seed_fixes_the_ranking(method):
    x, labels = planted(effect=0.3)
    first, second = (nb.rank(method, x, labels, seed=3).scores for _ in range(2))
    assert np.array_equal(first, second)


def test_random_ranking_is_a_permutation_drawn_by_the_seed():
    x, labels = planted()
    one, other = (nb.rank("random_ranking", x, labels, seed=seed).scores for seed in (0, 1))
    assert sorted(one) == sorted(other) == list(range(1, 13))
    assert not np.array_equal(one, other)


@each_on_arrays
def test_the_input_is_not_changed(method):
    x, labels = planted()
    x = x.astype(np.float32)
    x.flags.writeable = labels.flags.writeable = False
    before = x.copy()
    nb.rank(method, x, labels)
    assert np.array_equal(x, before)


def awkward():
    """Constant neurons, a class with one item, a neuron that is the label, copies, half precision, N < D."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [14, 15, 1])
    x = rng.normal(size=(30, 50))
    x[:, 3] = labels
    x[:, [10, 11]] = 0.1  # constant, and not a number of binary fractions
    x[:, 20] = x[:, 21]
    return x.astype(np.float16), labels


@each_on_arrays
def test_awkward_input_gives_a_score_to_every_neuron(method):
    ranking = nb.rank(method, *awkward())
    assert ranking.scores.shape == (50,)
    assert not np.isnan(ranking.scores).any()
    assert sorted(ranking.order) == list(range(50))


@each_on_arrays
def test_four_items_and_nothing_but_constant_neurons_are_no_error(method):
    assert nb.rank(method, np.random.default_rng(0).normal(size=(4, 9)), [0, 1, 0, 1]).n_neurons == 9
    silent = nb.rank(method, np.full((40, 9), 0.3), np.arange(40) % 2).scores
    assert len(set(silent)) == 1 or method == "random_ranking"


@pytest.mark.parametrize(
    "method",
    [
        *("variance", "pca_loading", "auc", "mutual_information", "activation_heatmap"),
        *("concept_iou@muandreas2020", "mutual_information@ross2014", "mean_difference@gurnee2023"),
        *("mean_select@robust", "mean_select@fan2023", "activation_heatmap@karpathy2015"),
        *("top_contexts", "compositional_explanations", *MOMENTS, *LINEAR, *SPARSE, "lda"),
    ],
)
def test_constant_neurons_score_zero_and_nothing_scores_less(method):
    scores = nb.rank(method, *awkward()).scores
    assert scores[[10, 11]].tolist() == [0.0, 0.0]
    assert scores.min() == 0.0


def test_constant_neurons_elsewhere():
    x, labels = awkward()
    shares = np.bincount(labels) / 30
    experts = nb.rank("expert_units", x, labels)
    np.testing.assert_allclose(experts.per_class[:, 10], shares)
    assert experts.scores[10] == experts.scores.min() == pytest.approx(1 / 3)
    assert nb.rank("concept_iou", x, labels).scores[10] == 0.0  # chance
    assert nb.rank("gaussian_probe", x, labels).scores[[10, 11]].tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize("method", [*LINEAR, *SPARSE, "lda", "gaussian_probe", "gaussian_single"])
def test_a_neuron_that_is_the_label_comes_first_though_the_classes_are_separable(method):
    x, labels = planted(n_items=60)
    x[:, 4] = labels
    assert nb.rank(method, x, labels).order[0] == 4


def test_probeless_by_hand():
    x = np.array([[0.0], [2.0], [4.0], [6.0], [9.0], [9.0]])
    labels = np.array([0, 0, 1, 1, 2, 2])  # class means 1, 5, 9
    ranking = nb.rank("probeless@antverg2022", x, labels)
    assert ranking.per_class[:, 0].tolist() == [12.0, 8.0, 12.0]
    assert ranking.scores.tolist() == [16.0]
    assert nb.rank("probeless", x, labels).scores[0] == pytest.approx(16 / x.std())


def test_mean_difference_keeps_the_sign_in_the_evidence():
    x, labels = np.array([[0.0], [1.0], [3.0], [4.0]]), np.array([1, 1, 0, 0])
    ranking = nb.rank("mean_difference@raw", x, labels)
    assert ranking.scores.tolist() == [3.0]
    assert ranking.evidence.values[:, 0].tolist() == [3.0, -3.0]


def test_expert_units_keep_the_side_in_the_evidence():
    x, labels = np.array([[0.0], [1.0], [3.0], [4.0]]), np.array([1, 1, 0, 0])
    ranking = nb.rank("expert_units", x, labels)
    assert ranking.scores.tolist() == [1.0]
    assert ranking.evidence.values[:, 0].tolist() == [1.0, -1.0]
    assert nb.rank("concept_iou", x, labels).evidence.values[:, 0].tolist() == pytest.approx([2 / 3, -2 / 3])


def test_neurox_counts_quiet_activations_as_zero():
    x, labels = np.array([[0.04], [-0.04], [-1.0], [1.0]]), np.array([1, 0, 0, 1])
    assert nb.rank("expert_units@suau2020", x, labels).per_class[1, 0] == 1.0
    assert nb.rank("expert_units@neurox", x, labels).per_class[1, 0] == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("method", LINEAR)
def test_linear_methods_say_how_strong_the_penalty_was_and_how_exact_the_solution(method):
    probe = nb.rank(method, *planted()).evidence
    assert isinstance(probe, nb.LinearProbe)
    assert probe.converged
    assert 0 < probe.l1 + probe.l2 <= 1
    assert probe.lambda_max > 0


PRESETS = [f"{name}@{preset}" for name in (*LINEAR, *SPARSE, "lda", "gaussian_probe")
           for preset in find_method(name).kind().presets]  # fmt: skip


@pytest.mark.parametrize("method", PRESETS)
def test_every_setting_of_a_probe_finds_the_planted_neuron(method):
    trained = find_method(method).load()
    steps = "training" in vars(trained) and trained.training == "adam2019"
    x, labels = planted(n_items=8000 if steps else 600)  # the optimiser's own start drowns it on few items
    scores = nb.rank(method, x, labels).scores
    assert scores[5] == scores.max()  # in steps of the mass it shares its place with the other class's first
    assert np.isfinite(nb.rank(method, *awkward()).scores[[0, 3, 49]]).all()


@pytest.mark.parametrize("method", [*LINEAR, "lda", "sparse_thresholding"])
def test_on_raw_activations_the_penalty_favours_loud_neurons(method):
    x, labels = planted(n_items=400, effect=0.8)
    x[:, 2] += 0.8 * labels
    quiet = x.copy()
    quiet[:, 5] /= 100
    plain, raw = (nb.rank(f"{method}@{scale}", quiet, labels).scores for scale in ("z", "raw"))
    np.testing.assert_allclose(plain, nb.rank(method, x, labels).scores, rtol=1e-4, atol=1e-4)
    assert not np.allclose(raw, plain, rtol=0.01)


def test_the_original_machine_is_solved_to_its_optimum():
    from scipy.optimize import minimize

    x, labels = planted(n_items=60, n_neurons=6, effect=1.0)
    found = nb.rank("linear_l2@lakretz2019", x, labels)
    z = (x.astype(np.float32) - x.astype(np.float32).mean(axis=0, dtype=float)) / x.astype(np.float32).std(
        axis=0, dtype=float
    )
    side = 2.0 * labels - 1

    def objective(w):
        slack = np.maximum(1 - side * (z @ w[:6] + w[6]), 0)
        return w @ w / 2 + slack @ slack

    best = minimize(objective, np.zeros(7), tol=1e-12).x[:6]
    np.testing.assert_allclose(found.evidence.values[1], best, atol=1e-3)
    assert float(found.evidence.meaning.split("at most ")[1].split()[0]) < 1e-6


def test_lda_without_shrinkage_to_speak_of_is_the_textbook_direction():
    x, labels = planted(n_items=20_000, n_neurons=4, at=3, effect=1.0)
    x[:, 1] += x[:, 2]
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    means = np.stack([z[labels == label].mean(axis=0) for label in (0, 1)])
    within = np.cov((z - means[labels]).T, bias=True)
    textbook = np.linalg.solve(within, means.T).T
    found = nb.rank("lda", x, labels)
    np.testing.assert_allclose(found.evidence.values, textbook, atol=2e-3)
    np.testing.assert_allclose(found.scores, np.linalg.norm(textbook, axis=0), atol=2e-3)


def test_a_pair_that_only_tells_together_is_found_by_the_exact_sets_only():
    rng = np.random.default_rng(0)
    labels = np.arange(2000) % 2
    x = rng.normal(size=(2000, 12))
    x[:, 3] += 1.2 * labels  # best alone
    noise = 3 * rng.normal(size=2000)
    x[:, 7] = noise + 1.5 * labels
    x[:, 8] = noise + 0.1 * x[:, 8]  # tells the noise, not the class
    first = nb.rank("sparse_heuristic", x, labels).order
    assert first[0] == 3
    assert list(first).index(8) > 2
    found = nb.rank("sparse_exact", x, labels)
    assert set(found.top(3)) == {3, 7, 8}
    alone, pair, *_ = found.evidence.values[1]
    assert pair > 1.3 * alone


def test_thresholding_orders_by_the_round_a_neuron_leaves_in():
    x, labels = planted(n_items=300, n_neurons=40)
    scores = np.sort(nb.rank("sparse_thresholding", x, labels).scores)[::-1]
    assert 15 <= scores[0] < 16
    assert [int(score) for score in scores[:12]] == [15, 14, 13, 12, 11, 10, 9, 8, 7, 7, 6, 6]


def test_the_single_gaussian_is_the_first_step_of_the_greedy_one():
    x, labels = planted()
    single, probe = nb.rank("gaussian_single", x, labels), nb.rank("gaussian_probe", x, labels)
    np.testing.assert_array_equal(single.scores, probe.evidence.single)
    assert single.order[0] == probe.order[0]


def test_neurons_without_weight_share_the_last_place():
    x, labels = planted(n_neurons=100)
    ranking = nb.rank("linear_l1", x, labels)
    unused = ranking.evidence.weights[0] == 0
    assert unused.sum() > 10
    assert not ranking.scores[unused].any()
    assert (ranking.scores[~unused] > 0).all()


def test_the_gaussian_probe_lists_the_rest_by_single_neuron_score_and_says_so():
    x, labels = planted(n_neurons=20)
    ranking = nb.rank("gaussian_probe", x, labels, steps=3)
    assert ranking.flags == ("tail by single-neuron score",)
    assert ranking.top(3).tolist() == ranking.evidence.order.tolist()
    tail = ranking.order[3:]
    assert (np.diff(ranking.evidence.single[tail]) <= 0).all()


def test_sentences_stay_together_in_the_folds_of_the_gaussian_probe():
    rng = np.random.default_rng(0)
    sentences = np.repeat(np.arange(40), 5)
    labels = rng.integers(0, 2, 40)[sentences]  # a sentence has one class
    x = rng.normal(size=(200, 6))
    x[:, 2] = rng.normal(size=40)[sentences]  # knows the sentence, so across sentences nothing
    told = nb.rank("gaussian_probe", x, labels, sentences=sentences).evidence
    assert told.single[2] < 0.15
    assert told.n_held_out == 200


@pytest.mark.parametrize("method", [*ON_ARRAYS, "mutual_information@ross2014", "expert_units@neurox"])
def test_half_precision_gives_the_scores_of_the_same_numbers(method):
    x, labels = planted(n_items=90, n_neurons=8)
    half = x.astype(np.float16)
    np.testing.assert_array_equal(
        nb.rank(method, half, labels).scores, nb.rank(method, half.astype(np.float32), labels).scores
    )


def test_point_biserial_is_pearsons_correlation():
    x, labels = planted(n_classes=3, effect=0.5)
    found = nb.rank("point_biserial", x, labels)
    for label in range(3):
        for j in range(x.shape[1]):
            expected = pearsonr(x[:, j].astype(np.float32), labels == label).statistic
            assert found.evidence.values[label, j] == pytest.approx(expected, abs=1e-6)
    assert found.scores == pytest.approx(np.abs(found.evidence.values).mean(axis=0))


@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_fisher_score_is_the_f_statistic_without_its_degrees_of_freedom(n_classes):
    x, labels = planted(n_classes=n_classes, effect=0.5)
    expected = f_classif(x.astype(np.float32), labels)[0] * (n_classes - 1) / (len(x) - n_classes)
    assert nb.rank("fisher_score", x, labels).scores == pytest.approx(expected, rel=1e-5)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_for_two_classes_point_biserial_fisher_and_mean_difference_give_one_order(seed):
    x, labels = planted(n_items=60, n_neurons=10, seed=seed, effect=0.5)
    orders = [
        nb.rank(m, x, labels).order.tolist() for m in ("point_biserial", "fisher_score", "mean_difference")
    ]
    assert orders[0] == orders[1] == orders[2]


def test_separable_classes_have_a_finite_fisher_score():
    scores = nb.rank("fisher_score", np.array([[0.0], [0], [1], [1]]), [0, 0, 1, 1]).scores
    assert scores[0] == pytest.approx(1 / np.finfo(float).eps)


def test_auc_keeps_the_side_in_the_evidence():
    x, labels = np.array([[0.0], [1.0], [3.0], [4.0]]), np.array([1, 1, 0, 0])
    ranking = nb.rank("auc", x, labels)
    assert ranking.scores.tolist() == [0.5]
    assert ranking.evidence.values[:, 0].tolist() == [0.5, -0.5]


@pytest.mark.parametrize("preset", ["", "@ross2014"])
def test_mutual_information_sees_a_class_in_the_middle_that_means_do_not(preset):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 6))
    labels = (np.abs(x[:, 2]) < 0.7).astype(int)
    ranking = nb.rank(f"mutual_information{preset}", x, labels)
    share = labels.mean()
    entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    assert ranking.order[0] == 2
    assert 0.7 * entropy < ranking.scores[2] <= entropy + 0.05
    assert nb.rank("auc", x, labels).scores[2] < 0.05


def test_mean_select_by_hand():
    x, labels = np.array([[0.0], [2.0], [4.0], [8.0]]), np.array([0, 0, 1, 1])
    assert nb.rank("mean_select", x, labels).scores.tolist() == [5 / 8]
    assert nb.rank("mean_select", x, labels).evidence.values[:, 0].tolist() == [-5 / 8, 5 / 8]
    outlier = np.vstack([np.random.default_rng(0).normal(size=(2000, 1)), [[1e6]]])
    sides = np.append(np.arange(2000) % 2, 0)
    outlier[:, 0] += sides
    assert nb.rank("mean_select", outlier, sides).scores[0] < 0.01
    assert nb.rank("mean_select@robust", outlier, sides).scores[0] > 0.1


def test_the_faithful_mean_select_takes_the_rest_from_held_out_sentences():
    x, labels = planted(n_items=50)
    data = Observations(
        Neurons.anonymous(12),
        2,
        Needs.ACTIVATIONS | Needs.LABELS,
        "",
        Statistics(x.astype(np.float32), labels, 2),
    )
    train, dev = next(data.folds(5))
    found = nb.rank("mean_select@fan2023", x, labels).evidence.values[1]
    width = x.max(axis=0) - x.min(axis=0)
    gap = x[train][labels[train] == 1].mean(axis=0) - x[dev][labels[dev] == 0].mean(axis=0)
    assert found == pytest.approx(gap / width, abs=1e-5)


@pytest.mark.parametrize("n_items", [300, 8])  # more items than neurons, and fewer
def test_pca_loading_by_hand(n_items):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=n_items)
    x = np.zeros((n_items, 12))
    x[:, :4] = 5 * shared[:, None]
    x[:, 4:11] = 0.1 * rng.normal(size=(n_items, 7))
    ranking = nb.rank("pca_loading", x, np.arange(n_items) % 2)  # the shared direction holds 90 % and more
    assert ranking.scores[:4] == pytest.approx(x[:, :4].var(axis=0), rel=1e-3)
    assert ranking.scores[4:].max() < 5e-3
    whole = nb.rank("pca_loading", x, np.arange(n_items) % 2, share=1.0).scores
    assert whole == pytest.approx(x.var(axis=0), rel=1e-5, abs=1e-9)


def test_heat_maps_show_stretches_of_one_sentence_and_name_the_bright_class():
    x, labels = planted(n_items=200, n_neurons=4, n_classes=3, at=1, effect=0.0)
    x[:, 1] += 4 * (labels == 2)
    x[:, 3] -= 4 * (labels == 0)
    sentences = np.arange(200) // 7
    maps = nb.rank("activation_heatmap", x, labels, sentences=sentences).evidence
    assert maps.named.tolist() == [-1, 2, -1, 0]
    assert maps.items.shape == maps.values.shape == (4, 6, 11)
    for neuron in range(4):
        middles = maps.items[neuron, :, 5]
        assert set(middles[: maps.most]) == set(np.argsort(-x[:, neuron])[: maps.most])
        for stretch, middle in zip(maps.items[neuron], middles, strict=True):
            inside = stretch[stretch >= 0]
            assert (np.diff(inside) == 1).all()
            assert set(sentences[inside]) == {sentences[middle]}
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    shown = maps.values[1][maps.items[1] >= 0]
    assert shown == pytest.approx(np.clip(z[maps.items[1][maps.items[1] >= 0], 1], -3, 3), abs=1e-4)


def test_formulas_say_what_a_neuron_is_on_for():
    rng = np.random.default_rng(0)
    labels, words, sentences = rng.integers(0, 4, 1200), rng.integers(0, 30, 1200), np.arange(1200) // 10
    x = rng.normal(size=(1200, 8))
    x[:, 2] += 6 * (labels == 1)
    x[:, 3] += 6 * ((labels == 1) & (words != 0) | (words == 3))
    x[:, 5] += 6 * ((labels == 1) & (sentences != np.append(-1, sentences[:-1])))
    found = nb.rank(
        "compositional_explanations", x, labels, words=30, share=0.25, sentences=sentences, word_types=words
    )
    evidence = found.evidence
    assert evidence.formulas[2] == evidence.atoms[2] == "class 1"
    assert evidence.formulas[3] in (
        "(class 1 AND NOT word 0) OR word 3",
        "(class 1 OR word 3) AND NOT word 0",
    )
    assert evidence.atoms[3] == "class 1"
    assert evidence.fit[3] > evidence.atom_fit[3]
    assert evidence.named[[2, 3]].tolist() == [1, 1]
    narrow = nb.rank(
        "compositional_explanations", x, labels, share=0.025, sentences=sentences, word_types=words
    )
    assert narrow.evidence.formulas[5].startswith("class 1 AND first")
    assert abs(narrow.evidence.held_out[5] - narrow.evidence.fit[5]) < 0.3


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_wide_beam_finds_the_best_formula_there_is(length):
    rng = np.random.default_rng(length)
    labels, words = rng.integers(0, 3, 40), rng.integers(0, 3, 40)
    x = rng.normal(size=(40, 5))
    ranking = nb.rank(
        "compositional_explanations",
        x,
        labels,
        word_types=words,
        length=length,
        beam=100_000,
        words=3,
        share=0.3,
    )
    data = Observations(
        Neurons.anonymous(5),
        3,
        Needs.ACTIVATIONS | Needs.LABELS,
        "",
        Statistics(x.astype(np.float32), labels, 3),
    )
    fit, _ = next(data.folds(2))
    concepts = [labels == c for c in range(3)] + [words == w for w in range(3)]
    for neuron in range(5):
        on = x[:, neuron] > np.sort(x[:, neuron])[-13]
        best = slow_formulas.best_iou(on[fit], [concept[fit] for concept in concepts], length)
        assert ranking.evidence.fit[neuron] == pytest.approx(best, abs=1e-6)


def test_the_published_threshold_leaves_rarely_active_neurons_without_a_formula():
    x, labels = planted(n_items=600)
    x[:, 3] -= 10
    ranking = nb.rank("compositional_explanations@muandreas2020", x, labels, fewest=100, length=2)
    assert ranking.evidence.formulas[3] == ""
    assert ranking.scores[3] == 0
    assert (ranking.evidence.formulas[:3] != "").all()
    assert nb.rank("concept_iou@muandreas2020", x, labels, fewest=100).scores[3] == 0


def test_the_published_iou_is_that_of_positive_activations():
    x, labels = planted(n_items=1200, n_classes=3)
    found = nb.rank("concept_iou@muandreas2020", x, labels).per_class
    for label in range(3):
        on, here = x[:, 5] > 0, labels == label
        assert found[label, 5] == pytest.approx((on & here).sum() / (on | here).sum())


def test_top_words_count_all_their_occurrences():
    words = np.repeat(np.arange(20), 10)
    labels = (words < 10).astype(int)
    x = np.tile(np.array([1.0, -1.0]), 100)[:, None] * np.where(words == 2, 1.0, 1e-3)[:, None]
    found = nb.rank("top_contexts@dalvi2023", x, labels, word_types=words)
    assert found.evidence.shares[0].tolist() == [0.0, 1.0]  # word 2 alone, whichever way it moves the neuron
    assert found.scores.tolist() == [1.0]


def test_the_floored_scale_is_ten_deviations_but_not_of_quiet_neurons():
    x, labels = planted()
    x[:, 3] = 1e-6 * labels
    values = nb.rank("mean_difference@gurnee2023", x, labels).evidence.values[1]
    gap = x[labels == 1].mean(axis=0) - x[labels == 0].mean(axis=0)
    assert values[5] == pytest.approx(gap[5] / (10 * x[:, 5].std()), rel=1e-4)
    assert values[3] == pytest.approx(1e-6 / 1e-2, rel=1e-4)


@pytest.mark.parametrize("method", ["probeless", "mean_difference", "pca_loading", "activation_heatmap"])
def test_both_scales_have_a_preset(method):
    x, labels = planted(effect=0.5)
    loud = x * np.append(100.0, np.ones(11))
    raw, unit = (nb.rank(f"{method}@{preset}", loud, labels).scores for preset in ("raw", "z"))
    np.testing.assert_allclose(unit, nb.rank(f"{method}@z", x, labels).scores, atol=1e-5)
    assert not np.allclose(raw, nb.rank(f"{method}@raw", x, labels).scores, atol=1e-5)


# ---------------------------------------------------------------- methods that look at no label


def test_moments_of_known_shapes():
    two_points = np.repeat([-1.0, 1.0], 500)
    uniform = np.linspace(-1, 1, 1000)
    gaussian = ndtri((np.arange(1000) + 0.5) / 1000)
    spike = np.where(np.arange(1000) < 10, 1.0, 0.0)
    x = np.stack([two_points, uniform, gaussian, spike, np.ones(1000)], axis=1)
    labels = np.arange(1000) % 2
    kurtosis, bimodality = (nb.rank(name, x, labels).scores for name in ("kurtosis", "bimodality"))
    assert kurtosis[:2] == pytest.approx([-2, -1.2], abs=1e-4)
    assert kurtosis[2] == pytest.approx(0, abs=0.1)
    assert kurtosis[3] == pytest.approx(
        (1 - 6 * 0.01 * 0.99) / (0.01 * 0.99)
    )  # of a coin that falls 1 in 100
    assert bimodality[:2] == pytest.approx([1, 5 / 9], abs=1e-4)
    assert bimodality[2] == pytest.approx(1 / 3, abs=0.02)
    assert bimodality[3] == pytest.approx(1)  # two points, however unequal
    assert (kurtosis[4], bimodality[4]) == (-3, 0)
    assert kurtosis[:4] == pytest.approx(scipy_kurtosis(x[:, :4]), abs=1e-4)


def test_clusters_of_correlated_neurons_have_one_representative_each():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 500))
    noise = rng.normal(size=(500, 7))
    x = noise.copy()
    x[:, :3] = a[:, None] + 0.3 * noise[:, :3]
    x[:, 0] = a  # the middle of its cluster
    x[:, 1] *= -5  # sign and scale do not count
    x[:, 3:5] = b[:, None] + 0.1 * noise[:, 3:5]
    x[:, 6] = 2.0  # constant
    ranking = nb.rank("correlation_clustering", x, np.arange(500) % 2)
    clusters, representatives = ranking.evidence.clusters, ranking.evidence.representatives
    assert [len(set(clusters[group])) for group in ([0, 1, 2], [3, 4])] == [1, 1]
    assert len(set(clusters)) == 4
    assert ranking.order[0] == 0
    assert ranking.scores[0] == 3
    assert set(clusters[representatives]) == set(clusters)
    assert sorted(ranking.scores[representatives][ranking.scores[representatives] > 0]) == [1, 2, 3]
    assert ranking.order[-1] == 6
    rho = np.abs(np.corrcoef(x[:, [0, 1, 2]].T.astype(np.float32)))
    assert ranking.scores[1] == pytest.approx(rho[1].mean() - 1, abs=1e-5)


def test_a_lower_cut_makes_more_clusters():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 20)) + rng.normal(size=(300, 1))
    counts = [
        len(np.unique(nb.rank("correlation_clustering", x, np.arange(300) % 2, distance=d).evidence.clusters))
        for d in (0.05, 0.5, 0.999)
    ]
    assert counts[0] == 20
    assert counts[0] > counts[1] >= counts[2] == 1


def test_one_neuron_is_one_cluster():
    x = np.arange(6.0)[:, None]
    assert nb.rank("correlation_clustering", x, np.arange(6) % 2).scores.tolist() == [1.0]


def test_top_contexts_name_the_class_of_the_strongest_items_or_none():
    x, labels = planted(n_items=400, n_neurons=6, n_classes=4, at=2, effect=0.0)
    x[:, 2] += 4 * (labels == 3)
    x[:, 4] -= 4 * (labels == 1)  # silent on a class: its strongest items are of all others
    ranking = nb.rank("top_contexts", x, labels)
    assert ranking.order[0] == 2
    assert ranking.evidence.named.tolist() == [-1, -1, 3, -1, -1, -1]
    assert (labels[ranking.evidence.items[2]] == 3).all()
    assert ranking.evidence.shares[2].tolist() == [0, 0, 0, 1]
    assert ranking.scores[2] == 1.0
    assert ranking.evidence.shares.sum(axis=1) == pytest.approx(1)


def test_tied_contexts_count_by_expectation_and_name_nothing():
    labels = np.arange(100) % 2
    x = np.zeros((100, 2))
    x[:5, 1] = 1.0  # five strong items, three of them of class 0; the rest is one tie
    ranking = nb.rank("top_contexts", x, labels, items=10)
    assert ranking.scores[0] == 0
    assert ranking.evidence.shares[1, 0] == pytest.approx((3 + 5 * 47 / 95) / 10)
    assert ranking.evidence.named.tolist() == [-1, -1]


def test_noise_is_named_as_rarely_as_the_level_says():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(500, 3000)), rng.integers(0, 3, 500)
    named = nb.rank("top_contexts", x, labels).evidence.named
    assert (named >= 0).mean() <= 0.01 + 3 * np.sqrt(0.01 / 3000)


# ---------------------------------------------------------------- methods that need a model


def test_weight_norms_by_hand():
    rows, gate = np.array([[3.0, 4.0], [0.0, 2.0]]), np.array([[0.0, 1.0], [6.0, 8.0]])
    columns = np.array([[1.0, 0.0], [0.0, 2.0]])
    for inputs, expected in (((rows,), [5, 4]), ((gate, rows), [3, 12])):
        data = Observations(
            Neurons.anonymous(2), 2, Needs.WEIGHTS, "weight_norm", _weights=Weights(inputs, columns)
        )
        scores = find_method("weight_norm").load().rank(data, np.random.default_rng(0)).scores
        assert scores.tolist() == expected


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_weights_handed_over_are_those_that_the_neurons_read_and_write_by(kind):
    model = tiny(kind)
    weights = read_weights(model, model.neurons("mlp_post"))
    block = model.architecture.blocks[1]
    width = model.neurons("mlp_post").blocks[1].width
    if kind == "gpt2":
        (rows,) = weights.inputs
        expected = (block.mlp.c_fc.weight[:, 3], block.mlp.c_proj.weight[3])
    else:
        gate, rows = weights.inputs
        assert gate[width + 3] == pytest.approx(block.mlp.gate_proj.weight[3].numpy())
        expected = (block.mlp.up_proj.weight[3], block.mlp.down_proj.weight[:, 3])
    assert rows[width + 3] == pytest.approx(expected[0].numpy())
    assert weights.outputs[width + 3] == pytest.approx(expected[1].numpy())
    with pytest.raises(nb.InputError, match="L0.residual has no weights of its own"):
        read_weights(model, Neurons(model.neurons("residual").blocks[1:]))


def test_arrays_have_no_weights():
    with pytest.raises(nb.InputError, match="weight_norm needs WEIGHTS: arrays are not enough"):
        nb.rank("weight_norm", *planted())


@pytest.fixture(scope="module")
def planted_in_model():
    """A two-layer model whose behaviour hangs on one neuron: its behaviour, and the neuron's id."""
    made = planted_model()
    return Behaviour.from_prompts(
        made.model, made.prompts, site="mlp_post", reference=made.prompts, intervene_at="last"
    ), made.planted


def rank_in_model(method, behaviour, n_neurons=48):
    file = find_method(method)
    data = Observations(Neurons.anonymous(n_neurons), 2, Needs.MODEL, method, _behaviour=behaviour)
    return file.load().rank(data, np.random.default_rng(0))


ON_MODELS = (
    *("neuron_ablation", "neuron_ablation@lakretz2019", "greedy_ablation", "greedy_ablation@antverg2022"),
    *("gradient", "gradient_activation", "integrated_gradients", "integrated_gradients@kokhlikyan2020"),
    *("conductance", "conductance@kokhlikyan2020", "deeplift", "activation_patching", "attribution_patching"),
    *("attribution_patching@syed2023", "attribution_patching@hanna2024"),
)


@pytest.mark.parametrize("method", ON_MODELS)
def test_the_neuron_that_the_behaviour_hangs_on_comes_first(method, planted_in_model):
    behaviour, planted_id = planted_in_model
    ranking = rank_in_model(method, behaviour)
    assert ranking.order[0] == planted_id
    assert ranking.scores.min() >= 0.0


def test_neuron_ablation_is_the_mean_drop_of_the_margin(planted_in_model):
    behaviour, planted_id = planted_in_model
    ranking = rank_in_model("neuron_ablation", behaviour)
    for neuron in (planted_id, 0, 30):
        drop = behaviour.margin().mean() - behaviour.ablate([neuron], to="mean").mean()
        assert ranking.evidence.values[neuron] == pytest.approx(drop, abs=1e-4)
        assert ranking.scores[neuron] == abs(ranking.evidence.values[neuron])


@pytest.mark.parametrize("method", ["gradient_activation", "integrated_gradients"])
def test_attribution_averages_absolute_contributions(method, planted_in_model):
    behaviour, _ = planted_in_model
    ranking = rank_in_model(method, behaviour)
    contributions = behaviour.contributions(method)
    np.testing.assert_allclose(ranking.scores, np.abs(contributions).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(ranking.evidence.values, contributions.mean(axis=0), atol=1e-6)
    assert (ranking.scores >= np.abs(ranking.evidence.values) - 1e-6).all()


def test_more_nodes_change_integrated_gradients_little(planted_in_model):
    behaviour, _ = planted_in_model
    few = rank_in_model("integrated_gradients", behaviour).scores
    many = np.abs(behaviour.contributions("integrated_gradients", nodes=50)).mean(axis=0)
    np.testing.assert_allclose(few, many, atol=1e-4)


# ---------------------------------------------------------------- methods that read text


@pytest.fixture(scope="module")
def ground_of_prompts():
    """Prompts of a planted model as a task's ground holds them: text and observations."""
    made = planted_model()
    corpus = PromptCorpus(made.prompts, ("first", "second"), "planted")
    return made, nb.extract(made.model, corpus, site="mlp_post", cache=False)


def text_of(made, read):
    return Text(read.texts, read.positions, made.model, "mlp_post")


def test_reading_a_text_gives_the_mean_over_its_tokens(ground_of_prompts):
    made, read = ground_of_prompts
    text = text_of(made, read)
    before = text.passes.forward
    together = text.read(["the dog", "dogs", "the dog cow hen cat big red old my"])
    assert text.passes.forward - before == 3
    alone = nb.extract(
        made.model,
        TextCorpus(
            (Sentence(("the", "dog"), (0, 1), "rank"), Sentence(("dogs",), (1,), "rank")), ("a", "b"), ""
        ),
        site="mlp_post",
        cache=False,
    ).activations
    np.testing.assert_allclose(together[0], alone[:2].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(together[1], alone[2], atol=1e-6)
    room = made.model.window - len(made.model.frame[0]) - len(made.model.frame[1])
    cut = " ".join(["the", "dog", "cow", "hen", "cat", "big", "red", "old", "my"][:room])
    np.testing.assert_allclose(together[2], text.read([cut])[0], atol=1e-6)
    with pytest.raises(nb.InputError, match="has no token"):
        text.read([""])


def test_phrases_end_at_a_word_and_lie_anywhere_in_a_prompt(ground_of_prompts):
    made, _ = ground_of_prompts
    words = (("the", "old", "dog", "ran"),) * 2
    phrases = Text(words, np.array([2, -1]), made.model, "mlp_post").phrases(2)
    assert phrases == [["dog", "old dog"], ["dog", "dog ran", "old", "old dog", "ran", "the", "the old"]]


def test_the_text_of_an_item_is_its_sentence_or_its_prompt(ground_of_prompts):
    made, read = ground_of_prompts
    assert [" ".join(words) for words in read.texts] == [prompt.text for prompt in read.prompts]
    assert set(read.positions) == {-1}
    sentence = Sentence(("the", "dog", "runs"), (-1, 0, 1), "rank")
    running = nb.extract(made.model, TextCorpus((sentence,), ("a", "b"), ""), site="mlp_post", cache=False)
    assert running.texts == (sentence.words,) * 2
    assert running.positions.tolist() == [1, 2]


def test_alignment_names_the_class_whose_words_drive_the_neuron(ground_of_prompts):
    made, read = ground_of_prompts
    data = Observations(
        read.neurons,
        2,
        Needs.ACTIVATIONS | Needs.LABELS | Needs.TEXT,
        "concept_alignment",
        Statistics(read.activations, read.labels, 2),
        _text=text_of(made, read),
    )
    ranking = find_method("concept_alignment").load().rank(data, np.random.default_rng(0))
    active = read.activations[:, made.planted]
    more = int(active[read.labels == 1].mean() > active[read.labels == 0].mean())
    assert ranking.order[0] == made.planted
    assert ranking.evidence.named[made.planted] == more
    assert 0 <= ranking.scores.min() <= ranking.scores.max() <= 1


def test_without_a_model_there_is_no_text_to_read():
    with pytest.raises(nb.InputError, match="concept_alignment needs TEXT: arrays are not enough"):
        nb.rank("concept_alignment", *planted())
    world = Ground(nb.load_task("graded_noise_world"), None, Options())
    assert world.lacks(find_method("concept_alignment").load()) == "needs TEXT: there is no model to read any"


def test_patching_one_neuron_is_the_interchange_of_that_neuron(planted_in_model):
    behaviour, planted_id = planted_in_model
    ranking = rank_in_model("activation_patching", behaviour)
    whole = (behaviour.margin() - behaviour.source_margin()).mean()
    for neuron in (planted_id, 0, 30):
        change = behaviour.margin().mean() - behaviour.ablate([neuron], to="source").mean()
        assert ranking.scores[neuron] == pytest.approx(abs(change), abs=1e-4)
        assert ranking.evidence.values[neuron] == pytest.approx(change / whole, abs=1e-4)
    assert ranking.evidence.values[planted_id] == pytest.approx(1, abs=0.1)  # nothing else differs so much


def test_attribution_patching_averages_before_or_after_the_absolute_value(planted_in_model):
    behaviour, _ = planted_in_model
    one = behaviour.contributions("gradient_activation", baseline="source")
    five = behaviour.contributions("input_gradients", nodes=5, baseline="source")
    np.testing.assert_allclose(
        rank_in_model("attribution_patching", behaviour).scores, np.abs(one).mean(axis=0), atol=1e-6
    )
    np.testing.assert_allclose(
        rank_in_model("attribution_patching@hanna2024", behaviour).scores,
        np.abs(five.mean(axis=0)),
        atol=1e-6,
    )


def test_greedy_ablation_takes_what_hurts_most_beside_those_it_took(planted_in_model):
    behaviour, planted_id = planted_in_model
    file = find_method("greedy_ablation", {"rounds": 3, "step": 1})
    data = Observations(Neurons.anonymous(48), 2, Needs.MODEL, "greedy", _behaviour=behaviour)
    ranking = file.load().rank(data, np.random.default_rng(0))
    taken = ranking.evidence.order.tolist()
    assert taken[0] == planted_id
    assert ranking.order[:3].tolist() == taken
    for number in range(3):
        before = behaviour.ablate(taken[:number]).mean()
        rest = [neuron for neuron in range(48) if neuron not in taken[:number]]
        change = {n: abs(before - behaviour.ablate([*taken[:number], n]).mean()) for n in rest}
        assert change[taken[number]] == pytest.approx(max(change.values()), abs=1e-5)
        drop = behaviour.margin().mean() - behaviour.ablate(taken[: number + 1]).mean()
        assert ranking.evidence.drops[number] == pytest.approx(drop, abs=1e-5)


def test_knowledge_neurons_are_those_that_stand_out_on_most_prompts_of_a_fact(planted_in_model):
    behaviour, planted_id = planted_in_model
    ranking = rank_in_model("knowledge_neurons", behaviour)
    credits = behaviour.contributions("integrated_gradients", nodes=20, baseline="zero", target="probability")
    assert ranking.evidence.facts == (("verb", 0), ("verb", 1))
    shares = []
    for fact, label in enumerate((0, 1)):
        mine = credits[behaviour.labels == label]
        coarse = [{d for d in range(48) if row[d] >= 0.2 * row.max()} for row in mine]
        shares.append([np.mean([d in one for one in coarse]) for d in range(48)])
        refined = {d for d in range(48) if shares[-1][d] >= 0.7}
        assert set(np.flatnonzero(ranking.evidence.sets[fact])) == refined
    share = np.mean(shares, axis=0)
    assert (np.diff(share[ranking.order]) <= 1e-12).all()  # by share first
    assert planted_id in ranking.order[:3]
    assert ranking.evidence.sets[0, planted_id]


def test_adapted_knowledge_neurons_aim_at_two_to_five_a_fact(planted_in_model):
    behaviour, _ = planted_in_model
    plain = rank_in_model("knowledge_neurons@eleuther2022", behaviour).evidence
    assert plain.share == 0.5
    adapted = rank_in_model("knowledge_neurons@dai2022", behaviour).evidence
    found = adapted.sets.sum(axis=1).mean()
    assert 2 <= found <= 5 or adapted.share in (pytest.approx(0.4), pytest.approx(1.0))  # six steps of .05


def screened(behaviour, screen, seed=0, **other):
    file = find_method("neuron_ablation", {"screen": screen, **other})
    data = Observations(Neurons.anonymous(48), 2, Needs.MODEL, "screened", _behaviour=behaviour)
    return file.load().rank(data, np.random.default_rng(seed))


def test_screened_ablation_verifies_what_may_be_largest_and_says_which(planted_in_model):
    behaviour, planted_id = planted_in_model
    exact = rank_in_model("neuron_ablation", behaviour).evidence.values
    ranking = screened(behaviour, 10)
    verified = ranking.evidence.exact
    assert verified.sum() == 10
    assert ranking.order[0] == planted_id
    np.testing.assert_allclose(ranking.evidence.values[verified], exact[verified], atol=1e-5)
    assert (ranking.evidence.errors[verified] == 0).all()
    assert ranking.scores[~verified].max() <= ranking.scores[verified].min()
    others = np.abs(ranking.evidence.values - exact)[~verified]
    assert (others <= 6 * ranking.evidence.errors[~verified] + 1e-4).all()
    assert set(ranking.top(3)) == set(np.argsort(-np.abs(exact))[:3])


def test_screening_all_neurons_is_no_screening(planted_in_model):
    behaviour, _ = planted_in_model
    assert (screened(behaviour, 48).scores == rank_in_model("neuron_ablation", behaviour).scores).all()


@pytest.mark.parametrize("wrong", [{"to": "resample"}, {"screen": 0}, {"sample": 1.0}])
def test_screening_that_cannot_be_is_refused(planted_in_model, wrong):
    behaviour, _ = planted_in_model
    with pytest.raises(nb.InputError, match="expected one neuron or more"):
        screened(behaviour, **{"screen": 4, **wrong})
    few = behaviour.some([0, 1, 2])
    with pytest.raises(nb.InputError, match="3 prompts are too few to screen on"):
        screened(few, 4)
