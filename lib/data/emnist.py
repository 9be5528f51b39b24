"""EMNIST's six splits, read straight from the official archive `gzip.zip` and turned upright.

Source: Cohen, Afshar, Tapson, van Schaik (2017), https://arxiv.org/abs/1702.05373
"""

import gzip
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import urlsplit

import numpy as np

from lib.data.cache import cached_arrays, data_folder, file_md5, only_one_process
from lib.data.classes import class_names
from lib.errors import InputError

URLS = (
    "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
    "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip",  # older
)
OFFICIAL_MD5 = "58c8d27c78d21e728a6bc7b3cc06412e"  # as torchvision has checked it for years
TIMEOUT = 30  # seconds without a byte from a host
FIRST_LABEL = {"letters": 1}  # of the other splits: 0
MOST_IMAGES = 814_255  # in all of EMNIST: no part has more
BLOCK = 4096  # images that are turned upright at once


def load(split: str, archive: str | Path = "") -> tuple[dict[str, np.ndarray], str]:
    """A split, from a local `archive` or else the official one, downloaded at the first call.

    Returns the arrays {train,test}_images, uint8 (N, 28, 28), upright, ink bright on 0, and
    {train,test}_labels, int64 (N,) from 0, memory-mapped, and the archive's MD5. Raises InputError,
    and leaves nothing behind, where it cannot be had or its contents are wrong.
    """
    if archive:
        _opened(Path(archive)).close()
    md5 = file_md5(Path(archive)) if archive else OFFICIAL_MD5
    name = f"emnist/{split}-{md5}"
    return cached_arrays(name, lambda: read_split(Path(archive or download()), split)), md5


def download() -> Path:
    """The official archive in data/raw, from the first of URLS that sends it whole (536 MiB)."""
    import pooch  # slow to import, as is requests, and needed once
    import requests

    target = data_folder() / "raw" / "emnist-gzip.zip"
    fetch = pooch.HTTPDownloader(progressbar=True, chunk_size=2**20, timeout=TIMEOUT)
    failures = []
    with only_one_process(target):
        for leftover in target.parent.glob("tmp*"):  # pooch's, from a process that was killed
            leftover.unlink()
        for url in URLS:
            try:
                checksum = f"md5:{OFFICIAL_MD5}"
                pooch.retrieve(url, checksum, target.name, target.parent, downloader=fetch)
                return target
            except requests.RequestException as error:
                reason = type(error).__name__
                if error.response is not None:
                    reason = f"it answered {error.response.status_code} {error.response.reason}"
            except ValueError:
                reason = "it sent another file, by its MD5"
            failures.append(f"{urlsplit(url).netloc}: {reason}")
    problem = f"EMNIST could not be downloaded ({'; '.join(failures)})"
    raise InputError(f"{problem}; download {URLS[0]} by hand and set `archive` to it.")


def read_split(archive: Path, split: str) -> dict[str, np.ndarray]:
    """The arrays {train,test}_{images,labels} of a split.

    Raises InputError that names the member of the archive which is missing, damaged, or not what
    this split of EMNIST has: mapping, sizes, labels of all classes, transposed images of these.
    """
    from lib.data.orientation import check_fit  # with it comes torch, which takes seconds

    arrays = {}
    with _opened(archive) as zip_file:
        with _member(zip_file, f"emnist-{split}-mapping.txt") as stream:
            _check_mapping(stream.read(10_000).decode(), split)
        for part in ("train", "test"):
            with _member(zip_file, f"emnist-{split}-{part}-labels-idx1-ubyte.gz") as stream:
                labels = _read_labels(stream, split, every_class=part == "train")
            with _member(zip_file, f"emnist-{split}-{part}-images-idx3-ubyte.gz") as stream:
                images = _read_images(stream, len(labels))
                check_fit(images, labels, split)
            arrays |= {f"{part}_images": images, f"{part}_labels": labels}
    return arrays


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except Exception as error:  # a damaged archive can raise anything
        reason = getattr(error, "strerror", None) or error
        way_out = "set `archive` to a complete copy of EMNIST's gzip.zip"
        raise InputError(f"The archive {archive} cannot be read ({reason}); {way_out}.") from error


@contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[BinaryIO]:
    """The unpacked bytes of a member; what is wrong with them becomes an InputError naming it."""
    try:
        path = next((path for path in archive.namelist() if PurePosixPath(path).name == name), None)
        if path is None:
            raise ValueError("it is not there")
        with archive.open(path) as stream:
            yield gzip.GzipFile(fileobj=stream) if name.endswith(".gz") else stream
    except Exception as error:  # as above
        why = f"Member {name} of the archive {archive.filename} cannot be used: {error}".rstrip(".")
        raise InputError(f"{why}; set `archive` to a good copy of EMNIST's gzip.zip.") from error


def _check_mapping(text: str, split: str) -> None:
    """A line is a label and its code points: one, or for letters upper and lower case."""
    try:
        rows = [[int(number) for number in line.split()] for line in text.splitlines()]
        found = {label: chr(code) for label, code, *_ in filter(None, rows)}
    except ValueError:
        raise ValueError("it is no table of labels and code points") from None
    for label, name in enumerate(class_names(split), start=FIRST_LABEL.get(split, 0)):
        if (said := found.get(label)) != name:
            raise ValueError(f"it says {said!r} for label {label}, which is '{name}' in {split}")


def _read_labels(stream: BinaryIO, split: str, every_class: bool) -> np.ndarray:
    """int64 (N,), from 0."""
    names, first = class_names(split), FIRST_LABEL.get(split, 0)
    labels = _read_bytes(stream, _read_shape(stream, 1)).astype(np.int64) - first
    strange = labels[(labels < 0) | (labels >= len(names))]
    if len(strange):
        raise ValueError(f"label {strange[0] + first} is none of the {len(names)} of {split}")
    absent = np.flatnonzero(np.bincount(labels, minlength=len(names)) == 0)
    if len(absent) and (every_class or not len(labels)):
        raise ValueError(f"there is no image of class '{names[absent[0]]}'")
    return labels


def _read_images(stream: BinaryIO, count: int) -> np.ndarray:
    """uint8 (count, 28, 28), upright: EMNIST stores them transposed."""
    shape = _read_shape(stream, 3)
    if shape[1:] != (28, 28):
        raise ValueError(f"its images are {shape[1]} x {shape[2]}, not 28 x 28")
    if shape[0] != count:
        raise ValueError(f"it has {shape[0]} images for {count} labels")
    images = _read_bytes(stream, shape)
    for some in np.split(images, range(BLOCK, count, BLOCK)):  # in place: no second copy
        some[:] = some.transpose(0, 2, 1).copy()
    return images


def _read_shape(stream: BinaryIO, dimensions: int) -> tuple[int, ...]:
    """The sizes that an IDX file's header promises."""
    header, magic = stream.read(4 + 4 * dimensions), bytes((0, 0, 8, dimensions))
    if header[:4] != magic or len(header) < 4 + 4 * dimensions:
        begin = header[:4].hex()
        raise ValueError(f"it begins with {begin} instead of the IDX magic {magic.hex()}")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    if shape[0] > MOST_IMAGES:
        raise ValueError(f"its header promises {shape[0]} items, more than any split of EMNIST has")
    return shape


def _read_bytes(stream: BinaryIO, shape: tuple[int, ...]) -> np.ndarray:
    """The uint8 array that follows the header; no more is unpacked than that and one byte."""
    array, found = np.empty(shape, np.uint8), 0
    view = memoryview(array.reshape(-1))
    while found < array.size and (n := stream.readinto(view[found : found + 2**20])):
        found += n
    if found < array.size or stream.read(1):
        follow = found if found < array.size else "more"
        raise ValueError(f"its header promises {array.size} bytes and {follow} follow")
    return array
