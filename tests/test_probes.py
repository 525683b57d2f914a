"""Closed-form probes: exact at every k, against textbook fits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.metrics import confusion_matrix, f1_score, log_loss

from nibench.probes import (
    Lda,
    ProbeData,
    Qda,
    confusion,
    correct,
    log_posterior,
    macro_f1,
    mutual_information,
)
from tests.references import probes as slow

KS = (1, 2, 3, 5, 8, 12)


def gaussians(n_items=240, n_neurons=12, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n_items)
    mixing = rng.normal(size=(n_neurons, n_neurons))
    centres = rng.normal(size=(n_classes, n_neurons))
    items = centres[labels] + rng.normal(size=(n_items, n_neurons)) @ mixing * 0.7
    return (items * rng.lognormal(size=n_neurons) + 3).astype(np.float32), labels


def softmax_free(log_joint):
    """Posteriors: the fast LDA leaves out what all classes share."""
    return log_joint - np.logaddexp.reduce(log_joint, axis=-1, keepdims=True)


@pytest.mark.parametrize(("fast", "literal"), [(Lda, slow.lda_log_joint), (Qda, slow.qda_log_joint)])
def test_every_prefix_equals_its_own_textbook_fit(fast, literal):
    items, labels = gaussians()
    held_out, _ = gaussians(seed=1)
    order = np.random.default_rng(2).permutation(12)
    got = fast.fit(ProbeData(items), labels, 3).log_joint(held_out, order, KS)
    want = literal(items, labels, held_out, order, KS)
    np.testing.assert_allclose(softmax_free(got), softmax_free(want), atol=1e-9)


def test_lda_equals_sklearn_lsqr_with_the_same_covariance():
    items, labels = gaussians()
    held_out, _ = gaussians(seed=1)
    probe = Lda.fit(ProbeData(items), labels, 3)
    x, z = slow.standardize(items, held_out)

    class Shrunk:
        def fit(self, rows):
            covariance = np.cov(rows.T, bias=True).reshape(rows.shape[1], rows.shape[1])
            s = probe.shrinkage
            self.covariance_ = (1 - s.intensity) * covariance + s.intensity * s.variance * np.eye(
                rows.shape[1]
            )
            return self

    for k in KS:
        theirs = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Shrunk())
        theirs.fit(x[:, :k], labels)
        ours = softmax_free(probe.log_joint(held_out, np.arange(12), [k]))[0]
        np.testing.assert_allclose(ours, theirs.predict_log_proba(z[:, :k]), atol=1e-8)


def test_shrinkage_is_ledoit_wolf_of_all_neurons_whatever_is_larger_items_or_neurons():
    for n_items in (20, 240):
        items, labels = gaussians(n_items=n_items, n_neurons=30, n_classes=2)
        x, _ = slow.standardize(items, items)
        means = np.stack([x[labels == c].mean(axis=0) for c in range(2)])
        pooled = Lda.fit(ProbeData(items), labels, 2)
        assert pooled.shrinkage.intensity == pytest.approx(
            ledoit_wolf(x - means[labels], assume_centered=True)[1], abs=1e-12
        )
        quadratic = Qda.fit(ProbeData(items), labels, 2)
        for c in range(2):
            want = ledoit_wolf(x[labels == c])[1]
            assert quadratic.shrinkages[c].intensity == pytest.approx(want, abs=1e-12)


def test_a_constant_neuron_changes_no_prediction():
    items, labels = gaussians()
    items[:, 4] = 7.0
    held_out, truth = gaussians(seed=1)
    held_out[:, 4] = 9.0
    for family in (Lda, Qda):
        scores = family.fit(ProbeData(items), labels, 3).log_joint(held_out, np.array([4, 0, 1]), (1, 2, 3))
        assert np.isfinite(scores).all()
        assert len(np.unique(scores[0].argmax(axis=-1))) == 1  # the prior is all it knows
        assert correct(scores, truth).shape == (3, len(truth))


def test_a_class_without_items_is_never_predicted():
    items, labels = gaussians(n_classes=2)
    for family in (Lda, Qda):
        scores = family.fit(ProbeData(items), labels, 3).log_joint(items, np.arange(12), (4,))
        assert (scores[..., 2] == -np.inf).all()


def test_duplicated_neurons_do_not_break_the_factorisation():
    items, labels = gaussians()
    items[:, 1] = items[:, 0]
    for family in (Lda, Qda):
        assert np.isfinite(family.fit(ProbeData(items), labels, 3).log_joint(items, np.arange(12), KS)).all()


def test_one_neuron_of_three_classes_in_a_row_is_read_correctly():
    x = np.array([-2.1, -1.9, -0.1, 0.1, 1.9, 2.1])[:, None]  # oracle 31
    y = np.array([0, 0, 1, 1, 2, 2])
    indicators = Ridge(alpha=1e-9).fit(x, np.eye(3)[y]).predict(x).argmax(axis=1)
    assert indicators.tolist() == [0, 0, 0, 2, 2, 2]  # least squares cannot see the middle class
    assert correct(Lda.fit(ProbeData(x), y, 3).log_joint(x, np.arange(1), (1,)), y).mean() == 1.0


def test_information_of_given_posteriors():
    q = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])  # oracle 1
    y = np.array([0, 0, 1, 1])
    assert -log_posterior(np.log(q)[None], y).mean() / np.log(2) == pytest.approx(0.4313674888, abs=1e-9)
    assert mutual_information(np.log(q)[None], y)[0] == pytest.approx(0.5686325112, abs=1e-9)
    theirs = 1 - log_loss(y, q) / np.log(2)
    assert mutual_information(np.log(q)[None], y)[0] == pytest.approx(theirs, abs=1e-12)


def test_information_of_two_unit_gaussians():
    rng = np.random.default_rng(0)  # oracle 1: I = .4859441541 bits, Bayes accuracy .8413447461
    labels = np.arange(200_000) % 2
    items = rng.normal(size=(200_000, 1)) + 2 * labels[:, None] - 1
    for family in (Lda, Qda):
        scores = family.fit(ProbeData(items), labels, 2).log_joint(items, np.arange(1), (1,))
        assert mutual_information(scores, labels)[0] == pytest.approx(0.4859441541, abs=0.004)
        assert correct(scores, labels).mean() == pytest.approx(0.8413447461, abs=0.003)


def test_information_of_a_single_class_is_undefined():
    assert np.isnan(mutual_information(np.zeros((1, 3, 2)), np.zeros(3, dtype=int)))[0]


def test_macro_f1_averages_over_all_classes():
    y, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0])  # oracle 2
    counts = confusion(predicted, y, 3)
    assert counts.tolist() == confusion_matrix(y, predicted).tolist()
    assert macro_f1(counts) == pytest.approx(0.3571428571, abs=1e-9)
    assert np.trace(counts) / len(y) == 0.5
    assert (np.diag(counts) / counts.sum(axis=1)).mean() == pytest.approx(0.3888888889, abs=1e-9)
    assert macro_f1(confusion(np.zeros(2, dtype=int), np.zeros(2, dtype=int), 2)) == 0.5
    want = f1_score(y, predicted, average="macro", labels=range(3), zero_division=0)
    assert macro_f1(counts) == pytest.approx(want)


def test_macro_f1_of_chosen_classes_still_counts_what_was_taken_for_them():
    rng = np.random.default_rng(0)
    y, predicted = rng.integers(0, 4, 50), rng.integers(0, 3, (2, 5, 50))
    counts = confusion(predicted, y, 4)
    assert counts.shape == (2, 5, 4, 4)
    found = macro_f1(counts, np.array([True, True, True, False]))
    want = f1_score(y, predicted[1, 3], average="macro", labels=[0, 1, 2], zero_division=0)
    assert found[1, 3] == pytest.approx(want)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_permuting_and_rescaling_neurons_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    items, labels = gaussians(seed=seed)
    order, permutation = rng.permutation(12), rng.permutation(12)
    scale = rng.uniform(0.1, 10, 12).astype(np.float32)
    position = np.argsort(permutation)
    for family in (Lda, Qda):
        plain = family.fit(ProbeData(items), labels, 3).log_joint(items, order, KS)
        moved_items = (items * scale)[:, permutation]
        moved = family.fit(ProbeData(moved_items), labels, 3).log_joint(moved_items, position[order], KS)
        np.testing.assert_allclose(softmax_free(moved), softmax_free(plain), atol=2e-3)


def test_of_very_many_neurons_the_shrinkage_is_that_of_drawn_ones(monkeypatch):
    items, labels = gaussians(n_neurons=30, n_classes=2)
    held_out, _ = gaussians(n_neurons=30, n_classes=2, seed=1)
    whole = Lda.fit(ProbeData(items), labels, 2)
    monkeypatch.setattr("nibench.probes.MAX_NEURONS", 8)
    data = ProbeData(items)
    assert len(data.reference) == 8
    part = Lda.fit(ProbeData(items[:, data.reference]), labels, 2)
    fitted = Lda.fit(data, labels, 2)
    assert fitted.shrinkage.intensity == pytest.approx(part.shrinkage.intensity)
    order = np.arange(30)
    same = Lda(whole.data, whole.means, whole.log_priors, fitted.shrinkage)
    np.testing.assert_allclose(
        fitted.log_joint(held_out, order, (1, 5, 30)), same.log_joint(held_out, order, (1, 5, 30)), atol=1e-9
    )
    assert np.isfinite(Qda.fit(data, labels, 2).log_joint(held_out, order, (1, 5))).all()
