"""Small trainings for the tests, as notebook 03 does them, that can be broken off."""

import json
from contextlib import suppress

import torch
from fastai.callback.core import Callback

from lib import training
from lib.files import CHECKPOINT
from lib.params import TrainingParameters
from lib.training.checkpoint import random_states

RATE = 5e-3


class Stop(Callback):
    """Breaks a training off in the middle of an epoch, counted from 0."""

    def __init__(self, epoch):
        self.at = epoch

    def after_batch(self):
        if self.training and (self.epoch, self.iter) == (self.at, 2):
            raise KeyboardInterrupt


def settings(**others):
    return TrainingParameters(**{"epochs": 3, "precision": "float32", "batch_size": 16} | others)


def checkpoint(folder, data, parameters, rate=RATE):
    """The callback as 03 makes it."""
    conditions = parameters.model_dump() | {"data": data.checksum, "learning_rate": rate}
    return training.Checkpoint(folder / CHECKPOINT, conditions)


def fit(learn, parameters, rate=RATE, cbs=()):
    """The call of 03."""
    cbs = [*cbs, *training.early_stopping(parameters.patience)]
    if parameters.schedule == "one_cycle":
        learn.fit_one_cycle(parameters.epochs, rate, cbs=cbs)
    else:
        schedule = training.rate_schedule(parameters.schedule, rate)
        learn.fit(parameters.epochs, rate, cbs=[schedule, *cbs])


def trained(data, folder=None, stop=None, rate=RATE, cbs=(), **others):
    """A learner after its training, which leaves a checkpoint in the folder, or breaks off."""
    parameters = settings(**others)
    learn = training.make_learner(data, parameters)
    kept = [checkpoint(folder, data, parameters, rate)] if folder else []
    with suppress(KeyboardInterrupt):
        fit(learn, parameters, rate, [Stop(stop), *kept, *cbs])
    learn.seconds = kept[0].seconds if kept else 0
    return learn


def weights(learn):
    """All weights and statistics as one vector."""
    return torch.cat([value.flatten().double() for value in learn.model.state_dict().values()])


def traces(learn):
    """What a training leaves: weights, all that fastai recorded, and the random states."""
    recorder = learn.recorder
    return {
        "weights": weights(learn).tolist(),
        "values": [list(map(float, row)) for row in recorder.values],
        "losses": list(map(float, recorder.losses)),
        "rates": list(map(float, recorder.lrs)),
        "steps": list(recorder.iters),
        "smooth": float(recorder.smooth_loss.value),
        "hps": {name: list(map(float, values)) for name, values in recorder.hps.items()},
        "random": json.dumps(random_states(learn), default=torch.Tensor.tolist),
    }
