import numpy as np
import pytest

from lib.analysis.significance import (
    compare_pairs,
    holm,
    interval_of_share,
    over_seeds,
    paired_difference,
    ratio_of_sums,
)


def right(share, n=1000, seed=0):
    return np.random.default_rng(seed).random(n) < share


def trained(rng, shift, seeds, spread=0.1, images=400):
    """Answers (seeds, images) of a network: images differ, and so do seeds, in how much is read."""
    easy = np.random.default_rng(0).normal(1, 1.2, images)
    logits = easy + shift + rng.normal(0, spread, (seeds, 1))
    return rng.random((seeds, images)) < 1 / (1 + np.exp(-logits))


def shown(shift, seeds, spread=0.1, experiments=300):
    """The share of experiments in which two networks `shift` apart are told apart."""
    rng = np.random.default_rng(1)
    pairs = [[trained(rng, s, seeds, spread) for s in (shift, 0)] for _ in range(experiments)]
    return np.mean([paired_difference(*pair)["p"] < 0.05 for pair in pairs])


def test_the_interval_of_a_share_is_wilsons():
    assert interval_of_share(0.8, 100) == pytest.approx(
        (0.7112, 0.8666), abs=1e-4
    )  # Wilson's formula, computed by hand


def test_the_interval_holds_the_true_share_in_95_of_100_experiments():
    seen = np.random.default_rng(0).binomial(200, 0.7, 500) / 200
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


def test_the_interval_of_a_ratio_holds_the_true_one():
    rng, inside = np.random.default_rng(0), []
    for _ in range(200):
        whole = rng.random(300) < 0.4
        found = ratio_of_sums(whole & (rng.random(300) < 0.7), whole)
        inside.append(found["low"] <= 0.7 <= found["high"])
    assert 0.92 < np.mean(inside) < 0.98


def test_a_loss_that_may_be_zero_has_no_ratio():
    assert set(ratio_of_sums(np.ones(20), np.tile([1, -1], 10)).values()) == {None}


@pytest.mark.parametrize("spread", [0, 0.1, 0.3])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_equal_networks_are_told_apart_in_at_most_5_of_100_experiments(seeds, spread):
    assert shown(0, seeds, spread) < 0.075  # 300 experiments: 0.05 and two standard deviations


def test_with_more_seeds_the_same_lead_is_shown_more_often():
    few, some, many = (shown(0.4, seeds) for seeds in (2, 3, 6))
    assert few + 0.1 < some < many - 0.1 and many > 0.8


def test_a_further_seed_that_agrees_makes_a_lead_surer():
    rng = np.random.default_rng(0)
    first, second = trained(rng, 1, 8), trained(rng, 0, 8)
    p = [paired_difference(first[:n], second[:n])["p"] for n in (2, 4, 8)]
    assert p[0] > p[1] > p[2]


def test_a_difference_turned_round_is_the_same_difference():
    rng = np.random.default_rng(0)
    first, second = trained(rng, 1, 3), trained(rng, 0, 3)
    one, other = paired_difference(first, second), paired_difference(second, first)
    assert one["p"] == pytest.approx(other["p"]) and one["low"] == pytest.approx(-other["high"])
    assert one["difference"] == -other["difference"] and one["only_first"] == other["only_second"]


def test_the_interval_of_a_difference_holds_the_true_one():
    rng, inside = np.random.default_rng(2), []
    for _ in range(300):
        first, second = trained(rng, 0, 4), trained(rng, 0, 4)
        found = paired_difference(first, second)
        inside.append(found["low"] <= 0 <= found["high"])
    assert np.mean(inside) > 0.93


def test_with_one_seed_the_images_alone_count():
    first, second = np.arange(12) < 10, np.arange(12) >= 10
    found = paired_difference(first[None], second[None])
    assert (found["only_first"], found["only_second"]) == (10, 2)
    assert found["p"] == pytest.approx(0.034, abs=0.01)  # McNemar's exact test: 0.039


def test_five_images_are_not_enough_for_certainty():
    assert paired_difference(np.ones((1, 5), bool), np.zeros((1, 5), bool))["p"] > 0.04


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_perfect_networks_do_not_differ(seeds):
    perfect = np.ones((seeds, 10), bool)
    assert paired_difference(perfect, perfect)["p"] == pytest.approx(1)


def test_seeds_that_tie_by_chance_are_no_certainty():
    first = np.arange(40) % 2 == np.array([[0], [1]])  # two seeds, each reads the other half
    assert paired_difference(first, np.zeros((2, 40), bool))["p"] > 1e-5


def test_holms_correction_is_that_of_his_paper():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]).max() == 1 and len(holm([])) == 0


def networks(**shares):
    return {
        name: {seed: right(share, seed=place + 10 * seed) for seed in (1, 2, 3)}
        for place, (name, share) in enumerate(shares.items())
    }


def test_the_better_network_is_named_with_the_rule():
    (verdict,) = compare_pairs(networks(a=0.7, b=0.9))["verdict"]
    assert verdict.startswith("b is better than a (p") and "limit 0.05" in verdict


def test_a_lead_that_changes_with_the_seed_is_no_difference():
    good, bad = right(0.9, seed=1), right(0.7, seed=2)
    (verdict,) = compare_pairs({"a": {0: good, 1: bad}, "b": {0: bad, 1: good}})["verdict"]
    assert verdict.startswith("no difference shown between a and b (p = 1;")


def test_one_seed_is_not_enough_to_call_a_network_better():
    table = compare_pairs({"a": {0: right(0.9)}, "b": {0: right(0.7, seed=1), 1: right(0.7)}})
    assert table["seeds"].item() == 1 and table["better"].item() == ""
    assert "one seed is not enough to tell" in table["verdict"].item()


def test_the_probability_of_three_pairs_is_corrected():
    (alone,) = compare_pairs(networks(a=0.70, b=0.75))["p"]
    table = compare_pairs(networks(a=0.70, b=0.75, c=0.75))
    assert table["p"].iloc[0] == pytest.approx(min(1, 3 * alone), rel=0.4)
    assert table["p"].iloc[0] > alone and "corrected for 3 comparisons" in table["verdict"].iloc[0]


def test_a_single_network_is_compared_with_nothing():
    assert compare_pairs({"a": {0: right(0.8)}}).empty


def test_networks_without_a_common_seed_are_not_compared():
    assert compare_pairs({"a": {0: right(0.8)}, "b": {1: right(0.8)}}).empty
