import contextlib
import json
import multiprocessing
import os
import random
import shutil
import time

import numpy as np
import psutil
import pytest
import torch
from fastai.callback.core import Callback

from lib.data import load_data
from lib.errors import InputError
from lib.files import CHECKPOINT, HISTORY, METRICS, MODEL, PREDICTIONS, read_json
from lib.params import TrainingParameters
from lib.runs import save_run
from lib.training.checkpoint import load_whole, random_states
from lib.training.evaluate import history, measure_run, predict_parts
from lib.training.learner import fit, make_learner

RATE, KILLS = 5e-3, 12
LONG = TrainingParameters(epochs=48, average=0.9, augment=1.0, precision="float32")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["pytest", "lib.training.learner", "lib.training.evaluate", "lib.training.together"]
)  # imported once, not at each start


@pytest.fixture(scope="module")
def data():
    return load_data(per_class=10, test_per_class=2, split="digits")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Stop(Callback):
    """Breaks a training off in the middle of an epoch, counted from 0."""

    def __init__(self, epoch):
        self.at = epoch

    def after_batch(self):
        if self.training and (self.epoch, self.iter) == (self.at, 2):
            raise KeyboardInterrupt


def trained(data, checkpoint=None, stop=None, rate=RATE, **settings):
    parameters = TrainingParameters(
        **{"epochs": 3, "precision": "float32", "batch_size": 16} | settings
    )
    learner = make_learner(data, parameters)
    learner.add_cb(Stop(stop))
    with contextlib.suppress(KeyboardInterrupt):
        learner.seconds = fit(learner, parameters, rate, checkpoint)
    return learner


def traces(learner):
    """What a training leaves: weights, all that fastai recorded, and the random states."""
    recorder = learner.recorder
    return {
        "weights": {name: value.tolist() for name, value in learner.model.state_dict().items()},
        "values": [list(row) for row in recorder.values],
        "losses": list(map(float, recorder.losses)),
        "rates": list(map(float, recorder.lrs)),
        "steps": list(recorder.iters),
        "smooth": float(recorder.smooth_loss.value),
        "hps": {name: list(map(float, values)) for name, values in recorder.hps.items()},
        "random": json.dumps(random_states(learner), default=torch.Tensor.tolist),
    }


def train_a_run(folder, whoever_waits):
    torch.set_num_threads(1)
    data = load_data(per_class=10, test_per_class=2)
    learner = make_learner(data, LONG)
    whoever_waits.send("fit begins")
    seconds = fit(learner, LONG, RATE, folder / CHECKPOINT)
    predictions = predict_parts(learner.model, data)
    metrics = measure_run(learner, data, LONG, RATE, seconds, predictions)
    save_run(folder, learner.model, metrics, history(learner), predictions, data.class_names)


def begun(target, *arguments):
    """A process that has said that it begins."""
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=target, args=[*arguments, there], daemon=True)
    process.start()
    there.close()
    here.recv()
    return process


def wait_for(sight, every=0.0005):
    end = time.monotonic() + 120
    while not sight() and time.monotonic() < end:
        time.sleep(every)


def begin_and_kill(folder, moment, while_writing):
    """Kills a training so many seconds after fit has begun, or then at the next sight of a half-written checkpoint."""
    part = folder / f"{CHECKPOINT}.part"
    if while_writing:
        part.unlink(missing_ok=True)  # another kill may have left it
    process, start = begun(train_a_run, folder), time.monotonic()
    time.sleep(moment)
    wait_for(lambda: not while_writing or part.exists() or not process.is_alive())
    assert process.is_alive()
    process.kill()
    process.join()
    epochs = load_whole(folder / CHECKPOINT)["next_epoch"] if (folder / CHECKPOINT).exists() else 0
    print(
        f"killed after {time.monotonic() - start:.2f} s, epoch {epochs}{', while writing' * while_writing}"
    )


