"""Logging a training elsewhere as well, with one of four libraries, each of which is installed and imported only if asked for.

outputs/<profile>/tracking/
    <network>-<schedule>-seed<seed>/
        events.out.tfevents.*   tensorboard: losses, accuracy and rates; tensorboard --logdir outputs/<profile>/tracking
        wandb/                  wandb: the same; offline, for `wandb sync`, where no API key is known
        *.zip                   comet: the same; offline, for `comet upload`, where no API key is known
        training.txt            the name under which wandb, comet and mlflow find a training that goes on
    mlflow.db                   mlflow: the same for all runs, per epoch; mlflow ui --backend-store-uri sqlite:///...
"""

import os
import time
import uuid
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from fastai.callback.core import Callback
from fastai.learner import Recorder
from fastai.torch_core import get_random_states, num_distrib, rank_distrib, set_random_states
from filelock import FileLock

from lib.errors import InputError
from lib.params import TrainingParameters

PROJECT = "handwriting-experiment"
LIBRARIES = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "comet": "comet_ml",
    "mlflow": "mlflow",
}  # tracker: module


def check_tracker(name: str) -> None:
    """InputError, with what to install, unless the library of this tracker is there; it is looked for, not imported."""
    module = LIBRARIES.get(name)
    found = module and find_spec(module)
    if module and not (
        found and found.origin
    ):  # a folder of that name in the current one is no library
        raise InputError(
            f"tracker {name} needs the library {module.replace('_', '-')}, which is not installed: "
            f"run `uv sync --extra {name}` or `pip install -e '.[{name}]'`."
        )


def tracking(parameters: TrainingParameters, folder: Path | None) -> list[Callback]:
    """The callback, if any, that logs one fit with the tracker asked for; the run is named as the folder, which is its own.

    Without a folder, and in all of several processes but the first, nothing is logged. Raises InputError where the
    library is missing.
    """
    check_tracker(parameters.tracker)
    if parameters.tracker == "none" or folder is None or rank_distrib():
        return []
    n = max(1, num_distrib())  # each process has its share of a batch
    settings = parameters.model_dump() | {"processes": n, "batch_size": parameters.batch_size * n}
    with kept_random_states():
        return [CALLBACKS[parameters.tracker](settings, Path(folder).absolute())]


@contextmanager
def kept_random_states():
    """Leaves Python's, numpy's and torch's random states as they were: Comet draws even while it is imported."""
    states = get_random_states()
    try:
        yield
    finally:
        set_random_states(**states)


class RunLog(Callback):
    """What the trackers share: silent for the finder and for predictions, and opened by `begin` with the first epoch trained.

    Not earlier, since only then it is known whether the training goes on from a checkpoint.
    """

    order, run_valid = Recorder.order + 1, False

    def __init__(self, settings: dict, folder: Path, **options):
        super().__init__(**options)
        self.settings, self.folder, self.begun = settings, folder, False

    def before_fit(self):
        self.run = not hasattr(self.learn, "lr_finder") and not hasattr(self, "gather_preds")
        self.begun = False

    def before_epoch(self):
        if not self.begun:
            self.folder.mkdir(parents=True, exist_ok=True)
            with kept_random_states():
                self.begin()
            self.begun = True

    def training_id(self) -> str:
        """32 letters and digits that stay the same while this training goes on."""
        file = self.folder / "training.txt"
        if self.epoch == 0 or not file.exists():
            file.write_text(uuid.uuid4().hex)
        return file.read_text()

    def epoch_values(self) -> dict[str, float]:
        """The row that fastai's recorder has just written: train_loss and valid_loss (nats), accuracy (0 to 1)."""
        return dict(zip(self.recorder.metric_names[1:-1], map(float, self.recorder.values[-1])))


def tensorboard_log(settings: dict, folder: Path) -> Callback:
    from fastai.callback.tensorboard import SummaryWriter, TensorBoardCallback

    class TensorBoard(RunLog, TensorBoardCallback):
        def begin(self):
            after = (
                self.train_iter + 1 if self.train_iter else 0
            )  # hides what was logged after the checkpoint, or before a new start
            self.writer = SummaryWriter(self.folder, purge_step=after)
            if not self.train_iter:
                rows = [f"| {name} | {value} |" for name, value in self.settings.items()]
                self.writer.add_text(
                    "parameters", "\n".join(["| parameter | value |", "|---|---|", *rows]), 0
                )

        def after_epoch(self):
            super().after_epoch()
            self.writer.flush()  # before the checkpoint: a training that goes on does not repeat this epoch

        def after_fit(self):
            if self.begun:
                super().after_fit()

    return TensorBoard(settings, folder, trace_model=False, log_preds=False)


