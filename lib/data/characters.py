"""Characters to train, validate and test on, and how rows of them are chosen."""

from dataclasses import dataclass, replace

import numpy as np

from lib.data.cache import digest
from lib.errors import InputError
from lib.params import DataParameters


@dataclass(frozen=True)
class CharacterData:
    """Images uint8 (N, 28, 28), upright, ink bright on 0; labels int64 (N,) from 0; all read-only.

    `dataset` is "EMNIST" only for the official archive; `note` is what a result must say of it
    otherwise. `split` is EMNIST's name for these classes, or "". `checksum` is the MD5 of the
    arrays and of the class names; `parameters` are those that load_data was given.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    valid_images: np.ndarray
    valid_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: list[str]
    dataset: str
    split: str
    checksum: str
    note: str = ""
    parameters: DataParameters | None = None

    def n_shared(self) -> int:
        """How many test images stand, bit for bit, among those to train and validate on."""
        seen = {*map(digest, self.train_images), *map(digest, self.valid_images)}
        return sum(digest(image) in seen for image in self.test_images)


def draw(data: CharacterData, n: int, seed: int) -> CharacterData:
    """The data with n of its training images, drawn at random, or all if n is 0 or that many.

    Each class gives its share, at least one image (InputError where n is smaller than their
    number). A smaller draw of a seed is part of a larger.
    """
    labels = data.train_labels
    if not 0 < n < len(labels):
        return data
    if n < len(data.class_names):
        problem = f"train_images is {n}, and there are {len(data.class_names)} classes"
        raise InputError(f"{problem}: set it to at least one image of each.")
    rng = np.random.default_rng(seed)
    place = np.empty(len(labels))  # in its class, 0 to 1: the n first ones are taken
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
        place[rows[0]] = 0
    chosen = np.sort(np.lexsort([rng.random(len(labels)), place])[:n])
    return replace(data, train_images=data.train_images[chosen], train_labels=labels[chosen])


def capped(labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Rows, in order, of a sample with at most the mean class size of each class."""
    rng = np.random.default_rng(seed)
    mean = len(labels) // classes
    rows = [np.flatnonzero(labels == label) for label in range(classes)]
    chosen = [rng.choice(some, min(mean, len(some)), replace=False) for some in rows]
    return np.sort(np.concatenate(chosen))


def drawn_anew(labels: np.ndarray, classes: int) -> np.ndarray:
    """Rows, in order, as the original took them: so many of each class as the mean class has.

    It drew with replacement and dropped repeats, so small classes lose images, too. With its seed
    this gives its own 55,789 images of EMNIST's ByClass test part.
    """
    random, mean = np.random.RandomState(42), max(1, len(labels) // classes)
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.sort(np.concatenate([np.unique(random.choice(some, mean)) for some in rows]))


def stratified(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Mask, bool (N,), of a share of each class: at least one image, and never all of them."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        size = min(max(1, round(fraction * len(rows))), len(rows) - 1)
        chosen[rng.choice(rows, size, replace=False)] = True
    return chosen
