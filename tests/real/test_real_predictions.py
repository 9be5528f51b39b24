"""How well the shipped model reads handwriting it has never seen; printed with `pytest -s`."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from lib.data import emnist
from lib.data.classes import BYCLASS, fold_case
from lib.files import ROOT
from lib.reading import Prediction, Recogniser

REAL = Path(os.environ.get("HANDWRITING_REAL") or ROOT.parent / "shared" / "data")
CAPITALS, DIGITS = BYCLASS[10:36], BYCLASS[:10]


@pytest.fixture(scope="module")
def recogniser():
    return Recogniser.load()


def accuracies(answers: list[Prediction], names: list[str]) -> dict[str, float]:
    """Shares of answers, 0 to 1: right, right but for the case, in the first three, in the set."""
    first_three = [[name for name, _ in answer.alternatives[:3]] for answer in answers]
    found = {
        "62-way": [answer.label == name for answer, name in zip(answers, names, strict=True)],
        "case folded": [
            fold_case(answer.label) == fold_case(name)
            for answer, name in zip(answers, names, strict=True)
        ],
        "top 3": [name in three for three, name in zip(first_three, names, strict=True)],
        "in the set": [name in answer.set for answer, name in zip(answers, names, strict=True)],
    }
    return {name: float(np.mean(right)) for name, right in found.items()}


def among(answer: Prediction, names: str) -> str:
    """The likeliest of some classes."""
    return next((name for name, _ in answer.alternatives if name in names), "")


def tell(what: str, found: dict[str, float]) -> dict[str, float]:
    print(f"\n{what}: " + ", ".join(f"{name} {share:.1%}" for name, share in found.items()))
    return found


def test_photographs_that_nobody_tuned_it_on(recogniser):
    rows = list(csv.DictReader((REAL / "photos" / "labels.csv").open()))
    answers = recogniser.predict_all([REAL / "photos" / row["file"] for row in rows])
    found = tell("photographed characters", accuracies(answers, [row["label"] for row in rows]))
    assert found["62-way"] >= 0.72 and found["case folded"] >= 0.88 and found["top 3"] >= 0.94


def test_the_archive_s_photographed_characters(recogniser, data):
    split, _ = emnist.load("byclass", REAL / "emnist-layout.zip")
    answers = recogniser.predict_all(np.array(image) for image in split["test_images"])
    found = tell(
        "the same, as the archive holds them",
        accuracies(answers, [BYCLASS[label] for label in split["test_labels"]]),
    )
    assert found["62-way"] >= 0.72 and found["case folded"] >= 0.88 and found["top 3"] >= 0.94


def test_capitals_of_nist(recogniser):
    with np.load(REAL / "nist-capitals.npz") as arrays:
        answers, labels = recogniser.predict_all(arrays["images"]), arrays["labels"]
    right = float(
        np.mean(
            [
                among(answer, CAPITALS) == CAPITALS[label]
                for answer, label in zip(answers, labels, strict=True)
            ]
        )
    )
    assert tell("NIST capitals", {"among the 26": right})["among the 26"] >= 0.92


def test_digits_of_mnist(recogniser, data):
    split, _ = emnist.load("mnist", REAL / "emnist-layout.zip")
    answers = recogniser.predict_all(np.array(image) for image in split["test_images"])
    right = float(
        np.mean(
            [
                among(answer, DIGITS) == DIGITS[label]
                for answer, label in zip(answers, split["test_labels"], strict=True)
            ]
        )
    )
    assert tell("MNIST", {"among the ten": right})["among the ten"] >= 0.93
