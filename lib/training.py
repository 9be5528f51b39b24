"""A fastai Learner for one network: learning-rate finder, schedules, early stopping, seeds and measuring."""

import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback
from fastai.callback.schedule import ParamScheduler, SchedNo, minimum, steep, valley
from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback
from fastai.imports import noop
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.torch_core import default_device, no_random, set_seed

from lib.data import CharacterData
from lib.errors import InputError
from lib.files import LIVE_NOTEBOOK, RATES, read_json
from lib.loaders import make_loaders
from lib.networks import Preparation, Recogniser, count_parameters, make_network
from lib.params import TrainingParameters
from lib.runs import device_name, versions

MEASURED_ON = 10_000  # at most so many training images are used to measure the accuracy on train
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SAME_TEST = ("batch_size", "weight_decay", "label_smoothing", "augment", "precision", "finder_steps")  # a rate is good for these


class PlainProgress(Callback):
    """One line of text per epoch, for logs and for notebooks that run without anyone watching."""

    order = ProgressCallback.order

    def before_fit(self):
        self.silent = hasattr(self.learn, "lr_finder") or hasattr(self, "gather_preds")

    def after_epoch(self):
        if not self.silent:
            train_loss, valid_loss, valid_accuracy = self.recorder.values[-1]
            print(f"epoch {self.epoch + 1}/{self.n_epoch}  train loss {train_loss:.4f}  "
                  f"valid loss {valid_loss:.4f}  valid accuracy {valid_accuracy:.2%}", flush=True)


