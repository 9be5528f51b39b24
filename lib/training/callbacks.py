"""Callbacks of fastai's training loop: progress, an early end, and average weights."""

import json
import math
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback
from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback
from fastai.learner import Metric
from fastai.torch_core import to_device

from lib.errors import InputError


class InTraining(Callback):
    """Goes after the recorder, and is silent for the learning-rate finder and for predictions."""

    order = ProgressCallback.order

    def before_fit(self):
        self.run = not hasattr(self.learn, "lr_finder") and not hasattr(self.learn, "gather_preds")


class TrainLoss(Metric):
    """The loss on training images as they are, with all units awake, as validation measures it.

    Measured while validation begins, on fewer than 4,000 of them, evenly spaced.
    """

    name, value = "loss_on_train", None  # fastai calls the smoothed one train_loss

    def reset(self):
        self.value = None

    def accumulate(self, learn):
        if self.value is None:
            images = learn.dls.train.dataset
            some = images[np.arange(0, len(images), max(1, len(images) // 2000))]
            xb, yb = to_device(some, learn.dls.device)
            self.value = learn.loss_func(learn.model(xb), yb).mean().item()


class PlainProgress(InTraining):
    """One line of text per epoch, for logs and for notebooks that nobody watches."""

    def after_epoch(self):
        _, valid_loss, valid_accuracy, train_loss = self.recorder.values[-1]
        print(
            f"epoch {self.epoch + 1}/{self.n_epoch}  train loss {train_loss:.4f}  "
            f"valid loss {valid_loss:.4f}  valid accuracy {valid_accuracy:.2%}",
            flush=True,
        )


class ReportProgress(InTraining):
    """Says in a small file, at most twice a second, how far a training is, for who runs it."""

    def __init__(self, path: Path):
        self.path, self.wrote, self.known = path, 0.0, {}

    def after_batch(self):
        if self.training and time.monotonic() - self.wrote > 0.5:
            self.wrote = time.monotonic()
            self.write(self.iter + 1, self.n_iter, loss=float(self.recorder.losses[-1]))

    def after_epoch(self):
        self.known = {"accuracy": float(self.recorder.values[-1][2])}
        self.write(1, 1)

    def write(self, batch: int, batches: int, **told):
        told |= {"batch": batch, "batches": batches, "epoch": self.epoch + 1}
        self.path.write_text(json.dumps(told | {"epochs": self.n_epoch} | self.known))


class StopAtNaN(InTraining):
    """Ends a training whose loss is no longer a number, with the sentence that says what to do."""

    def after_epoch(self):
        if not all(map(math.isfinite, self.recorder.values[-1][:2])):
            raise InputError(
                f"The loss is no longer a number: learning_rate {max(self.recorder.lrs):g} is too "
                "high for this network; choose a lower one."
            )


class AverageWeights(InTraining):
    """Keeps an exponential average of weights and batch-norm statistics, validates and leaves it.

    Its decay, (1 + n) / (10 + n) after n steps, rises to `decay`: fresh weights are soon forgotten.
    """

    order, run_valid = 20, False  # after the step, before the recorder

    def __init__(self, decay: float):
        self.decay, self.steps, self.averages = decay, 0, None

    def before_fit(self):
        super().before_fit()
        self.steps, self.averages = 0, deepcopy(self.model.state_dict())

    def after_batch(self):
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.steps else 0
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.averages[name].lerp_(value, 1 - decay)
            else:
                self.averages[name].copy_(value)
        self.steps += 1

    def swap(self):
        if self.averages:  # else it is validated outside a fit
            current = deepcopy(self.model.state_dict())
            self.model.load_state_dict(self.averages)
            self.averages = current

    before_validate = after_validate = swap

    def after_fit(self):
        self.swap()
        self.averages = None


def early_stopping(patience: int) -> list[Callback]:
    """The original's: a change below 0.01 is no improvement, and the best weights come back."""
    if not patience:
        return []
    return [EarlyStoppingCallback(min_delta=0.01, patience=patience), SaveModelCallback()]
