import numpy as np
import pytest

from lib.analysis.confusions import (
    count_confusions,
    error_budget,
    errors_only,
    found_groups,
    merged_accuracy,
    row_normalised,
    suspicious_labels,
    top_pairs,
)
from lib.data.classes import BYCLASS, BYMERGE, class_names, fold_case, fold_look_alikes

NAMES = ["0", "O", "1"]
ACTUAL = np.array([0, 0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 0, 1, 0, 0, 2])
COUNTS = count_confusions(ACTUAL, PREDICTED, 3)


def test_rows_are_actual_and_columns_predicted():
    assert COUNTS.tolist() == [[3, 1, 0], [2, 0, 0], [0, 0, 1]]


def test_a_class_without_images_is_counted_as_zeros():
    assert count_confusions(ACTUAL, PREDICTED, 5).shape == (5, 5)


def test_rows_are_normalised_by_the_actual_class():
    assert row_normalised(COUNTS)[0].tolist() == [0.75, 0.25, 0]


def test_errors_only_has_an_empty_diagonal_and_leaves_the_counts_alone():
    assert np.diag(errors_only(COUNTS)).tolist() == [0, 0, 0] and COUNTS[0, 0] == 3


def test_top_pairs_keeps_the_directions_apart():
    rows = top_pairs(COUNTS, NAMES)[["actual", "predicted", "count"]].values.tolist()
    assert rows == [["O", "0", 2], ["0", "O", 1]]


def test_the_share_of_a_pair_is_of_its_actual_class():
    assert top_pairs(COUNTS, NAMES)["share"].tolist() == [1.0, 0.25]


def test_merging_forgives_errors_within_a_group():
    assert merged_accuracy(ACTUAL, PREDICTED, NAMES, str) == pytest.approx(4 / 7)
    assert merged_accuracy(ACTUAL, PREDICTED, NAMES, fold_look_alikes) == 1


def test_without_an_error_there_is_no_pair_no_group_and_no_suspicion():
    right = np.arange(3)
    counts = count_confusions(right, right, 3)
    assert top_pairs(counts, NAMES).empty and found_groups(counts, NAMES) == []
    assert suspicious_labels(right, np.eye(3), NAMES).empty


def test_class_names_of_every_split_have_the_right_number():
    sizes = {
        split: len(class_names(split))
        for split in ("byclass", "bymerge", "balanced", "letters", "digits", "mnist")
    }
    assert sizes == {
        "byclass": 62,
        "bymerge": 47,
        "balanced": 47,
        "letters": 26,
        "digits": 10,
        "mnist": 10,
    }


def test_merged_splits_keep_the_eleven_small_letters_that_differ_from_their_capital():
    assert BYMERGE[36:] == "abdefghnqrt" and BYCLASS[36:39] == "abc"


def test_merging_look_alikes_never_parts_what_folding_case_joins():
    pairs = [(a, b) for a in BYCLASS for b in BYCLASS if fold_case(a) == fold_case(b)]
    assert all(fold_look_alikes(a) == fold_look_alikes(b) for a, b in pairs)
    assert fold_look_alikes("l") == fold_look_alikes("1") != fold_look_alikes("5")


def test_folding_case_leaves_digits_and_words_alone():
    assert [fold_case(name) for name in ("a", "A", "7", "alpha")] == ["A", "A", "7", "alpha"]


def block(groups, n_classes, exchanged):
    """Counts of 100 images a class, of which `exchanged` go to each other class of its group."""
    counts = 100 * np.eye(n_classes, dtype=int)
    for group in groups:
        for i in group:
            for j in group:
                if i != j:
                    counts[i, j] += exchanged
                    counts[i, i] -= exchanged
    return counts


def test_groups_that_are_confused_are_found_the_most_confused_first():
    counts = block([[0, 1]], 6, 10) + block([[3, 4, 5]], 6, 30)
    assert found_groups(counts, list("abcdef")) == ["def", "ab"]


def test_classes_that_are_told_apart_form_no_group():
    assert found_groups(block([], 5, 0), list("abcde")) == []


def test_a_class_without_images_joins_no_group():
    counts = block([[0, 1]], 4, 20)
    counts[3] = 0
    assert found_groups(counts, list("abcd")) == ["ab"]


MIXED = list("0Oo1lxX69")


def test_every_error_is_counted_once_under_its_first_cause():
    actual = np.array([MIXED.index(name) for name in "xO016990"])
    predicted = np.array([MIXED.index(name) for name in "XooX9610"])
    budget = error_budget(actual, predicted, MIXED, ["69"])
    assert budget == {"case only": 2, "look-alikes": 1, "found groups": 2, "rest": 2}


def test_no_error_is_no_cause():
    assert sum(error_budget(np.arange(5), np.arange(5), MIXED, []).values()) == 0


def sure_of(labels, n_classes, rng):
    shares = (
        rng.dirichlet(np.ones(n_classes), len(labels))
        + rng.uniform(1, 9, (len(labels), 1)) * np.eye(n_classes)[labels]
    )
    return shares / shares.sum(axis=1, keepdims=True)


def test_planted_wrong_labels_are_suspected():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(9), 200)
    labels, planted = truth.copy(), np.arange(20, 1800, 45)
    labels[planted] = (truth[planted] + 4) % 9  # never a look-alike or the other case
    found = suspicious_labels(labels, sure_of(truth, 9, rng), MIXED)
    assert np.isin(planted, found["index"]).mean() > 0.4 and np.isin(found["index"], planted).all()
    assert all(MIXED[truth[i]] == answer for i, answer in zip(found["index"], found["answer"]))


def test_look_alikes_and_case_are_no_ground_for_suspicion():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(9), 200)
    labels = truth.copy()
    labels[np.r_[0:20, 1000:1020]] = np.repeat([1, 6], 20)  # 0 as O, and x as X
    assert suspicious_labels(labels, sure_of(truth, 9, rng), MIXED).empty


def test_a_class_that_no_image_has_does_no_harm():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(8), 200)
    labels = truth.copy()
    labels[:20] = 6
    assert set(suspicious_labels(labels, sure_of(truth, 9, rng), MIXED)["label"]) == {"X"}
