"""Callbacks of fastai's training loop: progress in plain text, and average weights."""

import json
import math
import os
import sys
import time
from pathlib import Path

import torch
from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback

from lib.errors import InputError
from lib.files import LIVE_NOTEBOOK


def only_in_training(callback: Callback) -> None:
    """As a callback's `before_fit`: silent for the learning-rate finder and for predictions."""
    learn = callback.learn
    callback.run = not hasattr(learn, "lr_finder") and not hasattr(learn, "gather_preds")


class PlainProgress(Callback):
    """One line of text per epoch, for logs and for notebooks that nobody watches."""

    order = ProgressCallback.order
    before_fit = only_in_training

    def after_epoch(self):
        train_loss, valid_loss, valid_accuracy = self.recorder.values[-1]
        print(
            f"epoch {self.epoch + 1}/{self.n_epoch}  train loss {train_loss:.4f}  "
            f"valid loss {valid_loss:.4f}  valid accuracy {valid_accuracy:.2%}",
            flush=True,
        )


class ReportProgress(Callback):
    """Says in a small file, at most twice a second, how far a training is, for who runs it."""

    order = ProgressCallback.order  # after the recorder
    before_fit = only_in_training

    def __init__(self, path: Path):
        self.path, self.wrote, self.known = path, 0.0, {}

    def after_batch(self):
        if self.training and time.monotonic() - self.wrote > 0.5:
            self.wrote = time.monotonic()
            loss = float(self.recorder.losses[-1])
            self.write(batch=self.iter + 1, batches=self.n_iter, loss=loss)

    def after_epoch(self):
        self.known = {"accuracy": float(self.recorder.values[-1][-1])}
        self.write(batch=1, batches=1)

    def write(self, **told):
        told |= {"epoch": self.epoch + 1, "epochs": self.n_epoch} | self.known
        self.path.write_text(json.dumps(told))


class StopAtNaN(Callback):
    """Ends a training whose loss is no longer a number, with the sentence that says what to do."""

    order = ProgressCallback.order
    before_fit = only_in_training

    def after_epoch(self):
        if not all(map(math.isfinite, self.recorder.values[-1][:2])):
            rate = max(self.recorder.lrs)
            raise InputError(
                f"The loss is no longer a number: learning_rate {rate:g} is too high for this "
                "network; choose a lower one."
            )


class AverageWeights(Callback):
    """Keeps an exponential average of weights and batch-norm statistics, validates and leaves it.

    The decay rises with the steps, from (1 + n) / (10 + n) to `decay`, so that the fresh weights
    are soon forgotten.
    """

    order, run_valid = 20, False  # after the step, before the recorder

    def __init__(self, decay: float):
        self.decay, self.steps, self.averages = decay, 0, None

    def before_fit(self):
        only_in_training(self)
        self.steps, self.averages = 0, copied(self.model.state_dict())

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
            current = copied(self.model.state_dict())
            self.model.load_state_dict(self.averages)
            self.averages = current

    before_validate = after_validate = swap

    def after_fit(self):
        self.swap()
        self.averages = None


def copied(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state_dict with values of its own."""
    return {name: value.clone() for name, value in state.items()}


def someone_is_watching() -> bool:
    """True in a notebook opened by a person or on a terminal, where fastai's bars are of use."""
    return any(name in os.environ for name in LIVE_NOTEBOOK) or sys.stdout.isatty()
