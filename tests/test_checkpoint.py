"""A training that is interrupted, in whatever way, ends as if it had not been."""

import multiprocessing
import os
import random
import time

import pytest
import torch
import trainings
from fastai.callback.core import Callback
from filelock import FileLock
from trainings import RATE, settings, traces, trained

from lib import training
from lib.analysis.calibration import calibrate
from lib.data import load_data
from lib.errors import InputError
from lib.files import CHECKPOINT, HISTORY, METRICS, MODEL, PREDICTIONS, read_json
from lib.models import round_weights
from lib.runs import save_run
from lib.training.checkpoint import load_whole, only_one_training

LONG = settings(epochs=24, average=0.9, augment=1.0, batch_size=64)
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["pytest", "lib.training", "trainings", "tqdm"])


@pytest.fixture(scope="module")
def data():
    return load_data(per_class=10, test_per_class=2, split="digits")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ---- to the bit ----

RECIPES = [
    {"patience": 2, "epochs": 40, "rate": 0.03},
    {"average": 0.9, "augment": 1.0},
    {"network": "lenet", "erase": 0.5, "warp": 1.0},
]


@pytest.mark.parametrize("schedule", ["one_cycle", "triangular2", "cosine", "constant"])
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: next(iter(recipe)))
def test_a_training_that_breaks_off_continues_to_the_same_bits(data, tmp_path, recipe, schedule):
    recipe = recipe | {"schedule": schedule}
    whole = trained(data, **recipe)
    stop = len(whole.recorder.values) - 1  # with patience, after an epoch without improvement
    trained(data, tmp_path, stop, **recipe)
    assert load_whole(tmp_path / CHECKPOINT)["next_epoch"] == stop
    assert traces(trained(data, tmp_path, **recipe)) == traces(whole)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: next(iter(recipe)))
def test_a_fit_that_had_ended_is_not_trained_again(data, tmp_path, recipe):
    steps = []

    class Count(Callback):
        def after_step(self):
            steps.append(self.epoch)

    whole = trained(data, tmp_path, **recipe)
    again = trained(data, tmp_path, cbs=[Count()], **recipe)
    assert steps == [] and traces(again) == traces(whole)


def test_a_training_can_be_continued_more_than_once(data, tmp_path):
    for stop in (1, 2, 4, None):
        learn = trained(data, tmp_path, stop, epochs=5)
    assert traces(learn) == traces(trained(data, epochs=5))


def test_a_checkpoint_changes_nothing(data, tmp_path):
    assert traces(trained(data, tmp_path)) == traces(trained(data))


class Scaling(Callback):
    """Stands in for fastai's MixedPrecision, which needs CUDA; its scale doubles each step."""

    def before_fit(self):
        self.learn.scaler = torch.amp.GradScaler("cpu", init_scale=1.0, growth_interval=1)

    def after_batch(self):
        if self.training:
            self.learn.scaler.scale(torch.ones(1))
            self.learn.scaler._scale *= 2


def test_the_scale_of_gradients_is_kept(data, tmp_path):
    trained(data, tmp_path, stop=2, cbs=[Scaling()])
    learn = trained(data, tmp_path, cbs=[Scaling()])
    assert learn.scaler.get_scale() == 2 ** (3 * len(learn.dls.train))


# ---- what is said ----


def test_continuing_says_where_and_counts_the_seconds_of_both_sessions(data, tmp_path, capsys):
    trained(data, tmp_path, stop=2)
    earlier, start = load_whole(tmp_path / CHECKPOINT)["seconds"], time.perf_counter()
    learn = trained(data, tmp_path)
    assert earlier < learn.seconds < earlier + time.perf_counter() - start
    assert capsys.readouterr().out.count("continuing after epoch 2 of 3\nepoch 3/3") == 1


