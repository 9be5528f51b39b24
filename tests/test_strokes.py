"""Generated characters: reproducible, complete, upright, like EMNIST's; and their forms."""

import random
import re

import numpy as np
import pytest
import torch

from lib.data.cache import digest
from lib.data.classes import BYCLASS
from lib.data.forms import HAND, all_forms, hand_forms
from lib.data.strokes import generate


@pytest.fixture(scope="module")
def characters():
    return generate(30)


def mean_image(characters, name):
    images, labels = characters
    return images[labels == BYCLASS.index(name)].mean(0)


def test_shapes_and_types_are_as_promised(characters):
    images, labels = characters
    assert images.shape == (62 * 30, 28, 28) and images.dtype == np.uint8
    assert labels.shape == (62 * 30,) and labels.dtype == np.int64


def test_each_class_comes_exactly_as_often_as_asked(characters):
    assert np.bincount(characters[1]).tolist() == [30] * 62


def test_the_order_is_mixed(characters):
    assert len(set(characters[1][:62].tolist())) > 20


def test_the_same_arguments_give_the_same_bytes(characters):
    images, labels = generate(30)
    assert np.array_equal(images, characters[0]) and np.array_equal(labels, characters[1])


def test_every_processor_gives_the_same_bytes():
    images, labels = generate(8, seed=5)
    assert digest(images, labels) == "878b809bb207ccf45bd39d9c474823c6"


@pytest.mark.parametrize("other", [{"seed": 1}, {"part": "test"}])
def test_another_seed_or_part_shares_no_character(characters, other):
    both = np.concatenate([characters[0], generate(30, **other)[0]])
    assert len(np.unique(both.reshape(len(both), -1), axis=0)) == len(both)


def test_no_character_comes_twice(characters):
    images = characters[0]
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_does_not_matter(characters, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    images = generate(30)[0]
    assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert np.array_equal(images, characters[0])


def test_global_random_numbers_are_left_alone():
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    expected = torch.rand(1).item(), np.random.rand(), random.random()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    generate(1)
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected


def test_a_chunk_of_one_character_is_drawn():
    assert all(len(generate(one)[0]) == 1 for one in np.eye(62, dtype=int))


def test_an_l_has_its_mass_at_the_lower_left(characters):
    image = mean_image(characters, "L")
    assert (
        image[14:, :14].sum() > 1.5 * image[:14, 14:].sum()
        and image[14:].sum() > 1.2 * image[:14].sum()
    )


def test_a_7_has_its_mass_at_the_top(characters):
    image = mean_image(characters, "7")
    assert image[2:8].sum() > 1.3 * image[-8:-2].sum()


def test_ink_is_bright_on_zero(characters):
    images = characters[0]
    assert (images.max((1, 2)) == 255).all() and (np.median(images, axis=(1, 2)) < 64).mean() > 0.95


def test_the_mean_brightness_is_that_of_emnist(characters):
    assert 38 < characters[0].mean() < 52  # 44 in the byclass split


def test_the_border_of_two_pixels_is_empty(characters):
    border = characters[0].copy()
    border[:, 2:-2, 2:-2] = 0
    assert border.mean() < 0.2


def test_ink_is_centred(characters):
    inked = characters[0] > 40
    for axis in (1, 2):
        line = inked.any(axis)
        assert np.abs(line.argmax(1) - line[:, ::-1].argmax(1)).max() <= 2


def test_characters_of_a_class_differ_much(characters):
    images, labels = characters
    some = images[labels == BYCLASS.index("A")].reshape(30, -1) / 255
    assert np.linalg.norm(some[:15] - some[15:], axis=1).min() > 3


def test_every_class_is_told_from_most_others_by_its_mean_image(characters):
    images, labels = generate(30, part="test")
    means = np.stack([mean_image(characters, name).ravel() for name in BYCLASS])
    distance = ((images.reshape(-1, 1, 784) / 255 - means / 255) ** 2).sum(2)
    assert (distance.argmin(1) == labels).mean() > 0.3


def test_every_class_has_at_least_two_forms_by_hand():
    forms = hand_forms()
    assert [*forms] == [*BYCLASS] and min(map(len, forms.values())) >= 2


def test_the_first_d_is_a_straight_stem_and_a_bow():
    stem, bow = hand_forms()["D"][0]
    assert stem.tolist() == [[1, 0], [1, 9]]
    assert bow[[0, -1]].tolist() == [[1, 0], [1, 9]] and 8 < bow[:, 0].max() < 9


def test_every_form_is_pairs_of_digits_and_never_goes_from_a_point_to_itself():
    for line in re.split(r"\n(?=\S)", HAND.strip()):
        for part in re.split("[-/ \n]+", line[1:].strip()):
            assert re.fullmatch(r"((\d\d)(?!\2))+", part), line


def test_the_chances_of_the_forms_of_each_class_add_up_to_one():
    chances = all_forms()[0]
    assert (np.diff(chances) > 0).all() and np.abs(chances[:, None] - np.arange(1, 63)).min(
        0
    ).max() < 1e-9


def test_each_form_fills_its_box():
    points = all_forms()[1]
    assert (points.abs().amax((1, 2)) - 1).abs().max() < 1e-9
