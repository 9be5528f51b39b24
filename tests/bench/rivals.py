"""What `invoke bench` compares with: fastai and torchvision as in their tutorials, same images."""

import gzip
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np

from bench.clock import epoch_rate, peak_memory, timed
from lib.data.classes import BYCLASS

BYCLASS_TRAIN, BYCLASS_TEST = 697_932, 116_323


def stock_rate(network: str, folder: str) -> float:
    """fastai's epoch as in its tutorials: PNG files, an object per image, two workers."""
    from fastai.vision.all import (
        CategoryBlock,
        CrossEntropyLossFlat,
        DataBlock,
        ImageBlock,
        Learner,
        PILImageBW,
        RandomSplitter,
        get_image_files,
        parent_label,
    )

    from lib.networks import make_network

    block = DataBlock(
        (ImageBlock(PILImageBW), CategoryBlock),
        get_items=get_image_files,
        splitter=RandomSplitter(0.1),
        get_y=parent_label,
    )
    dls = block.dataloaders(folder, num_workers=2)
    return epoch_rate(Learner(dls, make_network(network, dls.c), loss_func=CrossEntropyLossFlat()))


def write_pngs(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """One PNG per image in a folder per class."""
    from PIL import Image

    for label in np.unique(labels):
        (folder / str(label)).mkdir()
    for number, (image, label) in enumerate(zip(images, labels)):
        Image.fromarray(image).save(folder / str(label) / f"{number}.png")


def write_archive(
    path: Path, n_train: int = BYCLASS_TRAIN, n_test: int = BYCLASS_TEST, per_class: int = 200
) -> None:
    """An archive of ByClass in the official layout and size, of generated characters, repeated."""
    from lib.data import strokes

    images, labels = strokes.generate(per_class)
    stored = np.ascontiguousarray(images.transpose(0, 2, 1))  # as EMNIST stores them
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(
            "gzip/emnist-byclass-mapping.txt",
            "".join(f"{i} {ord(name)}\n" for i, name in enumerate(BYCLASS)),
        )
        for part, n in (("train", n_train), ("test", n_test)):
            rows = rng.integers(0, len(labels), n)
            for what, array in (("images-idx3", stored), ("labels-idx1", labels.astype(np.uint8))):
                head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, n, *array.shape[1:])
                with archive.open(
                    f"gzip/emnist-byclass-{part}-{what}-ubyte.gz", "w", force_zip64=True
                ) as member:
                    with gzip.GzipFile(fileobj=member, mode="wb", compresslevel=1) as packed:
                        packed.write(head)
                        for start in range(0, n, 8192):
                            packed.write(array[rows[start : start + 8192]].tobytes())


def torchvision_emnist(archive: str, folder: str) -> type:
    """torchvision's EMNIST with this archive in place of its download."""
    from torchvision.datasets import EMNIST

    from lib.data.cache import file_md5

    raw = Path(folder) / "Archive" / "raw"  # torchvision names it after the class
    if not raw.exists():
        raw.mkdir(parents=True)
        shutil.copy(archive, raw / "gzip.zip")
    return type("Archive", (EMNIST,), {"md5": file_md5(Path(archive))})


def torchvision_load(archive: str, folder: str) -> tuple[float, float, int]:
    """The same of torchvision's EMNIST, with its download already there."""
    emnist = torchvision_emnist(archive, folder)
    before = peak_memory()
    first, second = (
        timed(
            lambda: [
                emnist(folder, "byclass", train=train, download=True) for train in (True, False)
            ]
        )
        for _ in range(2)
    )
    return first, second, peak_memory() - before


def torchvision_loader_rate(archive: str, folder: str, n: int, batch_size: int) -> float:
    """Images per second of torchvision's EMNIST through a DataLoader with two workers.

    The folder keeps what is unpacked.
    """
    from torch.utils.data import DataLoader, Subset
    from torchvision.transforms import ToTensor

    dataset = torchvision_emnist(archive, folder)(
        folder, "byclass", train=True, transform=ToTensor(), download=True
    )
    loader = DataLoader(
        Subset(dataset, range(n)), batch_size=batch_size, shuffle=True, num_workers=2
    )
    return n / timed(lambda: [None for _ in loader])
