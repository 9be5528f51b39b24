import numpy as np
import pytest

from lib.data import load_data
from lib.params import TrainingParameters
from lib.training.trials import part_of, run_trials, with_rows

BASE = TrainingParameters(network="custom", learning_rate=0.01, epochs=1, batch_size=32)


@pytest.fixture
def characters(data):
    return load_data(split="digits", per_class=10, test_per_class=2)


def test_a_part_has_so_many_images_and_the_same_test(characters):
    part = part_of(characters, 50)
    assert (
        len(part.train_images) == len(part.train_labels) == 50
        and part.test_images is characters.test_images
    )


def test_a_part_larger_than_the_whole_is_the_whole(characters):
    assert np.array_equal(part_of(characters, 10_000).train_labels, characters.train_labels)


def test_the_same_seed_draws_the_same_part(characters):
    assert np.array_equal(
        part_of(characters, 50, seed=3).train_images, part_of(characters, 50, seed=3).train_images
    )
    assert not np.array_equal(
        part_of(characters, 50, seed=3).train_images, part_of(characters, 50, seed=4).train_images
    )


def test_rows_keep_images_and_labels_together(characters):
    chosen = with_rows(characters, np.array([5, 2]))
    assert (
        np.array_equal(chosen.train_images[0], characters.train_images[5])
        and chosen.train_labels[1] == characters.train_labels[2]
    )


def test_every_variant_is_trained_with_every_seed_and_told_in_a_line(characters, capsys):
    trials = run_trials(characters, BASE, {"nothing": {}, "twice": {"epochs": 2}}, [0, 1])
    assert trials[["variant", "seed"]].values.tolist() == [
        ["nothing", 0],
        ["nothing", 1],
        ["twice", 0],
        ["twice", 1],
    ]
    assert [len(table) for table in trials["history"]] == [1, 1, 2, 2]
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "nothing",
        "twice",
    ]


def test_the_same_variant_and_seed_end_the_same(characters):
    trials = run_trials(characters, BASE, {"one": {}, "other": {}}, [7])
    assert trials["test_accuracy"].nunique() == trials["valid_accuracy"].nunique() == 1


def test_a_variant_changes_what_it_says(characters):
    trials = run_trials(characters, BASE, {"nothing": {}, "slower": {"learning_rate": 1e-6}}, [0])
    assert trials["history"].map(lambda table: table["valid_loss"].iloc[-1]).nunique() == 2
