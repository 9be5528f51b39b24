"""A fastai Learner for one network, with every seed set, and the rates it is trained with."""

import ctypes
import os
import platform
import tempfile
from pathlib import Path

import numpy as np
import torch
from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.progress import ProgressCallback
from fastai.callback.schedule import ParamScheduler, SchedLin, SchedNo, combine_scheds, minimum
from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback
from fastai.imports import noop
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.torch_core import default_device, set_seed

from lib.data import CharacterData
from lib.errors import InputError
from lib.files import PROGRESS, RATES, read_json
from lib.networks import Preparation, PreparedNetwork, make_network
from lib.params import TrainingParameters
from lib.training import callbacks
from lib.training.batches import make_loaders


def make_learner(data: CharacterData, parameters: TrainingParameters) -> Learner:
    """A Learner with fresh weights; the same call always gives, and trains, the same network."""
    keep_freed_memory()
    set_seed(parameters.seed, reproducible=True)
    device = default_device()
    model = PreparedNetwork(
        make_network(parameters.network, len(data.class_names)),
        fit_preparation(data.train_images),
        choose_precision(parameters.precision, device),
    )
    scratch = tempfile.TemporaryDirectory(prefix="learner-")
    learner = Learner(
        make_loaders(data, parameters, device),
        model.to(device),
        loss_func=CrossEntropyLossFlat(label_smoothing=parameters.label_smoothing),
        metrics=accuracy,
        wd=parameters.weight_decay,
        path=scratch.name,
        cbs=callbacks_of(parameters, model.precision),
    )
    learner.scratch = scratch  # where the finder and early stopping keep weights; goes with it
    if not callbacks.someone_is_watching():
        learner.remove_cb(ProgressCallback)
        learner.logger = noop  # fastai would print a list per epoch
        learner.add_cb(callbacks.PlainProgress())
    return learner


def callbacks_of(parameters: TrainingParameters, precision: torch.dtype) -> list[Callback]:
    """What the parameters ask for, and the news of how far the training is."""
    wanted = [callbacks.StopAtNaN()]
    if precision == torch.float16:
        wanted.append(MixedPrecision())  # scales the gradients
    if parameters.average:
        wanted.append(callbacks.AverageWeights(parameters.average))
    if PROGRESS in os.environ:
        wanted.append(callbacks.ReportProgress(Path(os.environ[PROGRESS])))
    return wanted


def early_stopping(patience: int) -> list[Callback]:
    """The original's: a change below 0.01 is no improvement, and the best weights come back."""
    if not patience:
        return []
    return [EarlyStoppingCallback(min_delta=0.01, patience=patience), SaveModelCallback()]


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """The dtype to compute in; "auto" takes bfloat16 where the device has instructions for it.

    Where it has none, auto takes float16 on CUDA and float32 elsewhere. Raises InputError for
    float16 elsewhere: its gradients vanish unless they are scaled, which is done on CUDA alone.
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
    has_bfloat16 = device.type == "cpu" and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )
    return torch.bfloat16 if has_bfloat16 else torch.float32


def fit_preparation(images: np.ndarray) -> Preparation:
    """The preparation that brings each pixel of uint8 (N, 28, 28) to mean 0, all to deviation 1.

    Measured on at most 10,000 images, evenly spaced: no float copy of the data set is made.
    """
    sample = np.asarray(images[:: max(1, len(images) // 10_000)], dtype=np.float32)
    mean = sample.mean(axis=0)
    return Preparation(torch.from_numpy(mean), std=max(float((sample - mean).std()), 1.0))


def keep_freed_memory() -> None:
    """Tells glibc to keep large blocks for the next batch; does nothing where there is no glibc.

    Without it the ResNet spends a third of its time on page faults.
    """
    if platform.libc_ver()[0] == "glibc":
        for option in (-1, -3):  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, in bytes
            ctypes.CDLL(None).mallopt(option, 2**31 - 1)


def rate_schedule(schedule: str, learning_rate: float) -> ParamScheduler:
    """A constant or triangular2 rate, whose highest value is `learning_rate`, for `learn.fit`.

    triangular2 goes up and down twice, the second time half as high: Smith (2017),
    https://arxiv.org/abs/1506.01186, section 3. The original used half-cycles of 8 epochs.
    """
    low, high = learning_rate / 100, learning_rate
    middle = (low + high) / 2
    ways = [(low, high), (high, low), (low, middle), (middle, low)]
    rates = {
        "triangular2": combine_scheds([0.25] * 4, [SchedLin(*ends) for ends in ways]),
        "constant": SchedNo(learning_rate, learning_rate),
    }
    return ParamScheduler({"lr": rates[schedule]})


def suggested(rates: torch.Tensor, losses: torch.Tensor, num_it: int) -> tuple:
    """For `learn.lr_find(suggest_funcs=...)`: a third of fastai's `minimum`.

    `minimum` is a tenth of the rate with the lowest loss. On validation, two seeds each, rates from
    a third of it up to it did equally well for LeNet and the custom network; the ResNet, whose test
    is the least steady, did better below.
    """
    rate = minimum(rates, losses, num_it)[0] / 3
    nearest = (rates - rate).abs().argmin()
    return rate, (rates[nearest], losses[nearest])


def found_rate(outputs: Path, data: CharacterData, parameters: TrainingParameters) -> float | None:
    """The rate that 02 has found for this network, these characters and this batch size, if any."""
    if not (outputs / RATES).exists():
        return None
    found = read_json(outputs / RATES).get(parameters.network, {})
    same = found.get("conditions") == rate_conditions(data, parameters)
    return found["suggested"] if same else None


def rate_conditions(data: CharacterData, parameters: TrainingParameters) -> dict:
    """What must be the same for a rate to be used again."""
    return {"checksum": data.checksum, "batch_size": parameters.batch_size}
