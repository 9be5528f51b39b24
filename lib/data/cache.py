"""Arrays that take long to make, kept as memory-mapped .npy files below data/cache; delete that folder at any time."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock

from lib.errors import InputError
from lib.files import ROOT

CONTENTS = "contents.json"  # written last: file names and their sizes in bytes


def data_folder() -> Path:
    """Where downloads and caches lie: HANDWRITING_DATA where that is set, else `data/` beside `lib/`."""
    return Path(os.environ.get("HANDWRITING_DATA") or ROOT / "data").expanduser().resolve()


def cached_arrays(name: str, build: Callable[[Path], None]) -> dict[str, np.ndarray]:
    """The arrays that `build` once saved, read-only and memory-mapped: a second call takes milliseconds.

    `build` gets an empty folder and saves `KEY.npy` files into it (np.save, save_blocks). The folder takes its
    place in the cache only when `build` has returned, so an interruption leaves nothing behind. Processes that ask for
    the same name at once wait for the first; a missing or short file has everything built anew.
    `name` may contain slashes. Raises InputError where the data folder cannot be written (full, no permission).
    """
    folder = data_folder() / "cache" / name
    arrays = _load(folder)
    if arrays is None:
        with only_one_process(folder):
            arrays = _load(folder)  # another process may have built it while this one waited
            if arrays is None:
                _build(folder, build)
                arrays = _load(folder)
    return arrays


def file_md5(file: Path) -> str:
    """MD5 of a file in hexadecimal, computed once and remembered for its path, size and time of change."""
    state = file.stat()
    key = digest(f"{file.resolve()} {state.st_size} {state.st_mtime_ns}")

    def build(folder: Path) -> None:
        with open(file, "rb") as stream:
            np.save(folder / "md5.npy", [hashlib.file_digest(stream, "md5").hexdigest()])

    return str(cached_arrays(f"md5/{key}", build)["md5"][0])


def digest(*parts: str | np.ndarray) -> str:
    """MD5, in hexadecimal, of texts and arrays one after the other."""
    md5 = hashlib.md5()
    for part in parts:
        md5.update(part.encode() if isinstance(part, str) else np.ascontiguousarray(part).data)
    return md5.hexdigest()


def save_blocks(file: Path, shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> None:
    """Save uint8 blocks, joined along their first axis, as one .npy array; only one block is in memory at a time."""
    # Not into a memory map: when the disk is full, writing to one kills the process (SIGBUS) without a word.
    with open(file, "wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        for block in blocks:
            stream.write(np.ascontiguousarray(block))


@contextmanager
def only_one_process(target: Path) -> Iterator[None]:
    """Lets one process at a time make `target`; the operating system drops the lock if its holder dies.

    An OSError inside becomes an InputError that names `target`.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            yield
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error.strerror or error}); free some space there, "
            "or set the environment variable HANDWRITING_DATA to another folder."
        ) from error


def _load(folder: Path) -> dict[str, np.ndarray] | None:
    try:
        sizes = json.loads((folder / CONTENTS).read_text())
        if any((folder / file).stat().st_size != size for file, size in sizes.items()):
            return None
        return {
            Path(file).stem: np.asarray(np.load(folder / file, mmap_mode="r")) for file in sizes
        }
    except (OSError, ValueError):  # not there, or damaged
        return None


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    partial.mkdir()
    try:
        build(partial)
        sizes = {file.name: file.stat().st_size for file in sorted(partial.glob("*.npy"))}
        (partial / CONTENTS).write_text(json.dumps(sizes))
        if folder.exists():  # damaged
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