def results(folder):
    """All that a run's folder holds, but for the seconds it took."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return files | {METRICS: read_json(folder / METRICS) | {"seconds": 0}}


def test_a_run_that_is_killed_at_random_moments_leaves_the_same_files(tmp_path):
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    moments = random.Random(seed)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    begun(train_a_run, whole).join()
    epoch = read_json(whole / METRICS)["seconds"] / LONG.epochs
    for i in range(KILLS):
        begin_and_kill(killed, moments.uniform(0.2, 2.6) * epoch, while_writing=i % 3 == 2)
    begun(train_a_run, killed).join()
    assert results(killed) == results(whole) and results(whole).keys() == {
        METRICS,
        MODEL,
        HISTORY,
        PREDICTIONS,
    }


@pytest.mark.parametrize("schedule", ["one_cycle", "triangular2", "constant"])
@pytest.mark.parametrize(
    "recipe",
    [
        {"patience": 2, "epochs": 40, "rate": 0.03},
        {"average": 0.9, "augment": 1.0},
        {"network": "lenet", "erase": 0.5, "warp": 1.0},
    ],
    ids=lambda recipe: next(iter(recipe)),
)
def test_a_training_that_breaks_off_continues_to_the_same_bits(data, tmp_path, recipe, schedule):
    whole = trained(data, schedule=schedule, **recipe)
    stop = len(whole.recorder.values) - 1  # with patience, after an epoch without improvement
    trained(data, tmp_path / CHECKPOINT, stop, schedule=schedule, **recipe)
    assert load_whole(tmp_path / CHECKPOINT)["next_epoch"] == stop
    for _ in range(2):  # the second time no epoch is left to train
        assert traces(trained(data, tmp_path / CHECKPOINT, schedule=schedule, **recipe)) == traces(
            whole
        )
        assert load_whole(tmp_path / CHECKPOINT)["next_epoch"] == recipe.get("epochs", 3)


def test_a_checkpoint_changes_nothing(data, tmp_path):
    assert traces(trained(data, tmp_path / CHECKPOINT)) == traces(trained(data))


def test_continuing_says_where_and_counts_the_seconds_of_both_sessions(data, tmp_path, capsys):
    trained(data, tmp_path / CHECKPOINT, stop=2)
    earlier, start = load_whole(tmp_path / CHECKPOINT)["seconds"], time.perf_counter()
    learner = trained(data, tmp_path / CHECKPOINT)
    assert earlier < learner.seconds < earlier + time.perf_counter() - start
    assert capsys.readouterr().out.count("continuing after epoch 2 of 3\nepoch 3/3") == 1


@pytest.mark.parametrize("change", [{"rate": 1e-3}, {"seed": 1}, {"epochs": 4}, {"augment": 1.0}])
def test_a_checkpoint_of_another_training_is_not_used(data, tmp_path, capsys, change):
    trained(data, tmp_path / CHECKPOINT, stop=1)
    assert traces(trained(data, tmp_path / CHECKPOINT, **change)) == traces(trained(data, **change))
    assert (
        f"{tmp_path / CHECKPOINT} belongs to another training: starting anew\n"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda learner: learner.model.network.classifier[-1].bias.data.fill_(0.5),
        lambda learner: vars(learner).update(data_checksum="other"),
        lambda learner: torch.rand(1),
        lambda learner: torch.set_num_threads(2),
    ],
    ids=["weights", "data", "random state", "threads"],
)
def test_a_checkpoint_that_began_otherwise_is_not_used(data, tmp_path, capsys, change):
    trained(data, tmp_path / CHECKPOINT, stop=1)
    parameters = TrainingParameters(epochs=3, precision="float32", batch_size=16)
    learner = make_learner(data, parameters)
    change(learner)
    fit(learner, parameters, RATE, tmp_path / CHECKPOINT)
    assert "belongs to another training" in capsys.readouterr().out


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-100],
        lambda whole: whole[:300_000] + b"?" + whole[300_001:],
        lambda whole: b"",
        lambda whole: b"\x80\x04pickle",
    ],
)
def test_a_damaged_checkpoint_is_replaced(data, tmp_path, capsys, damage):
    trained(data, tmp_path / CHECKPOINT, stop=1)
    (tmp_path / CHECKPOINT).write_bytes(damage((tmp_path / CHECKPOINT).read_bytes()))
    assert traces(trained(data, tmp_path / CHECKPOINT)) == traces(trained(data))
    assert "checkpoint.pt is damaged: starting anew\n" in capsys.readouterr().out
    assert load_whole(tmp_path / CHECKPOINT)["next_epoch"] == 3


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_reported_and_leaves_the_checkpoint_before(
    data, tmp_path, monkeypatch, capsys, call
):
    def fail(*_):
        raise OSError(28, "No space left on device")

    trained(data, tmp_path / CHECKPOINT, stop=2)
    with (
        monkeypatch.context() as patch,
        pytest.raises(
            InputError,
            match=r"checkpoint.pt cannot be written \(No space left on device\); "
            "free some space and run again: it continues after epoch 2.$",
        ),
    ):
        patch.setattr(os, call, fail)
        trained(data, tmp_path / CHECKPOINT)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    assert traces(trained(data, tmp_path / CHECKPOINT)) == traces(trained(data))


def test_the_finder_and_predictions_leave_checkpoints_alone(data, tmp_path):
    learner = trained(data, tmp_path / CHECKPOINT)
    before = (tmp_path / CHECKPOINT).read_bytes()
    learner.lr_find(num_it=40, show_plot=False)
    learner.get_preds()
    assert (tmp_path / CHECKPOINT).read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_saving_a_run_removes_its_checkpoint(data, tmp_path):
    learner = trained(data, tmp_path / CHECKPOINT)
    predictions = dict.fromkeys(("valid", "test"), (data.test_labels, np.full((20, 10), 0.1)))
    save_run(
        tmp_path,
        learner.model,
        {"network": "custom"},
        history(learner),
        predictions,
        data.class_names,
    )
    assert not (tmp_path / CHECKPOINT).exists() and (tmp_path / METRICS).exists()


def test_a_person_who_watches_sees_the_earlier_epochs_too(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JPY_SESSION_NAME", "a notebook")
    trained(data, tmp_path / CHECKPOINT, stop=2)
    learner = trained(data, tmp_path / CHECKPOINT)
    shown = capsys.readouterr().out.partition("continuing")[2]
    assert all(f"{row[1]:.6f}" in shown for row in learner.recorder.values)


class Scaling(Callback):
    """Stands in for fastai's MixedPrecision, which needs CUDA; its scale doubles with every step."""

    def before_fit(self):
        self.learn.scaler = torch.amp.GradScaler("cpu", init_scale=1.0, growth_interval=1)

    def after_batch(self):
        if self.training:
            self.learn.scaler.scale(torch.ones(1))
            self.learn.scaler._scale *= 2


