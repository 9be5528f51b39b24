"""Logging a training elsewhere as well: TensorBoard while it trains, the others when it has ended.

outputs/<profile>/tracking/
    <run>/events.out.tfevents.*  tensorboard --logdir outputs/<profile>/tracking
    <run>/wandb/                 offline, for `wandb sync`, where no API key is known
    <run>/*.zip                  offline, for `comet upload`, where no API key is known
    mlflow.db                    all runs; mlflow ui --backend-store-uri sqlite:///...
"""

import os
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
from fastai.callback.core import Callback
from filelock import FileLock

from lib.errors import InputError

PROJECT = "handwriting-experiment"
MODULES = {"tensorboard": "tensorboard", "wandb": "wandb", "comet": "comet_ml", "mlflow": "mlflow"}


def tracking(tracker: str, folder: Path) -> list[Callback]:
    """fastai's callback that logs losses and rates for TensorBoard, if that is asked for.

    Raises InputError where the tracker's library is missing, whichever tracker it is.
    """
    if tracker == "none":
        return []
    found = find_spec(MODULES[tracker])
    if not (found and found.origin):  # a folder of that name has no origin
        missing = f"the library {MODULES[tracker]}, which is not installed"
        raise InputError(f"tracker {tracker} needs {missing}: `uv sync --extra {tracker}`.")
    if tracker != "tensorboard":
        return []
    from fastai.callback.tensorboard import TensorBoardCallback  # it is an extra

    return [TensorBoardCallback(folder, trace_model=False, log_preds=False)]


def log_elsewhere(tracker: str, metrics: dict, history: pd.DataFrame, folder: Path) -> None:
    """Logs a run that has ended, epoch by epoch, with wandb, comet or mlflow; others do nothing."""
    if tracker not in LOGS:
        return
    folder.mkdir(parents=True, exist_ok=True)
    LOGS[tracker](metrics, history.to_dict("records"), folder.absolute())


def log_wandb(metrics: dict, epochs: list[dict], folder: Path) -> None:
    """To the server where an API key is known, else into the folder."""
    import wandb  # these three are extras, and slow to import

    offline = "online" if wandb.login(prompt=False, verify=False) else "offline"
    named = {"project": PROJECT, "group": folder.parent.parent.name, "name": folder.name}
    mode, settings = os.environ.get("WANDB_MODE") or offline, wandb.Settings(console="off")
    run = wandb.init(**named, dir=folder, config=metrics, mode=mode, settings=settings)
    for row in epochs:
        run.log(row, step=row["epoch"])
    run.finish()


def log_comet(metrics: dict, epochs: list[dict], folder: Path) -> None:
    """To the server where an API key is known, else into the folder."""
    import comet_ml  # an extra, and slow to import

    named = {"name": folder.name, "tags": [folder.parent.parent.name]}
    quiet = {"parse_args": False, "display_summary_level": 0}
    config = comet_ml.ExperimentConfig(**named, **quiet, offline_directory=str(folder))
    online = bool(comet_ml.get_config()["comet.api_key"])
    run = comet_ml.start(project_name=PROJECT, online=online, experiment_config=config)
    run.log_parameters(metrics)
    for row in epochs:
        run.log_metrics(row, epoch=row["epoch"])
    run.end()


def log_mlflow(metrics: dict, epochs: list[dict], folder: Path) -> None:
    """To the server that MLFLOW_TRACKING_URI names, else into a database beside the folder."""
    import mlflow  # an extra, and slow to import

    store = f"sqlite:///{folder.parent.as_posix()}/mlflow.db"
    with FileLock(folder.parent / "mlflow.lock"):  # two runs may end at once
        mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI") or store)
        mlflow.set_experiment(PROJECT)
        with mlflow.start_run(run_name=folder.name):
            mlflow.log_params(metrics)
            for row in epochs:
                mlflow.log_metrics(row, step=int(row["epoch"]))


LOGS = {"wandb": log_wandb, "comet": log_comet, "mlflow": log_mlflow}
