"""A fastai Learner for one network: learning-rate finder, schedules, early stopping and seeds."""

import ctypes
import os
import platform
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.progress import ProgressCallback
from fastai.callback.schedule import ParamScheduler, SchedNo, minimum, steep, valley
from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback
from fastai.imports import noop
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.torch_core import default_device, no_random, set_seed

from lib.data import CharacterData
from lib.errors import InputError
from lib.files import PROGRESS, RATES, read_json
from lib.networks import Preparation, PreparedNetwork, make_network
from lib.params import TrainingParameters
from lib.training.batches import make_loaders
from lib.training.callbacks import (
    AverageWeights,
    PlainProgress,
    ReportProgress,
    someone_is_watching,
)
from lib.training.checkpoint import Checkpoint, ResumableLearner
from lib.training.trackers import check_tracker, tracking

# what a learning-rate test must share with the training that uses its rate
SAME_TEST = (
    "batch_size",
    "weight_decay",
    "label_smoothing",
    "augment",
    "warp",
    "erase",
    "precision",
    "finder_steps",
)


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """The dtype to compute in; "auto" takes bfloat16 where the device has instructions for it.

    Where it has none, auto takes float16 on CUDA and float32 elsewhere. Raises InputError for float16 elsewhere: its gradients vanish unless they are scaled, which is done on CUDA alone.
    """
    if precision == "float16" and device.type != "cuda":
        raise InputError(
            "precision float16 needs a CUDA graphics card; choose auto, float32 or bfloat16."
        )
    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        return (
            torch.bfloat16
            if torch.cuda.is_bf16_supported(including_emulation=False)
            else torch.float16
        )
    has_bfloat16 = device.type == "cpu" and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )
    return torch.bfloat16 if has_bfloat16 else torch.float32