def test_the_scale_of_gradients_is_kept(data, tmp_path):
    for epochs_before in (2, 3):
        parameters = TrainingParameters(epochs=3, precision="float32", batch_size=16)
        learner = make_learner(data, parameters)
        learner.add_cbs([Scaling(), Stop(epochs_before)])
        with contextlib.suppress(KeyboardInterrupt):
            fit(learner, parameters, RATE, tmp_path / CHECKPOINT)
    assert learner.scaler.get_scale() == 2 ** (3 * len(learner.dls.train))


def train_together(checkpoint, whoever_waits):
    torch.set_num_threads(2)
    parameters = TrainingParameters(
        epochs=20, processes=2, average=0.5, augment=1.0, batch_size=16, precision="float32"
    )
    learner = make_learner(load_data(per_class=10, test_per_class=2), parameters)
    whoever_waits.send("fit begins")
    fit(learner, parameters, RATE, checkpoint)


@contextlib.contextmanager
def training_together(checkpoint):
    """Two processes at it, which must end when the one that launched them is killed."""
    launcher = begun(train_together, checkpoint)
    try:
        yield
        torchrun, *workers = psutil.Process(launcher.pid).children(recursive=True)
    finally:
        launcher.kill()
    assert (
        len(workers) == 2 and not psutil.wait_procs(workers, timeout=1)[1]
    )  # at once, not when they next print in vain
    assert not psutil.wait_procs([torchrun], timeout=20)[1]


def copied(checkpoint, epoch):
    """A copy of a checkpoint, made as soon as it has come to this epoch."""
    copy = checkpoint.with_suffix(f".{epoch}")
    wait_for(
        lambda: (
            checkpoint.exists() and load_whole(shutil.copy(checkpoint, copy))["next_epoch"] == epoch
        ),
        every=0.05,
    )
    return copy


def content(checkpoint):
    """All that a checkpoint holds, but for the seconds."""
    return json.dumps(load_whole(checkpoint) | {"seconds": 0}, default=torch.Tensor.tolist)


def test_two_processes_end_with_their_launcher_and_continue_to_the_same_bits(tmp_path):
    whole, continued = tmp_path / "whole.pt", tmp_path / "continued.pt"
    with training_together(whole):
        shutil.copy(copied(whole, epoch=1), continued)
        expected = copied(whole, epoch=2)
    with training_together(continued):
        found = copied(continued, epoch=2)
    assert content(found) == content(expected)
