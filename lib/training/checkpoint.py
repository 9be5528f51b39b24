"""A training leaves a checkpoint after each epoch and goes on from it to the same bits."""

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
from fastai.learner import Learner, Recorder
from fastai.torch_core import to_device
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

    order, run_valid = 200, False  # after all others

    def __init__(self, path: Path, conditions: dict):
        self.path, self.conditions = path, conditions
        self.first, self.seconds, self.asleep = 0, 0.0, []

    def before_fit(self):
        self.folder_lock = only_one_training(self.path)
        for part in self.path.parent.glob(".*.part.*"):
            part.unlink()  # half-written by a process that was killed
        self.key = training_key(self.learn, self.conditions)
        if kept := self.read():
            set_training_state(self.learn, kept["training"])
            set_random_states(self.learn, kept["random"])
            self.first, self.seconds = kept["next_epoch"], kept["seconds"]
            show_earlier_epochs(self.learn)
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
        state |= {"random": random_states(self.learn), "training": training_state(self.learn)}
        torch.save(state, content)
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
    scaler, smooth = getattr(learner, "scaler", None), learner.recorder.smooth_loss
    state = {
        "weights": learner.model.state_dict(),
        "optimiser": learner.opt.state_dict(),
        "scaler": scaler.state_dict() if scaler else {},
        "callbacks": [getattr(callback, name) for callback, name in kept_attributes(learner)],
        "best_weights": [np.fromfile(file, np.uint8) for file in best_files(learner)],
        "smooth_loss": {"count": smooth.count, "val": smooth.val},
        "train_iter": learner.train_iter,
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
    learner.model.load_state_dict(state["weights"])
    learner.opt.load_state_dict(to_device(state["optimiser"], device))
    if state["scaler"]:
        learner.scaler.load_state_dict(state["scaler"])
    changed = to_device(state["callbacks"], device)
    for (callback, name), value in zip(kept_attributes(learner), changed):
        setattr(callback, name, value)
    for file, content in zip(best_files(learner), state["best_weights"]):
        file.parent.mkdir(parents=True, exist_ok=True)
        content.numpy().tofile(file)
    vars(learner.recorder.smooth_loss).update(state["smooth_loss"])
    learner.train_iter = state["train_iter"]


def best_files(learner: Learner) -> list[Path]:
    """Where fastai keeps the best weights until the end of the fit."""
    folder = learner.path / learner.model_dir
    return [folder / f"{callback.fname}.pth" for callback in learner._grab_cbs(SaveModelCallback)]


def random_states(learner: Learner) -> dict:
    """Every random state of this process that training may draw from, as plain values."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "mps": [torch.mps.get_rng_state()] if torch.backends.mps.is_available() else [],
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
