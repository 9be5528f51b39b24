"""What a class is called: the names of EMNIST's six splits, and which characters look alike.

Source of the splits: Cohen, Afshar, Tapson, van Schaik (2017), https://arxiv.org/abs/1702.05373
"""

import string
from collections.abc import Iterable

import numpy as np

from lib.errors import InputError

DIGITS = string.digits
BYCLASS = DIGITS + string.ascii_uppercase + string.ascii_lowercase
MERGED = "cijklmopsuvwxyz"  # small letters that EMNIST's merged splits count with their capital
BYMERGE = "".join(name for name in BYCLASS if name not in MERGED)

NAMES = {
    "byclass": BYCLASS,
    "bymerge": BYMERGE,
    "balanced": BYMERGE,
    "letters": string.ascii_uppercase,
    "digits": DIGITS,
    "mnist": DIGITS,
}

LOOK_ALIKES = ("0Oo", "1lIi", "5Ss", "9qg", "2Zz")


def class_names(split: str) -> list[str]:
    """Names of a split's classes in the order of their labels: 62, 47, 47, 26, 10 or 10 of them."""
    if split not in NAMES:
        raise InputError(f"There is no EMNIST split '{split}'; choose one of {', '.join(NAMES)}.")
    return list(NAMES[split])


def fold_case(name: str) -> str:
    """The name with upper and lower case counted as one: 'a' and 'A' both give 'A'."""
    return name.upper() if len(name) == 1 else name


def in_one_group(first: str, second: str, groups: Iterable[str]) -> bool:
    """Whether one of the groups, such as "0Oo", holds both class names."""
    return any(first in group and second in group for group in groups)


def fold_look_alikes(name: str) -> str:
    """The name with case folded and LOOK_ALIKES counted as one: 'l', 'L' and '1' give '1lIi'."""
    folded = fold_case(name)
    return next((group for group in LOOK_ALIKES if folded in map(fold_case, group)), folded)


def split_labels(split: str) -> np.ndarray:
    """A split's label of each of the 62 ByClass classes, int64 (62,); -1 where it has none."""
    labels = {name: label for label, name in enumerate(class_names(split))}
    return np.array([labels.get(name, labels.get(name.upper(), -1)) for name in BYCLASS])
