"""Callbacks of fastai's training loop: progress in plain text, and average weights."""

import os
import sys

import torch
from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lib.files import LIVE_NOTEBOOK


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


class AverageWeights(Callback):
    """Keeps an exponential average of weights and batch-norm statistics, validates it, and leaves it as the trained network.

    The decay rises with the steps, from (1 + n) / (10 + n) to `decay`, so that the fresh weights are soon forgotten.
    """

    order, run_valid = 20, False  # after the step, before the recorder

    def __init__(self, decay: float):
        self.decay, self.averaged = decay, None

    def before_fit(self):
        self.run = not hasattr(self.learn, "lr_finder") and not hasattr(self, "gather_preds")
        self.averaged = AveragedModel(self.plain_model(), multi_avg_fn=self.mix, use_buffers=True)

    def plain_model(self) -> torch.nn.Module:
        return getattr(self.model, "module", self.model)  # without torch's wrapper for several processes

    def mix(self, averages: list, values: list, steps) -> None:
        decay = min(self.decay, (1 + int(steps)) / (10 + int(steps)))
        get_ema_multi_avg_fn(decay)(averages, values, steps)

    def after_batch(self):
        self.averaged.update_parameters(self.plain_model())

    def swap(self):
        if self.averaged is None:  # validated outside a fit
            return
        now = {name: value.clone() for name, value in self.plain_model().state_dict().items()}
        self.plain_model().load_state_dict(self.averaged.module.state_dict())
        self.averaged.module.load_state_dict(now)

    before_validate = after_validate = swap

    def after_fit(self):
        self.plain_model().load_state_dict(self.averaged.module.state_dict())
        self.averaged = None


def someone_is_watching() -> bool:
    """True in a notebook opened by a person or on a terminal: there fastai's moving bars are of use."""
    return any(name in os.environ for name in LIVE_NOTEBOOK) or sys.stdout.isatty()
