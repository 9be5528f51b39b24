"""Callbacks of fastai's training loop: progress in plain text, and average weights."""

import json
import os
import sys
import time
from pathlib import Path

from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback
from fastai.torch_core import get_model, rank_distrib
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
            print(
                f"epoch {self.epoch + 1}/{self.n_epoch}  train loss {train_loss:.4f}  "
                f"valid loss {valid_loss:.4f}  valid accuracy {valid_accuracy:.2%}",
                flush=True,
            )


class ReportProgress(Callback):
    """Says in a small file, at most twice a second, how far a training is, for whoever runs the notebook."""

    order = ProgressCallback.order  # after the recorder

    def __init__(self, path: Path):
        self.path, self.wrote, self.accuracy = path, 0.0, None

    def before_fit(self):
        self.run = (
            not hasattr(self.learn, "lr_finder")
            and not hasattr(self, "gather_preds")
            and not rank_distrib()
        )

    def after_batch(self):
        if self.training and time.monotonic() - self.wrote > 0.5:
            self.wrote = time.monotonic()
            self.write(
                batch=self.iter + 1, batches=self.n_iter, loss=float(self.recorder.losses[-1])
            )

    def after_epoch(self):
        self.accuracy = float(self.recorder.values[-1][-1])
        self.write(batch=1, batches=1)

    def write(self, **told):
        known = {} if self.accuracy is None else {"accuracy": self.accuracy}
        self.path.write_text(
            json.dumps({"epoch": self.epoch + 1, "epochs": self.n_epoch, **told, **known})
        )


class AverageWeights(Callback):
    """Keeps an exponential average of weights and batch-norm statistics, validates it, and leaves it as the trained network.

    The decay rises with the steps, from (1 + n) / (10 + n) to `decay`, so that the fresh weights are soon forgotten.
    """

    order, run_valid = 20, False  # after the step, before the recorder

    def __init__(self, decay: float):
        self.decay, self.averaged = decay, None

    def before_fit(self):
        self.run = not hasattr(self.learn, "lr_finder") and not hasattr(self, "gather_preds")
        self.averaged = AveragedModel(
            get_model(self.model), multi_avg_fn=self.mix, use_buffers=True
        )

    def mix(self, averages: list, values: list, steps) -> None:
        decay = min(self.decay, (1 + int(steps)) / (10 + int(steps)))
        get_ema_multi_avg_fn(decay)(averages, values, steps)

    def after_batch(self):
        self.averaged.update_parameters(get_model(self.model))

    def swap(self):
        if self.averaged is None:  # validated outside a fit
            return
        now = {name: value.clone() for name, value in get_model(self.model).state_dict().items()}
        get_model(self.model).load_state_dict(self.averaged.module.state_dict())
        self.averaged.module.load_state_dict(now)

    before_validate = after_validate = swap

    def after_fit(self):
        get_model(self.model).load_state_dict(self.averaged.module.state_dict())
        self.averaged = None


def someone_is_watching() -> bool:
    """True in a notebook opened by a person or on a terminal: there fastai's moving bars are of use."""
    return any(name in os.environ for name in LIVE_NOTEBOOK) or sys.stdout.isatty()
