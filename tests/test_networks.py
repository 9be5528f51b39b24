"""Networks: their sizes, the preparation they stand in, dropout and flattening of our own."""

import pytest
import torch

from lib.errors import InputError
from lib.networks import (
    NETWORKS,
    Dropout,
    Flatten,
    Preparation,
    PreparedNetwork,
    count_parameters,
    make_network,
)

PARAMETERS = {
    "lenet": 1_206_590,
    "custom": 197_438,
    "resnet": 956_478,
    "lenet-with-norm": 1_206_782,
    "resnet-without-norm": 952_766,
    "resnet-without-pool": 1_939_518,
    "resnet-without-padding": 956_478,
    "wide": 767_550,
    "wide-128": 497_086,
    "resnet18": 11_202_046,
    "resnet18-56": 11_202_046,
}
LAST_LAYER = {"wide": 256, "resnet18": 512, "resnet18-56": 512}  # its inputs; 128 in the others
each_network = pytest.mark.parametrize("name", NETWORKS)


@each_network
def test_a_network_has_its_known_number_of_parameters(name):
    assert count_parameters(make_network(name, 62)) == PARAMETERS[name]


@each_network
@pytest.mark.parametrize("n_classes", [10, 26, 47])
def test_other_class_counts_change_only_the_last_layer(name, n_classes):
    fewer = (LAST_LAYER.get(name, 128) + 1) * (62 - n_classes)
    assert count_parameters(make_network(name, n_classes)) == PARAMETERS[name] - fewer


def test_a_resnet18_enlarges_its_images_to_its_size():
    network = make_network("resnet18-56", 10).eval()
    image = torch.rand(1, 1, 28, 28)
    larger = torch.nn.functional.interpolate(image, size=(56, 56), mode="bilinear")
    assert torch.equal(network(image), network.body(larger))


@each_network
def test_a_prepared_network_gives_one_row_of_logits_per_image(name):
    images = torch.randint(0, 256, (3, 28, 28), dtype=torch.uint8)
    assert PreparedNetwork(make_network(name, 47), Preparation())(images).shape == (3, 47)


def test_preparation_brings_its_training_pixels_to_mean_0_and_deviation_1():
    images = torch.randint(0, 256, (50, 28, 28), dtype=torch.uint8)
    prepared = Preparation(images.float().mean(), images.float().std())(images)
    assert prepared.shape == (50, 1, 28, 28)
    assert abs(prepared.mean()) < 1e-4 and abs(prepared.std() - 1) < 1e-3


def test_preparation_is_saved_with_the_weights():
    state = PreparedNetwork(make_network("custom", 10), Preparation(33, 78)).state_dict()
    mean = state["preparation.mean"]
    assert mean.shape == (28, 28) and (mean == 33).all() and state["preparation.std"] == 78


def test_logits_are_float32_whatever_the_precision():
    images = torch.zeros(2, 28, 28, dtype=torch.uint8)
    network = PreparedNetwork(make_network("custom", 10), Preparation(), torch.bfloat16)
    assert network.eval()(images).dtype == torch.float32


def test_an_unknown_network_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="'lenett'.*lenet, custom, resnet"):
        make_network("lenett", 62)


def test_dropout_drops_the_share_asked_for_and_keeps_the_mean():
    torch.manual_seed(0)
    dropped = Dropout(0.2).train()(torch.ones(200, 50, 4, 4).to(memory_format=torch.channels_last))
    assert (dropped == 0).float().mean() == pytest.approx(0.2, abs=0.005)
    assert dropped.unique().tolist() == pytest.approx([0, 1.25]) and dropped.is_contiguous(
        memory_format=torch.channels_last
    )


def test_dropout_drops_independently_of_neighbours():
    torch.manual_seed(0)
    dropped = (Dropout(0.5).train()(torch.ones(100_001)) == 0).float()
    for distance in (1, 2, 3, 4, 5, 8):
        assert (dropped[distance:] * dropped[:-distance]).mean() == pytest.approx(0.25, abs=0.01)


def test_dropout_takes_tensors_with_gaps_and_repeats():
    assert Dropout(0.5).train()(torch.ones(9, 40)[:, ::3]).shape == (9, 14)
    assert set(Dropout(0.5).train()(torch.ones(1, 1).expand(500, 2)).unique().tolist()) == {0, 2}


def test_dropout_passes_its_mask_to_the_gradient_and_rests_outside_training():
    x = torch.ones(1000, requires_grad=True)
    y = Dropout(0.5).train()(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach()) and torch.equal(Dropout(0.5).eval()(x), x)


def test_flatten_copies_nothing():
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert Flatten()(x).data_ptr() == x.data_ptr() and Flatten()(x)[1, 7] == x[1, 1, 0, 2]
