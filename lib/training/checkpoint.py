"""Resuming: a training leaves a checkpoint after each epoch, and the same call continues from it to the same bits."""

import io
import json
import os
import random
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from fastai.callback.core import CancelEpochException, CancelFitException
from fastai.callback.schedule import ParamScheduler
from fastai.callback.tracker import SaveModelCallback, TrackerCallback
from fastai.learner import Learner, replacing_yield
from fastai.torch_core import get_model, rank_distrib, to_device

from lib.data.cache import digest
from lib.errors import InputError
from lib.files import shown_path
from lib.runs import device_name, versions
from lib.training.callbacks import AverageWeights


class Checkpoint:
    """The file of one training: written after each epoch, read where the same training begins again.

    `conditions`, which JSON can hold, decide with the learner's state whether it is the same. Without a path nothing
    is read or written. Of several processes the first reads and writes, and each gets its own random states.
    """

    def __init__(self, path: Path | None = None, conditions: dict | None = None):
        self.path, self.conditions = path, conditions
        self.key, self.epochs, self.start = "", 0, time.perf_counter()

    def seconds(self) -> float:
        """Seconds trained until now, earlier sessions included, less what was lost of them."""
        return time.perf_counter() - self.start

    def restore(self, learner: Learner) -> int:
        """Brings the learner to where the file left this training, and returns the epoch, from 0, to go on with."""
        if self.path is None:
            return 0
        self.key = training_key(learner, self.conditions)
        kept = from_all(None if rank_distrib() else self.read())[0]
        if kept is None:
            return 0
        try_one_batch(learner)  # else three processes or more round the next one otherwise
        set_training_state(learner, kept["training"])
        set_random_states(learner, kept["random"][rank_distrib()])
        self.start -= kept["seconds"]
        self.epochs = len(learner.recorder.values)
        show_earlier_epochs(learner)
        return kept["next_epoch"]

    def read(self) -> dict | None:
        """What the file holds; None, and a line that says why, if it is not whole or not of this training."""
        if not self.path.exists():
            return None
        try:
            kept = load_whole(self.path)
            if kept["key"] == self.key:
                return kept
            problem = "belongs to another training"
        except Exception:  # a damaged file can raise anything
            problem = "is damaged"
        print(f"{shown_path(self.path)} {problem}: starting anew", flush=True)

    def write(self, learner: Learner, next_epoch: int) -> None:
        """Replaces the file by the learner's state; InputError, the old one being kept, where it cannot be written."""
        if self.path is None:
            return
        states = from_all(random_states(learner))
        if rank_distrib():
            return
        content = io.BytesIO()
        torch.save(
            {
                "key": self.key,
                "next_epoch": next_epoch,
                "seconds": self.seconds(),
                "random": states,
                "training": training_state(learner),
            },
            content,
        )
        try:
            replace_file(self.path, content.getbuffer())
        except OSError as error:
            then = f"continues after epoch {self.epochs}" if self.epochs else "starts anew"
            raise InputError(
                f"{shown_path(self.path)} cannot be written ({error.strerror or error}); "
                f"free some space and run again: it {then}."
            ) from None
        self.epochs = len(learner.recorder.values)


class ResumableLearner(Learner):
    """fastai's Learner; a fit inside of `kept_in` writes a checkpoint after each epoch and begins after the last it finds.

    Not a callback: this comes after all of them, even where one has ended the fit, and its errors keep their message.
    """

    checkpoint = Checkpoint()

    @contextmanager
    def kept_in(self, checkpoint: Checkpoint):
        return replacing_yield(self, "checkpoint", checkpoint)

    def _do_fit(self):
        for self.epoch in range(self.checkpoint.restore(self), self.n_epoch):
            try:
                self._with_events(self._do_epoch, "epoch", CancelEpochException)
            except CancelFitException:  # by early stopping
                self.checkpoint.write(self, next_epoch=self.n_epoch)
                raise
            self.checkpoint.write(self, next_epoch=self.epoch + 1)


def show_earlier_epochs(learner: Learner) -> None:
    """A line, and where fastai's bar and table are shown, their earlier part: the bar cannot begin with a later epoch."""
    values = learner.recorder.values
    if not rank_distrib():
        print(f"continuing after epoch {len(values)} of {learner.n_epoch}", flush=True)
    if bar := getattr(getattr(learner, "progress", None), "mbar", None):
        bar.update(0)
    for epoch, row in enumerate(values):
        learner.logger([epoch, *row, ""])


def training_key(learner: Learner, conditions: dict) -> str:
    """A digest of all that decides how a training goes, the code aside: conditions, versions, device, and where it begins."""
    weights = {
        name: digest(value.numpy(force=True))
        for name, value in get_model(learner.model).state_dict().items()
    }
    machine = [versions(), device_name(learner.dls.device), torch.get_num_threads()]
    return digest(
        json.dumps(
            [conditions, machine, weights, from_all(random_states(learner))],
            default=torch.Tensor.tolist,
        )
    )


