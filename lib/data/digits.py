"""Real handwriting that scikit-learn brings along: 1,797 digits of 13 people at 8 x 8 pixels.

Source: Alpaydin and Kaynak (1998), https://doi.org/10.24432/C50P49
"""

import numpy as np
import torch
from sklearn.datasets import load_digits

from lib.data.emnist_format import to_emnist

# What one person wrote stands together, so that the parts are by different people.
PARTS = {"train": slice(646), "valid": slice(646, 776), "test": slice(776, None)}


def load() -> dict[str, np.ndarray]:
    """{train,valid,test}_{images,labels}: uint8 (N, 28, 28), as EMNIST's are, and int64 (N,)."""
    found = load_digits()
    images, labels = to_emnist(torch.from_numpy(found.images) / 16).numpy(), np.int64(found.target)
    arrays = {"images": images, "labels": labels}
    return {f"{part}_{kind}": arrays[kind][rows] for part, rows in PARTS.items() for kind in arrays}
