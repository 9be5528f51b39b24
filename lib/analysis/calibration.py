"""Are probabilities honest? Temperature scaling, calibration error, and sets of answers that hold the right one as often as promised."""

from collections.abc import Sequence

import numpy as np

SMALLEST = 1e-12  # a probability of 0 has no logarithm


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (N, n_classes) as they would be had the logits been divided by `temperature`: above 1 is less sure."""
    logits = np.log(np.maximum(probabilities, SMALLEST)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, actual: np.ndarray) -> float:
    """The temperature, 0.05 to 20, with the lowest cross-entropy on these images: probabilities (N, n_classes), actual (N,).

    Source: Guo, Pleiss, Sun and Weinberger (2017), https://arxiv.org/abs/1706.04599
    """
    from scipy.optimize import (
        minimize_scalar,
    )  # here, as pandas below: whoever only predicts need not wait for them

    rows = np.arange(len(actual))

    def loss(log_temperature: float) -> float:
        likelihood = with_temperature(probabilities, np.exp(log_temperature))[rows, actual]
        return -np.log(np.maximum(likelihood, SMALLEST)).mean()

    return float(
        np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x)
    )


def calibrate(probabilities: np.ndarray, actual: np.ndarray, kept: int = 1000) -> dict:
    """What makes later answers honest, from validation images: probabilities (N, n_classes), actual (N,).

    Returns `temperature` and `likelihoods`, the sorted probabilities of the right class at that temperature, or `kept` quantiles of
    them, each the lower of its neighbours: from these `threshold` takes that of any coverage.
    """
    temperature = fit_temperature(probabilities, actual)
    likelihoods = np.sort(
        with_temperature(probabilities, temperature)[np.arange(len(actual)), actual]
    )
    if len(likelihoods) > kept:
        likelihoods = np.quantile(likelihoods, np.arange(1, kept + 1) / (kept + 1), method="lower")
    return {
        "temperature": temperature,
        "likelihoods": [float(f"{value:.6g}") for value in likelihoods],
    }


def reliability(probabilities: np.ndarray, actual: np.ndarray, bins: int = 15) -> "pd.DataFrame":
    """Images by how sure their answer is, in equal steps from 0 to 1: confidence (mean), accuracy, images; empty bins are left out."""
    import pandas as pd

    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == actual
    table = pd.DataFrame({"confidence": confidence, "accuracy": right, "images": 1})
    steps = np.minimum((confidence * bins).astype(int), bins - 1)
    return (
        table.groupby(steps)
        .agg({"confidence": "mean", "accuracy": "mean", "images": "sum"})
        .reset_index(drop=True)
    )


def calibration_error(probabilities: np.ndarray, actual: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error, 0 to 1: how far confidence and accuracy are apart in each bin, weighted by its images.

    Source: Naeini, Cooper and Hauskrecht (2015), "Obtaining well calibrated probabilities using Bayesian binning".
    """
    table = reliability(probabilities, actual, bins)
    return float(
        np.average((table["confidence"] - table["accuracy"]).abs(), weights=table["images"])
    )


def threshold(likelihoods: Sequence[float], coverage: float) -> float:
    """The smallest probability with which a class belongs to a prediction set, by split conformal prediction.

    likelihoods: sorted probabilities of the right class on validation images. With too few of them for the coverage, 0.
    """
    outside = int(
        np.floor((1 - coverage) * (len(likelihoods) + 1) + 1e-9)
    )  # how many may lie below the threshold, plus one
    return likelihoods[outside - 1] if outside else 0.0


def set_thresholds(
    probabilities: np.ndarray, actual: np.ndarray, coverage: float, groups: np.ndarray | None = None
) -> np.ndarray:
    """The smallest probability with which a class belongs to a prediction set, one per class (n_classes,).

    Split conformal prediction: of images like these N, a share of at least `coverage` (0 to 1) will have sets that hold
    the right class, whatever the network. With `groups`, int (n_classes,), that holds for the classes of each group by
    themselves. A group with too few images for its coverage gets the threshold 0: every one of its classes, always.
    Sources: Sadinle, Lei and Wasserman (2019), https://arxiv.org/abs/1609.00451; groups: Vovk (2012), https://arxiv.org/abs/1209.2673
    """
    groups = np.zeros(probabilities.shape[1], int) if groups is None else groups
    likelihood, thresholds = (
        probabilities[np.arange(len(actual)), actual],
        np.zeros(probabilities.shape[1], probabilities.dtype),
    )
    for group in np.unique(groups):
        thresholds[groups == group] = threshold(
            np.sort(likelihood[groups[actual] == group]), coverage
        )
    return thresholds


def prediction_sets(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Which classes belong to each image's set, bool (N, n_classes); a set may be empty, where no class is probable enough."""
    return probabilities >= thresholds


def with_prior(probabilities: np.ndarray, before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Probabilities (N, n_classes) of a network that learned with class frequencies `before`, for images that come with `now`.

    Both are counts or shares (n_classes,); a class that was never seen keeps probability 0.
    Source: Saerens, Latinne and Decaestecker (2002), "Adjusting the outputs of a classifier to new a priori probabilities".
    """
    ratio = np.divide(
        now / now.sum(), before / before.sum(), out=np.zeros(len(now)), where=before > 0
    )
    weighted = probabilities * ratio
    return weighted / np.maximum(weighted.sum(axis=1, keepdims=True), SMALLEST)
