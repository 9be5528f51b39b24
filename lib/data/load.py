"""Characters to train, validate and test on, whatever their source: the one way into data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.data.cache import cached_arrays, digest, save_blocks
from lib.data.classes import BYCLASS, class_names, split_labels
from lib.errors import InputError
from lib.files import ROOT
from lib.params import DataParameters, check

BLOCK = 8192  # images copied at a time
TEST_FRACTION = 0.2  # of a folder that has no test part


@dataclass(frozen=True)
class CharacterData:
    """Images uint8 (N, 28, 28), upright, ink bright on 0; labels int64 (N,) from 0. Arrays are read-only.

    `dataset` is "EMNIST" only for the official archive; `note` is what a result must say of it otherwise.
    `split` is "" for a folder. `checksum` is the MD5 of the archive, or of the source's arrays.
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
    parameters: DataParameters | None = (
        None  # that load_data was given; None for arrays put together by hand
    )


def load_data(parameters: DataParameters | None = None, **overrides) -> CharacterData:
    """The characters that the parameters name, divided: load_data(source="strokes", per_class=100).

    Test is the source's own, whole and as it comes; a folder without one has a fifth of each class cut for it first.
    Train is capped, then a share of each of its classes becomes validation; both keep the source's order. The second
    call reads memory-mapped files and takes milliseconds. Raises InputError for whatever cannot be used.
    """
    given = parameters.model_dump(include=set(DataParameters.model_fields)) if parameters else {}
    parameters = check(DataParameters, given | overrides)
    source = {"strokes": _strokes, "emnist": _emnist, "folder": _folder}[parameters.source](
        parameters
    )
    seed = parameters.data_seed
    key = digest(
        f"{source.checksum} {source.split} {parameters.cap} {parameters.valid_fraction} {seed}"
    )

    def build(target: Path) -> None:
        rows = np.arange(len(source.train_labels))
        if parameters.cap == "mean":
            rows = capped(source.train_labels, len(source.class_names), seed)
        in_valid = stratified(source.train_labels[rows], parameters.valid_fraction, seed)
        _save_part(target, "train", source, rows[~in_valid])
        _save_part(target, "valid", source, rows[in_valid])

    return replace(source, **cached_arrays(f"divided/{key}", build), parameters=parameters)


def data_of(row: Mapping, archive: str = "", folder: str = "") -> CharacterData:
    """The characters that a run was given, all of them, by its row of the results.

    Results hold no paths: `archive` or `folder` say where the source is. Raises InputError as
    load_data does, and where what is there now is not what the run was given.
    """
    paths = {"archive": archive} if row["source"] == "emnist" else {"folder": folder}
    fields = {key: row[key] for key in DataParameters.model_fields if key in row}
    plain = {
        key: getattr(value, "item", lambda value=value: value)() for key, value in fields.items()
    }
    data = load_data(**plain | {key: path for key, path in paths.items() if path})
    if data.checksum != row["checksum"]:
        raise InputError(
            f"The characters of run {row['run']} have changed since it was made: run its profile again."
        )
    return data


def draw(data: CharacterData, n: int, seed: int) -> CharacterData:
    """The data with n training images, of each class its share and at least one; all for n = 0."""
    total = len(data.train_labels)
    if not 0 < n < total:
        return data
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(data.train_labels == label) for label in np.unique(data.train_labels)]
    chosen = [rng.permutation(some)[: max(1, round(n * len(some) / total))] for some in classes]
    rows = np.sort(np.concatenate(chosen))
    return replace(data, train_images=data.train_images[rows], train_labels=data.train_labels[rows])


def capped(labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Rows, in order, of a sample with at most the mean class size of each class."""
    rng = np.random.default_rng(seed)
    mean = len(labels) // classes
    rows = [np.flatnonzero(labels == label) for label in range(classes)]
    return np.sort(
        np.concatenate([rng.choice(some, min(mean, len(some)), replace=False) for some in rows])
    )


def stratified(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Mask, bool (N,), of a share of each class: at least one image, and never all of them."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        size = min(max(1, round(fraction * len(rows))), len(rows) - 1)
        chosen[rng.choice(rows, size, replace=False)] = True
    return chosen


def _save_part(target: Path, part: str, source: CharacterData, rows: np.ndarray) -> None:
    # Saved, not indexed at each call: notebooks that run at once then share one copy of ByClass's 547 MB in memory.
    blocks = (
        source.train_images[rows[start : start + BLOCK]] for start in range(0, len(rows), BLOCK)
    )
    save_blocks(target / f"{part}_images.npy", (len(rows), 28, 28), blocks)
    np.save(target / f"{part}_labels.npy", source.train_labels[rows])


def _undivided(train_images: np.ndarray, train_labels: np.ndarray, **rest) -> CharacterData:
    return CharacterData(train_images, train_labels, train_images[:0], train_labels[:0], **rest)


def _emnist(parameters: DataParameters) -> CharacterData:
    from lib.data import (
        emnist,
    )  # each source's own module is imported with it: what is cached needs none of them

    split = emnist.load(parameters.split, parameters.archive)
    return _undivided(
        split.train_images,
        split.train_labels,
        test_images=split.test_images,
        test_labels=split.test_labels,
        class_names=split.class_names,
        dataset="EMNIST" if split.official else f"archive {split.archive}",
        split=parameters.split,
        checksum=split.md5,
        note=split.note,
    )


def _strokes(parameters: DataParameters) -> CharacterData:
    split, seed = parameters.split, parameters.data_seed
    sizes = {"train": parameters.per_class, "test": parameters.test_per_class}
    code = [
        (ROOT / "lib" / "data" / module).read_text()
        for module in ("forms.py", "forms.txt", "strokes.py", "emnist_format.py")
    ]  # another generator, others

    def build(target: Path) -> None:
        from lib.data import strokes

        arrays = {}
        for part, per_class in sizes.items():
            with tqdm(
                total=len(BYCLASS) * per_class,
                desc=f"drawing {part}",
                unit=" characters",
                disable=None,
            ) as bar:
                pictures, labels = strokes.generate(
                    per_class, seed, part, lambda done, _: bar.update(done - bar.n)
                )
            labels = split_labels(split)[labels]  # -1: not in this split
            arrays |= {
                f"{part}_images": pictures[labels >= 0],
                f"{part}_labels": labels[labels >= 0],
            }
        arrays["checksum"] = np.array([digest(*arrays.values())])
        for name, array in arrays.items():
            np.save(target / f"{name}.npy", array)

    arrays = cached_arrays(f"strokes/{digest(repr((sizes, seed, split)), *code)}", build)
    arrays["checksum"] = str(arrays["checksum"][0])
    return _undivided(
        **arrays, class_names=class_names(split), dataset="generated strokes", split=split
    )


def _folder(parameters: DataParameters) -> CharacterData:
    from lib.data import folder

    arrays, names = folder.load(parameters.folder)
    pictures, labels, in_test = arrays["images"], arrays["labels"], arrays["in_test"]
    if not in_test.any():
        in_test = stratified(labels, TEST_FRACTION, parameters.data_seed)
    return _undivided(
        pictures[~in_test],
        labels[~in_test],
        test_images=pictures[in_test],
        test_labels=labels[in_test],
        class_names=names,
        dataset=f"folder {Path(parameters.folder).resolve().name}",
        split="",
        checksum=str(arrays["checksum"][0]),
    )
