"""From any image of one character to ink on bare paper, and so to what EMNIST would hold.

Paper is a smooth surface, ink what stands out from it, the character such ink as belongs together.
"""

import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from lib.data.emnist_format import EDGE, to_emnist
from lib.errors import InputError

LARGEST = 768  # pixels; larger images are reduced first
SMALLEST_SIDE, LARGEST_SIDE = 10, 10_000  # pixels of a user's image
MOST_PIECES = 7  # large ones that do not touch; photographs of a character have up to 4
LARGE = 0.2  # of the largest piece's ink
SEVERAL = "The image holds more than one character, or a text; give one with a single character."
NO_INK = "The image holds no ink: nothing in it stands out from the paper; give a character."
FRAME = 1.6  # of a user's character, in sides of its ink: about that of NIST's fields
SMOOTHED = 0.5  # pixels, sigma: small images have jagged strokes, the generator's have not
STEADY = 1e-6 * np.eye(6)  # lets a surface be fitted to a single row of pixels, too
NO_IMAGE = "is not an image; give a file, a PIL image, or (H, W[, 3 or 4]) of uint8 or 0 to 1."
RESULT = "for the network"  # the last step's name

Picture = str | Path | Image.Image | np.ndarray
FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "PPM"]  # that users have

# Sizes are checked here, before anything is decoded.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class NotACharacter(InputError):
    """The image is one, and shows no character."""


def convert_all(pictures: Iterable[Picture]) -> list[np.ndarray | InputError]:
    """Each picture as `convert` gives it, or the InputError that says why not."""

    def convert_or_say(picture: Picture) -> np.ndarray | InputError:
        try:
            return convert(picture)
        except InputError as error:
            return error

    with ThreadPoolExecutor() as pool:
        return list(pool.map(convert_or_say, pictures))


def convert(picture: Picture) -> np.ndarray:
    """The last of the `steps`: a character as EMNIST would hold it, (28, 28) uint8, upright."""
    return steps(picture)[RESULT]


def steps(picture: Picture) -> dict[str, np.ndarray]:
    """How `convert` comes to its result: each step's name and picture, in their order.

    picture: a file, a PIL image of any mode (its EXIF orientation is obeyed, transparency lies on
    white), or an array (H, W), (H, W, 3) or (H, W, 4) of uint8, or of floats from 0 to 1; 10 to
    10,000 pixels a side. Ink may be dark or light: what most of the image and its rim show is
    paper. The steps are float32 (H, W), 0 to 1, of at most 768 pixels a side; the last is uint8
    (28, 28). Raises InputError if it is not an image and NotACharacter if it shows none.
    """
    grey = _read(picture)
    paper = _paper(grey)
    ink = _ink(grey - paper)
    own = _own_ink(ink)
    framed = _framed(own)
    return {
        "in grey": grey,
        "its paper": paper,
        "its ink": ink,
        "the character": own,
        "framed": framed,
        RESULT: to_emnist(torch.from_numpy(framed)[None])[0].numpy(),
    }


