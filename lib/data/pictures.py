"""Any picture, file or array, in grey; what is none is refused before it can take much memory."""

import math
import threading
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lib.errors import InputError, not_there

LARGEST = 768  # pixels; larger images are reduced first
SMALLEST_SIDE, LARGEST_SIDE = 10, 10_000  # pixels of a user's image
NO_IMAGE = "is not an image; give a file, a PIL image, or (H, W[, 3 or 4]) of uint8 or 0 to 1."
MOST_PIXELS = 25_000_000  # of an image whose decoder needs many bytes for each
one_large_image = threading.Lock()  # at a time: together they take no more memory than alone
FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "PPM"]  # that users have
Picture = str | Path | Image.Image | np.ndarray

# Sizes are checked here, before anything is decoded; what is damaged is said in a sentence.
warnings.filterwarnings("ignore", module="PIL")


def read_grey(picture: Picture) -> np.ndarray:
    """(H, W) float32, 0 black to 1 white, at most 768 a side, upright, transparency on white.

    Raises InputError if the picture is no image, damaged, or of a wrong size.
    """
    try:
        return _grey(_opened(picture))
    except InputError:
        raise
    except FileNotFoundError:
        raise not_there(picture) from None
    except UnidentifiedImageError:
        reason = "it is empty or of no known kind"
    except Image.DecompressionBombError:
        reason = f"it has more than {LARGEST_SIDE:,} pixels a side"
    except MemoryError:
        reason = "there is too little memory for it"
    except Exception as error:  # a decoder can raise anything
        reason = getattr(error, "strerror", None) or "it is damaged or cut short"
    named = picture if isinstance(picture, (str, Path)) else "The image"
    raise InputError(f"{named} cannot be read as an image ({reason}); give another file.")


def _opened(picture: Picture) -> Image.Image:
    if isinstance(picture, Image.Image):
        _check_size(picture.size)
        return _decoded(picture.copy())
    if not isinstance(picture, (str, Path)):
        return _decoded(_from_array(picture))
    if Path(picture).exists() and not Path(picture).is_file():  # a pipe would be waited for
        raise OSError(0, "it is no file")
    Image.init()  # else a format that was not needed yet is unknown
    with Image.open(picture, formats=FORMATS) as image:
        _check_size(image.size)
        image.draft(None, (LARGEST, LARGEST))  # a large JPEG is read smaller, and faster
        pixels = math.prod(image.size)
        greedy = image.format in ("WEBP", "AVIF") or image.mode.startswith("I;")
        if greedy and pixels > MOST_PIXELS:
            problem = f"{picture} has more than {MOST_PIXELS // 10**6} million pixels"
            cost = f"too much memory in {image.format} {image.mode}"
            raise InputError(f"{problem}, which take {cost}; make it smaller or a JPEG.")
        with one_large_image if pixels > 4_000_000 else nullcontext():
            return _decoded(image)


def _decoded(image: Image.Image) -> Image.Image:
    """The image the right way up, changed in place to at most LARGEST pixels a side."""
    image.load()
    if image.mode.startswith("I;"):
        image = image.convert("I")
    if image.mode in "IF":  # in floats it would take several times as much memory
        image = image.reduce(max(1, max(image.size) // LARGEST))
    ImageOps.exif_transpose(image, in_place=True)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX, reducing_gap=None)
    return image


def _check_size(size: tuple[int, int]) -> None:
    if not SMALLEST_SIDE <= max(size) <= LARGEST_SIDE or min(size) < 1:
        problem = f"An image of {size[0]:,} x {size[1]:,} pixels is none to read a character from"
        expected = f"its longer side must have {SMALLEST_SIDE} to {LARGEST_SIDE:,}"
        raise InputError(f"{problem}; {expected}.")


def _grey(image: Image.Image) -> np.ndarray:
    if image.mode[0] in "IF":  # 16 and 32 bit: conversion to L would clip
        deep = np.nan_to_num(np.asarray(image, dtype=np.float32))
        image = Image.fromarray(np.uint8(255 * (deep - deep.min()) / max(np.ptp(deep), 1e-6)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = (image if image.mode in ("1", "L") else image.convert("RGB")).convert("L")
    return np.asarray(image, dtype=np.float32) / 255


def _from_array(array: np.ndarray) -> Image.Image:
    if not isinstance(array, np.ndarray):
        raise InputError(f"A value of type {type(array).__name__} {NO_IMAGE}")
    unfit = InputError(f"An array of {array.dtype} {array.shape} {NO_IMAGE}")
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] not in (3, 4)):
        raise unfit
    _check_size(array.shape[1::-1])
    if array.dtype == bool:
        array = array * np.uint8(255)
    elif array.dtype.kind == "f" and 0 <= array.min() <= array.max() <= 1:
        grey = np.multiply(array, 255, dtype=np.float32)
        array = np.uint8(np.round(grey, out=grey))
    if array.dtype != np.uint8:
        raise unfit
    return Image.fromarray(array)
