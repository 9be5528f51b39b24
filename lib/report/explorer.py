"""The confusion explorer: a map of all confusions, and the images behind each, as one HTML."""

import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

PARTS = Path(__file__).parent / "templates" / "explorer"
SIDE, SHADES = 28, 16
PER_CELL, MOST_IMAGES = 8, 1500  # images of each confusion, and of all: a quarter of a megabyte


def explorer_html(
    class_names: list[str],
    answers: dict[str, tuple[np.ndarray, np.ndarray]],
    images: np.ndarray | None = None,
) -> str:
    """The explorer, with its data, style and script inside.

    answers: by network's title, labels (N,) and probabilities (N, n_classes) of the test images.
    images: uint8 (N, 28, 28), or None: then it shows counts alone.
    """
    shown = {name: shown_images(*given) for name, given in answers.items()}
    places = chosen_places(list(shown.values())) if images is not None else {}
    networks = [
        {
            "name": name,
            "counts": counts_by_cell(labels, probabilities),
            "images": images_by_cell(shown[name], places),
        }
        for name, (labels, probabilities) in answers.items()
    ]
    picture = sprite(images[list(places)]) if places else ""
    data = {"classes": class_names, "networks": networks}
    data |= {"columns": columns_of(len(places)), "sprite": picture}
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    body, style, script = (
        (PARTS / f"explorer.{kind}").read_text("utf-8") for kind in ("html", "css", "js")
    )
    return (
        f"<style>\n{style}</style>\n{body}"
        f'<script type="application/json" id="explorer-data">{text}</script>\n'
        f"<script>\n{script}</script>\n"
    )


def shown_images(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The images of each (actual, predicted), the surest first: rank, index, cell and percent.

    int64 (M, 4); cell = actual * n_classes + predicted; rank is below PER_CELL.
    """
    cells = labels * probabilities.shape[1] + probabilities.argmax(axis=1)
    sure = probabilities.max(axis=1)
    order = np.lexsort((-sure, cells))
    ranks = np.arange(len(order)) - np.searchsorted(cells[order], cells[order])
    rows = order[ranks < PER_CELL]
    percents = np.floor(100 * sure[rows]).astype(int)
    return np.column_stack([ranks[ranks < PER_CELL], rows, cells[rows], percents])


def chosen_places(shown: list[np.ndarray]) -> dict[int, int]:
    """Image to place in the picture: the first of each confusion, then the second, until full."""
    together = np.concatenate(shown)
    by_rank = together[np.argsort(together[:, 0], kind="stable"), 1]
    return {
        index: place for place, index in enumerate([*dict.fromkeys(by_rank.tolist())][:MOST_IMAGES])
    }


def counts_by_cell(labels: np.ndarray, probabilities: np.ndarray) -> dict[int, int]:
    """How many images each cell holds, for those that hold any."""
    cells = labels * probabilities.shape[1] + probabilities.argmax(axis=1)
    return {int(cell): int(n) for cell, n in zip(*np.unique(cells, return_counts=True))}


def images_by_cell(shown: np.ndarray, places: dict[int, int]) -> dict[int, list[int]]:
    """Place and percent in turn, as one flat list per cell."""
    found: dict[int, list[int]] = {}
    for _, index, cell, percent in shown.tolist():
        if index in places:
            found.setdefault(cell, []).extend((places[index], percent))
    return found


def columns_of(n: int) -> int:
    """Images in a row of a picture of n."""
    return max(1, int(np.ceil(n**0.5)))


def sprite(images: np.ndarray) -> str:
    """Images uint8 (N, 28, 28) as one PNG in base64: black ink of 16 degrees of transparency."""
    columns = columns_of(len(images))
    rows = -(-len(images) // columns)
    picture = np.zeros((rows * columns, SIDE, SIDE), np.uint8)
    picture[: len(images)] = (images.astype(int) + 8) // 17
    tiled = picture.reshape(rows, columns, SIDE, SIDE).swapaxes(1, 2).reshape(rows * SIDE, -1)
    image = Image.fromarray(np.ascontiguousarray(tiled)).convert("P")
    image.putpalette(bytes(3 * SHADES))
    file, alpha = io.BytesIO(), bytes(17 * shade for shade in range(SHADES))
    image.save(file, "PNG", bits=4, transparency=alpha, optimize=True)
    return base64.b64encode(file.getvalue()).decode()
