"""Pictures of what is no single character, by other means than extra/make-a-reader draws it."""

from collections.abc import Iterator

import numpy as np
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_images

SIDE = 256
SCRIPTS = {  # letters of DejaVu Sans, less those that are written as Latin letters or digits are
    "Armenian": "ԲԳԴԵԶԸԹԺԽԾԿՁՂՃՄՅՆՉՊՋՌՎՏՐՑՓՖբգդեզըթժխծկձճմյչպջռվտրցփֆ",
    "Georgian": "აბგდევზკლმნპჟრსტუფქღყჩცძწჭხჯ",
    "Hebrew": "אבגדהזחטכלמנעפצקש",
    "Arabic": "بتثجحخدذزسشصضطظعغفقكلمني",
    "Greek": "ΓΔΘΛΞΠΣΦΨΩγδζθλξπφψ",
    "Cyrillic": "БГДЖИЛПФЦЧШЩЪЫЭЮЯждлфцшщыэюя",
}


def paper() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("L", (SIDE, SIDE), 255)
    return image, ImageDraw.Draw(image)


def zigzags(count: int, seed: int = 0) -> Iterator[Image.Image]:
    """Straight lines from corner to corner, five to fourteen of them, as a mouse draws them."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        image, pen = paper()
        corners = random.integers(20, 236, (random.integers(6, 16), 2))
        pen.line(
            [tuple(map(int, corner)) for corner in corners], 0, int(random.integers(6, 20)), "curve"
        )
        yield image


def scribbles(count: int, seed: int = 0) -> Iterator[Image.Image]:
    """Loops: sums of a few waves of random size."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        image, pen = paper()
        at, waves = np.linspace(0, 1, 400)[:, None, None], np.arange(2, 9)[:, None]
        size = random.standard_normal((7, 2)) / waves**0.5
        path = (size * np.sin(2 * np.pi * (waves * at + random.random((7, 2))))).sum(1)
        path = 128 + 100 * path / np.abs(path).max(0)
        pen.line([tuple(point) for point in path], 0, int(random.integers(6, 18)), "curve")
        yield image


def shapes(count: int, seed: int = 0) -> Iterator[Image.Image]:
    """Stars, wheels, rosettes, and rings inside rings."""
    random = np.random.default_rng(seed)
    for i in range(count):
        image, pen = paper()
        n, width, turn = (
            int(random.integers(5, 9)),
            int(random.integers(6, 14)),
            random.random() * 6,
        )
        angle = turn + 2 * np.pi * np.arange(2 * n + 1) / (2 * n)
        reach = np.where(np.arange(2 * n + 1) % 2, random.uniform(30, 55), random.uniform(85, 110))
        round_ = np.stack([np.cos(angle), np.sin(angle)], 1)
        star, wheel = 128 + reach[:, None] * round_, 128 + 100 * round_
        match i % 4:
            case 0:
                pen.line([tuple(p) for p in star], 0, width, "curve")
            case 1:
                pen.ellipse((28, 28, 228, 228), None, 0, width)
                for point in wheel[::2]:
                    pen.line([(128, 128), tuple(point)], 0, width)
            case 2:
                for x, y in 128 + 55 * round_[::2]:
                    pen.ellipse((x - 45, y - 45, x + 45, y + 45), None, 0, width)
            case 3:
                for radius in (30, 65, 105):
                    pen.ellipse((128 - radius,) * 2 + (128 + radius,) * 2, None, 0, width)
        yield image


def scripts(count: int, seed: int = 0) -> Iterator[Image.Image]:
    """Letters of other scripts, slanted a little."""
    random = np.random.default_rng(seed)
    letters = "".join(SCRIPTS.values())
    font = ImageFont.truetype(findfont("DejaVu Sans"), 150)
    for letter in random.choice([*letters], count):
        image, pen = paper()
        pen.text((128, 128), letter, 0, font, "mm")
        yield image.rotate(random.normal(0, 6), Image.Resampling.BILINEAR, fillcolor=255)


def pieces_of_photographs(count: int, seed: int = 0) -> Iterator[Image.Image]:
    """Pieces of the two photographs that scikit-learn carries: a temple and a flower."""
    random, images = np.random.default_rng(seed), load_sample_images().images
    for i in range(count):
        image, side = images[i % 2], int(random.integers(40, 200))
        y, x = (int(random.integers(0, n - side)) for n in image.shape[:2])
        yield Image.fromarray(image[y : y + side, x : x + side])


def pairs(
    images: np.ndarray, count: int, seed: int = 0, above: bool = False
) -> Iterator[np.ndarray]:
    """Two of the characters (N, 28, 28) uint8 that touch, beside or above each other."""
    random = np.random.default_rng(seed)
    for first, second in random.choice(len(images), (count, 2)):
        one, two = (images[i].T if above else images[i] for i in (first, second))
        one, two = (
            each[:, np.flatnonzero(each.max(0) > 60)[0] : np.flatnonzero(each.max(0) > 60)[-1] + 1]
            for each in (one, two)
        )
        both = np.zeros((28, one.shape[1] + two.shape[1]), np.uint8)
        while True:  # together, until they touch
            both = np.zeros((28, both.shape[1] - 1), np.uint8)
            both[:, : one.shape[1]] = one
            at = both.shape[1] - two.shape[1]
            overlap = np.minimum(both[:, at : one.shape[1]], two[:, : one.shape[1] - at])
            both[:, at:] = np.maximum(both[:, at:], two)
            if overlap.size and overlap.max() > 100 or at <= one.shape[1] // 2:
                break
        yield 255 - np.pad(both.T if above else both, 6)


NONSENSE = {f.__name__: f for f in (zigzags, scribbles, shapes, scripts, pieces_of_photographs)}
