"""Users' own images: what a drawing or a photograph of a character becomes."""

import os

import numpy as np
import pytest
from PIL import Image

from lib.data.cleanup import convert, steps
from lib.errors import InputError


def letter_l(paper=255, ink=0, size=100):
    """A grey L, (size, size) uint8: its mass lies left and below."""
    page = np.full((size, size), paper, np.uint8)
    page[size // 5 : 4 * size // 5, size // 3 : size // 3 + 8] = ink
    page[4 * size // 5 - 8 : 4 * size // 5, size // 3 : 2 * size // 3] = ink
    return page


def is_an_l(image):
    rows, columns = image.sum(1), image.sum(0)
    return rows[14:].sum() > 1.5 * rows[:14].sum() and columns[:14].sum() > 1.5 * columns[14:].sum()


def test_the_border_of_two_pixels_stays_empty():
    image = convert(letter_l())
    image[2:-2, 2:-2] = 0
    assert image.max() < 64


def test_the_longer_side_fills_the_inner_24_pixels():
    image = convert(letter_l())
    assert image[2:4].max() > 128 and image[-4:-2].max() > 128


def test_dark_on_light_and_light_on_dark_are_the_same_character():
    assert np.array_equal(convert(letter_l()), convert(letter_l(paper=0, ink=255)))


def test_the_character_keeps_upright():
    assert is_an_l(convert(letter_l()))


def test_colour_counts_by_its_brightness():
    page = np.stack([letter_l(250, 20), letter_l(250, 20), letter_l(250, 250)], axis=2)
    assert is_an_l(convert(page))


def test_transparency_is_white_paper():
    page = np.dstack(
        [np.zeros((100, 100, 3), np.uint8), 255 - letter_l()]
    )  # black everywhere, opaque on the L
    assert is_an_l(convert(Image.fromarray(page)))


def test_the_orientation_that_a_camera_notes_is_obeyed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90 degrees to the left
    Image.fromarray(np.rot90(letter_l()).copy()).save(tmp_path / "l.png", exif=exif)
    with Image.open(tmp_path / "l.png") as image:
        assert np.array_equal(convert(image), convert(letter_l()))


def test_sixteen_bits_keep_their_shades():
    deep = Image.fromarray(letter_l(200, 60).astype(np.uint16) * 257)
    assert is_an_l(convert(deep))


def test_uneven_light_leaves_paper_without_ink():
    shade = np.linspace(0.5, 1, 100) * np.linspace(0.8, 1, 100)[:, None]
    noise = np.random.default_rng(0).normal(0, 2, (100, 100))
    ink = steps((letter_l(220, 60) * shade + noise).clip(0, 255).astype(np.uint8))["the character"]
    assert np.array_equal(ink > 0.5, letter_l() == 0)


def test_dust_does_not_count_as_ink():
    dusty = letter_l()
    dusty[3:5, 90:92] = 0
    assert np.array_equal(convert(dusty), convert(letter_l()))


def test_the_dot_of_an_i_counts_as_ink():
    page = np.full((60, 60), 255, np.uint8)
    page[20:50, 28:32] = page[8:12, 28:32] = 0
    rows = convert(page).max(1)
    assert rows[2:4].max() > 128 and rows[4:10].min() < 64 and rows[11:25].min() > 128


def test_large_photographs_are_reduced_first():
    assert steps(letter_l(size=3000))["its ink"].shape == (768, 768)


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_a_blank_image_is_refused(shade):
    with pytest.raises(InputError, match="no ink"):
        convert(np.full((50, 50), shade, np.uint8))


def test_noisy_paper_alone_is_refused():
    noise = np.random.default_rng(0).normal(200, 3, (80, 80)).astype(np.uint8)
    with pytest.raises(InputError, match="no ink"):
        convert(noise)


@pytest.mark.parametrize(
    "odd",
    [
        np.zeros((4, 28, 28)),
        np.full((28, 28), 7.5),
        np.full((28, 28), np.nan),
        np.zeros((28, 28), np.int64),
        None,
        7,
    ],
)
def test_what_is_not_an_image_is_refused(odd):
    with pytest.raises(InputError, match="not an image"):
        convert(odd)


def test_whatever_a_decoder_raises_becomes_a_sentence():
    image = Image.new("L", (50, 50))
    image.load = lambda: 1 / 0
    with pytest.raises(InputError, match="cannot be read as an image .it is damaged or cut short"):
        convert(image)


def test_formats_that_hardly_anyone_has_are_not_decoded(tmp_path):
    Image.new("L", (50, 50)).save(tmp_path / "rare.dds")
    with pytest.raises(InputError, match="rare.dds cannot be read as an image .it is .* no known"):
        convert(tmp_path / "rare.dds")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with a name")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="pipe.png cannot be read as an image .it is no file"):
        convert(tmp_path / "pipe.png")


def test_a_kind_of_colour_that_cannot_be_turned_to_grey_is_refused():
    with pytest.raises(InputError, match="cannot be read as an image"):
        convert(Image.new("La", (50, 50)))


def test_an_image_that_takes_too_much_memory_to_decode_is_refused(tmp_path):
    Image.new("L", (5100, 5000), 255).save(tmp_path / "huge.webp")
    with pytest.raises(InputError, match="more than 25 million pixels.* in WEBP"):
        convert(tmp_path / "huge.webp")


def test_a_large_image_of_floats_is_reduced_before_it_is_scaled():
    grey = np.kron(letter_l(), np.ones((20, 20), np.uint8))
    deep = convert(Image.fromarray(grey.astype(np.float32) * 1e6))
    assert np.abs(deep.astype(int) - convert(grey)).max() < 20


@pytest.mark.parametrize("mode", ["L", "RGB", "F"])
def test_an_image_in_memory_stays_as_it_is(mode):
    image = Image.fromarray(letter_l(size=900)).convert(mode)
    before = image.copy()
    convert(image)
    assert image.size == before.size and image.tobytes() == before.tobytes()