def _read(picture: Picture) -> np.ndarray:
    """A picture as `_grey` gives it; InputError if it is no image, damaged, or of a wrong size."""
    try:
        return _grey(_opened(picture))
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{picture} is not there; check its name.") from None
    except UnidentifiedImageError:
        reason = "it is empty or of no known kind"
    except Image.DecompressionBombError:
        reason = f"it has more than {LARGEST_SIDE:,} pixels a side"
    except (OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged or cut short"
    named = picture if isinstance(picture, (str, Path)) else "The image"
    raise InputError(f"{named} cannot be read as an image ({reason}); give another file.")


def _opened(picture: Picture) -> Image.Image:
    if not isinstance(picture, (str, Path, Image.Image)):
        return _from_array(picture)
    try:
        if isinstance(picture, Image.Image):
            return _decoded(picture)
        if Path(picture).exists() and not Path(picture).is_file():  # a pipe would be waited for
            raise OSError(0, "it is no file")
        Image.init()  # else a format that was not needed yet is unknown
        with Image.open(picture, formats=FORMATS) as image:
            _check_size(image.size)
            image.draft(None, (LARGEST, LARGEST))  # a large JPEG is read smaller, and faster
            return _decoded(image)
    except (InputError, OSError, Image.DecompressionBombError):
        raise
    except Exception as error:  # a decoder can raise anything
        raise OSError(0, "it is damaged or cut short") from error


def _decoded(image: Image.Image) -> Image.Image:
    _check_size(image.size)
    image.load()
    return ImageOps.exif_transpose(image)


def _check_size(size: tuple[int, int]) -> None:
    if not SMALLEST_SIDE <= max(size) <= LARGEST_SIDE or min(size) < 1:
        raise InputError(
            f"An image of {size[0]:,} x {size[1]:,} pixels is none to read a character from; "
            f"its longer side must have {SMALLEST_SIDE} to {LARGEST_SIDE:,}."
        )


def _ink(contrast: np.ndarray) -> np.ndarray:
    """(H, W) float32, 0 paper to 1 ink: how far each pixel's brightness is from the paper's."""
    noise = 1.4826 * np.median(np.abs(contrast))
    if (contrast**3).sum() < 0:  # the longer tail is ink, however little of the image it covers
        contrast = -contrast
    peak = _ink_level(contrast)
    if peak < max(6 * noise, 0.05):
        raise NotACharacter(NO_INK)
    floor = max(3 * noise, 0.2 * peak)
    return np.clip((contrast - floor) / (0.8 * peak - floor), 0, 1).astype(np.float32)


def _framed(ink: np.ndarray) -> np.ndarray:
    """The ink, smoothed, in the middle of a square of paper, as in a field of NIST's forms."""
    (box,) = ndimage.find_objects((ink > EDGE).astype(int))
    ink = ink[box]
    frame = round(FRAME * max(ink.shape)) + 2
    spare = [((frame - side) // 2, frame - side - (frame - side) // 2) for side in ink.shape]
    return ndimage.gaussian_filter(np.pad(ink, spare), SMOOTHED)


def _grey(image: Image.Image) -> np.ndarray:
    """(H, W) float32, 0 black to 1 white, at most 768 a side, upright, transparency on white."""
    if image.mode[0] in "IF":  # 16 and 32 bit: conversion to L would clip
        deep = np.nan_to_num(np.asarray(image, dtype=np.float32))
        image = Image.fromarray(np.uint8(255 * (deep - deep.min()) / max(np.ptp(deep), 1e-6)))
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX, reducing_gap=None)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = (image if image.mode in ("1", "L") else image.convert("RGB")).convert("L")
    return np.asarray(image, dtype=np.float32) / 255


def _from_array(array: np.ndarray) -> Image.Image:
    if not isinstance(array, np.ndarray):
        raise InputError(f"A {type(array).__name__} {NO_IMAGE}")
    shares = array.dtype.kind == "f" and array.size and 0 <= array.min() <= array.max() <= 1
    if array.dtype == bool or shares:
        array = np.uint8(np.round(255 * array))
    grey_or_colour = array.ndim == 2 or array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not grey_or_colour:
        raise InputError(f"An array of {array.dtype} {array.shape} {NO_IMAGE}")
    _check_size(array.shape[1::-1])
    return Image.fromarray(array)


def _paper(grey: np.ndarray) -> np.ndarray:
    """(H, W) of bare paper: the quadratic surface that most pixels, the rim's above all, lie on."""
    height, width = grey.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1)  # (H, W, 6)
    step = max(1, max(grey.shape) // 64)
    some, values = terms[::step, ::step].reshape(-1, 6), grey[::step, ::step].ravel()
    importance = np.where(np.abs(some[:, 1:3]).max(1) > 0.9, 4.0, 1.0)
    weights = importance / (0.02 + np.abs(values - np.median(values)))
    for _ in range(10):  # reweighted towards least absolute deviations, which ink cannot pull
        weighted = some.T * weights  # (6, n)
        surface = np.linalg.solve(weighted @ some + STEADY, weighted @ values)
        weights = importance / (0.005 + np.abs(values - some @ surface))
    return terms @ surface


def _ink_level(contrast: np.ndarray) -> float:
    """Contrast of solid ink: the mean of what Otsu's threshold counts as ink."""
    values = np.sort(np.clip(contrast, 0, None), axis=None)
    below = np.cumsum(values)[:-1]
    count = np.arange(1, values.size)
    above = values.sum() - below
    between = count * (values.size - count) * (below / count - above / (values.size - count)) ** 2
    return float(values[between.argmax() + 1 :].mean())


def _own_ink(ink: np.ndarray) -> np.ndarray:
    """The ink without dust, ruled lines, neighbours, marks below; NotACharacter if more is left.

    The body is the largest piece clear of the image's edge, if it is not far smaller than one that
    is not; then what touches the edge is something else. Less than a hundredth of all ink is dust:
    the dot of an i has more. No character has a small piece below its body, or one above or below
    that is flat and far wider than it: that is a ruled line.
    """
    pieces, count = ndimage.label(ink > EDGE, structure=np.ones((3, 3)))
    if count < 2:
        return ink * (pieces > 0)
    areas = ndimage.sum_labels(ink, pieces, np.arange(1, count + 1))  # (count,)
    found = ndimage.find_objects(pieces)
    boxes = np.array([(y.start, y.stop, x.start, x.stop) for y, x in found])  # (count, 4)
    at_edge = (boxes[:, [0, 2]] == 0).any(1) | (boxes[:, [1, 3]] == ink.shape).any(1)
    inside = np.where(at_edge, 0, areas)
    body = inside.argmax() if inside.max() > 0.15 * areas.max() else areas.argmax()
    above, below = boxes[:, 1] <= boxes[body, 0], boxes[:, 0] >= boxes[body, 1]
    height, width = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    ruled = (above | below) & (width > 4 * height) & (width > 1.3 * width[body])
    kept = (areas >= 0.01 * areas.sum()) & ~(below & (areas < 0.25 * areas[body])) & ~ruled
    if not at_edge[body]:
        kept &= ~at_edge
    _check_alone(boxes[kept], n_large=(areas > LARGE * areas.max()).sum())
    return ink * np.append(False, kept)[pieces]


def _check_alone(boxes: np.ndarray, n_large: int) -> None:
    """NotACharacter if there are too many large pieces, or tall ones side by side, as in a word."""
    if n_large > MOST_PIECES or not len(boxes):
        raise NotACharacter(SEVERAL)
    height, width = boxes[:, 1].max() - boxes[:, 0].min(), boxes[:, 3].max() - boxes[:, 2].min()
    tall = boxes[boxes[:, 1] - boxes[:, 0] > height / 2]
    tall = tall[np.argsort(tall[:, 2])]
    side_by_side = len(tall) > 1 and (tall[1:, 2] >= tall[:-1, 3]).all()
    if side_by_side and width > 0.75 * height:  # one in a thousand single characters looks so
        raise NotACharacter(SEVERAL)
