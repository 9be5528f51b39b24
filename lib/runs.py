"""What a training run keeps, written and read: weights, metrics with their conditions, history, predictions."""

import json
import os
import platform
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, safe_open, save_file

from lib.errors import InputError
from lib.files import CHECKPOINT, HISTORY, METRICS, MODEL, PREDICTIONS, write_json
from lib.networks import Preparation, PreparedNetwork, make_network


def versions() -> dict:
    """Versions of what a result depends on."""
    return {"torch": torch.__version__, "fastai": version("fastai"), "python": platform.python_version()}


def device_name(device: torch.device) -> str:
    """The processor's or the graphics card's own name, for the conditions of a result."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{model or platform.machine()}, {torch.get_num_threads()} threads"


def save_model(path: Path, model: PreparedNetwork, network: str, class_names: list[str]) -> None:
    """Weights and preparation as safetensors: no code is run when such a file is loaded."""
    about = {
        "network": network,
        "class_names": class_names,
        "versions": versions(),
    }
    weights = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    # one entry: safetensors writes several in random order, and the same weights would give files that differ
    save_file(weights, path.with_suffix(".part"), {"model": json.dumps(about, ensure_ascii=False)})
    os.replace(path.with_suffix(".part"), path)


def load_model(path: Path) -> tuple[PreparedNetwork, list[str]]:
    """A model in float32, ready to predict, and its class names; InputError if the file is none of ours."""
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["model"])
        class_names = about["class_names"]
        model = PreparedNetwork(make_network(about["network"], len(class_names)), Preparation())
        model.load_state_dict(load_file(path))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is not a model of this project or is damaged ({reason}); train it again.") from None
    return model.eval(), class_names


def save_run(folder: Path, model: PreparedNetwork, metrics: dict, history: pd.DataFrame, predictions: dict[str, tuple],
             class_names: list[str]) -> None:
    """Writes the four files of a run; metrics.json last, so that a run that has it is complete and needs no checkpoint.

    predictions: for "valid" and for "test", the actual labels (N,) and the probabilities (N, n_classes).
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / METRICS).unlink(missing_ok=True)
    save_model(folder / MODEL, model, metrics["network"], class_names)
    history.to_csv(folder / HISTORY, index=False)
    np.savez_compressed(folder / PREDICTIONS, **{f"{part}_actual": actual for part, (actual, _) in predictions.items()},
                        **{f"{part}_probabilities": table.astype(np.float32) for part, (_, table) in predictions.items()})
    write_json(folder / METRICS, metrics)
    (folder / CHECKPOINT).unlink(missing_ok=True)


def read_predictions(folder: Path, part: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """A run's "test" or "valid" part: actual labels int64 (N,), probabilities float32 (N, n_classes); InputError if it has none."""
    try:
        with np.load(folder / PREDICTIONS) as arrays:
            return arrays[f"{part}_actual"], arrays[f"{part}_probabilities"]
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
        raise InputError(f"{folder / PREDICTIONS} is not there or damaged; run the training notebook again.") from None


def read_history(folder: Path) -> pd.DataFrame:
    """One row per epoch: epoch, train_loss, valid_loss, valid_accuracy, learning_rate."""
    return pd.read_csv(folder / HISTORY)


def check_band(name: str, value: float, band: tuple[float, float] | None) -> str:
    """A sentence that holds no learned number, if the value lies in the band (or there is none); else AssertionError."""
    if band is None:
        return f"no band is set for the {name} of this run"
    low, high = band
    assert low <= value <= high, f"{name} {value:.4f} lies outside of {low} to {high}"
    return f"{name} lies within {low} to {high}"
