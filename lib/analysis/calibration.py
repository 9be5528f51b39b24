"""Are probabilities (N, n_classes) honest of the classes `actual` (N,)? And how to make them so.

The page to draw on needs this: pandas and scipy, a second each, are imported where they are used.
"""

from collections.abc import Sequence

import numpy as np

SMALLEST = 1e-12  # a probability of 0 has no logarithm


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (N, n_classes) with logits divided by `temperature`: above 1 is less sure."""
    logits = np.log(np.maximum(probabilities, SMALLEST)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, actual: np.ndarray) -> float:
    """The temperature, 0.05 to 20, with the lowest cross-entropy on these images.

    Source: Guo, Pleiss, Sun and Weinberger (2017), https://arxiv.org/abs/1706.04599
    """
    from scipy.optimize import minimize_scalar  # see the module's docstring

    rows = np.arange(len(actual))

    def loss(log_temperature: float) -> float:
        likelihood = with_temperature(probabilities, np.exp(log_temperature))[rows, actual]
        return -np.log(np.maximum(likelihood, SMALLEST)).mean()

    bounds = np.log(0.05), np.log(20)
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def calibrate(probabilities: np.ndarray, actual: np.ndarray, kept: int = 1000) -> dict:
    """What makes later answers honest, from validation images, for a model file.

    Returns `temperature` and `likelihoods`: the sorted probabilities of the right class at that
    temperature, as `thinned` leaves them.
    """
    temperature = fit_temperature(probabilities, actual)
    scaled = with_temperature(probabilities, temperature)
    likelihoods = thinned(scaled[np.arange(len(actual)), actual], kept)
    return {"temperature": temperature, "likelihoods": likelihoods}


def thinned(scores: np.ndarray, kept: int = 1000) -> list[float]:
    """Scores (N,) in order, `kept` at most, so that no `threshold` is higher than with all."""
    scores, n = np.sort(scores), len(scores)
    if n > kept:
        scores = scores[np.arange(1, kept + 1) * (n + 1) // (kept + 1) - 1]
    return [float(f"{value:.6g}") for value in scores]


def reliability(probabilities, actual, bins: int = 15) -> "pd.DataFrame":  # noqa: F821
    """Confidence (mean), accuracy and images of each equal step of confidence that has images."""
    import pandas as pd  # see the module's docstring

    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == actual
    table = pd.DataFrame({"confidence": confidence, "accuracy": right, "images": 1})
    steps = np.minimum((confidence * bins).astype(int), bins - 1)
    summary = {"confidence": "mean", "accuracy": "mean", "images": "sum"}
    return table.groupby(steps).agg(summary).reset_index(drop=True)


def calibration_error(probabilities: np.ndarray, actual: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error, 0 to 1: mean distance of confidence and accuracy in the bins.

    Source: Naeini, Cooper and Hauskrecht (2015), "Obtaining well calibrated probabilities using
    Bayesian binning".
    """
    table = reliability(probabilities, actual, bins)
    distance = (table["confidence"] - table["accuracy"]).abs()
    return float(np.average(distance, weights=table["images"]))


def threshold(likelihoods: Sequence[float], coverage: float, weights=None, own=1.0) -> float:
    """The smallest probability with which a class belongs to a prediction set.

    Split conformal prediction: of images like those validated on, a share of at least `coverage`
    (0 to 1) will have the right class in their set. likelihoods: sorted probabilities of the right
    class on validation images; with too few of them for the coverage, 0. weights: how much each of
    them counts, all alike by default, and `own` how much an image of the class in question does.
    Source: Sadinle, Lei and Wasserman (2019), https://arxiv.org/abs/1609.00451
    """
    weights = np.ones(len(likelihoods)) if weights is None else weights
    room = (1 - coverage) * (np.sum(weights) + own) - own + 1e-9
    below = np.searchsorted(np.cumsum(weights)[:-1], room, side="right")
    return float(likelihoods[below]) if room >= 0 and len(likelihoods) else 0.0


def set_thresholds(
    probabilities: np.ndarray, actual: np.ndarray, coverage: float, groups=None, weights=None
) -> np.ndarray:
    """A `threshold` per class (n_classes,), from validation images.

    With `groups`, int (n_classes,), the promise holds for the classes of each group by themselves
    (Vovk, 2012, https://arxiv.org/abs/1209.2673). With `weights` (n_classes,) it holds for images
    among which each class is so many times as frequent as in validation (Podkopaev and Ramdas,
    2021, https://arxiv.org/abs/2103.03323).
    """
    n_classes = probabilities.shape[1]
    groups = np.zeros(n_classes, int) if groups is None else groups
    weights = np.ones(n_classes) if weights is None else weights
    likelihood, thresholds = probabilities[np.arange(len(actual)), actual], np.zeros(n_classes)
    order = np.argsort(likelihood, kind="stable")
    for group in np.unique(groups):
        rows = order[groups[actual[order]] == group]
        likelihoods, counted = likelihood[rows], weights[actual[rows]]
        for label in np.flatnonzero(groups == group):
            thresholds[label] = threshold(likelihoods, coverage, counted, weights[label])
    return thresholds


def prediction_sets(probabilities: np.ndarray, thresholds: np.ndarray | float) -> np.ndarray:
    """Which classes belong to each image's set, bool (N, n_classes); a set may be empty."""
    return probabilities >= thresholds


def with_prior(probabilities: np.ndarray, before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Probabilities (N, n_classes) of a network trained with class frequencies `before`, for `now`.

    Both are counts or shares (n_classes,); a class that was never seen keeps probability 0.
    Source: Saerens, Latinne and Decaestecker (2002), "Adjusting the outputs of a classifier to new
    a priori probabilities".
    """
    nothing = np.zeros(len(now))
    ratio = np.divide(now / now.sum(), before / before.sum(), out=nothing, where=before > 0)
    weighted = probabilities * ratio
    return weighted / np.maximum(weighted.sum(axis=1, keepdims=True), SMALLEST)
