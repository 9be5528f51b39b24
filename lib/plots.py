"""Pictures that more than one notebook draws.

Functions named show_... return nothing, so that they can end a cell: a `;` would hide a returned
value from JupyterLab, but not from nbval.
"""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from lib.wording import title_of

# Paul Tol's bright scheme, safe for colour-blind eyes; marker and line say the same again
LOOKS = {
    "lenet": ("#4477aa", "s", "--"),
    "custom": ("#ee6677", "o", "-"),
    "resnet": ("#228833", "^", "-."),
}
SPARE_LOOKS = [
    ("#aa3377", "D", ":"),
    ("#66ccee", "v", (0, (5, 1))),
    ("#ccbb44", "P", (0, (1, 1))),
    ("#777777", "X", (0, (3, 1, 1, 1))),
]
LIGHT = ("in grey", "its paper")  # steps of the preparation that show light, not ink
SIDE = 30  # pixels of an image in a mosaic, with the gap after it


def set_style(**changes) -> None:
    """One look for every figure: small, quiet, readable when printed; changes: of rcParams."""
    ours = {
        "figure.dpi": 80,
        "figure.figsize": (7, 3.5),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.constrained_layout.use": True,
        "legend.frameon": False,
        "image.cmap": "gray_r",
    }
    sns.set_theme(style="ticks", context="notebook", font_scale=0.85, rc=ours | changes)


def color_of(network: str) -> str:
    """A network's colour, the same in every figure; `look_of` adds what tells it without colour."""
    return look_of(network)["color"]


def look_of(network: str) -> dict:
    """A network's colour, marker and line, for ax.plot(x, y, **look_of(network))."""
    look = LOOKS.get(network) or SPARE_LOOKS[sum(map(ord, network)) % len(SPARE_LOOKS)]
    return dict(zip(("color", "marker", "linestyle"), look, strict=True))


def show_lines(table: pd.DataFrame, spread: pd.DataFrame | None = None, ax=None, **labels) -> None:
    """Each column of a table as a line over its index, a network's in its look; spread: bars.

    labels: what Axes.set takes, such as xlabel or xscale.
    """
    ax, spare = ax or plt.subplots()[1], cycle(SPARE_LOOKS)
    for name in table:
        own = table[name].dropna()
        look = dict(zip(look_of(name), LOOKS.get(name) or next(spare), strict=True))
        bars = None if spread is None else spread[name][own.index]
        ax.errorbar(own.index, own, bars, label=title_of(name), capsize=3, **look)
    ax.set(**labels)
    if labels.get("xscale") == "log":
        ax.set_xticks(table.index, [f"{value:,g}" for value in table.index])
        ax.minorticks_off()
    if len(table.columns):
        ax.legend()


def mosaic(images: np.ndarray, columns: int) -> np.ndarray:
    """One uint8 picture of images (N, 28, 28), row by row, each with 2 empty pixels after it.

    Values are rounded to 16 steps: no eye notices, and a stored figure is half as large.
    """
    missing = -len(images) % columns
    tiles = np.pad(np.uint8(images) // 17 * 17, ((0, missing), (0, 2), (0, 2)))
    return tiles.reshape(-1, columns, SIDE, SIDE).swapaxes(1, 2).reshape(-1, columns * SIDE)


def pixel_axes(picture: np.ndarray) -> Axes:
    """Axes of a new figure that shows each pixel of a picture (H, W) as one: sharp and small."""
    height, width = np.array(picture.shape) / plt.rcParams["figure.dpi"]
    ax = plt.figure(figsize=(width, height), layout="none").add_axes((0, 0, 1, 1))
    ax.imshow(picture, vmin=0, vmax=255, interpolation="nearest")
    ax.axis("off")
    return ax


def show_images(images: np.ndarray, columns: int, title: str = "", ax: Axes | None = None) -> None:
    """Images (N, 28, 28) side by side as dark ink on white."""
    picture = mosaic(images, columns)[:-2, :-2]
    if ax is None:
        ax = pixel_axes(picture)
    else:
        ax.imshow(picture, vmin=0, vmax=255)
        ax.axis("off")
    ax.set_title(title, fontsize=9)


def show_titled(images: np.ndarray, titles: list[str], columns: int = 6) -> None:
    """Images (N, 28, 28) with a line of text above each."""
    rows = -(-len(images) // columns)
    _, axes = plt.subplots(rows, columns, figsize=(columns * 1.5, rows * 1.75), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, image, title in zip(axes.flat, images, titles):
        ax.imshow(image, vmin=0, vmax=255)
        ax.set_title(title, fontsize=9, family="monospace")


def show_rows(rows: list[tuple[str, np.ndarray]], n: int, columns=2, name_room=3) -> None:
    """Named rows of up to n images (M, 28, 28); a name takes the room of `name_room` images."""
    cells = np.zeros((len(rows), name_room + n, 28, 28))
    for cell, (_, images) in zip(cells, rows):
        cell[name_room : name_room + len(images)] = images[:n]
    width = columns * (name_room + n)
    ax = pixel_axes(mosaic(cells.reshape(-1, 28, 28), width))
    look = {"ha": "right", "va": "center", "color": "#ee6677", "family": "monospace"}
    for i, (name, _) in enumerate(rows):
        row, column = divmod(i * (name_room + n) + name_room, width)
        ax.text(column * SIDE - 8, (row + 0.5) * SIDE, name, fontsize=11, **look)


def show_matrix(shares: np.ndarray, class_names: list[str], title="", ax=None, vmax=1.0) -> None:
    """A matrix of shares (n_classes, n_classes), 0 to `vmax`: row = actual, column = predicted."""
    ax = ax or plt.subplots(figsize=(7.5, 7))[1]
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=vmax)
    ax.set(xlabel="predicted", ylabel="actual", title=title)
    size = 7 if len(class_names) > 30 else 10
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(range(len(shares)), class_names, fontsize=size, family="monospace")
    ax.tick_params(length=0)
    ax.figure.colorbar(image, ax=ax, shrink=0.5, label="share of the actual class")


def formatted(table: pd.DataFrame, **formats: str) -> pd.DataFrame:
    """The table with columns as text, for reading only: formatted(table, share="{:.1%}")."""
    return table.assign(**{name: table[name].map(text.format) for name, text in formats.items()})


def show_steps(steps: dict[str, np.ndarray]) -> None:
    """How an image becomes what a network gets, as `lib.data.cleanup.steps` gives it."""
    _, axes = plt.subplots(1, len(steps), figsize=(1.75 * len(steps), 2.1))
    for ax, (name, picture) in zip(axes, steps.items(), strict=True):
        cmap, vmax = "gray" if name in LIGHT else None, 255 if picture.dtype == np.uint8 else 1
        ax.imshow(picture, cmap=cmap, vmin=0, vmax=vmax, interpolation="nearest")
        ax.set_title(name, fontsize=8)
        ax.set(xticks=[], yticks=[])
        sns.despine(ax=ax, left=False, right=False, top=False, bottom=False)
    plt.show()
