"""Which characters are taken for which, and why. Always in the order actual, predicted, count."""

import warnings

import numpy as np
import pandas as pd
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import confusion_matrix

from lib.data.classes import fold_case, fold_look_alikes, in_one_group


def count_confusions(actual: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts int64 (n_classes, n_classes): row = actual, column = predicted."""
    return confusion_matrix(actual, predicted, labels=np.arange(n_classes))


def row_normalised(counts: np.ndarray) -> np.ndarray:
    """Shares of each actual class, 0 to 1; rows of absent classes are 0."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def errors_only(counts: np.ndarray) -> np.ndarray:
    """Row-normalised shares with the diagonal, which is no error, at 0."""
    return row_normalised(counts) * (1 - np.eye(len(counts)))


def top_pairs(counts: np.ndarray, class_names: list[str], n: int = 15) -> pd.DataFrame:
    """The n most frequent confusions by direction: actual, predicted, count, share of actual."""
    shares, names = errors_only(counts), np.array(class_names)
    i, j = np.nonzero(shares)
    table = pd.DataFrame({"actual": names[i], "predicted": names[j]})
    table["count"], table["share"] = counts[i, j], shares[i, j]
    order = ["count", "actual", "predicted"]
    return table.sort_values(order, ascending=[False, True, True])[:n].reset_index(drop=True)


def merged_accuracy(
    actual: np.ndarray, predicted: np.ndarray, class_names: list[str], merge
) -> float:
    """Accuracy (0 to 1) when classes with the same `merge(name)` count as one."""
    merged = np.array([merge(name) for name in class_names])
    return float((merged[actual] == merged[predicted]).mean())


def found_groups(counts: np.ndarray, class_names: list[str], exchanged: float = 0.04) -> list[str]:
    """Groups of classes that are taken for each other, the most confused first: ["0Oo", "Cc"].

    Classes are merged as long as, on average over the pairs of two groups, a share of at least
    `exchanged` of a pair's images goes to the other one (agglomerative, average linkage).
    """
    images = counts.sum(axis=1)
    share = (counts + counts.T) / np.maximum(images[:, None] + images, 1)
    np.fill_diagonal(share, 1)
    clusters = AgglomerativeClustering(
        n_clusters=None, metric="precomputed", linkage="average", distance_threshold=1 - exchanged
    ).fit_predict(1 - share)

    def confused(group: np.ndarray) -> float:
        return share[np.ix_(group, group)][np.triu_indices(len(group), 1)].mean()

    groups = [np.flatnonzero(clusters == cluster) for cluster in np.unique(clusters)]
    ordered = sorted((group for group in groups if len(group) > 1), key=confused, reverse=True)
    return ["".join(class_names[i] for i in group) for group in ordered]


def suspicious_labels(
    actual: np.ndarray, probabilities: np.ndarray, class_names: list[str]
) -> pd.DataFrame:
    """Images that are probably labelled wrongly, the most suspicious first.

    Columns: index, label, answer, probability (of the answer). By confident learning, from networks
    that were not trained on these images. Case and look-alikes are no ground for suspicion.
    Source: Northcutt, Jiang and Chuang (2021), https://arxiv.org/abs/1911.00068
    """
    with warnings.catch_warnings(action="ignore"):  # of its progress bars, which are not used
        from cleanlab.filter import find_label_issues  # a second, and one chapter needs it

    present = np.unique(actual)  # cleanlab wants every class to be there
    labels, shares = np.searchsorted(present, actual), probabilities[:, present]
    shares = shares / shares.sum(axis=1, keepdims=True)
    how = {"return_indices_ranked_by": "self_confidence", "filter_by": "confident_learning"}
    rows = []
    for i in find_label_issues(labels, shares, n_jobs=1, **how):
        label, answer = class_names[actual[i]], class_names[probabilities[i].argmax()]
        if fold_look_alikes(label) != fold_look_alikes(answer):
            rows.append((int(i), label, answer, float(probabilities[i].max())))
    return pd.DataFrame(rows, columns=["index", "label", "answer", "probability"])


BUDGET = ["case only", "look-alikes", "found groups", "rest"]


def error_budget(
    actual: np.ndarray, predicted: np.ndarray, class_names: list[str], groups: list[str]
) -> dict[str, int]:
    """How many errors have which cause, each counted once, under the first of BUDGET that fits.

    groups: as found_groups gives them.
    """
    parts = dict.fromkeys(BUDGET, 0)
    for i in np.flatnonzero(actual != predicted):
        a, b = class_names[actual[i]], class_names[predicted[i]]
        same, alike = fold_case(a) == fold_case(b), fold_look_alikes(a) == fold_look_alikes(b)
        fits = [same, alike, in_one_group(a, b, groups), True]
        parts[BUDGET[fits.index(True)]] += 1
    return parts