def someone_is_watching() -> bool:
    """True in a notebook opened by a person or on a terminal: there fastai's moving bars are of use."""
    return any(name in os.environ for name in LIVE_NOTEBOOK) or sys.stdout.isatty()


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """The dtype to compute in; "auto" takes bfloat16 where the device has instructions for it, else float32."""
    if precision != "auto":
        return PRECISIONS[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    has_bfloat16 = device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch.bfloat16 if has_bfloat16 else torch.float32


def fit_preparation(images: np.ndarray) -> Preparation:
    """The preparation that brings these training images, uint8 (N, 28, 28), to mean 0 and standard deviation 1.

    Measured on at most 10,000 of them, evenly spaced, so that no float copy of the data set is made.
    """
    sample = np.asarray(images[:: max(1, len(images) // 10_000)], dtype=np.float32)
    return Preparation(mean=sample.mean(), std=max(sample.std(), 1.0))


def make_learner(data: CharacterData, parameters: TrainingParameters) -> Learner:
    """A Learner with fresh weights; sets every random seed, so that the same call always trains the same network."""
    set_seed(parameters.seed, reproducible=True)
    device = default_device()
    recogniser = Recogniser(
        make_network(parameters.network, len(data.class_names)),
        fit_preparation(data.train_images),
        choose_precision(parameters.precision, device),
    )
    scratch = tempfile.TemporaryDirectory(prefix="learner-")
    learner = Learner(
        make_loaders(data, parameters.batch_size, parameters.augment, device), recogniser.to(device),
        loss_func=CrossEntropyLossFlat(label_smoothing=parameters.label_smoothing), metrics=accuracy,
        wd=parameters.weight_decay, path=scratch.name,
    )
    learner.scratch = scratch  # where the finder and early stopping keep weights; gone with the learner
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
    (its fourth, `slide`, fails on short tests). `suggested`, the one that training takes, is `minimum`, a tenth of the
    rate with the lowest loss: on validation, one seed each, rates near it beat lower ones nearer to `valley`.
    """
    with no_random(parameters.seed):
        learner = make_learner(data, parameters)
        found = learner.lr_find(num_it=parameters.finder_steps, show_plot=False, suggest_funcs=(valley, steep, minimum))
    losses = np.array([float(loss) for loss in learner.recorder.losses])
    n_finite = int(np.isfinite(losses).cumprod().sum())
    return {"suggested": found.minimum, **found._asdict(), "rates": learner.recorder.lrs[:n_finite],
            "losses": losses[:n_finite].tolist(), "conditions": rate_conditions(data, parameters)}


def rate_conditions(data: CharacterData, parameters: TrainingParameters) -> dict:
    """What must be the same for a rate to be used again."""
    return {"checksum": data.checksum, **parameters.model_dump(include=set(SAME_TEST))}


def triangular2(position: float, low: float, high: float, n_cycles: int = 2) -> float:
    """Rate at `position` (0 to 1) of a training run: up and down `n_cycles` times, each half as high as the one before.

    Source: Smith (2017), https://arxiv.org/abs/1506.01186, section 3. The original used half-cycles of 8 epochs.
    """
    cycle, phase = divmod(min(position, 1 - 1e-9) * n_cycles, 1)
    return low + (high - low) * (1 - abs(2 * phase - 1)) / 2**cycle


def choose_learning_rate(data: CharacterData, parameters: TrainingParameters, outputs: Path) -> float:
    """The highest rate of the schedule: the one given, else the one that 02 wrote under these conditions, else one found now."""
    if parameters.learning_rate:
        return parameters.learning_rate
    if (outputs / RATES).exists():
        written = read_json(outputs / RATES).get(parameters.network, {})
        if written.get("conditions") == rate_conditions(data, parameters):
            return written["suggested"]
    return find_learning_rate(data, parameters)["suggested"]


def fit(learner: Learner, parameters: TrainingParameters, learning_rate: float) -> float:
    """Trains with the schedule asked for, `learning_rate` being its highest rate, and returns the seconds it took.

    Raises InputError where the loss is no longer a number.
    """
    callbacks, start = [], time.perf_counter()
    if parameters.patience:  # the original's: a change below 0.01 is no improvement, and the best weights come back
        callbacks = [EarlyStoppingCallback(min_delta=0.01, patience=parameters.patience), SaveModelCallback()]
    if parameters.schedule == "one_cycle":
        learner.fit_one_cycle(parameters.epochs, learning_rate, cbs=callbacks)
    else:
        rate = {
            "triangular2": partial(triangular2, low=learning_rate / 100, high=learning_rate),
            "constant": SchedNo(learning_rate, learning_rate),
        }[parameters.schedule]
        learner.fit(parameters.epochs, lr=learning_rate, cbs=[ParamScheduler({"lr": rate}), *callbacks])
    if not np.isfinite(learner.recorder.values[-1][1]):
        raise InputError(f"The loss is no longer a number: learning_rate {learning_rate:g} is too high for "
                         f"{parameters.network}; choose a lower one.")
    return time.perf_counter() - start


def history(learner: Learner) -> pd.DataFrame:
    """One row per epoch: epoch (from 1), train_loss and valid_loss (nats), valid_accuracy (0 to 1), learning_rate at its end."""
    recorder = learner.recorder
    table = pd.DataFrame(recorder.values, columns=["train_loss", "valid_loss", "valid_accuracy"])
    table.insert(0, "epoch", np.arange(1, len(table) + 1))
    steps = len(learner.dls.train)
    rates = recorder.hps["lr"]
    return table.assign(learning_rate=[float(rates[min(epoch * steps, len(rates)) - 1]) for epoch in table["epoch"]])


def predict_probabilities(recogniser: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """Class probabilities float32 (N, n_classes) of uint8 (N, 28, 28), computed as in training but without dropout."""
    device = next(recogniser.parameters()).device
    batches = (torch.tensor(images[i:i + 1024], device=device) for i in range(0, len(images), 1024))
    recogniser.eval()
    with torch.no_grad():
        return np.concatenate([F.softmax(recogniser(xb), dim=1).cpu().numpy() for xb in batches])


def measure(probabilities: np.ndarray, labels: np.ndarray) -> dict:
    """Accuracy (0 to 1) and mean cross-entropy (nats) of probabilities (N, n_classes) against labels (N,)."""
    likelihood = probabilities[np.arange(len(labels)), labels]
    return {
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        "loss": float(-np.log(np.maximum(likelihood, 1e-12)).mean()),
    }


def measure_run(learner: Learner, data: CharacterData, parameters: TrainingParameters, learning_rate: float,
                seconds: float, test_probabilities: np.ndarray) -> dict:
    """Every number of a run with its conditions, ready for metrics.json. Accuracies 0 to 1, losses in nats, time in seconds."""
    step = max(1, -(-len(data.train_labels) // MEASURED_ON))
    measured = {
        "train": measure(predict_probabilities(learner.model, data.train_images[::step]), data.train_labels[::step]),
        "valid": measure(predict_probabilities(learner.model, data.valid_images), data.valid_labels),
        "test": measure(test_probabilities, data.test_labels),
    }
    device = learner.dls.device
    return {
        **parameters.model_dump(), "learning_rate": float(learning_rate), "epochs_run": len(learner.recorder.values),
        "precision": str(learner.model.precision).removeprefix("torch."),
        "parameters": count_parameters(learner.model),
        **{f"{part}_{name}": values[name] for name in ("accuracy", "loss") for part, values in measured.items()},
        "optimiser": "Adam with decoupled weight decay, as fastai has it",
        "seconds": round(seconds, 2), "device": device.type, "device_name": device_name(device),
        "dataset": data.dataset, "split": data.split, "note": data.note, "checksum": data.checksum,
        **data.conditions, "n_classes": len(data.class_names), "n_train": len(data.train_labels),
        "n_train_measured": len(data.train_labels[::step]), "n_valid": len(data.valid_labels),
        "n_test": len(data.test_labels), **versions(),
    }
