"""A fastai Learner for one network, with every seed set, and the rates it is trained with."""

import ctypes
import os
import platform
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.progress import ProgressCallback
from fastai.callback.schedule import ParamScheduler, SchedCos, SchedNo, minimum
from fastai.imports import noop
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.optimizer import Adam, RMSProp
from fastai.torch_core import default_device, set_seed

from lib.data import CharacterData
from lib.errors import InputError
from lib.files import LIVE_NOTEBOOK, PROGRESS, RATES, read_json
from lib.networks import Preparation, PreparedNetwork, make_network
from lib.params import TrainingParameters
from lib.training import callbacks
from lib.training.batches import make_loaders

HIGHEST_RATE = 0.03  # on two easy classes the test suggests 0.1, where LeNet's training diverges
# weight decay is decoupled from the gradient in both; Keras, and so the original, averages by 0.9
OPTIMISERS = {"adam": Adam, "rmsprop": partial(RMSProp, sqr_mom=0.9)}


def make_learner(data: CharacterData, parameters: TrainingParameters) -> Learner:
    """A Learner with fresh weights; the same call always gives, and trains, the same network."""
    keep_freed_memory()
    set_seed(parameters.seed, reproducible=True)
    device = default_device()
    precision = choose_precision(parameters.precision, device)
    network = make_network(parameters.network, len(data.class_names))
    model = PreparedNetwork(network, fit_preparation(data.train_images), precision)
    wanted = [callbacks.StopAtNaN()]
    if precision == torch.float16:
        wanted.append(MixedPrecision())  # scales the gradients
    if parameters.average:
        wanted.append(callbacks.AverageWeights(parameters.average))
    if PROGRESS in os.environ:
        wanted.append(callbacks.ReportProgress(Path(os.environ[PROGRESS])))
    scratch = tempfile.TemporaryDirectory(prefix="learner-")
    learner = Learner(
        make_loaders(data, parameters, device),
        model.to(device),
        loss_func=CrossEntropyLossFlat(label_smoothing=parameters.label_smoothing),
        opt_func=OPTIMISERS[parameters.optimiser],
        metrics=[accuracy, callbacks.TrainLoss()],
        wd=parameters.weight_decay,
        path=scratch.name,
        cbs=wanted,
    )
    learner.scratch = scratch  # where the finder and early stopping keep weights; goes with it
    if not (sys.stdout.isatty() or os.environ.keys() & set(LIVE_NOTEBOOK)):  # nobody watches
        learner.remove_cb(ProgressCallback)
        learner.logger = noop  # fastai would print a list per epoch
        learner.add_cb(callbacks.PlainProgress())
    return learner


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """The dtype to compute in; "auto": bfloat16 where there are instructions for it.

    Otherwise float16 on CUDA and float32 elsewhere. Raises InputError for float16 elsewhere: its
    gradients vanish unless they are scaled, which is done on CUDA alone.
    """
    if precision == "float16" and device.type != "cuda":
        raise InputError(
            "precision float16 needs a CUDA graphics card; choose auto, float32 or bfloat16."
        )
    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bfloat16 else torch.float16
    on_cpu = device.type == "cpu"
    if on_cpu and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return torch.bfloat16
    return torch.float32


def fit_preparation(images: np.ndarray) -> Preparation:
    """The preparation that brings each pixel of uint8 (N, 28, 28) to mean 0, all to deviation 1.

    Measured on at most 10,000 images, evenly spaced: no float copy of the data set is made.
    """
    sample = np.asarray(images[:: max(1, len(images) // 10_000)], dtype=np.float32)
    mean = sample.mean(axis=0)
    return Preparation(torch.from_numpy(mean), std=max(float((sample - mean).std()), 1.0))


def keep_freed_memory() -> None:
    """Tells glibc to keep large blocks: else page faults take a third of the ResNet's time."""
    if platform.libc_ver()[0] == "glibc":
        for option in (-1, -3):  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, in bytes
            ctypes.CDLL(None).mallopt(option, 2**31 - 1)


def rate_schedule(schedule: str, learning_rate: float, half_cycle: float = 0.25) -> ParamScheduler:
    """A rate for `learn.fit` that stays, falls (cosine) or cycles (triangular2).

    `learning_rate` is its highest value. triangular2 rises from a hundredth of it for `half_cycle`,
    a share of the training, falls for as long, and each time rises half as high (Smith, 2017,
    https://arxiv.org/abs/1506.01186). cosine falls to zero (https://arxiv.org/abs/1608.03983).
    """
    low = learning_rate / 100

    def triangular2(done: float) -> float:
        cycle, at = divmod(done / half_cycle, 2)
        return low + (learning_rate - low) * (1 - abs(at - 1)) / 2**cycle

    kinds = {"constant": SchedNo(learning_rate, 0.0), "cosine": SchedCos(learning_rate, 0.0)}
    return ParamScheduler({"lr": kinds.get(schedule, triangular2)})


def suggested(rates: torch.Tensor, losses: torch.Tensor, num_it: int) -> tuple:
    """For `learn.lr_find(suggest_funcs=...)`: a third of fastai's `minimum`, at most HIGHEST_RATE.

    On validation, two seeds each, rates from a third of `minimum` up to it did equally well for
    LeNet and the custom network; the ResNet, whose test is the least steady, did better below.
    """
    rate = min(minimum(rates, losses, num_it)[0] / 3, HIGHEST_RATE)
    nearest = (rates - rate).abs().argmin()
    return rate, (rates[nearest], losses[nearest])


def found_rate(outputs: Path, data: CharacterData, parameters: TrainingParameters) -> float | None:
    """The rate that 02 has found for this network and under the same conditions, if any."""
    rates = read_json(outputs / RATES) if (outputs / RATES).exists() else {}
    found = rates.get(parameters.network, {})
    same = found.get("conditions") == rate_conditions(data, parameters)
    return found["suggested"] if same else None


def rate_conditions(data: CharacterData, parameters: TrainingParameters) -> dict:
    """What must be the same for a rate to be used again."""
    return parameters.model_dump(include={"batch_size", "optimiser"}) | {"checksum": data.checksum}
