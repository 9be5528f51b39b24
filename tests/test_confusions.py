import numpy as np
import pytest

from lib.classes import BYCLASS, BYMERGE, class_names, fold_case, fold_look_alikes
from lib.confusions import count_confusions, errors_only, look_alike_pairs, merged_accuracy, row_normalised, shared_mistakes, top_pairs

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


def test_look_alike_pairs_shows_both_directions_in_one_row():
    row = look_alike_pairs(COUNTS, NAMES).iloc[0]
    assert (row["actual"], row["predicted"], row["count"], row["count_reversed"]) == ("0", "O", 1, 2)


def test_merging_forgives_errors_within_a_group():
    assert merged_accuracy(ACTUAL, PREDICTED, NAMES, str) == pytest.approx(4 / 7)
    assert merged_accuracy(ACTUAL, PREDICTED, NAMES, fold_look_alikes) == 1


def test_shared_mistakes_counts_images_by_how_many_networks_miss_them():
    actual = np.array([0, 1, 2, 0])
    predictions = np.array([[0, 0, 1, 1], [0, 1, 1, 2]])
    assert shared_mistakes(actual, predictions)["images"].tolist() == [1, 1, 2]
    assert shared_mistakes(actual, predictions)["same_answer"].tolist() == [0, 0, 1]


def test_class_names_of_every_split_have_the_right_number():
    sizes = {split: len(class_names(split)) for split in ("byclass", "bymerge", "balanced", "letters", "digits", "mnist")}
    assert sizes == {"byclass": 62, "bymerge": 47, "balanced": 47, "letters": 26, "digits": 10, "mnist": 10}


def test_merged_splits_keep_the_eleven_small_letters_that_differ_from_their_capital():
    assert BYMERGE[36:] == "abdefghnqrt" and BYCLASS[36:39] == "abc"


def test_merging_look_alikes_never_parts_what_folding_case_joins():
    pairs = [(a, b) for a in BYCLASS for b in BYCLASS if fold_case(a) == fold_case(b)]
    assert all(fold_look_alikes(a) == fold_look_alikes(b) for a, b in pairs)
    assert fold_look_alikes("l") == fold_look_alikes("1") != fold_look_alikes("5")


def test_folding_case_leaves_digits_and_words_alone():
    assert [fold_case(name) for name in ("a", "A", "7", "alpha")] == ["A", "A", "7", "alpha"]
