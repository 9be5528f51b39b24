"""Checks on EMNIST's own characters: its ByClass test part, and a quarter of those to train on.

Their folder is HANDWRITING_REAL or ../shared/data.

Not run by default: `pytest tests/real`. Where the archive is absent these tests fail.
"""

import ast
import json
import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lib.data import emnist, load_data
from lib.data.characters import drawn_anew
from lib.data.classes import NAMES, class_names
from lib.data.orientation import check_fit
from lib.files import ROOT

REAL = Path(os.environ.get("HANDWRITING_REAL") or ROOT.parent / "shared" / "data")
ARCHIVE = REAL / "emnist-part.zip"
SIZES = {"mnist": (60_000, 10_000), "byclass": (172_803, 116_323), "balanced": (89_939, 18_800)}


@pytest.fixture(autouse=True, scope="module")
def data(tmp_path_factory):
    """Each split is read once for all of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HANDWRITING_DATA", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.mark.parametrize("split", NAMES)
def test_every_split_loads_with_all_its_classes(split):
    loaded, _ = emnist.load(split, ARCHIVE)
    labels = set(range(len(class_names(split))))
    assert set(loaded["train_labels"]) == set(loaded["test_labels"]) == labels


@pytest.mark.parametrize("split", SIZES)
def test_a_split_has_the_images_it_should(split):
    loaded, _ = emnist.load(split, ARCHIVE)
    assert (len(loaded["train_images"]), len(loaded["test_images"])) == SIZES[split]


@pytest.mark.parametrize("split", NAMES)
@pytest.mark.parametrize("part", ["train", "test"])
def test_images_turned_before_are_refused(split, part):
    loaded, _ = emnist.load(split, ARCHIVE)
    images, labels = loaded[f"{part}_images"], loaded[f"{part}_labels"]
    with pytest.raises(ValueError, match="not transposed"):
        check_fit(images.transpose(0, 2, 1), labels, split)


@pytest.mark.parametrize("split", NAMES)
def test_shuffled_labels_are_refused(split):
    loaded, _ = emnist.load(split, ARCHIVE)
    labels = np.random.default_rng(0).permutation(loaded["train_labels"])
    with pytest.raises(ValueError, match="do not fit their labels"):
        check_fit(loaded["train_images"], labels, split)


def test_mnist_has_its_own_class_counts():
    labels = emnist.load("mnist", ARCHIVE)[0]["test_labels"]
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_no_result_on_it_is_called_emnist():
    found = load_data(source="emnist", split="digits", archive=str(ARCHIVE))
    assert (
        found.dataset == "archive emnist-part.zip"
        and "is not the official EMNIST archive" in found.note
    )


def constant_of(chapter, name):
    """What a chapter's code says this constant is."""
    notebook = next((ROOT / "notebooks").glob(f"{chapter}-*.ipynb"))
    code = [cell for cell in json.loads(notebook.read_text())["cells"] if "outputs" in cell]
    lines = [ast.parse("".join(cell["source"])).body for cell in code]
    (value,) = [
        line.value
        for line in sum(lines, [])
        if isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") == name
    ]
    return ast.literal_eval(value)


@pytest.fixture
def official_test():
    """Images and labels of EMNIST's official ByClass test part."""
    loaded, _ = emnist.load("byclass", ARCHIVE)
    return loaded["test_images"], loaded["test_labels"]


def test_the_original_drew_these_55_789_test_images(official_test):
    assert len(drawn_anew(official_test[1], 62)) == 55_789


def test_the_archive_of_real_characters_shares_no_image_between_its_parts():
    assert load_data(source="emnist", archive=str(ARCHIVE)).n_shared() == 0


def test_what_01_says_of_the_pen_in_emnist_is_so(official_test):
    images, border = official_test[0], np.ones((28, 28), bool)
    border[2:-2, 2:-2] = False
    found = [images.mean(), (images > 127).mean(), images[:, border].mean()]
    assert list(constant_of("01", "EMNIST").values()) == pytest.approx(found, abs=6e-4)


def test_what_05_says_of_ink_and_case_in_emnist_is_so(official_test):
    (images, labels), names = official_test, class_names("byclass")
    ink = images.mean(axis=(1, 2))
    for name, area in constant_of("05", "EMNIST").items():
        small, capital = (labels == names.index(letter) for letter in (name, name.upper()))
        found = roc_auc_score(small[small | capital], ink[small | capital])
        assert area == pytest.approx(found, abs=0.006), name
