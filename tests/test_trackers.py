import contextlib
import os
import subprocess
import sys

import pytest
from fastai.callback.core import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lib.data import load_data
from lib.errors import InputError
from lib.files import CHECKPOINT, ROOT
from lib.params import TrainingParameters
from lib.training.checkpoint import random_states
from lib.training.evaluate import history
from lib.training.learner import fit, make_learner
from lib.training.trackers import LIBRARIES, check_tracker, tracking

RUN, RATE = "custom-one_cycle-seed0", 5e-3


@pytest.fixture
def characters(data):
    return load_data(per_class=10, test_per_class=2, split="digits")


class Stop(Callback):
    """Breaks a training off in the middle of an epoch, counted from 0."""

    def __init__(self, epoch):
        self.at = epoch

    def after_batch(self):
        if self.training and (self.epoch, self.iter) == (self.at, 2):
            raise KeyboardInterrupt


def settings(tracker="tensorboard", **others):
    return TrainingParameters(
        **{"epochs": 3, "precision": "float32", "batch_size": 16, "tracker": tracker} | others
    )


def trained(characters, profile, stop=None, rate=RATE, **others):
    """A learner trained in a run's folder below the profile's."""
    learner = make_learner(characters, settings(**others))
    learner.add_cb(Stop(stop))
    with contextlib.suppress(KeyboardInterrupt):
        fit(learner, settings(**others), rate, profile / RUN / CHECKPOINT)
    return learner


def read_events(profile):
    return EventAccumulator(str(profile / "tracking" / RUN), size_guidance={"scalars": 0}).Reload()


def scalars(profile, name):
    """What was logged under this name: {step: value}; each step once."""
    events = read_events(profile).Scalars(name)
    values = {event.step: event.value for event in events}
    assert len(values) == len(events)
    return values


def by_epoch(learner, column):
    steps = len(learner.dls.train)
    return dict(zip(range(steps, 4 * steps, steps), history(learner)[column]))


def everything(learner):
    """Weights and all random states of a learner, to the bit."""
    return [value.tolist() for value in learner.model.state_dict().values()], str(
        random_states(learner)
    )


@pytest.mark.parametrize(
    "name, column", [("valid_loss", "valid_loss"), ("accuracy", "valid_accuracy")]
)
def test_the_event_file_holds_what_the_history_says_of_each_epoch(
    characters, tmp_path, name, column
):
    learner = trained(characters, tmp_path)
    assert scalars(tmp_path, name) == pytest.approx(by_epoch(learner, column), abs=1e-5)


def test_the_event_file_holds_the_training_loss_after_each_step(characters, tmp_path):
    learner = trained(characters, tmp_path)
    assert scalars(tmp_path, "train_loss") == pytest.approx(
        dict(enumerate(map(float, learner.recorder.losses), 1)), abs=1e-5
    )
    assert (
        by_epoch(learner, "train_loss").items()
        <= {
            step: pytest.approx(loss, abs=1e-5)
            for step, loss in scalars(tmp_path, "train_loss").items()
        }.items()
    )


def test_the_event_file_holds_the_rate_of_each_step(characters, tmp_path):
    learner = trained(characters, tmp_path)
    assert scalars(tmp_path, "lr_0") == pytest.approx(
        dict(enumerate(learner.recorder.hps["lr"], 1)), abs=1e-8
    )


def test_the_event_file_holds_the_parameters(characters, tmp_path):
    trained(characters, tmp_path)
    text = (
        read_events(tmp_path)
        .Tensors("parameters/text_summary")[0]
        .tensor_proto.string_val[0]
        .decode()
    )
    assert f"| learning_rate | {RATE} |" in text and "| batch_size | 16 |" in text


def test_logging_changes_neither_weights_nor_random_states(characters, tmp_path):
    assert everything(trained(characters, tmp_path)) == everything(
        trained(characters, tmp_path / "other", tracker="none")
    )


def test_the_finder_and_predictions_are_not_logged(characters, tmp_path):
    learner = make_learner(characters, settings())
    learner.add_cbs(tracking(settings(), tmp_path / "log"))
    learner.lr_find(num_it=40, show_plot=False)
    learner.get_preds()
    assert not (tmp_path / "log").exists()


def test_what_comes_after_the_fit_is_not_logged(characters, tmp_path):
    learner = trained(characters, tmp_path)
    learner.fit(1)
    assert len(scalars(tmp_path, "valid_loss")) == 3


def test_a_training_without_a_folder_is_not_logged(characters):
    assert (
        tracking(settings(), None) == []
        and fit(make_learner(characters, settings(epochs=1)), settings(epochs=1), RATE) > 0
    )


