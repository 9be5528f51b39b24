"""The confusion explorer: a map of all confusions, and the images behind each, as one HTML."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from lib.reading.page import picture
from lib.wording import title_of

PARTS = Path(__file__).parent / "templates" / "explorer"
PER_CELL, MOST_IMAGES = 8, 1500  # images of a confusion, and of all: a quarter of a megabyte


def explorer_html(
    class_names: list[str],
    answers: dict[str, tuple[np.ndarray, np.ndarray]],
    images: np.ndarray | None = None,
) -> str:
    """The explorer, with its data, style and script inside.

    answers: by network, labels (N,) and probabilities (N, n_classes) of the test images.
    images: uint8 (N, 28, 28), or None: then it shows counts alone.
    """
    found = {name: cells_of(*given) for name, given in answers.items()}
    by_rank = sorted((row for _, rows in found.values() for row in rows), key=lambda row: row[0])
    chosen = [*dict.fromkeys(index for _, index, _, _ in by_rank)][:MOST_IMAGES]
    places = {index: place for place, index in enumerate(chosen if images is not None else [])}
    columns = max(1, int(np.ceil(len(places) ** 0.5)))
    data = {"classes": class_names, "columns": columns, "networks": []}
    data["sprite"] = sprite(images[chosen], columns) if places else ""
    for name, (counts, rows) in found.items():
        pictures: dict[int, list[int]] = {}  # place and percent in turn
        for _, index, cell, percent in rows:
            if index in places:
                pictures.setdefault(cell, []).extend((places[index], percent))
        data["networks"].append({"name": title_of(name), "counts": counts, "images": pictures})
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    files = (PARTS / f"explorer.{kind}" for kind in ("html", "css", "js"))
    body, style, script = (file.read_text("utf-8") for file in files)
    held = f'<script type="application/json" id="explorer-data">{text}</script>'
    return f"<style>\n{style}</style>\n{body}{held}\n<script>\n{script}</script>\n"


def cells_of(labels: np.ndarray, probabilities: np.ndarray) -> tuple[Counter, list[list[int]]]:
    """How many images are in each cell of the map, which is actual * n_classes + predicted.

    And of at most PER_CELL images of each, the surest first: rank, index, cell and percent.
    """
    cells = labels * probabilities.shape[1] + probabilities.argmax(axis=1)
    sure = probabilities.max(axis=1)
    order = np.lexsort((-sure, cells))
    ranks = np.arange(len(order)) - np.searchsorted(cells[order], cells[order])
    rows = np.column_stack([ranks, order, cells[order], np.floor(100 * sure[order]).astype(int)])
    return Counter(cells[order].tolist()), rows[ranks < PER_CELL].tolist()


def sprite(images: np.ndarray, columns: int) -> str:
    """Images uint8 (N, 28, 28) as one PNG's address: black ink of 16 degrees of transparency."""
    shades = ((images.astype(int) + 8) // 17).astype(np.uint8)
    filled = np.pad(shades, ((0, -len(images) % columns), (0, 0), (0, 0)))
    tiled = filled.reshape(-1, columns, 28, 28).swapaxes(1, 2).reshape(-1, columns * 28)
    image = Image.fromarray(tiled).convert("P")
    image.putpalette(bytes(3 * 16))
    return picture(image, bits=4, transparency=bytes(range(0, 256, 17)))
