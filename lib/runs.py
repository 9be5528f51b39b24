"""What a training run keeps, written and read: weights, metrics with their conditions, history, predictions."""

import json
import os
import platform
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, safe_open, save_file

from lib.analysis.calibration import calibrate
from lib.errors import InputError
from lib.files import CHECKPOINT, HISTORY, METRICS, MODEL, PREDICTIONS, write_json
from lib.networks import NETWORKS, Preparation, PreparedNetwork, make_network

UNCALIBRATED = {
    "temperature": 1.0,
    "likelihoods": [],
}  # probabilities as they are, and sets of every class


def versions() -> dict:
    """Versions of what a result depends on."""
    return {
        "torch": torch.__version__,
        "fastai": version("fastai"),
        "python": platform.python_version(),
    }


def device_name(device: torch.device) -> str:
    """The processor's or the graphics card's own name, for the conditions of a result."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    model = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
    return f"{model or platform.machine()}, {torch.get_num_threads()} threads"


def save_model(
    path: Path,
    model: PreparedNetwork,
    network: str,
    class_names: list[str],
    calibration: dict | None = None,
) -> None:
    """Weights and preparation as safetensors: no code is run when such a file is loaded. calibration: as `calibrate` gives it."""
    about = {
        "network": network,
        "class_names": class_names,
        "calibration": calibration or UNCALIBRATED,
        "versions": versions(),
    }
    weights = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    # one entry: safetensors writes several in random order, and the same weights would give files that differ
    save_file(weights, path.with_suffix(".part"), {"model": json.dumps(about, ensure_ascii=False)})
    os.replace(path.with_suffix(".part"), path)


def load_model(path: Path) -> tuple[PreparedNetwork, list[str]]:
    """A model in float32, ready to predict, and its class names; InputError if the file is none of ours."""
    about = read_about(path)
    name, class_names = about["network"], about["class_names"]
    with _refused(path):
        with torch.device("meta"):  # shapes alone, no memory for what the file may not hold
            fitting = PreparedNetwork(
                make_network(name, len(class_names)), Preparation()
            ).state_dict()
        with safe_open(path, "pt") as file:
            held = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
        if held != {key: tuple(value.shape) for key, value in fitting.items()}:
            raise ValueError(
                f"its weights are not those of the network '{name}' for {len(class_names)} classes"
            )
        model = PreparedNetwork(make_network(name, len(class_names)), Preparation()).eval()
        model.load_state_dict(load_file(path))
        with torch.no_grad():
            logits = model(
                torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1).expand(2, 28, 28)
            )
        if not torch.isfinite(logits).all():
            raise ValueError("its answers are not numbers")
    return model, class_names


def read_calibration(path: Path) -> dict:
    """A model file's calibration, as lib.analysis.calibration.calibrate gives it; InputError if the file is none of ours."""
    return read_about(path)["calibration"]


def read_about(path: Path) -> dict:
    """What a model file says of itself: network, class_names, calibration, versions; InputError if it is none of ours."""
    with _refused(path):
        if not Path(path).is_file():
            raise ValueError("there is no such file")
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("model", "null"))
        if not isinstance(about, dict):
            raise ValueError("it does not say which network it holds")
        _check_names(about.get("network"), about.get("class_names"))
        _check_calibration(about.get("calibration"))
    return about


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong with a model file into the one sentence of an InputError."""
    try:
        yield
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path} is not a model of this project or is damaged ({reason}); give another one, or train it again."
        ) from None


def _check_names(network: object, class_names: object) -> None:
    if not isinstance(network, str) or network not in NETWORKS:
        raise ValueError(f"its network is none of {', '.join(NETWORKS)}")
    if not isinstance(class_names, list) or not class_names or not all(map(_is_text, class_names)):
        raise ValueError("its class names are not a list of texts")
    if len(set(class_names)) < len(class_names):
        raise ValueError("two of its classes have the same name")


def _check_calibration(calibration: object) -> None:
    if not isinstance(calibration, dict):
        raise ValueError("it holds no calibration")
    temperature, likelihoods = calibration.get("temperature"), calibration.get("likelihoods")
    if not _is_number(temperature) or not 0.01 <= temperature <= 100:
        raise ValueError("its temperature is not a number from 0.01 to 100")
    if not isinstance(likelihoods, list) or not all(
        _is_number(value) and 0 <= value <= 1 for value in likelihoods
    ):
        raise ValueError("its likelihoods are not a list of numbers from 0 to 1")
    if likelihoods != sorted(likelihoods):
        raise ValueError("its likelihoods are not sorted")


def _is_number(value: object) -> bool:
    return type(value) in (int, float)  # no truth values


def _is_text(value: object) -> bool:
    return (
        isinstance(value, str) and value.encode(errors="ignore").decode() == value
    )  # JSON may hold halves of letters, which cannot be printed


def save_run(
    folder: Path,
    model: PreparedNetwork,
    metrics: dict,
    history: "pd.DataFrame",
    predictions: dict[str, tuple],
    class_names: list[str],
) -> None:
    """Writes the four files of a run; metrics.json last, so that a run that has it is complete and needs no checkpoint.

    predictions: for "valid" and for "test", the actual labels (N,) and the probabilities (N, n_classes).
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / METRICS).unlink(missing_ok=True)
    actual, probabilities = predictions["valid"]
    save_model(
        folder / MODEL, model, metrics["network"], class_names, calibrate(probabilities, actual)
    )
    history.to_csv(folder / HISTORY, index=False)
    np.savez_compressed(
        folder / PREDICTIONS,
        **{f"{part}_actual": actual for part, (actual, _) in predictions.items()},
        **{
            f"{part}_probabilities": table.astype(np.float32)
            for part, (_, table) in predictions.items()
        },
    )
    write_json(folder / METRICS, metrics)
    (folder / CHECKPOINT).unlink(missing_ok=True)


def read_predictions(folder: Path, part: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """A run's "test" or "valid" part: actual labels int64 (N,), probabilities float32 (N, n_classes); InputError if it has none."""
    try:
        with np.load(folder / PREDICTIONS) as arrays:
            return arrays[f"{part}_actual"], arrays[f"{part}_probabilities"]
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
        raise InputError(
            f"{folder / PREDICTIONS} is not there or damaged; run the training notebook again."
        ) from None


def read_history(folder: Path) -> "pd.DataFrame":
    """One row per epoch: epoch, train_loss, valid_loss, valid_accuracy, learning_rate."""
    import pandas as pd  # here, since whoever only wants a prediction need not wait for it

    return pd.read_csv(folder / HISTORY)


def check_band(name: str, value: float, band: tuple[float, float] | None) -> str:
    """A sentence that holds no learned number, if the value lies in the band (or there is none); else AssertionError."""
    if band is None:
        return f"no band is set for the {name} of this run"
    low, high = band
    assert low <= value <= high, f"{name} {value:.4f} lies outside of {low} to {high}"
    return f"{name} lies within {low} to {high}"
