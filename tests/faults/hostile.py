"""What hypothesis draws for the fault bench: damaged files, odd values; what must come of them."""

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

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 0))  # of each test; 0: the sample with a fixed seed
FOUND = Path(os.environ.get("FUZZ_FOUND", "fuzz-found"))  # inputs that broke something
COUNTS = Counter()  # inputs tried by this process, by test
MEMORY = [0]  # kilobytes that a test took at most
QUIET = {"suppress_health_check": list(HealthCheck), "deadline": 10_000 if EXAMPLES else None}
SAMPLE = Path(__file__).parent.parent / "samples" / "3.png"


def tried(times: int):
    """Settings of a test: `times` examples in the sample, so many times FUZZ_EXAMPLES in a fuzz.

    Each one is counted in COUNTS.
    """
    chosen = settings(max_examples=times, derandomize=True, database=None, **QUIET)
    if EXAMPLES:
        chosen = settings(max_examples=max(1, times * EXAMPLES // 100), print_blob=True, **QUIET)

    def counted(test):
        inner = test.hypothesis.inner_test

        @wraps(inner)
        def once(*args, **kwargs):
            COUNTS[test.__name__] += 1
            return inner(*args, **kwargs)

        test.hypothesis.inner_test = once
        return chosen(test)

    return counted


@st.composite
def damaged(draw, whole: bytes) -> bytes:
    """A file, up to six times cut, zeroed, overwritten, repeated or changed in a bit."""
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
        return np.nan_to_num(values).astype(dtype) if dtype in ("M8[s]",) else values.astype(dtype)


def one_sentence(error: InputError) -> None:
    """What a user is told: one line that prints, not too long, and ends."""
    said = str(error)
    assert said.isprintable() and 10 < len(said) < 1200 and said[-1] in ".?`)", said


def kept(name: str, content: bytes) -> None:
    """Writes down what broke something, to be repeated: move it into tests/faults/corpus."""
    FOUND.mkdir(parents=True, exist_ok=True)
    (FOUND / name).write_bytes(content)
