"""Arrays that take long to make, kept as memory-mapped files; delete data/cache at any time."""

import hashlib
import json
import mmap
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from filelock import FileLock

from lib.errors import InputError
from lib.files import ROOT, digest_of_code

CONTENTS = "contents.json"  # the arrays' names


def data_folder() -> Path:
    """Where downloads and caches lie: HANDWRITING_DATA, or else `data/` beside `lib/`."""
    return Path(os.path.expanduser(os.environ.get("HANDWRITING_DATA") or ROOT / "data")).resolve()


def cache_folder() -> Path:
    """Where the arrays lie that the code of this room makes: other code may make others."""
    return data_folder() / "cache" / _own_code()[:8]


@cache
def _own_code() -> str:
    files = [*Path(__file__).parent.glob("*.py"), *Path(__file__).parent.glob("*.txt")]
    return digest_of_code([file.read_text(encoding="utf-8") for file in sorted(files)])


def cached_arrays(name: str, build: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays that `build` once made, read-only and memory-mapped: then it takes milliseconds.

    An interrupted build leaves nothing behind, damaged files are built anew, and processes that ask
    at once wait for the first. `name` may contain slashes. Raises InputError as only_one_process.
    """
    folder = cache_folder() / name
    arrays = _load(folder)
    if arrays is None:
        with only_one_process(folder):  # another one may have built it while this one waited
            arrays = _load(folder) or _save(folder, build())
    return arrays


def copied_rows(array: np.ndarray, rows: np.ndarray, block: int = 65_536) -> np.ndarray:
    """array[rows]; of a memory-mapped array no more than a block's rows are held beside them."""
    copy, mapped = np.empty((len(rows), *array.shape[1:]), array.dtype), array.base
    for start in range(0, len(rows), block):
        copy[start : start + block] = array[rows[start : start + block]]
        if isinstance(mapped, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            mapped._mmap.madvise(mmap.MADV_DONTNEED)
    return copy


def file_md5(file: Path) -> str:
    """MD5 of a file in hexadecimal, computed once for its path, size and time of change."""
    state = file.stat()
    key = digest(f"{file.resolve()} {state.st_size} {state.st_mtime_ns}")

    def build() -> dict[str, np.ndarray]:
        with open(file, "rb") as stream:
            return {"md5": np.array(hashlib.file_digest(stream, "md5").hexdigest())}

    return str(cached_arrays(f"md5/{key}", build)["md5"])


def digest(*parts: str | np.ndarray) -> str:
    """MD5, in hexadecimal, of texts and arrays one after the other."""
    md5 = hashlib.md5()
    for part in parts:
        md5.update(part.encode() if isinstance(part, str) else np.ascontiguousarray(part).data)
    return md5.hexdigest()


@contextmanager
def only_one_process(target: Path) -> Iterator[None]:
    """Lets one process at a time make `target`; an OSError becomes an InputError naming it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):  # dropped if its holder dies
            yield
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error.strerror or error}); free some space there, "
            "or set the environment variable HANDWRITING_DATA to another folder."
        ) from error


def _load(folder: Path) -> dict[str, np.ndarray] | None:
    try:
        names = json.loads((folder / CONTENTS).read_text())
        return {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in names}
    except (OSError, EOFError, ValueError):  # not there, or damaged
        return None


def _save(folder: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    partial.mkdir()
    try:
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array)
        (partial / CONTENTS).write_text(json.dumps([*arrays]))
        shutil.rmtree(folder, ignore_errors=True)  # damaged
        partial.rename(folder)
        return _load(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
