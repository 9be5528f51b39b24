"""What hypothesis draws for the fault bench: damaged files, odd values; what must come of them."""

import faulthandler
import io
import os
from collections import Counter
from functools import wraps
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from PIL import Image

from lib.errors import InputError

FUZZ = os.environ.get("FUZZ", "")  # a seed; empty: the sample of `invoke test --all`
FOUND = Path(os.environ.get("FUZZ_FOUND", "fuzz-found"))  # inputs that broke something
COUNTS = Counter()  # inputs tried by this process, by test
MEMORY = [0]  # kilobytes that a test took at most
QUIET = {"suppress_health_check": list(HealthCheck), "deadline": 10_000 if FUZZ else None}
SAMPLE = Path(__file__).parent.parent / "samples" / "3.png"


def tried(times: int):
    """Settings of a test of `times` inputs: always the same ones, in a fuzz new ones.

    Each is counted in COUNTS. One that takes a minute ends the process, and says where it was.
    """
    chosen = settings(max_examples=times, derandomize=True, database=None, **QUIET)
    if FUZZ:
        chosen = settings(max_examples=times, print_blob=True, **QUIET)

    def counted(test):
        inner = test.hypothesis.inner_test

        @wraps(inner)
        def once(*args, **kwargs):
            COUNTS[test.__name__] += 1
            faulthandler.dump_traceback_later(60, exit=True)
            try:
                return inner(*args, **kwargs)
            finally:
                faulthandler.cancel_dump_traceback_later()

        test.hypothesis.inner_test = once
        return chosen(test)

    return counted


@st.composite
def damaged(draw, whole: bytes) -> bytes:
    """A file, up to six times cut, zeroed, overwritten, repeated, or with flipped bits."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        at, size = draw(st.integers(0, len(content))), draw(st.integers(1, 64))
        match draw(st.sampled_from(["cut", "flip", "zero", "random", "repeat"])):
            case "cut":
                del content[at:]
            case "flip":
                content[at : at + 1] = bytes(one ^ size for one in content[at : at + 1])
            case "zero":
                content[at : at + size] = bytes(size)
            case "random":
                content[at : at + size] = draw(st.binary(max_size=size))
            case "repeat":
                content[at:at] = content[at : at + size]
    return bytes(content)


def images() -> dict[str, bytes]:
    """A character in each format and mode that is read, and in some that are not."""
    grey, found = Image.open(SAMPLE).convert("L"), {}
    small = grey.resize((48, 48))
    for name, mode, options in [
        ("PNG", "L", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {}),
        ("PNG", "1", {}),
        ("PNG", "I;16", {}),
        ("JPEG", "RGB", {}),
        ("JPEG", "CMYK", {"progressive": True}),
        ("GIF", "P", {"save_all": True, "append_images": [small]}),
        ("BMP", "RGB", {}),
        ("TIFF", "L", {}),
        ("TIFF", "F", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("TIFF", "1", {"compression": "group4"}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("AVIF", "RGB", {}),
        ("PPM", "L", {}),
        ("DDS", "RGB", {}),
        ("ICO", "RGBA", {}),
        ("SGI", "L", {}),
    ]:
        stream = io.BytesIO()
        small.convert(mode).save(stream, name, **options)
        found[f"{name} {mode}"] = stream.getvalue()
    return found


DTYPES = ["u1", "i1", "u2", "i4", "i8", "f2", "f4", "f8", "c8", "?", "M8[s]", "U3", "O"]


@st.composite
def arrays(draw) -> np.ndarray:
    """Arrays of up to four axes and any type, among them images of characters."""
    sides = st.sampled_from([0, 1, 2, 3, 4, 9, 10, 28, 64, 200])
    shape = tuple(draw(st.lists(sides, max_size=4)))
    shape = shape if np.prod(shape) < 200_000 else shape[:2]
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0, 1, 255, 65_535, 1e300, -1, np.nan, np.inf]))
    with np.errstate(all="ignore"):
        values = random.random(shape) * scale if draw(st.booleans()) else np.full(shape, scale)
        dtype = draw(st.sampled_from(DTYPES))
        return np.nan_to_num(values).astype(dtype) if dtype == "M8[s]" else values.astype(dtype)


def one_sentence(error: InputError) -> None:
    """What a user is told: one line that prints, not too long, and ends."""
    said = str(error)
    assert said.isprintable() and 10 < len(said) < 1200 and said[-1] in ".?`)", said


def kept(name: str, content: bytes) -> None:
    """Writes down what broke something, to be repeated; images can go into tests/faults/corpus."""
    FOUND.mkdir(parents=True, exist_ok=True)
    (FOUND / name).write_bytes(content)
