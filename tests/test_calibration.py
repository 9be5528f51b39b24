import subprocess
import sys

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

from lib.analysis.calibration import (
    calibrate,
    calibration_error,
    fit_temperature,
    prediction_sets,
    reliability,
    set_thresholds,
    threshold,
    with_prior,
    with_temperature,
)


def honest(n, classes=10, sharpness=3.0, seed=0):
    """Probabilities and labels that are drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * sharpness
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return shares, (rng.random((n, 1)) > shares.cumsum(axis=1)).sum(axis=1).clip(0, classes - 1)


def test_a_temperature_of_1_changes_nothing():
    shares, _ = honest(50)
    assert with_temperature(shares, 1) == pytest.approx(shares)


def test_a_temperature_divides_the_logits():
    logits = np.array([[1.0, 2.0, 4.0]])
    softmax = lambda z: np.exp(z) / np.exp(z).sum()
    assert with_temperature(softmax(logits), 2) == pytest.approx(softmax(logits / 2))


def test_the_temperature_that_was_applied_is_found_again():
    shares, labels = honest(20_000)
    assert fit_temperature(with_temperature(shares, 0.5), labels) == pytest.approx(2, rel=0.05)


def test_a_probability_of_0_for_the_right_class_has_a_temperature_too():
    assert np.isfinite(fit_temperature(np.eye(3), np.array([0, 1, 0])))


def test_honest_probabilities_have_next_to_no_calibration_error():
    assert calibration_error(*honest(50_000)) < 0.01


def test_the_calibration_error_is_the_distance_of_how_sure_and_how_right():
    shares = np.tile([0.9, 0.1], (100, 1))
    assert calibration_error(shares, (np.arange(100) < 40).astype(int)) == pytest.approx(
        0.3
    )  # sure 0.9, right 0.6


def test_reliability_counts_every_image_once():
    table = reliability(*honest(500))
    assert table["images"].sum() == 500 and table["confidence"].is_monotonic_increasing


@pytest.mark.parametrize("coverage", [0.9, 0.95, 0.99])
def test_sets_hold_the_right_class_as_often_as_promised(coverage):
    shares, labels = honest(20_000)
    chosen = prediction_sets(
        shares[10_000:], set_thresholds(shares[:10_000], labels[:10_000], coverage)
    )
    assert abs(chosen[np.arange(10_000), labels[10_000:]].mean() - coverage) < 0.01


def test_sets_keep_their_promise_for_dishonest_probabilities_too():
    shares, labels = honest(20_000)
    shares = with_temperature(shares, 0.2)
    chosen = prediction_sets(shares[10_000:], set_thresholds(shares[:10_000], labels[:10_000], 0.9))
    assert abs(chosen[np.arange(10_000), labels[10_000:]].mean() - 0.9) < 0.01


def test_groups_each_get_what_they_are_promised():
    shares, labels = honest(40_000)
    groups = np.array([0] * 5 + [1] * 5)
    shares = np.where(
        groups, shares, with_temperature(shares, 5)
    )  # the classes of the first group are underrated
    shares /= shares.sum(axis=1, keepdims=True)
    chosen = prediction_sets(
        shares[20_000:], set_thresholds(shares[:20_000], labels[:20_000], 0.9, groups)
    )
    held = chosen[np.arange(20_000), labels[20_000:]]
    assert all(abs(held[groups[labels[20_000:]] == group].mean() - 0.9) < 0.015 for group in (0, 1))


def test_weights_keep_the_promise_where_the_classes_are_mixed_otherwise():
    shares, labels = honest(60_000)
    rng = np.random.default_rng(3)
    shares = np.where(np.arange(10) < 5, shares, shares**2)  # one half of the classes is underrated
    shares /= shares.sum(axis=1, keepdims=True)
    rare = rng.random(30_000) < np.where(labels[30_000:] < 5, 0.05, 1)  # other shares than before
    new, own, old = shares[30_000:][rare], labels[30_000:][rare], labels[:30_000]
    weights = np.bincount(own) / len(own) / (np.bincount(old) / len(old))
    held = {}
    for name, some in {"plain": None, "weighted": weights}.items():
        limits = set_thresholds(shares[:30_000], old, 0.9, weights=some)
        held[name] = prediction_sets(new, limits)[np.arange(len(own)), own].mean()
    assert abs(held["weighted"] - 0.9) < 0.01 < 0.015 < abs(held["plain"] - 0.9)


def test_too_few_images_for_a_promise_give_sets_of_everything():
    shares, labels = honest(5)
    assert prediction_sets(shares, set_thresholds(shares, labels, 0.9)).all()


@pytest.mark.parametrize("coverage", [0.9, 0.95, 0.99])
def test_the_sets_are_those_of_mapie(coverage):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 3000)
    points = rng.normal(size=(3000, 2)) + np.array([[0, 0], [1, 0], [0, 1], [2, 1], [1, 2]])[labels]
    model = LogisticRegression().fit(points[:1000], labels[:1000])
    mapie = SplitConformalClassifier(
        model, confidence_level=coverage, conformity_score="lac", prefit=True
    ).conformalize(points[1000:2000], labels[1000:2000])
    theirs = mapie.predict_set(points[2000:])[1][:, :, 0]
    ours = prediction_sets(
        model.predict_proba(points[2000:]),
        set_thresholds(model.predict_proba(points[1000:2000]), labels[1000:2000], coverage),
    )
    assert np.array_equal(theirs, ours) and 0 < ours.mean() < 1


class AsGiven(ClassifierMixin, BaseEstimator):
    """A classifier for MAPIE, whose images are their probabilities."""

    def fit(self, probabilities, labels):
        self.classes_ = np.arange(probabilities.shape[1])
        return self

    def predict_proba(self, probabilities):
        return probabilities

    def predict(self, probabilities):
        return probabilities.argmax(axis=1)


@pytest.mark.parametrize("n", [1500, 2750])
@pytest.mark.parametrize("outside", [1, 50])
def test_kept_likelihoods_give_the_sets_of_mapie(n, outside):
    coverage = 1 - outside / 1001  # of those that a thousand likelihoods hold without rounding
    shares, labels = honest(n)
    known = calibrate(shares, labels)
    scaled = with_temperature(shares, known["temperature"])
    mapie = SplitConformalClassifier(
        AsGiven().fit(scaled, labels), coverage, conformity_score="lac", prefit=True
    ).conformalize(scaled, labels)
    new = with_temperature(honest(2000, seed=1)[0], known["temperature"])
    ours = prediction_sets(new, threshold(known["likelihoods"], coverage))
    assert np.array_equal(mapie.predict_set(new)[1][:, :, 0], ours)


@pytest.mark.parametrize("coverage", [0.5, 0.95, 0.999])
def test_kept_likelihoods_never_promise_more_than_all(coverage):
    shares, labels = honest(2750)
    kept, everyone = (calibrate(shares, labels, kept)["likelihoods"] for kept in (1000, 2750))
    assert len(kept) == 1000
    assert threshold(kept, coverage) <= threshold(everyone, coverage)


def test_another_prior_multiplies_each_class_by_its_ratio():
    assert with_prior(np.array([[0.5, 0.5]]), np.array([1, 1]), np.array([3, 1])) == pytest.approx(
        np.array([[0.75, 0.25]])
    )


def test_the_prior_of_training_changes_nothing():
    shares, _ = honest(20)
    assert with_prior(shares, np.arange(1, 11), 7 * np.arange(1, 11)) == pytest.approx(shares)


def test_a_class_that_was_never_seen_stays_out():
    assert with_prior(np.array([[0.5, 0.5]]), np.array([0, 4]), np.array([1, 1])).tolist() == [
        [0, 1]
    ]


def test_calibration_is_imported_without_pandas_and_scipy():
    """The page to draw on starts with it."""
    code = "import sys, lib.analysis.calibration; print({'pandas', 'scipy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