def test_a_training_that_goes_on_is_logged_as_one(characters, tmp_path):
    trained(characters, tmp_path, stop=1)
    learner = trained(characters, tmp_path)
    assert scalars(tmp_path, "valid_loss") == pytest.approx(
        by_epoch(learner, "valid_loss"), abs=1e-5
    )
    assert scalars(tmp_path, "train_loss") == pytest.approx(
        dict(enumerate(map(float, learner.recorder.losses), 1)), abs=1e-5
    )


def test_an_epoch_is_in_the_event_file_before_its_checkpoint_is_written(
    characters, tmp_path, monkeypatch
):
    logged = []
    monkeypatch.setattr(
        "lib.training.checkpoint.replace_file",
        lambda *_: logged.append(len(scalars(tmp_path, "accuracy"))),
    )
    trained(characters, tmp_path)
    assert logged == [1, 2, 3]


def test_a_training_that_starts_anew_hides_the_log_of_the_one_before(characters, tmp_path):
    trained(characters, tmp_path)
    learner = trained(characters, tmp_path, rate=1e-3, epochs=1)
    assert list(scalars(tmp_path, "valid_loss").values()) == pytest.approx(
        [learner.recorder.values[0][1]], abs=1e-5
    )


def test_a_checkpoint_is_used_whichever_tracker_is_asked_for(characters, tmp_path, capsys):
    trained(characters, tmp_path, stop=1, tracker="none")
    trained(characters, tmp_path)
    assert (
        "continuing after epoch 1 of 3" in capsys.readouterr().out
        and len(scalars(tmp_path, "valid_loss")) == 2
    )


def test_the_first_of_two_processes_logs(characters, tmp_path):
    learner = trained(characters, tmp_path, processes=2)
    assert scalars(tmp_path, "valid_loss") == pytest.approx(
        by_epoch(learner, "valid_loss"), abs=1e-5
    )
    assert len(list((tmp_path / "tracking" / RUN).iterdir())) == 1


@pytest.mark.parametrize(
    "tracker, library",
    [
        ("tensorboard", "tensorboard"),
        ("wandb", "wandb"),
        ("comet", "comet-ml"),
        ("mlflow", "mlflow"),
    ],
)
def test_a_missing_library_is_named_with_what_installs_it(monkeypatch, tracker, library):
    monkeypatch.setattr("lib.training.trackers.find_spec", lambda module: None)
    with pytest.raises(
        InputError,
        match=rf"^tracker {tracker} needs the library {library}, .*`uv sync --extra {tracker}` or .*\.$",
    ):
        tracking(settings(tracker), None)


def test_a_folder_of_the_library_s_name_is_not_the_library(tmp_path, monkeypatch):
    (tmp_path / "some_library").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(LIBRARIES, "wandb", "some_library")
    with pytest.raises(InputError, match="not installed"):
        check_tracker("wandb")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_missing_library_is_told_before_a_training_begins(
    characters, tmp_path, monkeypatch, capfd, processes
):
    monkeypatch.setattr("lib.training.trackers.find_spec", lambda module: None)
    with pytest.raises(InputError, match="^tracker tensorboard needs"):
        trained(characters, tmp_path, processes=processes)
    assert "epoch" not in capfd.readouterr().out and not (tmp_path / RUN).exists()


def test_no_tracker_needs_no_library(monkeypatch):
    monkeypatch.setattr("lib.training.trackers.find_spec", lambda module: None)
    assert tracking(settings("none"), None) == []


def test_training_without_a_tracker_imports_none():
    code = f"import sys, lib.training.learner; sys.exit(bool(sys.modules.keys() & {set(LIBRARIES.values())}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.fixture
def no_account(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("WANDB_", "COMET_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", os.devnull)


@pytest.mark.parametrize(
    "tracker, files",
    [
        ("wandb", f"{RUN}/wandb/offline-run-*/*.wandb"),
        ("comet", f"{RUN}/*.zip"),
        ("mlflow", "mlflow.db"),
    ],
)
def test_without_an_account_a_library_logs_below_the_profile(
    characters, tmp_path, no_account, tracker, files
):
    pytest.importorskip(LIBRARIES[tracker])
    learner = trained(characters, tmp_path, tracker=tracker)
    assert everything(learner) == everything(
        trained(characters, tmp_path / "other", tracker="none")
    )
    assert len(list((tmp_path / "tracking").glob(files))) == 1


def test_mlflow_holds_the_history_of_a_training_that_goes_on(characters, tmp_path, no_account):
    mlflow = pytest.importorskip("mlflow")
    trained(characters, tmp_path, tracker="mlflow", stop=1)
    learner = trained(characters, tmp_path, tracker="mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/tracking/mlflow.db")
    (run,) = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()]
    )
    logged = {
        metric.step: metric.value
        for metric in client.get_metric_history(run.info.run_id, "valid_loss")
    }
    assert (
        logged == {epoch: row[1] for epoch, row in enumerate(learner.recorder.values, 1)}
        and run.info.status == "FINISHED"
    )