def test_a_person_who_watches_sees_the_earlier_epochs_too(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JPY_SESSION_NAME", "a notebook")
    trained(data, tmp_path, stop=2)
    learn = trained(data, tmp_path)
    shown = capsys.readouterr().out.partition("continuing")[2]
    assert all(f"{row[1]:.6f}" in shown for row in learn.recorder.values)


# ---- checkpoints of no use ----


@pytest.mark.parametrize("change", [{"rate": 1e-3}, {"seed": 1}, {"epochs": 4}, {"augment": 1.0}])
def test_a_checkpoint_of_another_training_is_not_used(data, tmp_path, capsys, change):
    trained(data, tmp_path, stop=1)
    assert traces(trained(data, tmp_path, **change)) == traces(trained(data, **change))
    said = f"{tmp_path / CHECKPOINT} belongs to another training: starting anew\n"
    assert said in capsys.readouterr().out


BEGINNINGS = {
    "weights": lambda learn: learn.model.network.classifier[-1].bias.data.fill_(0.5),
    "random state": lambda learn: torch.rand(1),
    "threads": lambda learn: torch.set_num_threads(2),
}


@pytest.mark.parametrize("change", BEGINNINGS.values(), ids=BEGINNINGS)
def test_a_checkpoint_that_began_otherwise_is_not_used(data, tmp_path, capsys, change):
    trained(data, tmp_path, stop=1)
    learn = training.make_learner(data, settings())
    change(learn)
    trainings.fit(learn, settings(), cbs=[trainings.checkpoint(tmp_path, data, settings())])
    assert "belongs to another training" in capsys.readouterr().out


DAMAGES = {
    "cut short": lambda whole: whole[:-100],
    "a byte": lambda whole: whole[:300_000] + b"?" + whole[300_001:],
    "empty": lambda whole: b"",
    "a pickle": lambda whole: b"\x80\x04pickle",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_replaced(data, tmp_path, capsys, damage):
    trained(data, tmp_path, stop=1)
    (tmp_path / CHECKPOINT).write_bytes(damage((tmp_path / CHECKPOINT).read_bytes()))
    assert traces(trained(data, tmp_path)) == traces(trained(data))
    assert "checkpoint.pt is damaged: starting anew\n" in capsys.readouterr().out
    assert load_whole(tmp_path / CHECKPOINT)["next_epoch"] == 3


# ---- the folder ----


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_reported_and_leaves_the_checkpoint_before(
    data, tmp_path, monkeypatch, call
):
    def fail(*_):
        raise OSError(28, "No space left on device")

    trained(data, tmp_path, stop=2)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(InputError, match=r"checkpoint.pt cannot be written \(No space left"):
            trained(data, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name[0] != "."] == [CHECKPOINT]
    assert traces(trained(data, tmp_path)) == traces(trained(data))


def test_two_trainings_in_one_folder_are_refused_with_a_sentence(tmp_path):
    with FileLock(tmp_path / ".training.lock"):
        with pytest.raises(InputError, match="^Another process trains in .*another folder.$"):
            only_one_training(tmp_path / CHECKPOINT, seconds=0)


def test_a_training_that_ends_leaves_the_folder_to_others(data, tmp_path):
    trained(data, tmp_path, stop=1)
    trained(data, tmp_path)
    FileLock(tmp_path / ".training.lock").acquire(timeout=0)


def test_what_a_killed_process_has_half_written_is_removed(data, tmp_path):
    (tmp_path / ".checkpoint.1.part.pt").touch()
    trained(data, tmp_path)
    assert not list(tmp_path.glob(".*.part.*"))


def test_the_finder_and_predictions_leave_checkpoints_alone(data, tmp_path):
    learn = trained(data, tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    learn.lr_find(num_it=40, show_plot=False)
    learn.get_preds()
    assert (tmp_path / CHECKPOINT).read_bytes() == before


# ---- kills ----


def train_a_run(folder, whoever_waits):
    torch.set_num_threads(1)
    data = load_data(per_class=10, test_per_class=2)
    learn = training.make_learner(data, LONG)
    checkpoint = trainings.checkpoint(folder, data, LONG)
    whoever_waits.send("fit begins")
    trainings.fit(learn, LONG, cbs=[checkpoint])
    round_weights(learn.model)
    predictions = training.predict_parts(learn.model, data)
    metrics = training.measure_run(learn, data, LONG, RATE, checkpoint.seconds, predictions)
    calibration = calibrate(*reversed(predictions["valid"]))
    history = training.history(learn)
    save_run(folder, learn.model, metrics, history, predictions, data.class_names, calibration)


def begun(folder):
    """A process that has said that its fit begins."""
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=train_a_run, args=[folder, there], daemon=True)
    process.start()
    there.close()
    here.recv()
    return process


def begin_and_kill(folder, moment, while_writing):
    """Kills a training so many seconds after its fit has begun.

    With `while_writing` it is killed at the next sight of a half-written checkpoint.
    """
    process, start = begun(folder), time.monotonic()
    time.sleep(moment)
    while while_writing and process.is_alive() and not list(folder.glob(".*.part.pt")):
        time.sleep(0.0005)
    assert process.is_alive()
    process.kill()
    process.join()
    epochs = load_whole(folder / CHECKPOINT)["next_epoch"] if (folder / CHECKPOINT).exists() else 0
    print(f"killed after {time.monotonic() - start:.2f} s, epoch {epochs}, {while_writing=}")


def results(folder):
    """All that a run's folder holds, but for the seconds it took."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}
    return files | {METRICS: read_json(folder / METRICS) | {"seconds": 0}}


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_moments_leaves_the_same_files(tmp_path, kills=12):
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    moments = random.Random(seed)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    begun(whole).join()
    epoch = read_json(whole / METRICS)["seconds"] / LONG.epochs
    for i in range(kills):
        moment = epoch * moments.uniform(0.2, 0.7 * LONG.epochs / kills)
        begin_and_kill(killed, moment, while_writing=i % 3 == 1)
    begun(killed).join()
    assert results(killed) == results(whole)
    assert results(whole).keys() == {METRICS, MODEL, HISTORY, PREDICTIONS}
