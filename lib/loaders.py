"""fastai batches cut from uint8 arrays by index: no Python object per image, no worker process, no float copy."""

import math

import numpy as np
import torch
import torch.nn.functional as F
import fastai.vision.data  # noqa: F401  teaches show_batch to lay images out in a grid
from fastai.data.core import DataLoaders, TfmdDL
from fastai.torch_core import TensorCategory, TensorImageBW, to_device
from fasttransform import Transform

from lib.data import CharacterData


class Characters:
    """Images, labels and class names of one part, as fastai's loader wants them: indexed, and able to show themselves.

    `split_idx` is 0 for training, where augmentation applies, and 1 for everything else.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, class_names: list[str], split_idx: int):
        self.images, self.labels, self.vocab, self.split_idx = images, labels, class_names, split_idx

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index):
        """An index or an array of them to (uint8 (..., 28, 28), int64 (...))."""
        images, labels = np.take(self.images, index, axis=0), np.take(self.labels, index)
        return TensorImageBW(torch.as_tensor(images)), TensorCategory(torch.as_tensor(labels, dtype=torch.int64))

    def decode(self, item, full: bool = True):
        image, label = item
        return image, TitledName(self.vocab[int(label)])


class TitledName(str):
    """A class name that titles the picture it is shown with."""

    def show(self, ctx=None, **kwargs):
        ctx.set_title(self)
        return ctx


class ArrayLoader(TfmdDL):
    """fastai's loader, with each batch taken from the arrays in one indexing operation, by this process alone.

    The order is drawn from Python's global random state at creation, as fastai's own is: the same seed, the same batches.
    """

    def __init__(self, dataset: Characters, **kwargs):
        super().__init__(dataset, **kwargs | {"num_workers": 0})
        self._n_inp, self._types = 1, {tuple: [TensorImageBW, TensorCategory]}

    def get_idxs(self) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.n)
        return np.random.default_rng(self.rng.getrandbits(32)).permutation(self.n)

    def __iter__(self):
        self.randomize()
        self.before_iter()
        order = self.get_idxs()
        for i in range(len(self)):
            batch = self.dataset[order[i * self.bs:(i + 1) * self.bs]]
            yield self.after_batch(to_device(batch, self.device))
        self.after_iter()


class RandomAffine(Transform):
    """Turns, scales, slants and shifts each image of a training batch a little, on the device the batch is on.

    Standard deviations at `strength` 1: 5 degrees, 6 %, 0.08 and 1 pixel. uint8 (B, 28, 28) in and out.
    """

    split_idx = 0

    def __init__(self, strength: float = 1.0):
        super().__init__()
        self.strength = strength

    def encodes(self, images: TensorImageBW):
        x = images.as_subclass(torch.Tensor)
        grid = F.affine_grid(self.matrices(len(x)).to(x.device), (len(x), 1, *x.shape[1:]), align_corners=False)
        moved = F.grid_sample(x.unsqueeze(1).float(), grid, align_corners=False)
        return TensorImageBW(moved.squeeze(1).round_().to(torch.uint8))

    def matrices(self, n: int) -> torch.Tensor:
        """n random affine maps (n, 2, 3) in the units of torch's affine_grid: the image spans -1 to 1."""
        turn, slant, scale_x, scale_y, shift_x, shift_y = torch.randn(6, n) * self.strength
        turn, slant = turn * math.radians(5), slant * 0.08
        cos, sin, wide, high = turn.cos(), turn.sin(), (scale_x * 0.06).exp(), (scale_y * 0.06).exp()
        rows = [wide * cos, high * (slant * cos - sin), shift_x / 14, wide * sin, high * (slant * sin + cos), shift_y / 14]
        return torch.stack(rows, dim=1).view(n, 2, 3)


def make_loaders(data: CharacterData, batch_size: int = 128, augment: float = 0.0, device=None) -> DataLoaders:
    """Training and validation batches as fastai DataLoaders of (uint8 (B, 28, 28), int64 (B,)).

    `augment` is the strength of RandomAffine on training batches; 0 leaves them as they are. The last, smaller
    training batch of each epoch is left out (batch norm cannot learn from one image).
    """
    batch_size = min(batch_size, len(data.train_labels))
    train = Characters(data.train_images, data.train_labels, data.class_names, split_idx=0)
    valid = Characters(data.valid_images, data.valid_labels, data.class_names, split_idx=1)
    transforms = [RandomAffine(augment)] if augment else []
    return DataLoaders(
        ArrayLoader(train, bs=batch_size, shuffle=True, drop_last=True, after_batch=transforms, device=device),
        ArrayLoader(valid, bs=1024, device=device),
        device=device,
    )
