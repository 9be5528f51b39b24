"""EMNIST's conversion: what a drawing becomes."""

import pytest
import torch

from lib.data.emnist_format import to_emnist


def test_ink_ends_as_bright_bytes_on_zero():
    image = to_emnist(torch.rand(1, 40, 50) * 0.3)[0]
    assert image.dtype == torch.uint8 and image.shape == (28, 28) and image.max() == 255


def test_ink_anywhere_on_the_page_ends_in_the_middle():
    page = torch.zeros(2, 64, 64)
    page[0, 5:25, 3:13] = page[1, 40:60, 50:60] = 1
    first, second = to_emnist(page)
    assert torch.equal(first, second) and torch.equal(first, first.flip(0, 1))


def test_a_tall_bar_stays_tall():
    page = torch.zeros(1, 128, 128)
    page[0, 20:110, 60:75] = 1  # 90 by 15: 24 by 4 in the end
    inked = to_emnist(page)[0] > 127
    assert inked.any(1).sum() == 24 and inked.any(0).sum() == 4


def test_a_batch_is_converted_as_its_images_alone():
    page = torch.rand(3, 30, 40) * torch.linspace(0, 1, 40)
    alone = torch.cat([to_emnist(image[None]) for image in page])
    assert (to_emnist(page).int() - alone.int()).abs().max() <= 1


def ink_of_thin_line(column):
    page = torch.zeros(1, 512, 512)
    page[0, :, :30] = page[0, :, -30:] = page[0, :, column : column + 2] = 1
    return to_emnist(page)[0, 14, 8:20].sum().item()


def test_thin_lines_keep_their_ink_wherever_they_fall_between_pixels():
    assert ink_of_thin_line(250) == pytest.approx(ink_of_thin_line(259), rel=0.1)


def test_an_image_without_ink_stays_zero():
    assert not to_emnist(torch.zeros(1, 28, 28)).any()
