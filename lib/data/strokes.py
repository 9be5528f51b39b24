"""Generated handwriting: the 62 ByClass characters drawn from pen strokes, without a download.

One of a class's forms is bent, slanted, stretched, drawn with a soft pen and converted as EMNIST's
images were. All is float64 until the rounding to bytes: processors differ in the last bits alone.
"""

import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from numpy.random import Generator, Philox, SeedSequence
from scipy.special import ndtri
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad
from tqdm import tqdm

from lib.data.classes import BYCLASS
from lib.data.emnist_format import to_emnist
from lib.data.forms import POINTS, all_forms, sampled_strokes

CANVAS = 40  # pixels a side of the drawing that is then converted
REACH = 30  # of them, the longer side of the character
CHUNK = 128  # characters drawn at once; part of what a seed means
COARSE = 0.4  # of the characters, the share that is drawn at half of the pixels
SMALL = "acemnorsuvwxz"  # at half height: blown up, a little wider in pen and shape, as in EMNIST
LEVELS = ndtri((np.arange(256) + 0.5) / 256)  # in so many steps: noise from single random bytes


def generate(
    per_class: int | np.ndarray, seed: int = 0, part: str = "train", bar: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Generated characters of the 62 ByClass classes, N in all, converted as EMNIST's are.

    per_class: characters of each class, one number or (62,). seed, part: any number >= 0 and any
    name; each pair has random numbers of its own. bar: what a terminal's progress bar says.
    Returns images (N, 28, 28) uint8, upright, ink bright on 0, and labels (N,) int64, numbers in
    lib.data.classes.BYCLASS, mixed. The same arguments give the same bytes on every processor.
    """
    roots = SeedSequence([seed, zlib.crc32(part.encode())])
    labels = np.repeat(np.arange(len(BYCLASS)), per_class)
    labels = Generator(Philox(roots)).permutation(labels)
    chunks = np.split(labels, range(CHUNK, len(labels), CHUNK))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # chunks run side by side instead: shared operations would wait
    try:
        with ThreadPoolExecutor(threads) as pool:
            found = pool.map(_characters, chunks, roots.spawn(len(chunks)))
            found = tqdm(found, desc=bar, total=len(chunks), disable=None if bar else True)
            return np.concatenate([*found]), labels
    finally:
        torch.set_num_threads(threads)


def random_form(names: str, random: Generator) -> list[np.ndarray]:
    """The strokes, each (N, 2) float64, of a form of one of the names, its box from -1 to 1."""
    chance, points, _, stroke = all_forms()
    label = BYCLASS.index(random.choice([*names]))
    form = np.searchsorted(chance, label + 0.999999 * random.random())
    return [points[form, stroke[form] == i].numpy() for i in range(int(stroke[form].max()) + 1)]


@torch.no_grad()
def draw_strokes(drawings: list[list[np.ndarray]], random: Generator) -> Tensor:
    """(B, 40, 40) float64 ink, 0 to 1, of drawings, drawn as characters are.

    A drawing is a list of at most eight strokes, each (N, 2), x to the right and y down, in any
    unit. `lib.data.emnist_format.to_emnist` makes images of the ink.
    """
    sampled = zip(*map(sampled_strokes, drawings), strict=True)
    sharp, smooth, stroke = (torch.from_numpy(np.stack(part)) for part in sampled)
    points = sharp + _uniform(random, 0, 1, len(drawings), 1, 1) * (smooth - sharp)
    small = torch.zeros(len(drawings), dtype=torch.bool)
    return _drawn(_slanted(_bent(points, stroke, random), small, random), stroke, small, random)


@torch.no_grad()
def _characters(labels: np.ndarray, root: SeedSequence) -> np.ndarray:
    """(B, 28, 28) uint8, a new character for each of the labels (B,)."""
    random = Generator(Philox(root))
    chance, *forms = all_forms()
    chosen = np.searchsorted(chance, labels + 0.999999 * random.random(len(labels)))
    sharp, smooth, stroke = (part[chosen] for part in forms)
    small = torch.from_numpy(np.isin(labels, [BYCLASS.index(name) for name in SMALL]))
    points = sharp + _uniform(random, -0.2, 1.1, len(labels), 1, 1) * (smooth - sharp)  # (B, 96, 2)
    points = _slanted(_bent(points, stroke, random), small, random)
    return to_emnist(_drawn(points, stroke, small, random)).numpy()


def _normal(random: Generator, *shape: int) -> Tensor:
    return torch.from_numpy(random.standard_normal(shape))


def _uniform(random: Generator, low: float, high: float, *shape: int) -> Tensor:
    return torch.from_numpy(random.random(shape)) * (high - low) + low


@cache
def _waves() -> Tensor:
    """(8, 96): slow waves along a character's points, the slowest first and strongest."""
    at = np.linspace(0, 2 * np.pi, POINTS)
    rates = (0.6, 1.1, 1.9, 3.1)
    waves = [wave(rate * at) / (rate + 1) for rate in rates for wave in (np.sin, np.cos)]
    return torch.from_numpy(np.array(waves))


@cache
def _enlarging(size: int) -> Tensor:
    """(40, size): linear interpolation of a column of pixels."""
    return interpolate(torch.eye(size, dtype=torch.float64)[None], CANVAS, mode="linear")[0].mT


def _bent(points: Tensor, stroke: Tensor, random: Generator) -> Tensor:
    """(B, 96, 2) points as a hand puts them: strokes misplaced, the pen astray, all warped."""
    size = len(points)
    haste = torch.exp(0.35 * _normal(random, size, 1, 1))
    misplaced = _normal(random, size, 8, 2).gather(1, stroke[:, :, None].expand(-1, -1, 2))
    astray = (_normal(random, size, 2, 8) @ _waves()).mT
    points = points + haste * (0.045 * misplaced + 0.065 * astray)
    for _ in range(2):
        phase = points @ _uniform(random, -2.6, 2.6, size, 2, 1)
        phase += _uniform(random, 0, 2 * np.pi, size, 1, 1)
        points = points + 0.07 * haste * torch.sin(phase) * _normal(random, size, 1, 2)
    return points


def _slanted(points: Tensor, small: Tensor, random: Generator) -> Tensor:
    """(B, 96, 2) points slanted, turned, stretched, in a box of -1 to 1, aspect ratio kept."""
    size = len(points)
    angle, slant = 0.10 * _normal(random, size), 0.12 + 0.24 * _normal(random, size)
    stretch = torch.exp(0.20 * _normal(random, size) + 0.05 * small)
    matrix = [stretch * angle.cos(), -angle.sin(), stretch * angle.sin() - slant, angle.cos()]
    points = points @ torch.stack(matrix, 1).view(size, 2, 2)
    low, high = points.amin(1, keepdim=True), points.amax(1, keepdim=True)
    return (2 * points - low - high) / (high - low).amax(2, keepdim=True)


def _drawn(points: Tensor, stroke: Tensor, small: Tensor, random: Generator) -> Tensor:
    """(B, 40, 40) ink, 0 to 1, of strokes through points (B, 96, 2): Gaussian dabs, cut softly."""
    size, points = len(points), points * (REACH / 2)
    lifted = stroke[:, 1:] != stroke[:, :-1]  # (B, 95)
    step = points.diff(dim=1).norm(dim=2).masked_fill(lifted, 0)
    room = (points.amax(1) - points.amin(1)).clamp(min=0.4 * REACH).prod(1, keepdim=True).sqrt()
    # A wider pen fills the gaps between strokes.
    widest = 0.62 * REACH * (room / step.sum(1, keepdim=True)) ** 1.6  # (B, 1)
    pen = 0.051 * REACH * torch.exp(0.38 * _normal(random, size, 1) + 0.1 * small[:, None])
    pen = torch.minimum(pen, widest).clamp(max=0.15 * REACH)
    pen = (pen * torch.exp(0.2 * (_normal(random, size, 8) @ _waves()))).clamp(min=0.8)  # (B, 96)
    ends = pad(lifted, (1, 0), value=True).double() + pad(lifted, (0, 1), value=True)  # round ones
    amount = (pad(step, (1, 0)) + pad(step, (0, 1))) / pen / 5.013 + ends / 2  # 2 sqrt(2 pi)
    across = _dabs(points[:, :, 0], pen, torch.zeros_like(pen))
    down = _dabs(points[:, :, 1], pen, amount.clamp(min=1e-6).log())
    ink = down.mT @ across  # a dab is the product of a column and a row
    texture = _enlarging(14) @ _normal(random, size, 14, 14) @ _enlarging(14).mT
    noise = random.integers(0, 256, (size, CANVAS, CANVAS), dtype=np.uint8)
    grain = torch.from_numpy(LEVELS[noise]) * _uniform(random, -0.2, 0.3, size, 1, 1).clamp(min=0)
    texture *= _uniform(random, 0, 0.25, size, 1, 1)
    ink *= texture.add_(grain).add_(1)
    edge = _uniform(random, 0.1, 0.6, size, 1, 1)
    coarse = torch.from_numpy(random.random(size) < COARSE)  # as from a small photograph
    fine = (ink - 0.5).div_(edge).add_(0.5).clamp_(0, 1)
    halved = avg_pool2d(ink[coarse][:, None], 2)[:, 0]  # (C, 20, 20)
    halved = ((halved - 0.5) / edge[coarse] + 0.5).clamp(0, 1)
    fine[coarse] = _enlarging(20) @ halved @ _enlarging(20).mT
    return fine


def _dabs(centre: Tensor, width: Tensor, height: Tensor) -> Tensor:
    """(B, 96, 40) exp(height - (pixel - centre)^2 / 2 width^2)."""
    at, scale = torch.arange(CANVAS, dtype=torch.float64) + 0.5 - CANVAS / 2, 0.5**0.5 / width
    away = torch.addcmul((-centre * scale)[:, :, None], scale[:, :, None], at)
    away.clamp_(-5.5, 5.5)  # beyond it, denormal numbers would slow the next product tenfold
    return torch.addcmul(height[:, :, None], away, away, value=-1, out=away).exp_()
