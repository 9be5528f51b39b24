"""EMNIST's six splits, read straight from the official archive `gzip.zip` and turned upright.

Source: Cohen, Afshar, Tapson, van Schaik (2017), https://arxiv.org/abs/1702.05373
"""

import functools
import gzip
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import urlsplit

import numpy as np

from lib.data.cache import cached_arrays, data_folder, file_md5, only_one_process, save_blocks
from lib.data.classes import class_names, split_labels
from lib.errors import InputError

URLS = (
    "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
    "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip",  # older
)
OFFICIAL_MD5 = "58c8d27c78d21e728a6bc7b3cc06412e"  # as torchvision has checked it for years
OFFICIAL_MEBIBYTES = 535.73
TIMEOUT = 30  # seconds without a byte from a host
FIRST_LABEL = {"letters": 1}  # of the other splits: 0
BLOCK = 4096  # images held in memory at a time
SAMPLE = 20_000  # images, about, looked at to tell whether they are upright and fit their labels
LEAST_FIT = 0.3  # measured: MNIST 0.46, NIST capitals 0.61, photographs 0.64 and more; shuffled labels about 0


@dataclass(frozen=True)
class Emnist:
    """One split: images uint8 (N, 28, 28), upright, ink bright on 0; labels int64 (N,) from 0; memory-mapped."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: list[str]
    archive: str  # file name, "" where it is the downloaded one
    md5: str

    @property
    def official(self) -> bool:
        """Whether the archive is EMNIST's own, by its MD5 sum."""
        return self.md5 == OFFICIAL_MD5

    @property
    def note(self) -> str:
        """What every result must say of its data: "" for the official archive."""
        return (
            ""
            if self.official
            else f"Archive {self.archive}, md5 {self.md5}, is not the official EMNIST archive."
        )


def load(split: str, archive: str | Path = "") -> Emnist:
    """A split of EMNIST, from a local `archive` or else from the official one, downloaded at the first call.

    Raises InputError, and leaves nothing behind, where it cannot be had or its contents are wrong: see read_split.
    """
    if archive and not zipfile.is_zipfile(archive):
        raise InputError(
            f"The archive {archive} is {_kind(Path(archive))}; set `archive` to EMNIST's gzip.zip."
        )
    md5 = file_md5(Path(archive)) if archive else OFFICIAL_MD5
    arrays = cached_arrays(
        f"emnist/{split}-{md5}", lambda to: read_split(Path(archive or download()), split, to)
    )
    return Emnist(**arrays, class_names=class_names(split), archive=Path(archive).name, md5=md5)


def _kind(file: Path) -> str:
    try:
        with open(file, "rb") as stream:
            start = stream.read(512).lstrip().lower()
    except OSError as error:
        return f"not readable ({error.strerror})"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page"
    return "another zip archive" if zipfile.is_zipfile(file) else "not a complete zip archive"


def download() -> Path:
    """The official archive in data/raw, from the first of URLS that sends it whole and unchanged (535.73 MiB)."""
    import pooch  # slow to import, and needed once
    import requests

    target = data_folder() / "raw" / "emnist-gzip.zip"
    failures = []
    with only_one_process(target):
        for leftover in target.parent.glob("tmp*"):  # pooch's, from a process that was killed
            leftover.unlink()
        for url in URLS:
            try:
                pooch.retrieve(
                    url, f"md5:{OFFICIAL_MD5}", target.name, target.parent, downloader=_fetch
                )
                return target
            except (requests.RequestException, ValueError) as error:
                failures.append(f"{urlsplit(url).netloc}: {_reason(error)}")
    raise InputError(
        f"EMNIST could not be downloaded ({'; '.join(failures)}); "
        f"download {URLS[0]} by hand and set `archive` to it."
    )


