"""How well the shipped networks read handwriting, and what they refuse: against measured.json.

`HANDWRITING_MEASURE=1 uv run pytest tests/real/test_real_predictions.py` writes that file.
"""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from nonsense import NONSENSE, pairs
from sklearn.metrics import roc_auc_score

from lib.analysis.calibration import calibration_error
from lib.data import emnist
from lib.data.classes import BYCLASS, fold_case
from lib.data.cleanup import REFUSALS, convert_all
from lib.errors import InputError
from lib.files import MODEL, PRETRAINED, ROOT, read_json, write_json
from lib.reading import Recogniser
from lib.reading.models import SHIPPED
from lib.reading.recogniser import set_scores

MEASURED = PRETRAINED / "measured.json"
REAL = Path(os.environ.get("HANDWRITING_REAL") or ROOT.parent / "shared" / "data")
LETTERS = np.array([fold_case(name) for name in BYCLASS])
ALONE = "EMNIST alone"  # a network that has learned from nothing else, for comparison
NETWORKS = SHIPPED | {ALONE: ROOT / "outputs" / "emnist" / "custom-seed0" / MODEL}
refusing = pytest.mark.parametrize("name", SHIPPED, indirect=True)  # the third has not learned it
KINDS = {"digits": slice(0, 10), "capitals": slice(10, 36), "small letters": slice(36, 62)}


