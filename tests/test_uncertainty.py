import numpy as np
import pytest

from lib.analysis.significance import interval_of_share, mcnemar, over_seeds, paired_comparisons


def right(share, n=1000, seed=0):
    return np.random.default_rng(seed).random(n) < share


def test_the_interval_of_a_share_is_wilsons():
    assert interval_of_share(0.8, 100) == pytest.approx(
        (0.7112, 0.8666), abs=1e-4
    )  # Wilson's formula, computed by hand


def test_the_interval_holds_the_true_share_in_95_of_100_experiments():
    seen = np.random.default_rng(0).binomial(200, 0.7, 2000) / 200
    inside = [low <= 0.7 <= high for low, high in (interval_of_share(share, 200) for share in seen)]
    assert 0.93 < np.mean(inside) < 0.97


def test_three_seeds_give_students_interval_of_the_mean():
    found = over_seeds([0.80, 0.82, 0.84])
    assert found["std"] == pytest.approx(0.02) and found["high"] - found["mean"] == pytest.approx(
        4.3027 * 0.02 / 3**0.5, rel=1e-4
    )


def test_one_seed_has_no_interval():
    assert over_seeds([0.8]) == {"n": 1, "mean": 0.8, "std": None, "low": None, "high": None}


def test_seeds_that_agree_have_an_interval_of_no_width():
    assert over_seeds([0.5, 0.5])["low"] == over_seeds([0.5, 0.5])["high"] == 0.5


def test_mcnemar_counts_only_images_on_which_the_two_differ():
    first, second = np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 0, 1, 0], bool)
    assert mcnemar(first, second) == {"only_first": 2, "only_second": 1, "p": 1.0}


def test_mcnemars_probability_is_the_exact_binomial_one():
    first = np.arange(12) < 10
    assert mcnemar(first, ~first)["p"] == pytest.approx(2 * (1 + 12 + 66) / 2**12)


def test_two_networks_without_a_difference_are_said_to_show_none():
    table = paired_comparisons(
        {
            "a": [right(0.8, seed=1), right(0.8, seed=2)],
            "b": [right(0.8, seed=3), right(0.8, seed=4)],
        }
    )
    assert table["verdict"].tolist() == ["no difference shown"]


def test_a_network_that_is_ahead_in_every_seed_is_named():
    table = paired_comparisons(
        {
            "a": [right(0.7, seed=1), right(0.7, seed=2)],
            "b": [right(0.9, seed=3), right(0.9, seed=4)],
        }
    )
    assert table["verdict"].tolist() == ["b is better"] and table["p"].iloc[0] < 1e-6


def test_a_lead_that_changes_with_the_seed_is_no_difference():
    good, bad = right(0.9, seed=1), right(0.7, seed=2)
    assert paired_comparisons({"a": [good, bad], "b": [bad, good]})["verdict"].tolist() == [
        "no difference shown"
    ]


def test_a_single_network_is_compared_with_nothing():
    assert paired_comparisons({"a": [right(0.8)]}).empty