def _fetch(url: str, file: str, _pooch: object) -> None:
    import pooch

    pooch.HTTPDownloader(progressbar=True, chunk_size=2**20, timeout=TIMEOUT)(url, file, None)
    mebibytes = round(Path(file).stat().st_size / 2**20, 2)
    if mebibytes != OFFICIAL_MEBIBYTES:
        raise InputError(
            f"it sent {_kind(Path(file))} of {mebibytes} MiB in place of {OFFICIAL_MEBIBYTES} MiB"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    if getattr(error, "response", None) is not None:
        return f"it answered {error.response.status_code} {error.response.reason}"
    return "it sent another file, by its MD5" if type(error) is ValueError else type(error).__name__


def read_split(archive: Path, split: str, folder: Path) -> None:
    """Save {train,test}_{images,labels}.npy of a split into `folder`, image block by image block.

    Raises InputError that names the member of the archive, where it is missing, damaged or truncated, is no IDX file
    of 28 x 28 images, has not as many images as labels, labels outside the split or a class without images; where
    the mapping names other classes; where the images are not transposed as EMNIST's are, or do not fit their labels.
    """
    with _opened(archive) as zip_file:
        with _member(zip_file, f"emnist-{split}-mapping.txt") as stream:
            _check_mapping(stream.read().decode(), split)
        for part in ("train", "test"):
            with _member(zip_file, f"emnist-{split}-{part}-labels-idx1-ubyte.gz") as stream:
                labels = _read_labels(stream, split, every_class=part == "train")
            np.save(folder / f"{part}_labels.npy", labels)
            images_file = folder / f"{part}_images.npy"
            with _member(zip_file, f"emnist-{split}-{part}-images-idx3-ubyte.gz") as stream:
                save_blocks(
                    images_file, (len(labels), 28, 28), _upright_blocks(stream, len(labels))
                )
                check_fit(np.load(images_file, mmap_mode="r"), labels, split)


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except zipfile.BadZipFile as error:
        raise InputError(
            f"The archive {archive} is damaged ({error}); set `archive` to a good copy."
        ) from error


@contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[BinaryIO]:
    """The unpacked bytes of a member; whatever is wrong with them becomes an InputError that names it."""
    try:
        path = next((path for path in archive.namelist() if PurePosixPath(path).name == name), None)
        if path is None:
            raise ValueError("it is not there")
        with archive.open(path) as stream:
            yield gzip.GzipFile(fileobj=stream) if name.endswith(".gz") else stream
    except (
        EOFError,
        zlib.error,
        gzip.BadGzipFile,
        zipfile.BadZipFile,
        RuntimeError,
        ValueError,
    ) as error:
        raise InputError(
            f"Member {name} of the archive {archive.filename} cannot be used: {str(error).rstrip('.')}; "
            "set `archive` to a good copy of EMNIST's gzip.zip."
        ) from error


def _check_mapping(text: str, split: str) -> None:
    """A line is a label and the code points it stands for: one, or for letters the upper and the lower case."""
    try:
        rows = [
            [int(number) for number in line.split()] for line in text.splitlines() if line.strip()
        ]
    except ValueError:
        raise ValueError("it is no table of labels and code points") from None
    found = {label: chr(code) for label, code, *_ in rows}
    for label, name in enumerate(class_names(split), start=FIRST_LABEL.get(split, 0)):
        if found.get(label) != name:
            raise ValueError(
                f"it says {found.get(label)!r} for label {label}, which is '{name}' in {split}"
            )


def _read_labels(stream: BinaryIO, split: str, every_class: bool) -> np.ndarray:
    (count,) = _idx_shape(stream, 1)
    payload = stream.read()
    if len(payload) != count:
        raise ValueError(f"its header promises {count} labels and {len(payload)} follow")
    names, first = class_names(split), FIRST_LABEL.get(split, 0)
    labels = np.frombuffer(payload, np.uint8).astype(np.int64) - first
    strange = labels[(labels < 0) | (labels >= len(names))]
    if len(strange):
        raise ValueError(f"label {strange[0] + first} is none of the {len(names)} of {split}")
    absent = [
        name for name, size in zip(names, np.bincount(labels, minlength=len(names))) if size == 0
    ]
    if absent and (every_class or count == 0):
        raise ValueError(f"there is no image of class '{absent[0]}'")
    return labels


def _idx_shape(stream: BinaryIO, dimensions: int) -> tuple[int, ...]:
    magic = stream.read(4)
    if magic != bytes((0, 0, 8, dimensions)):
        raise ValueError(
            f"it begins with {magic.hex()} instead of the IDX magic 0000080{dimensions}"
        )
    return struct.unpack(
        f">{dimensions}I", stream.read(4 * dimensions).ljust(4 * dimensions, b"\0")
    )


def _upright_blocks(stream: BinaryIO, count: int) -> Iterator[np.ndarray]:
    images, height, width = _idx_shape(stream, 3)
    if (height, width) != (28, 28):
        raise ValueError(f"its images are {height} x {width}, not 28 x 28")
    if images != count:
        raise ValueError(f"it has {images} images for {count} labels")
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start) * 28 * 28
        payload = stream.read(size)
        if len(payload) != size:
            raise ValueError(f"it ends before its {count} images do")
        yield (
            np.frombuffer(payload, np.uint8).reshape(-1, 28, 28).transpose(0, 2, 1)
        )  # EMNIST stores them transposed
    if stream.read(1):
        raise ValueError(f"it goes on after its {count} images")


