"""Which characters are taken for which: counting, ranking, merging and agreement. Always (actual, predicted, count)."""

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from lib.classes import LOOK_ALIKES


def count_confusions(actual: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts int64 (n_classes, n_classes): row = actual, column = predicted."""
    return confusion_matrix(actual, predicted, labels=np.arange(n_classes))


def row_normalised(counts: np.ndarray) -> np.ndarray:
    """Shares of each actual class, 0 to 1; rows of absent classes are 0."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def errors_only(counts: np.ndarray) -> np.ndarray:
    """Row-normalised shares with the diagonal, which is no error, at 0."""
    shares = row_normalised(counts)
    np.fill_diagonal(shares, 0.0)
    return shares


def top_pairs(counts: np.ndarray, class_names: list[str], n: int = 15) -> pd.DataFrame:
    """The n most frequent confusions, each direction separate: actual, predicted, count, share (of the actual class)."""
    shares = errors_only(counts)
    rows = [(class_names[i], class_names[j], int(counts[i, j]), shares[i, j]) for i, j in np.argwhere(shares > 0)]
    table = pd.DataFrame(rows, columns=["actual", "predicted", "count", "share"])
    return table.sort_values(["count", "actual", "predicted"], ascending=[False, True, True]).head(n).reset_index(drop=True)


def look_alike_pairs(counts: np.ndarray, class_names: list[str], groups=LOOK_ALIKES) -> pd.DataFrame:
    """Every pair within the groups whose classes exist: actual, predicted, count, share, and the same the other way round."""
    shares, rows = row_normalised(counts), []
    for group in groups:
        present = [class_names.index(name) for name in group if name in class_names]
        for position, i in enumerate(present):
            for j in present[position + 1:]:
                rows.append((group, class_names[i], class_names[j], int(counts[i, j]), shares[i, j], int(counts[j, i]), shares[j, i]))
    return pd.DataFrame(rows, columns=["group", "actual", "predicted", "count", "share", "count_reversed", "share_reversed"])


def merged_accuracy(actual: np.ndarray, predicted: np.ndarray, class_names: list[str], merge) -> float:
    """Accuracy (0 to 1) when classes with the same `merge(name)` count as one."""
    merged = np.array([merge(name) for name in class_names])
    return float((merged[actual] == merged[predicted]).mean())


def shared_mistakes(actual: np.ndarray, predictions: np.ndarray) -> pd.DataFrame:
    """How many images 0, 1, ... all of the networks get wrong, and in how many of these all give the same wrong answer.

    predictions int (n_networks, N). Columns: wrong_networks, images, same_answer; `same_answer` counts, among images that
    at least two networks get wrong, those on which the wrong ones agree.
    """
    wrong = predictions != actual
    rows = []
    for n_wrong in range(len(predictions) + 1):
        images = np.flatnonzero(wrong.sum(axis=0) == n_wrong)
        agree = [len(set(predictions[wrong[:, image], image])) == 1 for image in images] if n_wrong > 1 else []
        rows.append((n_wrong, len(images), sum(agree)))
    return pd.DataFrame(rows, columns=["wrong_networks", "images", "same_answer"])
