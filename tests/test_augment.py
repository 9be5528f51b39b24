import numpy as np
import pytest
import torch

from lib.data import load_data
from lib.training.augment import RandomDistortion, RandomErasing
from lib.training.batches import TensorImageBW


@pytest.fixture(scope="module")
def images() -> TensorImageBW:
    return TensorImageBW(
        torch.as_tensor(np.array(load_data(per_class=10, test_per_class=2).train_images[:200]))
    )


@pytest.mark.parametrize(
    "change", [RandomDistortion(1.0), RandomDistortion(0.0, 1.0), RandomErasing(1.0)]
)
def test_a_batch_keeps_its_shape_and_type_and_most_of_its_ink(images, change):
    changed = change.encodes(images)
    assert changed.shape == images.shape and changed.dtype == torch.uint8
    assert 0.5 < changed.float().mean() / images.float().mean() < 1.2


@pytest.mark.parametrize(
    "change", [RandomDistortion(1.0), RandomDistortion(0.0, 1.0), RandomErasing(1.0)]
)
def test_every_image_is_changed_in_a_way_of_its_own(images, change):
    one = (
        TensorImageBW(torch.full_like(images[:1], 200)).expand(50, -1, -1)
        if isinstance(change, RandomErasing)
        else images[:1].expand(50, -1, -1)
    )
    assert len({image.numpy().tobytes() for image in change.encodes(TensorImageBW(one))}) > 40


@pytest.mark.parametrize("change", [RandomDistortion(0.0), RandomErasing(0.0)])
def test_strength_0_is_no_change(images, change):
    assert torch.equal(change.encodes(images), images)


def test_a_warp_bends_by_about_as_many_pixels_as_asked_for():
    torch.manual_seed(0)
    dot = torch.zeros(2000, 28, 28, dtype=torch.uint8)
    dot[:, 13:15, 13:15] = 255
    moved = RandomDistortion(0.0, 1.5).encodes(TensorImageBW(dot)).float()
    rows = (moved.sum(dim=2) * torch.arange(28)).sum(dim=1) / moved.sum(dim=(1, 2))
    assert 0.8 < rows.std() < 1.5  # less than 1.5 on its way from the middle point to the next ones


def test_erasing_blanks_one_rectangle_in_the_share_asked_for():
    torch.manual_seed(0)
    erased = (
        RandomErasing(0.25).encodes(TensorImageBW(torch.ones(4000, 28, 28, dtype=torch.uint8))) == 0
    )
    assert 0.22 < erased.any(dim=(1, 2)).float().mean() < 0.28
    rows, columns = erased.any(dim=2).sum(dim=1), erased.any(dim=1).sum(dim=1)
    assert torch.equal(erased.sum(dim=(1, 2)), rows * columns)
    sides = rows[rows > 0]
    assert sides.min() == 4 and sides.max() == 12
