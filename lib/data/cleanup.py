"""From any image of one character to ink on bare paper, and so to what EMNIST would hold.

Paper is a smooth surface, ink what stands out from it, the character such ink as belongs together.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from scipy import ndimage

from lib.data.emnist_format import EDGE, to_emnist
from lib.data.pictures import Picture, read_grey
from lib.errors import InputError

MOST_PIECES = 7  # large ones that do not touch; photographs of a character have up to 4
LARGE = 0.2  # of the largest piece's ink
SEVERAL = "The image holds more than one character, or a text; give one with a single character."
REFUSALS = {  # names of a network's last outputs, and what is said where they win
    "(several)": "The image seems to hold more than one character; give a single one, larger.",
    "(other)": "The image seems to show none of the characters that the network knows.",
}
NO_INK = "The image holds no ink: nothing in it stands out from the paper; give a character."
FRAME = 1.6  # of a user's character, in sides of its ink: about that of NIST's fields
SMOOTHED = 0.5  # pixels, sigma: small images have jagged strokes, the generator's have not
STEADY = 1e-6 * np.eye(6)  # lets a surface be fitted to a single row of pixels, too
RESULT = "for the network"  # the last step's name


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
    grey = read_grey(picture)
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
