"""The model that comes with the repository: its targets, its card, its making."""

import json

import numpy as np
import pytest
import torch

from lib.data.classes import BYCLASS
from lib.data.strokes import generate
from lib.params import DataParameters, TrainingParameters
from lib.reading import Recogniser
from lib.reading.shipped import CARD, CASES, LOOK_ALIKE, SharedCrossEntropy, harder, pretrain, share


@pytest.mark.parametrize(
    ("pair", "expected"),
    [("cC", CASES), ("zZ", LOOK_ALIKE), ("O0", LOOK_ALIKE), ("o0", LOOK_ALIKE), ("1l", LOOK_ALIKE)],
)
def test_characters_that_many_write_alike_share_a_target(pair, expected):
    assert share(*pair) == share(*pair[::-1]) == expected


@pytest.mark.parametrize("pair", ["aA", "gG", "cc", "cO", "8B", "nN"])
def test_others_do_not(pair):
    assert share(*pair) == 0


def test_targets_are_probabilities_with_the_right_class_first():
    targets = SharedCrossEntropy(list(BYCLASS)).targets
    assert torch.allclose(targets.sum(dim=1), torch.ones(62)) and (targets > 0).all()
    assert (targets.argmax(dim=1) == torch.arange(62)).all() and (targets.diag() > 0.45).all()


def test_a_class_without_a_twin_keeps_nearly_all_of_its_target():
    targets = SharedCrossEntropy(list(BYCLASS)).targets
    assert targets[BYCLASS.index("A"), BYCLASS.index("A")] > 0.96
    assert targets[BYCLASS.index("c"), BYCLASS.index("C")] == pytest.approx(CASES, abs=0.01)


def test_the_loss_is_least_at_the_targets():
    loss, labels = SharedCrossEntropy(list("0Oox")), torch.tensor([0, 1, 2, 3])
    at_targets = loss(loss.targets.log(), labels)
    assert at_targets < loss(10 * torch.eye(4), labels)
    assert at_targets < loss(torch.zeros(4, 4), labels)


def test_harder_characters_differ_and_are_the_same_each_time():
    images = generate(1)[0]
    found = harder(images)
    assert np.array_equal(found, harder(images)) and found.shape == images.shape
    assert (found != images).any(axis=(1, 2)).all()


def test_a_small_model_is_made_with_its_card(data, tmp_path):
    training = TrainingParameters(epochs=1, batch_size=64, learning_rate=0.01)
    path = tmp_path / "own" / "model.safetensors"
    card = pretrain(path, DataParameters(per_class=20, test_per_class=2), training)
    assert card == json.loads(path.with_name(CARD).read_text()) and card["n_test"] == 124
    assert f"{card['accuracy']:.1%}" in path.with_name("README.md").read_text()
    assert Recogniser.load(path).temperature == pytest.approx(card["temperature"], abs=1e-3)
