"""fastai batches cut from uint8 arrays by index: no object per image, no worker process."""

import fastai.vision.data  # noqa: F401  teaches show_batch to lay images out in a grid
import numpy as np
import psutil
import torch
from fastai.data.core import DataLoaders, TfmdDL
from fastai.data.transforms import CategoryMap
from fastai.torch_core import TensorCategory, TensorImageBW, TitledStr, to_device

from lib.data import CharacterData
from lib.params import TrainingParameters
from lib.training.augment import RandomDistortion, RandomErasing


class Characters:
    """Images and labels of one part, as fastai's loader wants them: indexed, and fit to be shown.

    `split_idx` is 0 for training, where augmentation applies, else 1. With a `device` they are
    copied there once, and batches are cut there; without, from the arrays, memory-mapped or not.
    """

    def __init__(self, images, labels, class_names: list[str], split_idx: int, device=None):
        self.split_idx, self.vocab = split_idx, CategoryMap(class_names, sort=False)
        self.images, self.labels = images, labels
        if device is not None:
            self.images = torch.tensor(images, device=device)
            self.labels = torch.tensor(labels, device=device)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index):
        """An array of indices (B,) to (uint8 (B, 28, 28), int64 (B,))."""
        return TensorImageBW(self.images[index]), TensorCategory(self.labels[index])

    def decode(self, item, full: bool = True):
        image, label = item
        return image, TitledStr(self.vocab[int(label)])


class ArrayLoader(TfmdDL):
    """fastai's loader, each batch taken from the arrays in one indexing, by this process alone.

    The order is drawn from Python's global random state at creation, as fastai's own is. Rows of
    more than `memory` bytes are shuffled among their neighbours.
    """

    def __init__(self, dataset: Characters, memory: float = float("inf"), **kwargs):
        super().__init__(dataset, **kwargs | {"num_workers": 0})
        self._n_inp, self._types = 1, {tuple: [TensorImageBW, TensorCategory]}
        self.memory = memory

    def get_idxs(self) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.n)
        rng = np.random.default_rng(self.rng.getrandbits(32))
        if self.dataset.images.nbytes > self.memory:
            return nearby_order(self.n, rng)
        return rng.permutation(self.n)

    def __iter__(self):
        self.randomize()
        self.before_iter()
        order = self.get_idxs()
        for start in range(0, len(self) * self.bs, self.bs):
            batch = self.dataset[order[start : start + self.bs]]
            yield self.after_batch(to_device(batch, self.device))
        self.after_iter()


def nearby_order(n: int, rng: np.random.Generator, block: int = 1024, blocks: int = 256):
    """A random order of n rows, int64 (n,), that reads the disk in stretches, each of them once.

    Blocks of consecutive rows are shuffled, then the rows of every 256 (200 MB) among themselves.
    """
    starts = rng.permutation(np.arange(0, n, block))
    rows = [np.arange(start, min(start + block, n)) for start in starts]
    groups = [np.concatenate(rows[i : i + blocks]) for i in range(0, len(rows), blocks)]
    return np.concatenate([rng.permutation(group) for group in groups])


def make_loaders(
    data: CharacterData, parameters: TrainingParameters, device: torch.device | None = None
) -> DataLoaders:
    """Training and validation batches of (uint8 (B, 28, 28), int64 (B,)), training ones augmented.

    The last, smaller training batch of each epoch is left out: batch norm needs several images.
    """
    home, n_bytes = None, data.train_images.nbytes + data.valid_images.nbytes
    if device is not None and device.type == "cuda":
        home = device if n_bytes < torch.cuda.mem_get_info(device)[0] / 2 else None
    train = Characters(data.train_images, data.train_labels, data.class_names, 0, home)
    valid = Characters(data.valid_images, data.valid_labels, data.class_names, 1, home)
    changes = []
    if parameters.augment or parameters.warp:
        changes.append(RandomDistortion(parameters.augment, parameters.warp))
    if parameters.erase:
        changes.append(RandomErasing(parameters.erase))
    memory, size = psutil.virtual_memory().total / 2, min(parameters.batch_size, len(train))
    random = {"shuffle": True, "drop_last": True, "after_batch": changes}
    train_loader = ArrayLoader(train, memory, bs=size, device=device, **random)
    return DataLoaders(train_loader, ArrayLoader(valid, bs=1024, device=device), device=device)
