"""How an image becomes one of EMNIST's: ink on paper in, 28 x 28 bytes with bright ink on 0 out.

The one place for this conversion: generated strokes and users' own images both pass through it.
Source: Cohen, Afshar, Tapson, van Schaik (2017), section II, https://arxiv.org/abs/1702.05373
"""

import numpy as np
import torch
from PIL import Image, ImageOps
from scipy import ndimage

from lib.errors import InputError

SIZE = 28  # pixels a side of an EMNIST image
BORDER = 2  # of them, empty on each side
BLUR = 1 / 128  # NIST's frames are 128 pixels wide and are blurred with sigma 1
EDGE = 0.1  # share of an image's darkest ink that still counts as ink when it is cropped
LARGEST = 768  # pixels; larger images are reduced first
FRAME = 1.6  # side of the frame round a user's character, in sides of its ink: about that of NIST's fields


def to_emnist(ink: torch.Tensor) -> torch.Tensor:
    """EMNIST's conversion of many images at once: blur, crop, centre, frame, resample.

    ink: (B, H, W) float, 0 paper to 1 ink, upright. The frame stands for NIST's 128 x 128 pixels,
    so the blur's sigma is max(H, W) / 128 pixels.
    Returns (B, 28, 28) uint8: the longer side of the ink fills 24 pixels, the other is centred, the
    brightest pixel is 255. An image without ink stays 0.
    """
    height, width = ink.shape[1:]
    top, bottom = _extent(ink.amax(2))
    left, right = _extent(ink.amax(1))
    step = torch.maximum(bottom - top, right - left) / (SIZE - 2 * BORDER)  # (B,) old pixels per new pixel
    sigma = BLUR * max(height, width)
    rows = _resampling(height, (top + bottom) / 2, step) @ _blur_matrix(height, sigma)  # (B, 28, H)
    columns = _resampling(width, (left + right) / 2, step) @ _blur_matrix(width, sigma)  # (B, 28, W)
    small = (rows @ ink @ columns.mT).clamp(min=0)  # (B, 28, 28)
    return (small * (255 / small.amax((1, 2), keepdim=True).clamp(min=1e-6))).round().to(torch.uint8)


def _blur_matrix(size: int, sigma: float) -> torch.Tensor:
    """(size, size) float32 whose product with a column of pixels is the column, blurred."""
    at = torch.arange(size, dtype=torch.float32)
    weights = torch.exp(-((at[:, None] - at) / max(sigma, 1e-3)) ** 2 / 2)
    return weights / weights.sum(1, keepdim=True)


def _extent(profile: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the ink of (B, N) begins and ends: (B,) and (B,) floats, edges of pixels, 0 to N."""
    inked = (profile > EDGE * profile.amax(1, keepdim=True)).float()
    return inked.argmax(1).float(), profile.shape[1] - inked.flip(1).argmax(1).float()


def _resampling(size: int, centre: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """(B, 28, size) float32: bicubic weights (a = -0.5) of the old pixels, widened where it shrinks (no aliasing)."""
    new = (torch.arange(SIZE) + 0.5 - SIZE / 2) * step[:, None] + centre[:, None]  # (B, 28)
    old = torch.arange(size) + 0.5
    distance = ((new[:, :, None] - old) / step.clamp(min=1)[:, None, None]).abs()
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    weights = torch.where(distance < 1, near, far) * (distance < 2)
    return weights / weights.sum(2, keepdim=True).clamp(min=1)  # at the frame's edge what is missing is paper


def convert(image: Image.Image | np.ndarray) -> np.ndarray:
    """A user's image of one character as EMNIST would hold it: (28, 28) uint8, upright, ink bright on 0.

    image: as for `ink_of`. Raises InputError if it is not an image or holds no ink.
    """
    ink = ink_of(image)
    rows, columns = (np.flatnonzero((ink > EDGE).any(axis)) for axis in (1, 0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    frame = round(FRAME * max(ink.shape)) + 2
    spare = [((frame - side) // 2, frame - side - (frame - side) // 2) for side in ink.shape]
    return to_emnist(torch.from_numpy(np.pad(ink, spare))[None])[0].numpy()


def ink_of(image: Image.Image | np.ndarray) -> np.ndarray:
    """How much ink each pixel of a user's image holds.

    image: a PIL image of any mode (its EXIF orientation is obeyed, transparency lies on white), or an
    array (H, W), (H, W, 3) or (H, W, 4) of uint8. Ink may be dark on light or light on dark: what
    most of the image and its rim show is paper. Light may fall on the paper unevenly.
    Returns (H, W) float32, 0 paper to 1 ink; an image larger than 768 pixels is reduced to that.
    Raises InputError if it is not an image or holds no ink.
    """
    grey = _grey(image)  # (H, W), 0 black to 1 white
    contrast = grey - _paper(grey)
    noise = 1.4826 * np.median(np.abs(contrast))
    if (contrast**3).sum() < 0:  # the longer tail is ink, however little of the image it covers
        contrast = -contrast
    peak = _ink_level(contrast)
    if peak < max(6 * noise, 0.05):
        raise InputError("The image holds no ink: nothing in it stands out from the paper; give one with a character.")
    floor = max(3 * noise, 0.2 * peak)
    return _without_specks(np.clip((contrast - floor) / (0.8 * peak - floor), 0, 1).astype(np.float32))


def _grey(image: Image.Image | np.ndarray) -> np.ndarray:
    """(H, W) float32, 0 black to 1 white, at most 768 pixels a side, upright, transparency on white."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or image.ndim == 3 and image.shape[2] in (3, 4)):
            raise InputError(f"An array of {image.dtype} {image.shape} is not an image; give uint8 (H, W), (H, W, 3 or 4).")
        image = Image.fromarray(image)
    image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":  # 16 and 32 bit: conversion to L would clip
        deep = np.asarray(image, dtype=np.float32)
        image = Image.fromarray(np.uint8(255 * (deep - deep.min()) / max(np.ptp(deep), 1e-6)))
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX, reducing_gap=None)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("L"), dtype=np.float32) / 255


def _paper(grey: np.ndarray) -> np.ndarray:
    """(H, W) brightness of the bare paper: the quadratic surface that most pixels, the rim's above all, lie on."""
    height, width = grey.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1)  # (H, W, 6)
    step = max(1, max(grey.shape) // 96)
    some, values = terms[::step, ::step].reshape(-1, 6), grey[::step, ::step].ravel()
    importance = np.where(np.abs(some[:, 1:3]).max(1) > 0.9, 4.0, 1.0)
    weights = importance / (0.02 + np.abs(values - np.median(values)))
    for _ in range(20):  # reweighted towards least absolute deviations, which ink cannot pull
        surface = np.linalg.lstsq(some * weights[:, None] ** 0.5, values * weights**0.5, rcond=None)[0]
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


def _without_specks(ink: np.ndarray) -> np.ndarray:
    """The ink without spots smaller than a hundredth of all of it: dust, not the dot of an i."""
    parts, count = ndimage.label(ink > 0, structure=np.ones((3, 3)))
    areas = ndimage.sum_labels(ink, parts, np.arange(count + 1))
    return ink * (areas >= 0.01 * areas.sum())[parts]
