"""What training runs keep, written and read: metrics with conditions, history, predictions."""

import platform
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib import files
from lib.errors import InputError
from lib.models import save_model
from lib.networks import PreparedNetwork


def device_name(device: torch.device) -> str:
    """The processor's or the graphics card's own name, for the conditions of a result."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    named = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    name, threads = next(named, platform.processor()) or platform.machine(), torch.get_num_threads()
    return f"{name}, {threads} thread{'s' * (threads > 1)}"


def save_run(
    folder: Path,
    model: PreparedNetwork,
    metrics: dict,
    history: pd.DataFrame,
    predictions: dict[str, tuple],
    class_names: list[str],
    calibration: dict,
) -> None:
    """Writes the files of a run; metrics.json last: a run that has it needs no checkpoint.

    predictions: for "valid" and "test", labels (N,) and probabilities (N, n_classes). A run whose
    metrics say keep "labels" keeps the predicted labels alone, and no model.
    """
    for name in (files.METRICS, files.MODEL):
        (folder / name).unlink(missing_ok=True)
    arrays, small = {}, np.uint8 if len(class_names) <= 256 else np.int32
    for part, (actual, probabilities) in predictions.items():
        arrays[f"{part}_actual"] = actual.astype(small)
        arrays[f"{part}_predicted"] = probabilities.argmax(axis=1).astype(small)
        if metrics["keep"] == "all":
            arrays[f"{part}_probabilities"] = probabilities.astype(np.float16)
    if metrics["keep"] == "all":
        save_model(folder / files.MODEL, model, metrics["network"], class_names, calibration)
    files.write_whole(folder / files.HISTORY, history.to_csv(index=False, float_format="%.8g"))
    files.write_whole(folder / files.PREDICTIONS, lambda part: np.savez_compressed(part, **arrays))
    files.write_json(folder / files.METRICS, metrics)
    (folder / files.CHECKPOINT).unlink(missing_ok=True)


def read_predictions(folder: Path, part: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """Labels int64 (N,) and probabilities float32 (N, n_classes) of a run's "test" or "valid" part.

    Raises InputError if there are none: see `read_answers` for runs that keep labels alone.
    """
    return _read_arrays(folder, part, "probabilities", np.float32)


def read_answers(folder: Path, part: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """Labels and predicted labels, int64 (N,) each, of a run's "test" or "valid" part."""
    return _read_arrays(folder, part, "predicted", np.int64)


def right_by_seed(outputs: str, rows: pd.DataFrame) -> dict[int, np.ndarray]:
    """For each seed of these rows of load_results, which test images its run reads: bool (N,)."""
    home = files.outputs_folder(outputs)
    return {row.seed: np.equal(*read_answers(home / row.run)) for row in rows.itertuples()}


def _read_arrays(folder: Path, part: str, kind: str, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    path = folder / files.PREDICTIONS
    with suppress(Exception), np.load(path) as arrays:  # a damaged file can raise anything
        return arrays[f"{part}_actual"].astype(np.int64), arrays[f"{part}_{kind}"].astype(dtype)
    problem = f"is damaged or does not hold {part}_{kind}"
    raise InputError(f"{path} {problem}; run the training again.")


def read_history(folder: Path) -> pd.DataFrame:
    """One row per epoch: epoch, train_loss, valid_loss, valid_accuracy, learning_rate."""
    path = folder / files.HISTORY
    with suppress(Exception):  # a damaged file can raise anything
        table = pd.read_csv(path)
        if "train_loss" in table:
            return table
    raise InputError(f"{path} is damaged or not there; run the training again.")


def load_results(outputs: str) -> pd.DataFrame:
    """A row for each run and each study that it belongs to, with all its parameters and results.

    `run` is its folder below `outputs`: load_results("outputs/reference").query("study == 'size'").
    Raises InputError if nothing has been run there.
    """
    rows = files.read_json(files.outputs_folder(outputs) / files.RESULTS, list)
    if not rows:
        raise InputError(f"{outputs} has no finished run: `invoke run-all` with its profile first.")
    if not all(isinstance(row, dict) and isinstance(row.get("studies"), list) for row in rows):
        raise InputError(f"{outputs}/{files.RESULTS} is damaged: run the profile again.")
    return pd.DataFrame(rows).explode("studies").rename(columns={"studies": "study"})


def whose_results(outputs: str) -> str:
    """A sentence that says whose results a chapter shows, and how to look at another profile's."""
    name = Path(outputs).name
    origin = "come with the repository" if name in ("reference", "emnist") else "were made here"
    return (
        f"These are the results of profile `{name}`, which {origin}. For those of another profile, "
        'set `outputs = "outputs/NAME"` above, after `invoke run-all --profile NAME`.'
    )


def save_findings(outputs: str, chapter: str, findings: dict) -> None:
    """What a chapter concludes, for the report: numbers, tables, and sentences as Markdown."""
    files.write_json(files.outputs_folder(outputs) / files.FINDINGS / f"{chapter}.json", findings)


def check_band(name: str, value: float, band: tuple[float, float] | None) -> None:
    """AssertionError unless the value lies in the band, or there is none."""
    low, high = band or (-np.inf, np.inf)
    assert low <= value <= high, f"{name} {value:.4f} lies outside of {low} to {high}"