def check_fit(images: np.ndarray, labels: np.ndarray, split: str) -> None:
    """Raise ValueError unless the images, uint8 (N, 28, 28), are upright and show what the labels say.

    The mean image of each class, in each of eight orientations, is compared with that of generated characters.
    """
    runs = np.arange(len(labels)) // 100  # runs, not single images: less of the file is read
    sample = np.flatnonzero(runs % (1 + len(labels) // SAMPLE) == 0)
    means = _class_means(images[sample], labels[sample], split)
    turned = [np.rot90(means, turns, (1, 2)) for turns in range(4)]
    fits = [
        _fit(view, _reference_means(split))
        for view in turned + [view.transpose(0, 2, 1) for view in turned]
    ]
    if max(fits) < LEAST_FIT:
        raise ValueError(
            f"its images do not fit their labels (agreement {fits[0]:.2f}, at least {LEAST_FIT} expected)"
        )
    if max(fits) > fits[0]:
        raise ValueError("its images are not transposed as EMNIST stores them")


def _fit(means: np.ndarray, reference: np.ndarray) -> float:
    """Mean correlation of (classes, 28, 28) with (classes, 28, 28), over the classes that have images."""
    present = means.any(axis=(1, 2))
    means, reference = (
        means[present] - means[present].mean(0),
        reference[present] - reference[present].mean(0),
    )
    norms = np.sqrt((means**2).sum((1, 2)) * (reference**2).sum((1, 2)))
    return float(np.mean((means * reference).sum((1, 2)) / np.maximum(norms, 1e-9)))


def _class_means(images: np.ndarray, labels: np.ndarray, split: str) -> np.ndarray:
    """Blurred mean image per class, float32 (classes, 28, 28); zeros for a class without images."""
    from scipy.ndimage import gaussian_filter  # slow to import, and needed once per archive

    one_hot = np.eye(len(class_names(split)), dtype=np.float32)[labels]
    sums = one_hot.T @ images.reshape(len(images), -1).astype(np.float32)
    means = sums / np.maximum(one_hot.sum(0), 1)[:, None]
    return gaussian_filter(means.reshape(-1, 28, 28), (0, 2, 2))


@functools.cache
def _reference_means(split: str) -> np.ndarray:
    from lib.data import strokes  # with it comes torch

    images, labels = strokes.generate(per_class=20, seed=0)
    labels = split_labels(split)[labels]
    return _class_means(images[labels >= 0], labels[labels >= 0], split)
