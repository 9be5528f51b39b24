"""Writes tests/samples, images as a user might have them: python tests/make_samples.py

The characters are drawn by the project's own generator; ink is dark on paper lit from one side.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from lib.data.classes import BYCLASS
from lib.data.strokes import generate

SAMPLES = Path(__file__).parent / "samples"
NAMES = "38Uae"


def photographed(character: np.ndarray, side: int = 120) -> Image.Image:
    """A character uint8 (28, 28) as grey ink on grey paper, `side` pixels square."""
    ink = (
        np.asarray(
            Image.fromarray(character).resize((side * 2 // 3,) * 2, Image.Resampling.BICUBIC)
        )
        / 255
    )
    page = np.pad(ink, (side - len(ink)) // 2)
    light = np.linspace(0.75, 0.95, len(page)) * np.linspace(0.9, 1, len(page))[:, None]
    grain = np.random.default_rng(0).normal(0, 0.01, page.shape)
    return Image.fromarray(np.uint8(255 * (light * (1 - 0.7 * page) + grain).clip(0, 1)))


if __name__ == "__main__":
    images, labels = generate(100, part="samples")
    SAMPLES.mkdir(exist_ok=True)
    means = np.stack([images[labels == label].mean(axis=0) for label in range(len(BYCLASS))])
    for name in NAMES:
        label = BYCLASS.index(name)
        own = images[labels == label]
        distances = ((own[:, None] - means) ** 2).mean(axis=(2, 3))  # (100, 62)
        others = np.delete(distances, label, axis=1).min(axis=1)
        clearest = (
            distances[:, label] - others
        ).argmin()  # as its class looks on average, and unlike any other
        photographed(own[clearest]).save(SAMPLES / f"{name}.png")