def training_state(learner: Learner) -> dict:
    """Where a training is after an epoch, random states aside, in types that torch.load takes without running code."""
    recorder, scaler, every = learner.recorder, getattr(learner, "scaler", None), learner._grab_cbs
    return {
        "weights": get_model(learner.model).state_dict(),
        "optimiser": {
            "state": learner.opt.state_dict()["state"],
            "hypers": [
                {name: float(value) for name, value in hypers.items()}
                for hypers in learner.opt.hypers
            ],
        },
        "scaler": scaler.state_dict() if scaler else {},
        "averages": [callback.averaged.state_dict() for callback in every(AverageWeights)],
        "schedules": [
            {name: numbers(values) for name, values in callback.hps.items()}
            for callback in every(ParamScheduler)
        ],
        "trackers": [
            {"best": float(callback.best), "wait": getattr(callback, "wait", 0)}
            for callback in every(TrackerCallback)
        ],
        "best_weights": [
            torch.load(file, map_location="cpu", weights_only=True) if file.exists() else None
            for file in best_files(learner)
        ],
        "values": [list(map(float, row)) for row in recorder.values],
        "iters": list(recorder.iters),
        "losses": numbers(recorder.losses),
        "lrs": numbers(recorder.lrs),
        "smooth_loss": {
            "count": recorder.smooth_loss.count,
            "val": recorder.smooth_loss.val.as_subclass(torch.Tensor),
        },
        "train_iter": learner.train_iter,
    }


def set_training_state(learner: Learner, state: dict) -> None:
    """Puts back what training_state took; fastai's callbacks must have begun their fit, which clears most of it."""
    get_model(learner.model).load_state_dict(state["weights"])
    learner.opt.load_state_dict(to_device(state["optimiser"], learner.dls.device))
    if state["scaler"]:
        learner.scaler.load_state_dict(state["scaler"])
    set_callbacks(learner, state)
    recorder, learner.train_iter = learner.recorder, state["train_iter"]
    recorder.values, recorder.iters = state["values"], state["iters"]
    recorder.losses, recorder.lrs = list(state["losses"].float()), state["lrs"].tolist()
    vars(recorder.smooth_loss).update(state["smooth_loss"])


def set_callbacks(learner: Learner, state: dict) -> None:
    """The callbacks' part of set_training_state."""
    for callback, average in zip(learner._grab_cbs(AverageWeights), state["averages"]):
        callback.averaged.load_state_dict(average)
    for callback, hps in zip(learner._grab_cbs(ParamScheduler), state["schedules"]):
        callback.hps = {name: values.tolist() for name, values in hps.items()}
    for callback, tracked in zip(learner._grab_cbs(TrackerCallback), state["trackers"]):
        callback.best, callback.wait = tracked["best"], tracked["wait"]
    for file, weights in zip(best_files(learner), state["best_weights"]):
        if weights is not None and not rank_distrib():
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save(weights, file)


def numbers(values: list) -> torch.Tensor:
    """Numbers or tensors of one as float64 (N,), which keeps a long list small."""
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def best_files(learner: Learner) -> list[Path]:
    """Where fastai keeps the best weights until the end of the fit."""
    return [
        learner.path / learner.model_dir / f"{callback.fname}.pth"
        for callback in learner._grab_cbs(SaveModelCallback)
    ]


def random_states(learner: Learner) -> dict:
    """Every random state of this process that training may draw from, as plain values and tensors."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "mps": [torch.mps.get_rng_state()] if torch.backends.mps.is_available() else [],
        "loaders": [loader.rng.getstate() for loader in plain_loaders(learner)],
    }


def set_random_states(learner: Learner, states: dict) -> None:
    """Puts back what random_states took."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    torch.cuda.set_rng_state_all(states["cuda"])
    if states["mps"]:
        torch.mps.set_rng_state(*states["mps"])
    for loader, state in zip(plain_loaders(learner), states["loaders"]):
        loader.rng.setstate(state)


def plain_loaders(learner: Learner) -> list:
    """The loaders of training and validation without fastai's wrapper for several processes, which has no random state."""
    return [getattr(loader, "dl", loader) for loader in learner.dls]


def try_one_batch(learner: Learner) -> None:
    """Brings about what only a first batch does: gradients exist, in the order in which several processes add them up."""
    images, labels = (part.as_subclass(torch.Tensor) for part in next(iter(learner.dls.train)))
    learner.loss_func(learner.model.train()(images), labels).backward()
    learner.opt.zero_grad()


def from_all(value) -> list:
    """The values that all processes have, in the order of their ranks; each of them must call this."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    values = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def load_whole(path: Path) -> dict:
    """The content of a file that torch saved; an error if a byte of it has changed (torch itself does not look)."""
    with zipfile.ZipFile(path) as file:
        if file.testzip():
            raise zipfile.BadZipFile
    return torch.load(path, map_location="cpu", weights_only=True)


def replace_file(path: Path, content: memoryview) -> None:
    """Writes the whole file or nothing: the old one stays until the new one is on the disk."""
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
