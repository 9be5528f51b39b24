"""Pictures that more than one notebook draws.

The functions named show_... return nothing, so that they can end a cell: a `;` would hide a returned value from
JupyterLab, but not from nbval.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = {
    "lenet": "#4477aa",
    "custom": "#ee6677",
    "resnet": "#228833",
}  # Paul Tol's bright scheme: safe for colour-blind eyes
SPARE_COLORS = ["#aa3377", "#66ccee", "#ccbb44", "#bbbbbb"]
LIGHT = ("in grey", "its paper")  # steps of the preparation that show light, not ink


def set_style() -> None:
    """One look for every figure: small, quiet, readable when printed."""
    sns.set_theme(style="ticks", context="notebook", font_scale=0.85)
    plt.rcParams.update(
        {
            "figure.dpi": 80,
            "figure.figsize": (7, 3.5),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.constrained_layout.use": True,
            "legend.frameon": False,
            "image.cmap": "gray_r",
        }
    )


def color_of(network: str) -> str:
    """A network's colour, the same in every figure."""
    return COLORS.get(network) or SPARE_COLORS[sum(map(ord, network)) % len(SPARE_COLORS)]


def mosaic(images: np.ndarray, columns: int, gap: int = 2) -> np.ndarray:
    """One uint8 picture of images (N, 28, 28), row by row, with `gap` empty pixels between them.

    Values are rounded to 16 steps, which no eye notices and which halves the size of a stored figure.
    """
    rows = -(-len(images) // columns)
    side = images.shape[1] + gap
    picture = np.zeros((rows * side - gap, columns * side - gap), dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * side, i % columns * side
        picture[top : top + image.shape[0], left : left + image.shape[1]] = (
            np.uint8(image) // 17 * 17
        )
    return picture


def pixel_axes(picture: np.ndarray, title: str = "") -> Axes:
    """Axes of a new figure in which one pixel of the picture (H, W) is one pixel of the screen: sharp, and small when stored."""
    height, width = np.array(picture.shape) / plt.rcParams["figure.dpi"]
    ax = plt.figure(figsize=(width, height), layout="none").add_axes((0, 0, 1, 1))
    ax.imshow(picture, vmin=0, vmax=255, interpolation="nearest")
    ax.axis("off")
    ax.set_title(title)
    return ax


def show_images(
    images: np.ndarray, columns: int = 20, title: str = "", ax: Axes | None = None
) -> None:
    """Images (N, 28, 28) side by side as dark ink on white."""
    picture = mosaic(images, columns)
    if ax is None:
        pixel_axes(picture, title)
        return
    ax.imshow(picture, vmin=0, vmax=255)
    ax.axis("off")
    ax.set_title(title, fontsize=9)


def show_titled(images: np.ndarray, titles: list[str], columns: int = 6) -> None:
    """Images (N, 28, 28) with a line of text above each."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 1.5, rows * 1.75), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, image, title in zip(axes.flat, images, titles):
        ax.imshow(image, vmin=0, vmax=255)
        ax.set_title(title, fontsize=9, family="monospace")


def show_per_class(
    images: np.ndarray, labels: np.ndarray, class_names: list[str], each: int = 4
) -> None:
    """The first `each` images of every class, under its name, the classes in the order of their labels from left to right."""
    rows = [
        (name, images[np.flatnonzero(labels == label)[:each]])
        for label, name in enumerate(class_names)
    ]
    show_rows(rows, n=each, columns=5, name_room=1)


def show_rows(
    rows: list[tuple[str, np.ndarray]], n: int = 11, columns: int = 2, name_room: int = 3
) -> None:
    """Named rows of up to n images (M, 28, 28), set in `columns` columns; a name takes the room of `name_room` images."""
    side = 30
    places = [
        (i // columns * side, (i % columns * (n + name_room) + name_room) * side)
        for i in range(len(rows))
    ]
    picture = np.zeros(
        (-(-len(rows) // columns) * side, columns * (n + name_room) * side), dtype=np.uint8
    )
    for (top, left), (_, images) in zip(places, rows):
        if len(images):
            row = mosaic(images[:n], n)
            picture[top : top + row.shape[0], left : left + row.shape[1]] = row
    ax = pixel_axes(picture)
    for (top, left), (name, _) in zip(places, rows):
        ax.text(
            left - 8,
            top + side / 2,
            name,
            ha="right",
            va="center",
            color="#ee6677",
            fontsize=11,
            family="monospace",
        )


def show_matrix(
    shares: np.ndarray,
    class_names: list[str],
    title: str = "",
    ax: Axes | None = None,
    vmax: float = 1.0,
) -> None:
    """A matrix of shares (n_classes, n_classes), 0 to `vmax`, without numbers: row = actual, column = predicted."""
    if ax is None:
        _, ax = plt.subplots(figsize=(7.5, 7))
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=vmax)
    ticks = np.arange(len(class_names))
    ax.set(xticks=ticks, yticks=ticks, xlabel="predicted", ylabel="actual", title=title)
    small = {"fontsize": 7 if len(class_names) > 30 else 10, "family": "monospace"}
    ax.set_xticklabels(class_names, **small)
    ax.set_yticklabels(class_names, **small)
    ax.tick_params(length=0)
    ax.figure.colorbar(image, ax=ax, shrink=0.5, label="share of the actual class")


def formatted(table: pd.DataFrame, **formats: str) -> pd.DataFrame:
    """The table with the named columns as text, such as formatted(table, share="{:.1%}"), for reading only."""
    return table.assign(
        **{column: table[column].map(text.format) for column, text in formats.items()}
    )


def overview(
    dataset: str,
    images: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    class_names: list[str],
    shares: np.ndarray,
    pairs: list[tuple[str, str]],
) -> Figure:
    """The README's picture: characters, a network's errors (shares of each actual class), and images of its `pairs`.

    pairs: (actual, predicted) names, the most frequent first.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.2), width_ratios=[1, 1.15, 1])
    show_images(images[:144], 12, dataset, left)
    show_matrix(shares, class_names, "what is taken for what", middle, vmax=shares.max())
    rows = [
        images[(labels == class_names.index(a)) & (predicted == class_names.index(b))][:7]
        for a, b in pairs
    ]
    blank = np.zeros((7, 28, 28), dtype=np.uint8)
    show_images(
        np.concatenate([np.concatenate([row, blank])[:7] for row in rows]),
        7,
        "the pairs that fool it most",
        right,
    )
    for i, (actual, answer) in enumerate(pairs):
        right.text(
            -6, 30 * i + 14, f"{actual} → {answer}", ha="right", va="center", family="monospace"
        )
    return figure


def show_steps(steps: dict[str, np.ndarray]) -> None:
    """How an image becomes what a network gets, as `lib.data.cleanup.steps` gives it: each step's picture below its name."""
    figure, axes = plt.subplots(1, len(steps), figsize=(1.75 * len(steps), 2.1))
    for ax, (name, picture) in zip(axes, steps.items(), strict=True):
        of_light = name in LIGHT  # these show light, the others ink
        ax.imshow(
            picture,
            cmap="gray" if of_light else "gray_r",
            vmin=0,
            vmax=255 if picture.dtype == np.uint8 else 1,
            interpolation="nearest",
        )
        ax.set_title(name, fontsize=8)
        ax.set(xticks=[], yticks=[])
        sns.despine(ax=ax, left=False, right=False, top=False, bottom=False)
    plt.show()
