"""Small archives in EMNIST's layout, made of generated characters, for the tests."""

import functools
import gzip
import struct
import zipfile

import numpy as np

from lib.data import strokes
from lib.data.classes import class_names, split_labels


@functools.cache
def characters(split, part):
    """Upright images and labels from 0: six of each ByClass class of a split, four in test."""
    images, labels = strokes.generate(6 if part == "train" else 4, seed=7, part=part)
    labels = split_labels(split)[labels]
    return images[labels >= 0], labels[labels >= 0]


def mapping(split):
    first = 1 if split == "letters" else 0
    lower = [f" {ord(name.lower())}" if split == "letters" else "" for name in class_names(split)]
    return "".join(
        f"{i} {ord(name)}{low}\r\n"
        for i, (name, low) in enumerate(zip(class_names(split), lower), first)
    )


def members(split):
    """Member name: unpacked bytes, as the official archive has them: transposed, letters from 1."""
    found = {f"emnist-{split}-mapping.txt": mapping(split).encode()}
    for part in ("train", "test"):
        images, labels = characters(split, part)
        labels = labels + (split == "letters")
        found[f"emnist-{split}-{part}-images-idx3-ubyte.gz"] = idx(images.transpose(0, 2, 1))
        found[f"emnist-{split}-{part}-labels-idx1-ubyte.gz"] = idx(labels)
    return found


def idx(array):
    return (
        struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def write_archive(file, split="digits", damage=None, **changed):
    """An archive of a split; `changed` replaces unpacked members, `damage` the packed ones."""
    names = {
        f"{part}_{what}": f"emnist-{split}-{part}-{what}-idx{dimensions}-ubyte.gz"
        for part in ("train", "test")
        for what, dimensions in (("images", 3), ("labels", 1))
    }
    names["mapping"] = f"emnist-{split}-mapping.txt"
    unpacked = members(split) | {names[key]: payload for key, payload in changed.items()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, payload in unpacked.items():
            packed = gzip.compress(payload, 1, mtime=0) if name.endswith(".gz") else payload
            if damage and name == names[damage[0]]:
                packed = damage[1](packed)
            if packed is not None:
                archive.writestr(f"gzip/{name}", packed)
    return file
