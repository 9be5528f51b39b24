"""A training leaves a checkpoint after each epoch and goes on from it to the same bits."""

import io
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from fastai.callback.core import Callback, CancelEpochException
from fastai.callback.schedule import ParamScheduler
from fastai.callback.tracker import TrackerCallback
from fastai.learner import Learner, Recorder
from fastai.torch_core import get_random_states, set_random_states, to_device
from fastcore.foundation import L
from filelock import FileLock, Timeout

from lib.data.cache import digest
from lib.errors import InputError
from lib.files import shown_path, write_whole
from lib.models import versions
from lib.runs import device_name
from lib.training.callbacks import AverageWeights

CHANGING = {  # attributes of callbacks that a training changes
    Recorder: ("values", "iters", "losses", "lrs"),
    ParamScheduler: ("hps",),
    TrackerCallback: ("best", "wait"),
    AverageWeights: ("steps", "averages"),
}


class Checkpoint(Callback):
    """Given to a fit, it writes the file after each epoch, and the same fit begins after the last.

    `conditions`, which JSON can hold, decide with the learner's weights and random states whether
    it is the same. `seconds` is how long it has trained, earlier sessions included. Raises
    InputError where the file cannot be written (the old one is kept) or another training writes it.
    """

    order = 200  # after all others

    def __init__(self, path: Path, conditions: dict):
        self.path, self.conditions = path, conditions
        self.first, self.seconds, self.asleep = 0, 0.0, []

    def before_fit(self):
        self.folder_lock = only_one_training(self.path)
        for part in self.path.parent.glob(".*.part.*"):
            part.unlink()  # half-written by a process that was killed
        self.key = training_key(self.learn, self.conditions)
        if kept := self.read():
            self.first, self.seconds = kept["next_epoch"], kept["seconds"]
            set_training_state(self.learn, kept["training"])
            values = self.recorder.values
            print(f"continuing after epoch {len(values)} of {self.n_epoch}", flush=True)
            if bar := getattr(getattr(self, "progress", None), "mbar", None):
                bar.update(0)  # fastai's bar and table, where they are shown
            for epoch, row in enumerate(values):
                self.logger([epoch, *row, ""])
            # fastai calls after_epoch for epochs left out, too: the others must not count them
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
        self.folder_lock.release(force=True)  # an interrupted fit of this process may have it, too

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
        state = {"key": self.key, "next_epoch": next_epoch, "seconds": self.seconds}
        torch.save(state | {"training": training_state(self.learn)}, content)
        write_whole(self.path, content.getvalue())


def only_one_training(path: Path, seconds: float = 5) -> FileLock:
    """The lock of a training's folder, taken; InputError if another process keeps it so long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(".training.lock"), is_singleton=True)
    try:
        lock.acquire(timeout=seconds)  # a process that is killed may take a moment
    except Timeout:
        raise InputError(
            f"Another process trains in {shown_path(path.parent)}: wait for its end, "
            "or give this run another folder."
        ) from None
    return lock


def training_key(learner: Learner, conditions: dict) -> str:
    """A digest of all that decides how a training goes, the code aside."""
    state = learner.model.state_dict()
    weights = {name: digest(value.numpy(force=True)) for name, value in state.items()}
    machine = [versions(), device_name(learner.dls.device), torch.get_num_threads()]
    began = [conditions, machine, weights, random_states(learner)]
    return digest(json.dumps(began, default=torch.Tensor.tolist))


def kept_attributes(learner: Learner) -> list[tuple[Callback, str]]:
    """Each callback with each of its attributes that changes in the course of a training."""
    return [
        (callback, name)
        for kind, names in CHANGING.items()
        for callback in learner._grab_cbs(kind)
        for name in names
        if hasattr(callback, name)
    ]


def training_state(learner: Learner) -> dict:
    """Where a training is after an epoch, in types that torch.load takes without running code."""
    parts = [name for name in ("model", "opt", "scaler") if getattr(learner, name, None)]
    # fastai keeps the best weights in a file until the end of the fit
    files = (learner.path / learner.model_dir).glob("*.pth")
    state = {
        "parts": {name: getattr(learner, name).state_dict() for name in parts},
        "callbacks": [getattr(callback, name) for callback, name in kept_attributes(learner)],
        "best_weights": {file.name: np.fromfile(file, np.uint8) for file in files},
        "smooth_loss": vars(learner.recorder.smooth_loss),
        "train_iter": learner.train_iter,
        "random": random_states(learner),
    }
    return plain(state)


def plain(value):
    """The value without NumPy's and fastai's own types; a list of tensors as one of numbers."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, (list, L)):
        parts = map(plain, value)
        return [part.item() if torch.is_tensor(part) and not part.dim() else part for part in parts]
    if isinstance(value, (np.ndarray, np.generic)):
        return torch.from_numpy(value) if value.ndim else value.item()
    return value.as_subclass(torch.Tensor) if torch.is_tensor(value) else value


def set_training_state(learner: Learner, state: dict) -> None:
    """Puts back what training_state took; the callbacks must have begun their fit."""
    device = learner.dls.device
    for name, part in to_device(state["parts"], device).items():
        getattr(learner, name).load_state_dict(part)
    changed = to_device(state["callbacks"], device)
    for (callback, name), value in zip(kept_attributes(learner), changed):
        setattr(callback, name, value)
    for name, content in state["best_weights"].items():
        file = learner.path / learner.model_dir / name
        file.parent.mkdir(parents=True, exist_ok=True)
        content.numpy().tofile(file)
    vars(learner.recorder.smooth_loss).update(state["smooth_loss"])
    learner.train_iter = state["train_iter"]
    set_random_states(**state["random"]["fastai"])
    if mps := state["random"]["mps"]:
        torch.mps.set_rng_state(*mps)
    for loader, loader_state in zip(learner.dls, state["random"]["loaders"]):
        loader.rng.setstate(loader_state)


def random_states(learner: Learner) -> dict:
    """Every random state of this process that training may draw from, as plain values."""
    states = get_random_states()
    name, keys, *rest = states["numpy_state"]
    return {
        "fastai": states | {"numpy_state": (name, keys.tolist(), *rest)},
        "mps": [torch.mps.get_rng_state()] if torch.backends.mps.is_available() else [],
        "loaders": [loader.rng.getstate() for loader in learner.dls],
    }


def load_whole(path: Path) -> dict:
    """What torch saved; an error if a byte of it has changed (torch itself does not look)."""
    with zipfile.ZipFile(path) as file:
        if file.testzip():
            raise zipfile.BadZipFile
    return torch.load(path, map_location="cpu", weights_only=True)
