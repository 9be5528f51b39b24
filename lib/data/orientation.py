"""Whether images are upright and show what their labels say, by mean images of generated ones."""

from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter

from lib.data import strokes
from lib.data.classes import class_names, split_labels

SAMPLE = 20_000  # images, about, that are looked at
# Measured: MNIST 0.46, NIST capitals 0.61, photographs 0.64 and more; shuffled labels about 0.
LEAST_FIT = 0.3


def check_fit(images: np.ndarray, labels: np.ndarray, split: str) -> None:
    """Raises ValueError unless images, uint8 (N, 28, 28), are upright and show what labels say."""
    runs = np.arange(len(labels)) // 100  # runs, not single images: less of the file is read
    sample = np.flatnonzero(runs % (1 + len(labels) // SAMPLE) == 0)
    means = _class_means(images[sample], labels[sample], split)
    views = [np.rot90(view, turns, (1, 2)) for view in (means, means.mT) for turns in range(4)]
    fits = [_fit(view, _reference_means(split)) for view in views]  # all eight orientations
    if max(fits) < LEAST_FIT:
        found = f"agreement {fits[0]:.2f}, at least {LEAST_FIT} expected"
        raise ValueError(f"its images do not fit their labels ({found})")
    if max(fits) > fits[0]:
        raise ValueError("its images are not transposed as EMNIST stores them")


def _fit(means: np.ndarray, reference: np.ndarray) -> float:
    """Mean correlation of two (classes, 28, 28), over the classes that have images."""
    present = means.any(axis=(1, 2)) | (not means.any())  # of blank images alone, all
    means = means[present] - means[present].mean(0)
    reference = reference[present] - reference[present].mean(0)
    norms = np.sqrt((means**2).sum((1, 2)) * (reference**2).sum((1, 2)))
    return float(np.mean((means * reference).sum((1, 2)) / np.maximum(norms, 1e-9)))


def _class_means(images: np.ndarray, labels: np.ndarray, split: str) -> np.ndarray:
    """Blurred mean image per class, float32 (classes, 28, 28); zeros for a class without images."""
    one_hot = np.eye(len(class_names(split)), dtype=np.float32)[labels]
    sums = one_hot.T @ images.reshape(len(images), -1).astype(np.float32)
    means = sums / np.maximum(one_hot.sum(0), 1)[:, None]
    return gaussian_filter(means.reshape(-1, 28, 28), (0, 2, 2))


@cache
def _reference_means(split: str) -> np.ndarray:
    images, labels = strokes.generate(per_class=20, seed=0)
    labels = split_labels(split)[labels]
    return _class_means(images[labels >= 0], labels[labels >= 0], split)
