"""What is logged of a training elsewhere: read back where the library is installed."""

import os
import subprocess
import sys

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainings import traces, trained

from lib.data import load_data
from lib.errors import InputError
from lib.files import ROOT
from lib.training import history, log_elsewhere, trackers, tracking
from lib.training.trackers import MODULES

HISTORY = pd.DataFrame({"epoch": [1, 2], "train_loss": [3.0, 2.0], "valid_loss": [2.5, 1.5]})


@pytest.fixture(scope="module")
def characters():
    return load_data(per_class=10, test_per_class=2, split="digits")


def logged(characters, log, **others):
    """A learner whose training TensorBoard has logged in the folder `log`."""
    return trained(characters, cbs=tracking("tensorboard", log), **others)


def scalars(folder, name):
    """What was logged under this name: {step: value}."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {event.step: event.value for event in events.Scalars(name)}


@pytest.mark.parametrize(
    "name, column", [("valid_loss", "valid_loss"), ("accuracy", "valid_accuracy")]
)
def test_the_event_file_holds_what_the_history_says_of_each_epoch(
    characters, tmp_path, name, column
):
    learn = logged(characters, tmp_path)
    steps = len(learn.dls.train)
    expected = dict(zip((steps, 2 * steps, 3 * steps), history(learn)[column]))
    assert scalars(tmp_path, name) == pytest.approx(expected, abs=1e-5)


def test_the_event_file_holds_the_training_loss_and_the_rate_of_each_step(characters, tmp_path):
    learn = logged(characters, tmp_path)
    losses = dict(enumerate(map(float, learn.recorder.losses), 1))
    rates = dict(enumerate(learn.recorder.hps["lr"], 1))
    assert scalars(tmp_path, "train_loss") == pytest.approx(losses, abs=1e-5)
    assert scalars(tmp_path, "lr_0") == pytest.approx(rates, abs=1e-8)


def test_logging_changes_neither_weights_nor_random_states(characters, tmp_path):
    assert traces(logged(characters, tmp_path)) == traces(trained(characters))


def test_the_finder_is_not_logged(characters, tmp_path):
    learn = trained(characters, epochs=1)
    learn.add_cbs(tracking("tensorboard", tmp_path / "log"))
    learn.lr_find(num_it=40, show_plot=False)
    assert not (tmp_path / "log").exists()


def test_a_training_that_goes_on_logs_the_epochs_that_were_left(characters, tmp_path):
    logged(characters, tmp_path / "log", folder=tmp_path, stop=1)
    learn = logged(characters, tmp_path / "log", folder=tmp_path)
    losses = history(learn)["valid_loss"]
    assert list(scalars(tmp_path / "log", "valid_loss").values()) == pytest.approx(
        list(losses), abs=1e-5
    )


@pytest.mark.parametrize("tracker", MODULES)
def test_a_missing_library_is_named_with_what_installs_it(monkeypatch, tmp_path, tracker):
    monkeypatch.setitem(MODULES, tracker, "no_such_library")
    said = rf"^tracker {tracker} needs the library no_such_library, .*`uv sync --extra {tracker}`"
    with pytest.raises(InputError, match=said):
        tracking(tracker, tmp_path)


def test_a_folder_of_the_library_s_name_is_not_the_library(tmp_path, monkeypatch):
    (tmp_path / "some_library").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(MODULES, "wandb", "some_library")
    with pytest.raises(InputError, match="not installed"):
        tracking("wandb", tmp_path)


def test_no_tracker_needs_no_library_and_leaves_nothing(tmp_path):
    assert tracking("none", tmp_path / "log") == []
    log_elsewhere("none", {}, HISTORY, tmp_path / "log")
    log_elsewhere("tensorboard", {}, HISTORY, tmp_path / "log")
    assert list(tmp_path.iterdir()) == []


def test_training_without_a_tracker_imports_none():
    names = set(MODULES.values())
    code = f"import sys, lib.training; sys.exit(bool(sys.modules.keys() & {names}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.fixture
def no_account(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("WANDB_", "COMET_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", os.devnull)


@pytest.mark.parametrize(
    "tracker, files",
    [("wandb", "run/wandb/offline-run-*/*.wandb"), ("comet", "run/*.zip"), ("mlflow", "mlflow.db")],
)
def test_without_an_account_a_run_is_logged_below_the_profile(tmp_path, no_account, tracker, files):
    pytest.importorskip(MODULES[tracker])
    log_elsewhere(tracker, {"network": "custom"}, HISTORY, tmp_path / "tracking" / "run")
    assert len(list((tmp_path / "tracking").glob(files))) == 1


def test_mlflow_holds_every_epoch(tmp_path, no_account):
    mlflow = pytest.importorskip("mlflow")
    trackers.log_mlflow({"network": "custom"}, HISTORY.to_dict("records"), tmp_path / "run")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    metrics = client.get_metric_history(run.info.run_id, "valid_loss")
    assert {metric.step: metric.value for metric in metrics} == {1: 2.5, 2: 1.5}
    assert run.info.status == "FINISHED"
