"""Where everything is: the repository, a profile's results, and the files of a training run.

outputs/<profile>/
    notebooks/                  executed notebooks
    learning_rates.json         what the finder suggests for each network
    <network>-<schedule>-seed<seed>/
        model.safetensors       weights, with class names, preparation, network and versions as metadata
        metrics.json            every number with its conditions
        history.csv             one row per epoch
        predictions.npz         actual (N,) and probabilities (N, n_classes) of the validation and the test images, in their order
        checkpoint.pt           where its training is, until the four files are written
    results.json                the metrics of all runs, as a list
    findings/<notebook>.json    what an analysis found, for the report and the README
    report/index.html           all of it as a page
    tracking/                   what a tracker logged, if one was asked for
"""

import json
import math
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from lib.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
METRICS, MODEL, HISTORY, PREDICTIONS = (
    "metrics.json",
    "model.safetensors",
    "history.csv",
    "predictions.npz",
)
RATES, RESULTS, FINDINGS, CHECKPOINT = (
    "learning_rates.json",
    "results.json",
    "findings",
    "checkpoint.pt",
)
REPORT = "report/index.html"
PRETRAINED = (
    ROOT / "lib" / "reading" / "pretrained" / MODEL
)  # the model that comes with the repository
PROGRESS = "HANDWRITING_PROGRESS"  # environment variable: the file into which a training writes how far it is
LIVE_NOTEBOOK = (
    "JPY_SESSION_NAME",
    "VSCODE_PID",
    "COLAB_RELEASE_TAG",
)  # set where a person is watching the cell


def outputs_folder(name: str) -> Path:
    """A profile's folder: `name` as given if absolute, else below the repository (or below $HANDWRITING_OUTPUTS)."""
    return Path(os.environ.get("HANDWRITING_OUTPUTS", ROOT)) / name


def run_name(network: str, schedule: str, seed: int) -> str:
    """The name of a run and of its folder, such as custom-one_cycle-seed0."""
    return f"{network}-{schedule}-seed{seed}"


def write_json(path: Path, content) -> None:
    """Writes the whole file or nothing: readers never see half of it. InputError where it cannot be written."""
    text = json.dumps(_plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise InputError(
            f"{path} cannot be written ({error.strerror}); free some space or change its permissions, "
            "and run the same command again."
        ) from None


def _plain(content):
    """The content with null for whatever is not a number, which JSON does not know."""
    if isinstance(content, dict):
        return {name: _plain(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def read_json(path: Path):
    """The file's content; InputError where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is not there: run the training notebook first.") from None
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): delete it and run again.") from None


def shown_path(path: str | Path) -> str:
    """The path as a user would type it: from the repository, where it lies inside."""
    path = Path(path)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def complete_runs(outputs: Path) -> list[Path]:
    """Folders of the finished runs below a profile's folder, in the order of their names."""
    return sorted(path.parent for path in outputs.glob(f"*/{METRICS}"))


def find_model(network: str, model: str, profile: str) -> Path:
    """The model file that is meant: the one at the path `model`; a profile's trained `network`, its first seed, or its run of
    that name; with neither, the one that comes with the repository.

    Raises InputError if both are given, or if there is no such file, profile or run.
    """
    if network and model:
        raise InputError("--network names a trained network and --model a file: give one of them.")
    if not network:
        path = Path(model).expanduser() if model else PRETRAINED
        if not path.is_file():
            raise InputError(f"There is no model file {path}; give the path of a {MODEL}.")
        return path
    trained = [
        folder
        for folder in complete_runs(outputs_folder(f"outputs/{profile}"))
        if (folder / MODEL).is_file()
    ]
    meant = [
        folder
        for folder in trained
        if folder.name == network or folder.name.startswith(f"{network}-")
    ]
    if not meant:
        from lib.params import read_profile  # here, since that module needs this one

        read_profile(profile)
        known = ", ".join(sorted({folder.name.partition("-")[0] for folder in trained}))
        raise InputError(
            f"Profile {profile} has no trained network '{network}', {f'only {known}' if known else 'nor any other'}; "
            f"train it with `invoke run-all --profile {profile}`."
        )
    return min(meant, key=_seed) / MODEL


def _seed(folder: Path) -> int:
    digits = folder.name.rpartition("-seed")[2]
    return int(digits) if digits.isdecimal() else 0


def read_results(outputs: Path) -> list[dict]:
    """The metrics of every finished run."""
    return [read_json(folder / METRICS) for folder in complete_runs(outputs)]


def check_writable(folder: Path) -> None:
    """InputError unless files can be written into the folder, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror}); free some space or change its permissions."
        ) from None