def fit_preparation(images: np.ndarray) -> Preparation:
    """The preparation that brings every pixel of these images, uint8 (N, 28, 28), to mean 0, and all to standard deviation 1.

    Measured on at most 10,000 of them, evenly spaced, so that no float copy of the data set is made.
    """
    sample = np.asarray(images[:: max(1, len(images) // 10_000)], dtype=np.float32)
    mean = sample.mean(axis=0)
    return Preparation(torch.from_numpy(mean), std=max(float((sample - mean).std()), 1.0))


def keep_freed_memory() -> None:
    """Tells glibc to keep large blocks for the next batch instead of returning them to the system after every tensor.

    Without it the ResNet spends a third of its time on page faults. Elsewhere than on glibc nothing is done.
    """
    if platform.libc_ver()[0] == "glibc":
        for option in (-1, -3):  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, in bytes
            ctypes.CDLL(None).mallopt(option, 2**31 - 1)


def make_learner(data: CharacterData, parameters: TrainingParameters) -> ResumableLearner:
    """A Learner with fresh weights; sets every random seed, so that the same call always trains the same network."""
    keep_freed_memory()
    set_seed(parameters.seed, reproducible=True)
    device = default_device()
    model = PreparedNetwork(
        make_network(parameters.network, len(data.class_names)),
        fit_preparation(data.train_images),
        choose_precision(parameters.precision, device),
    )
    scratch = tempfile.TemporaryDirectory(prefix="learner-")
    learner = ResumableLearner(
        make_loaders(data, parameters, device),
        model.to(device),
        loss_func=CrossEntropyLossFlat(label_smoothing=parameters.label_smoothing),
        metrics=accuracy,
        wd=parameters.weight_decay,
        path=scratch.name,
    )
    learner.data_parameters, learner.data_checksum = data.parameters, data.checksum
    learner.scratch = (
        scratch  # where the finder and early stopping keep weights; gone with the learner
    )
    if model.precision == torch.float16:
        learner.add_cb(MixedPrecision())  # scales the gradients
    if parameters.average:
        learner.add_cb(AverageWeights(parameters.average))
    if PROGRESS in os.environ:
        learner.add_cb(ReportProgress(Path(os.environ[PROGRESS])))
    if not someone_is_watching():
        learner.remove_cb(ProgressCallback)
        learner.logger = noop  # fastai would print a list per epoch
        learner.add_cb(PlainProgress())
    return learner


def find_learning_rate(data: CharacterData, parameters: TrainingParameters) -> dict:
    """Smith's learning-rate range test (https://arxiv.org/abs/1506.01186) on a network that is thrown away.

    `finder_steps` batches at rates from 1e-7 to 10, stopping when the smoothed loss reaches four times its best.

    Leaves every random state as it found it, so that a training run afterwards is the same with and without it.
    Returns `rates` and `losses` (smoothed), one per step, and fastai's suggestions `valley`, `steep` and `minimum`
    (its fourth, `slide`, fails on short tests). `suggested`, the one that training takes, is a third of `minimum`, which is
    a tenth of the rate with the lowest loss: on validation, two seeds each, rates from a third of `minimum` up to it
    did equally well for LeNet and the custom network, and the ResNet, whose test is the least steady, did better below.
    """
    with no_random(parameters.seed):
        learner = make_learner(data, parameters)
        found = learner.lr_find(
            num_it=parameters.finder_steps, show_plot=False, suggest_funcs=(valley, steep, minimum)
        )
    losses = np.array([float(loss) for loss in learner.recorder.losses])
    n_finite = int(np.isfinite(losses).cumprod().sum())
    return {
        "suggested": found.minimum / 3,
        **found._asdict(),
        "rates": learner.recorder.lrs[:n_finite],
        "losses": losses[:n_finite].tolist(),
        "conditions": rate_conditions(data, parameters),
    }


def rate_conditions(data: CharacterData, parameters: TrainingParameters) -> dict:
    """What must be the same for a rate to be used again."""
    return {"checksum": data.checksum, **parameters.model_dump(include=set(SAME_TEST))}


def triangular2(position: float, low: float, high: float, n_cycles: int = 2) -> float:
    """Rate at `position` (0 to 1) of a training run: up and down `n_cycles` times, each half as high as the one before.

    Source: Smith (2017), https://arxiv.org/abs/1506.01186, section 3. The original used half-cycles of 8 epochs.
    """
    cycle, phase = divmod(min(position, 1 - 1e-9) * n_cycles, 1)
    return low + (high - low) * (1 - abs(2 * phase - 1)) / 2**cycle


def choose_learning_rate(
    data: CharacterData, parameters: TrainingParameters, outputs: Path
) -> float:
    """The highest rate of the schedule: the one given, else the one that 02 wrote under these conditions, else one found now."""
    if parameters.learning_rate:
        return parameters.learning_rate
    if (outputs / RATES).exists():
        written = read_json(outputs / RATES).get(parameters.network, {})
        if written.get("conditions") == rate_conditions(data, parameters):
            return written["suggested"]
    return find_learning_rate(data, parameters)["suggested"]


def fit(
    learner: ResumableLearner,
    parameters: TrainingParameters,
    learning_rate: float,
    checkpoint: Path | None = None,
) -> float:
    """Trains with the schedule asked for, `learning_rate` being its highest rate, and returns the seconds it took.

    With a checkpoint, that file is replaced after each epoch, and the same call with a fresh learner goes on from it
    to the same weights, to the bit, whatever ended the first; the seconds are then those of both.
    The parameters' tracker logs it in `tracking`, beside the folder that the checkpoint is in; without one nothing is logged.
    Raises InputError where the loss is no longer a number, the checkpoint cannot be written or the tracker is not installed.
    """
    check_tracker(parameters.tracker)
    processes = parameters.processes or torch.cuda.device_count()
    if processes > 1:
        from lib.training.together import (
            fit_together,
        )  # here, since few need it and it takes a second to import

        return fit_together(
            learner, processes, learner.data_parameters, parameters, learning_rate, checkpoint
        )
    kept = Checkpoint(checkpoint, training_conditions(learner, parameters, learning_rate))
    folder = checkpoint and checkpoint.parent.parent / "tracking" / checkpoint.parent.name
    log = tracking(parameters.model_copy(update={"learning_rate": learning_rate}), folder)
    with learner.kept_in(kept):
        run_schedule(learner, parameters, learning_rate, log)
    if not np.isfinite(learner.recorder.values[-1][1]):
        raise InputError(
            f"The loss is no longer a number: learning_rate {learning_rate:g} is too high for "
            f"{parameters.network}; choose a lower one."
        )
    return kept.seconds()


def training_conditions(
    learner: ResumableLearner, parameters: TrainingParameters, learning_rate: float
) -> dict:
    """What must be the same for a checkpoint to be used."""
    return {
        "data": learner.data_parameters and learner.data_parameters.model_dump(),
        "checksum": learner.data_checksum,
        "training": parameters.model_dump(exclude={"tracker"}),
        "learning_rate": float(learning_rate),
    }


def run_schedule(
    learner: ResumableLearner,
    parameters: TrainingParameters,
    learning_rate: float,
    callbacks: Sequence[Callback] = (),
) -> None:
    """fastai's fit with the schedule, further callbacks for this fit alone and, where it is asked for, early stopping."""
    if (
        parameters.patience
    ):  # the original's: a change below 0.01 is no improvement, and the best weights come back
        callbacks = [
            *callbacks,
            EarlyStoppingCallback(min_delta=0.01, patience=parameters.patience),
            SaveModelCallback(),
        ]
    if parameters.schedule == "one_cycle":
        learner.fit_one_cycle(parameters.epochs, learning_rate, cbs=list(callbacks))
    else:
        rate = {
            "triangular2": partial(triangular2, low=learning_rate / 100, high=learning_rate),
            "constant": SchedNo(learning_rate, learning_rate),
        }[parameters.schedule]
        learner.fit(
            parameters.epochs, lr=learning_rate, cbs=[ParamScheduler({"lr": rate}), *callbacks]
        )
