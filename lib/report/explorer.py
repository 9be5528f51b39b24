"""The images of the page, as one picture, and what the confusion explorer shows of them."""

import base64
import io

import numpy as np

from lib.report.reading import Material

SIDE, SHADES = 28, 16
PER_CELL = 12  # images of each (network, actual, predicted)
MOST_IMAGES = 12_000  # on the page: about 3 MB


class Sprite:
    """Images collected for one picture: each gets a place, counted row by row, and is stored once."""

    def __init__(self, images: np.ndarray):
        self.images, self.places = images, {}

    def place(self, index: int) -> int:
        """The place of the test image `index`, which from now on is part of the picture."""
        return self.places.setdefault(int(index), len(self.places))

    @property
    def columns(self) -> int:
        """Images in a row; there are as many rows, or fewer."""
        return max(1, int(np.ceil(len(self.places) ** 0.5)))

    def png(self) -> str:
        """The picture as base64: black ink in 16 shades of transparency, so that the page chooses the colour of the paper."""
        from PIL import Image

        picture = np.zeros((self.columns**2, SIDE, SIDE), np.uint8)
        picture[: len(self.places)] = (self.images[list(self.places)].astype(int) + 8) // 17
        rows = picture.reshape(self.columns, self.columns, SIDE, SIDE).swapaxes(1, 2)
        rows = rows.reshape(-1, self.columns * SIDE)[
            : SIDE * max(1, -(-len(self.places) // self.columns))
        ]
        image = Image.frombytes("P", rows.shape[::-1], rows.tobytes())
        image.putpalette(bytes(3 * SHADES))
        file = io.BytesIO()
        image.save(
            file,
            "PNG",
            bits=4,
            transparency=bytes(17 * shade for shade in range(SHADES)),
            optimize=True,
        )
        return base64.b64encode(file.getvalue()).decode()


def count_answers(actual: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts (n_classes, n_classes), row = actual; without scikit-learn, which takes longer to import than the page to write."""
    return np.bincount(actual * n_classes + predicted, minlength=n_classes**2).reshape(
        n_classes, n_classes
    )


def shown_images(actual: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The images to show of each (actual, predicted), the surest answers first: an array (M, 4) of rank, index, cell and percent.

    cell = actual * n_classes + predicted; rank counts from 0 within a cell, below PER_CELL.
    """
    sure, cells = (
        probabilities.max(axis=1),
        actual * probabilities.shape[1] + probabilities.argmax(axis=1),
    )
    order = np.lexsort((-sure, cells))
    ranks = np.arange(len(order)) - np.searchsorted(cells[order], cells[order])
    kept = ranks < PER_CELL
    rows = order[kept]
    return np.column_stack([ranks[kept], rows, cells[rows], np.floor(100 * sure[rows]).astype(int)])


def explorer_data(material: Material, sprite: Sprite) -> dict | None:
    """What the explorer's script reads: class names and, for each network, counts and images by cell; None without predictions.

    Takes places in the sprite: the first image of every cell of every network, then the second, until the picture is full.
    `images` holds place and percent in turn, as one flat list per cell.
    """
    names, actual = material.data.class_names, material.data.test_labels
    shown = {
        network: shown_images(actual, material.answers[network])
        for network in material.networks
        if network in material.answers
    }
    if not shown:
        return None
    together = np.concatenate(list(shown.values()))
    for index in together[np.argsort(together[:, 0], kind="stable"), 1]:
        if len(sprite.places) < MOST_IMAGES:
            sprite.place(index)
    networks = {}
    for network, rows in shown.items():
        images: dict[int, list[int]] = {}
        for _, index, cell, sure in rows.tolist():
            if index in sprite.places:
                images.setdefault(cell, []).extend((sprite.places[index], sure))
        counts = count_answers(actual, material.answers[network].argmax(axis=1), len(names)).ravel()
        networks[network] = {
            "counts": {int(cell): int(counts[cell]) for cell in np.flatnonzero(counts)},
            "images": images,
        }
    return {"classes": names, "networks": networks}