def wandb_log(settings: dict, folder: Path) -> Callback:
    import wandb
    from fastai.callback.wandb import WandbCallback

    class Wandb(RunLog, WandbCallback):
        def begin(self):
            if wandb.run:  # of a training that was interrupted
                wandb.finish()
            mode = os.environ.get("WANDB_MODE") or (
                None if wandb.login(prompt=False, verify=False) else "offline"
            )
            wandb.init(
                project=PROJECT,
                group=self.folder.parent.parent.name,
                name=self.folder.name,
                id=self.training_id(),
                dir=self.folder,
                config=self.settings,
                mode=mode,
                resume=None if mode == "offline" else "allow",
                settings=wandb.Settings(console="off"),
            )
            self._wandb_step, self._wandb_epoch = (
                self.train_iter - 1,
                self.epoch,
            )  # as fastai's before_fit counts

        def after_fit(self):
            if self.begun:
                super().after_fit()
                wandb.finish()

    return Wandb(settings, folder, log_preds=False)


def comet_log(settings: dict, folder: Path) -> Callback:
    import comet_ml
    from fastai.callback.comet import CometCallback

    class Comet(RunLog, CometCallback):
        def __init__(self, settings: dict, folder: Path):
            Callback.__init__(self)  # fastai's own stops at an unknown name
            self.settings, self.folder, self.begun, self.log_model_weights = (
                settings,
                folder,
                False,
                False,
            )

        def begin(self):
            config = comet_ml.ExperimentConfig(
                name=self.folder.name,
                tags=[self.folder.parent.parent.name],
                offline_directory=str(self.folder),
                parse_args=False,
                log_graph=False,
                auto_metric_logging=False,
                auto_param_logging=False,
                auto_output_logging=False,
                display_summary_level=0,
            )
            self.experiment = comet_ml.start(
                project_name=PROJECT,
                experiment_key=self.training_id(),
                online=bool(comet_ml.get_config()["comet.api_key"]),
                experiment_config=config,
            )
            self.experiment.log_parameters(self.settings)

        def after_batch(self):
            self.experiment.set_step(self.train_iter)
            super().after_batch()

        def after_epoch(self):
            self.experiment.log_metrics(
                self.epoch_values(), step=self.train_iter, epoch=self.epoch + 1
            )

        def after_fit(self):
            if self.begun:
                super().after_fit()

    return Comet(settings, folder)


def mlflow_log(settings: dict, folder: Path) -> Callback:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    class Mlflow(RunLog):
        def begin(self):
            """MLflow no longer has a callback for fastai."""
            server, store = os.environ.get("MLFLOW_TRACKING_URI"), self.folder.parent
            artifacts = None if server else (store / "mlflow").as_uri()
            with FileLock(store / "mlflow.lock"):  # another training may be making the same tables
                self.client = MlflowClient(
                    server or f"sqlite:///{(store / 'mlflow.db').as_posix()}"
                )
                known = self.client.get_experiment_by_name(PROJECT)
                experiment = (
                    known.experiment_id
                    if known
                    else self.client.create_experiment(PROJECT, artifacts)
                )
            name = self.training_id()
            runs = self.client.search_runs([experiment], f"tags.training = '{name}'")
            found = (
                runs[0]
                if runs
                else self.client.create_run(
                    experiment, run_name=self.folder.name, tags={"training": name}
                )
            )
            self.mlflow_run = found.info.run_id
            self.client.update_run(self.mlflow_run, status="RUNNING")
            self.client.log_batch(
                self.mlflow_run,
                params=[Param(name, str(value)) for name, value in self.settings.items()],
            )

        def after_epoch(self):
            now = int(time.time() * 1000)  # milliseconds
            values = self.epoch_values() | {"lr": float(self.opt.hypers[-1]["lr"])}
            self.client.log_batch(
                self.mlflow_run,
                [Metric(name, value, now, self.epoch + 1) for name, value in values.items()],
            )

        def after_fit(self):
            if self.begun:
                self.client.set_terminated(self.mlflow_run)

    return Mlflow(settings, folder)


CALLBACKS = {
    "tensorboard": tensorboard_log,
    "wandb": wandb_log,
    "comet": comet_log,
    "mlflow": mlflow_log,
}
