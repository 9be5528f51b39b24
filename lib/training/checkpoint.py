"""Resuming: a training leaves a checkpoint after each epoch and goes on from it to the same bits."""

import io
import json
import random
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from fastai.callback.core import Callback, CancelEpochException
from fastai.callback.schedule import ParamScheduler
from fastai.callback.tracker import SaveModelCallback, TrackerCallback
from fastai.learner import Learner
from fastai.torch_core import to_device
from filelock import FileLock, Timeout

from lib.data.cache import digest
from lib.errors import InputError
from lib.files import shown_path, write_whole
from lib.models import versions
from lib.runs import device_name
from lib.training.callbacks import AverageWeights


class Checkpoint(Callback):
    """Given to a fit, it writes the file after each epoch, and the same fit begins after the last.

    `conditions`, which JSON can hold, decide with the learner's weights and random states whether it
    is the same. `seconds` is how long it has trained, earlier sessions included. Raises InputError
    where the file cannot be written (the old one is kept) or another training writes it.
    """

    order, run_valid = 200, False  # after all others

    def __init__(self, path: Path, conditions: dict):
        self.path, self.conditions = path, conditions
        self.first, self.seconds, self.asleep = 0, 0.0, []

    def before_fit(self):
        self.lock = only_one_training(self.path)
        self.key = training_key(self.learn, self.conditions)
        kept = self.read()
        if kept:
            set_training_state(self.learn, kept["training"])
            set_random_states(self.learn, kept["random"])
            self.first, self.seconds = kept["next_epoch"], kept["seconds"]
            show_earlier_epochs(self.learn)
            # fastai calls after_epoch for an epoch that is left out, too: the others must not count it
            self.asleep = [other for other in self.learn.cbs if other is not self and other.run]
            for other in self.asleep:
                other.run = False
        self.began = time.perf_counter() - self.seconds

    def before_epoch(self):
        if self.epoch < self.first:
            raise CancelEpochException

    def after_epoch(self):
        if self.epoch >= self.first:
            self.write(self.epoch + 1)
        elif self.epoch == self.first - 1:
            for other in self.asleep:
                other.run = True

    def after_cancel_fit(self):
        self.write(self.n_epoch)  # early stopping has ended it

    def after_fit(self):
        self.seconds = time.perf_counter() - self.began
        self.lock.release()

    def read(self) -> dict | None:
        """What the file holds; None, and a line that says why, if it is of no use here."""
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

    def write(self, next_epoch: int) -> None:
        content, self.seconds = io.BytesIO(), time.perf_counter() - self.began
        state = {
            "key": self.key,
            "next_epoch": next_epoch,
            "seconds": self.seconds,
            "random": random_states(self.learn),
            "training": training_state(self.learn),
        }
        torch.save(state, content)
        write_whole(self.path, content.getvalue())


def only_one_training(path: Path) -> FileLock:
    """The lock of a training's folder, taken; InputError if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(".training.lock"), is_singleton=True)
    try:
        lock.acquire(timeout=5)  # a process that is killed may take a moment
    except Timeout:
        raise InputError(
            f"Another process trains in {shown_path(path.parent)}: wait for its end, "
            "or give this run another folder."
        ) from None
    return lock


def show_earlier_epochs(learner: Learner) -> None:
    """A line, and where fastai's bar and table are shown, their earlier part."""
    values = learner.recorder.values
    print(f"continuing after epoch {len(values)} of {learner.n_epoch}", flush=True)
    if bar := getattr(getattr(learner, "progress", None), "mbar", None):
        bar.update(0)
    for epoch, row in enumerate(values):
        learner.logger([epoch, *row, ""])


def training_key(learner: Learner, conditions: dict) -> str:
    """A digest of all that decides how a training goes, the code aside."""
    state = learner.model.state_dict()
    weights = {name: digest(value.numpy(force=True)) for name, value in state.items()}
    machine = [versions(), device_name(learner.dls.device), torch.get_num_threads()]
    began = [conditions, machine, weights, random_states(learner)]
    return digest(json.dumps(began, default=torch.Tensor.tolist))


def training_state(learner: Learner) -> dict:
    """Where a training is after an epoch, in types that torch.load takes without running code."""
    recorder, every = learner.recorder, learner._grab_cbs
    scaler, smooth = getattr(learner, "scaler", None), recorder.smooth_loss
    return {
        "weights": learner.model.state_dict(),
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
        "smooth_loss": {"count": smooth.count, "val": smooth.val.as_subclass(torch.Tensor)},
        "train_iter": learner.train_iter,
    }


def set_training_state(learner: Learner, state: dict) -> None:
    """Puts back what training_state took; the callbacks must have begun their fit."""
    learner.model.load_state_dict(state["weights"])
    learner.opt.load_state_dict(to_device(state["optimiser"], learner.dls.device))
    if state["scaler"]:
        learner.scaler.load_state_dict(state["scaler"])
    for callback, average in zip(learner._grab_cbs(AverageWeights), state["averages"]):
        callback.averaged.load_state_dict(average)
    for callback, hps in zip(learner._grab_cbs(ParamScheduler), state["schedules"]):
        callback.hps = {name: values.tolist() for name, values in hps.items()}
    for callback, tracked in zip(learner._grab_cbs(TrackerCallback), state["trackers"]):
        callback.best, callback.wait = tracked["best"], tracked["wait"]
    for file, weights in zip(best_files(learner), state["best_weights"]):
        if weights is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save(weights, file)
    recorder, learner.train_iter = learner.recorder, state["train_iter"]
    recorder.values, recorder.iters = state["values"], state["iters"]
    recorder.losses, recorder.lrs = list(state["losses"].float()), state["lrs"].tolist()
    vars(recorder.smooth_loss).update(state["smooth_loss"])


def numbers(values: list) -> torch.Tensor:
    """Numbers or tensors of one as float64 (N,), which keeps a long list small."""
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def best_files(learner: Learner) -> list[Path]:
    """Where fastai keeps the best weights until the end of the fit."""
    folder = learner.path / learner.model_dir
    return [folder / f"{callback.fname}.pth" for callback in learner._grab_cbs(SaveModelCallback)]


def random_states(learner: Learner) -> dict:
    """Every random state of this process that training may draw from, as plain values."""
    name, keys, *rest = np.random.get_state()
    mps = [torch.mps.get_rng_state()] if torch.backends.mps.is_available() else []
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "mps": mps,
        "loaders": [loader.rng.getstate() for loader in learner.dls],
    }


def set_random_states(learner: Learner, states: dict) -> None:
    """Puts back what random_states took."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    torch.cuda.set_rng_state_all(states["cuda"])
    if states["mps"]:
        torch.mps.set_rng_state(*states["mps"])
    for loader, state in zip(learner.dls, states["loaders"]):
        loader.rng.setstate(state)


def load_whole(path: Path) -> dict:
    """What torch saved; an error if a byte of it has changed (torch itself does not look)."""
    with zipfile.ZipFile(path) as file:
        if file.testzip():
            raise zipfile.BadZipFile
    return torch.load(path, map_location="cpu", weights_only=True)