@pytest.fixture(scope="module", params=NETWORKS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def reader(name):
    return Recogniser.load(NETWORKS[name])


@pytest.fixture(scope="module")
def byclass(tmp_path_factory):
    """EMNIST's official test part, and how frequent each class is in the part to train on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HANDWRITING_DATA", str(tmp_path_factory.mktemp("data")))
        arrays, _ = emnist.load("byclass", REAL / "emnist-part.zip")
        counts = np.bincount(arrays["train_labels"], minlength=62)
        return np.array(arrays["test_images"]), np.array(arrays["test_labels"]), counts


@pytest.fixture(scope="module")
def photographs():
    """The photographs of characters as the networks get them, and their labels."""
    rows = list(csv.DictReader((REAL / "photos" / "labels.csv").open()))
    images = convert_all(REAL / "photos" / row["file"] for row in rows)
    readable = [not isinstance(image, InputError) for image in images]
    assert sum(readable) > 1200
    labels = np.array([BYCLASS.index(row["label"]) for row in rows])
    return images, labels, np.array(readable)


def compare_with_measured(name: str, what: str, found: dict[str, float]) -> None:
    """Prints shares, and holds them against those that were measured when the networks were made.

    With HANDWRITING_MEASURE=1 they are written down instead.
    """
    found = {key: round(float(value), 4) for key, value in found.items()}
    print(f"\n{name}, {what}: {found}")
    measured = read_json(MEASURED) if MEASURED.exists() else {}
    if os.environ.get("HANDWRITING_MEASURE"):
        measured.setdefault(name, {})[what] = found
        write_json(MEASURED, measured)
    assert what in measured.get(name, {}), f"{name}, {what}: measure it first (see above)"
    assert measured[name][what] == pytest.approx(found, abs=0.003)  # processors differ a little


def covered(shares: np.ndarray, labels: np.ndarray, reader: Recogniser) -> tuple[float, float]:
    """How many sets hold the right class, and their mean size."""
    order = np.argsort(-shares, axis=1)
    ranked = np.take_along_axis(shares, order, axis=1)
    inside = (set_scores(ranked) if reader.by_mass else ranked) >= reader.threshold
    inside[:, 0] = True  # as Recogniser.answer does
    return (inside & (order == labels[:, None])).any(axis=1).mean(), inside.sum(axis=1).mean()


def weighted(shares: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Probabilities where classes are as frequent as `counts`, of those for equal frequencies."""
    return shares * counts / (shares * counts).sum(axis=1, keepdims=True)


def test_emnists_test_part(name, reader, byclass):
    images, labels, counts = byclass
    shares, refusals = reader.look(images)
    even = weighted(shares, 1 / counts) if name == ALONE else shares
    predicted, refused = even.argmax(axis=1), refusals.sum(axis=1) > reader.refuse_above
    recall = [(predicted[labels == label] == label).mean() for label in range(62)]
    digits, letters = labels < 10, labels >= 10
    of_26 = np.stack([shares[:, LETTERS == letter].sum(axis=1) for letter in LETTERS[10:36]], 1)
    natural = shares if name == ALONE else weighted(shares, counts)
    inside, size = covered(natural, labels, reader)
    compare_with_measured(name, "EMNIST", {
        "mean recall": np.mean(recall),
        "with its frequencies": (natural.argmax(axis=1) == labels).mean(),
        "digits": (shares[digits, :10].argmax(axis=1) == labels[digits]).mean(),
        "letters": (of_26[letters].argmax(axis=1) == (labels[letters] - 10) % 26).mean(),
        "calibration error": calibration_error(natural, labels),
        "in the set": inside,
        "size of a set": size,
        "refused": refused.mean(),
    })  # fmt: skip


def test_photographs(name, reader, photographs, byclass):
    images, labels, readable = photographs
    shares, refusals = reader.look(np.stack([images[i] for i in np.flatnonzero(readable)]))
    every, order = labels[readable], np.argsort(-shares, axis=1)
    right = np.zeros(len(labels))
    right[readable] = order[:, 0] == every
    by_kind = {kind: right[np.isin(labels, range(62)[part])].mean() for kind, part in KINDS.items()}
    if name == ALONE:  # less what it knows of EMNIST's frequencies
        form = weighted(shares, 1 / byclass[2]).argmax(axis=1)
        by_kind["62-way by form"] = readable.mean() * (form == every).mean()
    folded = np.vectorize(fold_case)(np.array([*BYCLASS]))
    inside, size = covered(shares, every, reader)
    share = readable.mean()  # the others count as wrong
    compare_with_measured(name, "photographs", {
        "62-way": share * (order[:, 0] == every).mean(),
        "case folded": share * (folded[order[:, 0]] == folded[every]).mean(),
        "top 3": share * (order[:, :3] == every[:, None]).any(axis=1).mean(),
        "calibration error": calibration_error(shares, every),
        "in the set": inside,
        "size of a set": size,
        "refused": 1 - share * (refusals.sum(axis=1) <= reader.refuse_above).mean(),
    } | by_kind)  # fmt: skip


def test_mnist_and_capitals(name, reader, data):
    arrays, _ = emnist.load("mnist", REAL / "emnist-layout.zip")
    digits = np.stack(convert_all(np.array(image) for image in arrays["test_images"]))
    digits = reader.probabilities(digits)[:, :10].argmax(axis=1) == arrays["test_labels"]
    with np.load(REAL / "nist-capitals.npz") as held:
        labels, capitals = held["labels"], np.stack(convert_all(held["images"]))
    capitals = reader.probabilities(capitals)[:, 10:36].argmax(axis=1) == labels
    compare_with_measured(name, "NIST", {"MNIST": digits.mean(), "capitals": capitals.mean()})


@refusing
def test_what_is_no_character(name, reader, byclass, photographs):
    images, _, readable = photographs
    real = [images[i] for i in np.flatnonzero(readable)]
    known = reader.look(np.concatenate([byclass[0][::20], real]))[1].sum(axis=1)
    for kind, drawn in NONSENSE.items():
        found = convert_all(drawn(300))
        usable = np.stack([image for image in found if not isinstance(image, InputError)])
        unknown = reader.look(usable)[1].sum(axis=1)
        passed = (unknown <= reader.refuse_above).sum() / len(found)
        truth = np.repeat([0, 1], [len(known), len(unknown)])
        area = roc_auc_score(truth, np.concatenate([known, unknown]))
        compare_with_measured(name, kind, {"refused": 1 - passed, "AUROC": area})


@refusing
@pytest.mark.parametrize("above", [False, True], ids=["beside", "above"])
def test_two_characters_that_touch(name, reader, byclass, above):
    found = reader.predict_all(pairs(byclass[0][:20_000], 500, 0, above))
    several = np.mean([one.reason == REFUSALS["(several)"] for one in found])
    refused = np.mean([bool(one.reason) for one in found])
    compare_with_measured(
        name, f"pairs {'above' if above else 'beside'}", {"several": several, "refused": refused}
    )


@refusing
def test_of_thirty_zigzags_hardly_any_gets_a_letter(name, reader):
    found = reader.predict_all(NONSENSE["zigzags"](30, seed=1))
    compare_with_measured(
        name, "thirty zigzags", {"over 70 %": sum(one.confidence > 0.7 for one in found)}
    )
