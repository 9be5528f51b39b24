"""Whatever the source, characters to train, validate and test on: the one way into data."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lib.data import emnist, folder
from lib.data.cache import cached_arrays, copied_rows, digest
from lib.data.characters import CharacterData, capped, drawn_anew, stratified
from lib.data.classes import DIGITS, class_names, split_labels
from lib.errors import InputError
from lib.params import DataParameters, check

TEST_FRACTION = 0.2  # of a folder that has no test part

Arrays = dict[str, np.ndarray]  # train_images, train_labels, test_images, ...
Source = tuple[Arrays, list[str], str, str, str]  # and class names, dataset, note, key of a cache


def load_data(parameters: DataParameters | None = None, **overrides) -> CharacterData:
    """The characters that the parameters name, divided: load_data(source="strokes", per_class=100).

    Test is the source's own, or a fifth of each class of a folder without one. Train is capped (and
    test, where both are drawn as the original drew them), then a share of each of its classes
    becomes validation, unless the source has its own. All keep the source's order and are cached.
    Raises InputError for whatever cannot be used.
    """
    given = parameters.model_dump(include=set(DataParameters.model_fields)) if parameters else {}
    parameters = check(DataParameters, given | overrides)
    source, names, dataset, note, key = SOURCES[parameters.source](parameters)
    choices = parameters.cap, parameters.valid_fraction, parameters.data_seed
    key = digest(repr((key, names, choices)))
    arrays = cached_arrays(f"divided/{key}", lambda: _divided(source, names, *choices))
    split = parameters.split if parameters.source in ("strokes", "emnist") else ""
    checksum = str(arrays.pop("checksum"))
    about = {"dataset": dataset, "split": split, "checksum": checksum, "note": note}
    return CharacterData(**arrays, class_names=names, parameters=parameters, **about)


def data_of(row: Mapping, archive: str = "", folder: str = "") -> CharacterData:
    """The characters that a run was given, all of them, by its row of the results.

    Results hold no paths: `archive` or `folder` say where the source is. Raises InputError as
    load_data does, and where what is there now is not what the run was given.
    """
    given = {key: row[key] for key in DataParameters.model_fields if row.get(key, "") != ""}
    given |= {key: value.item() for key, value in given.items() if isinstance(value, np.generic)}
    paths = {"emnist": {"archive": archive}, "folder": {"folder": folder}}
    data = load_data(**given | paths.get(row["source"], {}))
    if data.checksum != row["checksum"]:
        problem = f"The characters of {row['run']} have changed since it was made"
        raise InputError(f"{problem}: run its profile again.")
    return data


def _divided(source: Arrays, names: list[str], cap: str, fraction: float, seed: int) -> Arrays:
    """The source's arrays with train divided into train and valid, and the checksum of all."""
    images, labels = source["train_images"], source["train_labels"]
    arrays, train = dict(source), np.arange(len(labels))
    if cap == "mean":
        train = capped(labels, len(names), seed)
    if cap == "drawn":
        train, test = (drawn_anew(part, len(names)) for part in (labels, source["test_labels"]))
        arrays |= {f"test_{kind}": source[f"test_{kind}"][test] for kind in ("images", "labels")}
    if "valid_labels" not in source:
        chosen = stratified(labels[train], fraction, seed)
        valid, train = train[chosen], train[~chosen]
        arrays |= {"valid_images": copied_rows(images, valid), "valid_labels": labels[valid]}
    arrays |= {"train_images": copied_rows(images, train), "train_labels": labels[train]}
    arrays = dict(sorted(arrays.items()))
    described = repr((names, [array.shape for array in arrays.values()]))
    return arrays | {"checksum": np.array(digest(described, *arrays.values()))}


def _strokes(parameters: DataParameters) -> Source:
    split, seed, ratio = parameters.split, parameters.data_seed, parameters.class_ratio
    sizes = {"train": parameters.per_class, "test": parameters.test_per_class}
    names = class_names(split)

    def build() -> Arrays:
        from lib.data import strokes  # with it comes torch, which takes seconds

        wanted, arrays = split_labels(split), {}  # (62,), -1: not in this split
        shares = np.geomspace(1, 1 / ratio, len(names))  # of the largest class
        share = np.random.default_rng(seed).permutation(shares)[wanted]
        for part, per_class in sizes.items():
            counts = np.round(per_class * share).astype(int)
            counts = np.maximum(counts, min(2, per_class)) * (wanted >= 0)  # to train and validate
            images, labels = strokes.generate(counts, seed, part, bar=f"drawing {part}")
            arrays |= {f"{part}_images": images, f"{part}_labels": wanted[labels]}
        return arrays

    key = digest(repr((sizes, seed, split, ratio)))
    return cached_arrays(f"strokes/{key}", build), names, "generated strokes", "", key


def _emnist(parameters: DataParameters) -> Source:
    arrays, md5 = emnist.load(parameters.split, parameters.archive)
    dataset, note, name = "EMNIST", "", Path(parameters.archive).name
    if md5 != emnist.OFFICIAL_MD5:
        dataset = f"archive {name}"
        note = f"Archive {name}, md5 {md5}, is not the official EMNIST archive."
    return arrays, class_names(parameters.split), dataset, note, f"{parameters.split} {md5}"


def _digits(parameters: DataParameters) -> Source:
    def build() -> Arrays:
        from lib.data import digits  # with it come torch and scikit-learn, which take seconds

        return digits.load()

    return cached_arrays("digits", build), list(DIGITS), "UCI digits (scikit-learn)", "", "digits"


def _folder(parameters: DataParameters) -> Source:
    found, names = folder.load(parameters.folder)
    images, labels, in_test = found["images"], found["labels"], found["in_test"]
    if not in_test.any():
        in_test = stratified(labels, TEST_FRACTION, parameters.data_seed)
    arrays = {"train_images": images[~in_test], "train_labels": labels[~in_test]}
    arrays |= {"test_images": images[in_test], "test_labels": labels[in_test]}
    dataset = f"folder {Path(parameters.folder).resolve().name}"
    return arrays, names, dataset, "", str(found["checksum"])


SOURCES = {"strokes": _strokes, "emnist": _emnist, "digits": _digits, "folder": _folder}
