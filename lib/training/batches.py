"""fastai batches cut from uint8 arrays by index: no Python object per image, no worker process, no float copy."""

import fastai.vision.data  # noqa: F401  teaches show_batch to lay images out in a grid
import numpy as np
import psutil
import torch
from fastai.data.core import DataLoaders, TfmdDL
from fastai.data.transforms import CategoryMap
from fastai.torch_core import TensorCategory, TensorImageBW, to_device

from lib.data import CharacterData
from lib.params import TrainingParameters
from lib.training.augment import RandomDistortion, RandomErasing


class Characters:
    """Images, labels and class names of one part, as fastai's loader wants them: indexed, and able to show themselves.

    `split_idx` is 0 for training, where augmentation applies, and 1 for everything else. With a `device` they are
    copied there once, and batches are cut there; without, batches are cut from the arrays, which may be memory-mapped.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        class_names: list[str],
        split_idx: int,
        device=None,
    ):
        self.images, self.labels, self.split_idx, self.device = images, labels, split_idx, device
        self.vocab = CategoryMap(
            class_names, sort=False
        )  # fastai's interpretation takes a list for several vocabularies
        self.larger_than_memory = images.nbytes > psutil.virtual_memory().total / 2
        if device is not None:
            self.images, self.labels = (
                torch.tensor(array, device=device) for array in (images, labels)
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index):
        """An index or an array of them to (uint8 (..., 28, 28), int64 (...))."""
        if self.device is not None:
            index = torch.as_tensor(index, device=self.device)
            return TensorImageBW(self.images[index]), TensorCategory(self.labels[index])
        images, labels = np.take(self.images, index, axis=0), np.take(self.labels, index)
        return TensorImageBW(torch.as_tensor(images)), TensorCategory(
            torch.as_tensor(labels, dtype=torch.int64)
        )

    @property
    def items(self):
        """What fastai's interpretation picks its examples from."""
        return self

    @property
    def iloc(self):
        return Rows(self)

    def decode(self, item, full: bool = True):
        image, label = item
        return image, TitledName(self.vocab[int(label)])


class Rows:
    """Rows of a part as a part of their own, indexed as pandas does it, which fastai's interpretation can use."""

    def __init__(self, part: Characters):
        self.part = part

    def __getitem__(self, rows) -> Characters:
        images, labels = self.part[np.asarray(rows)]
        return Characters(
            images.numpy(force=True),
            labels.numpy(force=True),
            list(self.part.vocab),
            self.part.split_idx,
            self.part.device,
        )


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
        rng = np.random.default_rng(self.rng.getrandbits(32))
        return (
            nearby_order(self.n, rng)
            if self.dataset.larger_than_memory
            else rng.permutation(self.n)
        )

    def __iter__(self):
        self.randomize()
        self.before_iter()
        for batch in self.create_batches(self.get_idxs()):
            yield self.after_batch(to_device(batch, self.device))
        self.after_iter()

    def create_batches(self, order):
        """Batches of (uint8 (B, 28, 28), int64 (B,)) in this order; fastai's distributed loader calls it with its own share."""
        order = order if isinstance(order, np.ndarray) else np.fromiter(order, np.int64)
        end = len(order) // self.bs * self.bs if self.drop_last else len(order)
        for start in range(0, end, self.bs):
            yield self.dataset[order[start : start + self.bs]]


def nearby_order(
    n: int, rng: np.random.Generator, block: int = 1024, blocks: int = 256
) -> np.ndarray:
    """A random order of n rows for files larger than memory: rows within reach of each other come from few stretches.

    Blocks of consecutive rows are shuffled, then the rows of every 256 blocks (200 MB of images) among themselves, so
    that the disk is read in stretches and each stretch once.
    """
    starts = rng.permutation(-(-n // block)) * block
    groups = (
        np.concatenate(
            [np.arange(start, min(start + block, n)) for start in starts[i : i + blocks]]
        )
        for i in range(0, len(starts), blocks)
    )
    return np.concatenate([rng.permutation(group) for group in groups])


def make_loaders(
    data: CharacterData, parameters: TrainingParameters, device: torch.device | None = None
) -> DataLoaders:
    """Training and validation batches as fastai DataLoaders of (uint8 (B, 28, 28), int64 (B,)), training ones augmented.

    The last, smaller training batch of each epoch is left out (batch norm cannot learn from one image).
    """
    home = device if has_room(device, data.train_images.nbytes + data.valid_images.nbytes) else None
    train = Characters(
        data.train_images, data.train_labels, data.class_names, split_idx=0, device=home
    )
    valid = Characters(
        data.valid_images, data.valid_labels, data.class_names, split_idx=1, device=home
    )
    batch_size = min(parameters.batch_size, len(train))
    return DataLoaders(
        ArrayLoader(
            train,
            bs=batch_size,
            shuffle=True,
            drop_last=True,
            after_batch=augmentation(parameters),
            device=device,
        ),
        ArrayLoader(valid, bs=1024, device=device),
        device=device,
    )


def has_room(device: torch.device | None, n_bytes: int) -> bool:
    """True for a graphics card that so many bytes leave half of its free memory for the training."""
    return (
        device is not None
        and device.type == "cuda"
        and n_bytes < torch.cuda.mem_get_info(device)[0] / 2
    )


def augmentation(parameters: TrainingParameters) -> list:
    """The random changes asked for, in their order."""
    distortion = (
        [RandomDistortion(parameters.augment, parameters.warp)]
        if parameters.augment or parameters.warp
        else []
    )
    return distortion + ([RandomErasing(parameters.erase)] if parameters.erase else [])
