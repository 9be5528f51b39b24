"""A user's own images, in class folders or listed in labels.csv, converted as EMNIST's were.

    FOLDER/A/any name.png, FOLDER/b/...      the folder's name is the class
    FOLDER/labels.csv with columns file,label  files relative to FOLDER

Either may be split into FOLDER/train and FOLDER/test. Where a file system cannot tell `a` from
`A`, `a_lower` and `A_upper` (or `a_upper`) are taken for them. Hidden files are passed over.
"""

import csv
import os
from collections import Counter
from pathlib import Path

import numpy as np

from lib.data.cache import cached_arrays, digest
from lib.errors import InputError

LEAST_IMAGES = 3  # of a class: one each to train, validate and test on
CLUTTER = {"Thumbs.db", "desktop.ini", "__MACOSX"}

Item = tuple[Path, str]  # image file, class name


def load(folder: str | Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """All images of a folder, cached until a file's name, size or time of change is another one.

    Returns the arrays `images` (uint8 (N, 28, 28), upright, ink bright on 0), `labels` (int64 (N,),
    from 0), `in_test` (bool (N,), all False where there are no train and test folders) and
    `checksum` (MD5 of the others), and the class names: digits, upper case, lower case, longer
    names. Raises InputError that names the file or class which cannot be used.
    """
    folder = Path(os.path.expanduser(folder))
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; name one with class folders or labels.csv.")
    divided = (folder / "train").is_dir() and (folder / "test").is_dir()
    train = list_images(folder / "train" if divided else folder)
    test = list_images(folder / "test") if divided else []
    names = sorted({name for _, name in train}, key=lambda name: (len(name) > 1, name))
    _check_classes(folder, train, test, names)

    def build() -> dict[str, np.ndarray]:
        images = np.stack([_converted(file) for file, _ in train + test])  # (N, 28, 28)
        labels = np.array([names.index(name) for _, name in train + test])
        in_test = np.arange(len(labels)) >= len(train)
        checksum = np.array(digest(images, labels, in_test))
        return {"images": images, "labels": labels, "in_test": in_test, "checksum": checksum}

    return cached_arrays(f"folders/{_fingerprint(train, test)}", build), names


def list_images(folder: Path) -> list[Item]:
    """The image files of a folder and their classes, sorted by file; none is opened."""
    if (folder / "labels.csv").is_file():
        return _listed(folder / "labels.csv")
    items = []
    for subfolder in filter(Path.is_dir, _visible(folder)):
        files = _visible(subfolder)
        if not files:
            raise InputError(f"Class folder {subfolder} holds no image; add some or delete it.")
        letter, _, case = subfolder.name.partition("_")
        spelt_out = len(letter) == 1 and case in ("upper", "lower")
        name = getattr(letter, case)() if spelt_out else subfolder.name
        items += [(file, name) for file in files]
    return items


def _visible(folder: Path) -> list[Path]:
    named = [path for path in folder.iterdir() if path.name not in CLUTTER]
    return sorted(path for path in named if not path.name.startswith("."))


def _listed(table: Path) -> list[Item]:
    try:
        with open(table, newline="", encoding="utf-8-sig") as stream:  # spreadsheets write a mark
            reader = csv.DictReader(stream)
            columns, rows = reader.fieldnames or [], list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table} is no UTF-8 table ({error}); save it as CSV UTF-8.") from error
    if missing := {"file", "label"} - set(columns):
        raise InputError(f"{table} has no column `{min(missing)}`; begin it with file,label.")
    for line, row in enumerate(rows, start=2):
        if not row["file"] or not row["label"]:
            raise InputError(f"Line {line} of {table} lacks a file or a label; complete it.")
        if not (table.parent / row["file"]).is_file():
            raise InputError(f"Line {line} of {table} names {row['file']}, which is not there.")
    return sorted((table.parent / row["file"], row["label"]) for row in rows)


def _check_classes(folder: Path, train: list[Item], test: list[Item], names: list[str]) -> None:
    if len(names) < 2:
        raise InputError(f"{folder} has images of fewer than 2 classes; give each class a folder.")
    counts = Counter(name for _, name in train)
    rarest = min(names, key=counts.get)
    if counts[rarest] < LEAST_IMAGES:
        found = f"Class '{rarest}' in {folder} has {counts[rarest]} images"
        needed = f"at least {LEAST_IMAGES} are needed; add some or leave the class out"
        raise InputError(f"{found}, and {needed}.")
    for file, name in test:
        if name not in counts:
            raise InputError(f"{file} is of class '{name}', which has no image to train on.")


def _converted(file: Path) -> np.ndarray:
    from lib.data.cleanup import convert  # with it comes torch, which takes seconds

    try:
        return convert(file)
    except InputError as error:
        reason = str(error)
        if not reason.startswith(str(file)):
            reason = f"{file} cannot be used, because {reason[0].lower()}{reason[1:]}"
        raise InputError(reason) from error


def _fingerprint(train: list[Item], test: list[Item]) -> str:
    try:
        found = [(str(file.resolve()), name, file.stat()) for file, name in train + test]
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read ({error.strerror}).") from error
    states = [(file, name, state.st_size, state.st_mtime_ns) for file, name, state in found]
    return digest(repr((states, len(train))))
