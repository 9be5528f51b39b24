"""Whatever the source, characters to train, validate and test on: the one way into data."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.data import emnist, folder
from lib.data.cache import cached_arrays, digest
from lib.data.characters import CharacterData, capped, stratified, unequal
from lib.data.classes import DIGITS, class_names, split_labels
from lib.errors import InputError
from lib.params import DataParameters, check

ARRAYS = [f"{part}_{what}" for part in ("train", "valid", "test") for what in ("images", "labels")]
TEST_FRACTION = 0.2  # of a folder that has no test part


def load_data(parameters: DataParameters | None = None, **overrides) -> CharacterData:
    """The characters that the parameters name, divided: load_data(source="strokes", per_class=100).

    Test is the source's own, whole and as it comes; a folder without one has a fifth of each class
    cut for it first. Train is capped, then a share of each of its classes becomes validation,
    unless the source has its own; all keep the source's order. The second call reads memory-mapped
    files and takes milliseconds. Raises InputError for whatever cannot be used.
    """
    given = parameters.model_dump(include=set(DataParameters.model_fields)) if parameters else {}
    parameters = check(DataParameters, given | overrides)
    source = SOURCES[parameters.source](parameters)
    choices = parameters.cap, parameters.valid_fraction, parameters.data_seed
    key = digest(repr((source.checksum, source.split, source.class_names, choices)))
    arrays = cached_arrays(f"divided/{key}", lambda: _divided(source, *choices))
    checksum = str(arrays.pop("checksum"))
    return replace(source, **arrays, checksum=checksum, parameters=parameters)


def data_of(row: Mapping, archive: str = "", folder: str = "") -> CharacterData:
    """The characters that a run was given, all of them, by its row of the results.

    Results hold no paths: `archive` or `folder` say where the source is. Raises InputError as
    load_data does, and where what is there now is not what the run was given.
    """
    values = {key: row[key] for key in DataParameters.model_fields if key in row}
    plain = {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in values.items()
    }
    data = load_data(**plain | {"archive": archive, "folder": folder})
    if data.checksum != row["checksum"]:
        raise InputError(
            f"The characters of {row['run']} have changed since it was made: run its profile again."
        )
    return data


def _divided(source: CharacterData, cap: str, fraction: float, seed: int) -> dict[str, np.ndarray]:
    images, labels, names = source.train_images, source.train_labels, source.class_names
    arrays = {name: getattr(source, name) for name in ARRAYS}
    train = capped(labels, len(names), seed) if cap == "mean" else np.arange(len(labels))
    if not len(source.valid_labels):
        chosen = stratified(labels[train], fraction, seed)
        valid, train = train[chosen], train[~chosen]
        arrays |= {"valid_images": images[valid], "valid_labels": labels[valid]}
    arrays |= {"train_images": images[train], "train_labels": labels[train]}
    shapes = [array.shape for array in arrays.values()]
    return arrays | {"checksum": np.array(digest(repr((names, shapes)), *arrays.values()))}


def _strokes(parameters: DataParameters) -> CharacterData:
    split, seed, names = parameters.split, parameters.data_seed, class_names(parameters.split)
    sizes = {"train": parameters.per_class, "test": parameters.test_per_class}
    key = digest(repr((sizes, seed, split, parameters.class_ratio)))
    share = unequal(len(names), parameters.class_ratio, seed)
    arrays = cached_arrays(f"strokes/{key}", lambda: _generated(split, share, sizes, seed))
    return _undivided(arrays, names, "generated strokes", key, split)


def _generated(split: str, share: np.ndarray, sizes: dict, seed: int) -> dict[str, np.ndarray]:
    from lib.data import strokes  # with it comes torch, which takes seconds

    wanted, arrays = split_labels(split), {}  # (62,), -1: not in this split
    for part, per_class in sizes.items():
        counts = np.round(per_class * share[wanted]).astype(int)
        counts = np.maximum(counts, min(2, per_class)) * (wanted >= 0)  # 2: to train and validate
        with tqdm(total=counts.sum(), desc=f"drawing {part}", disable=None) as bar:
            images, labels = strokes.generate(
                counts, seed, part, lambda done, _: bar.update(done - bar.n)
            )
        arrays |= {f"{part}_images": images, f"{part}_labels": wanted[labels]}
    return arrays


def _emnist(parameters: DataParameters) -> CharacterData:
    arrays, md5 = emnist.load(parameters.split, parameters.archive)
    name = Path(parameters.archive).name
    official = md5 == emnist.OFFICIAL_MD5
    note = f"Archive {name}, md5 {md5}, is not the official EMNIST archive."
    return replace(
        _undivided(arrays, class_names(parameters.split), "EMNIST", md5, parameters.split),
        **{} if official else {"dataset": f"archive {name}", "note": note},
    )


def _digits(parameters: DataParameters) -> CharacterData:
    arrays = cached_arrays("digits", _read_digits)
    return _undivided(arrays, list(DIGITS), "UCI digits (scikit-learn)", "digits")


def _read_digits() -> dict[str, np.ndarray]:
    from lib.data import digits  # with it come torch and scikit-learn, which take seconds

    return digits.load()


def _folder(parameters: DataParameters) -> CharacterData:
    found, names = folder.load(parameters.folder)
    images, labels, in_test = found["images"], found["labels"], found["in_test"]
    if not in_test.any():
        in_test = stratified(labels, TEST_FRACTION, parameters.data_seed)
    arrays = {"train_images": images[~in_test], "train_labels": labels[~in_test]}
    arrays |= {"test_images": images[in_test], "test_labels": labels[in_test]}
    name = Path(parameters.folder).resolve().name
    return _undivided(arrays, names, f"folder {name}", str(found["checksum"]))


def _undivided(arrays: dict, names: list, dataset: str, checksum: str, split="") -> CharacterData:
    empty = {name: arrays[name.replace("valid", "train")][:0] for name in ARRAYS if "valid" in name}
    return CharacterData(
        **empty | arrays, class_names=names, dataset=dataset, split=split, checksum=checksum
    )


SOURCES = {"strokes": _strokes, "emnist": _emnist, "digits": _digits, "folder": _folder}
