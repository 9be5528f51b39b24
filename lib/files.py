"""Where everything is: the repository, a profile's results, and the files of a training run.

outputs/<profile>/
    notebooks/              executed notebooks, and what each was made from
    learning_rates.json     what the finder suggests for each network
    <network>-seed<seed>/   a run of the profile's own settings; what differs in others is added
        model.safetensors   weights, class names, preparation, network and versions
        metrics.json        every number with its conditions
        history.csv         one row per epoch
        predictions.npz     validation and test: labels, and probabilities or predicted labels
        checkpoint.pt       where its training is, until the other files are written
    results.json            the metrics of all runs, with the studies that each belongs to
    findings/<chapter>.json what a chapter concludes, for the report and the README
    report/index.html       all of it as a page
    tracking/               what a tracker logged, if one was asked for
"""

import ast
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lib.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
METRICS, MODEL, HISTORY = "metrics.json", "model.safetensors", "history.csv"
PREDICTIONS, CHECKPOINT = "predictions.npz", "checkpoint.pt"
RATES, RESULTS, FINDINGS = "learning_rates.json", "results.json", "findings"
REPORT = "report/index.html"
PRETRAINED = ROOT / "lib" / "reading" / "pretrained"  # networks that come with the repository
SHIPPED = {name: PRETRAINED / f"{name}.safetensors" for name in ("handwriting", "strokes")}
PROGRESS = "HANDWRITING_PROGRESS"  # environment variable: where a training writes how far it is
LIVE_NOTEBOOK = ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG")  # someone sees the cell


def outputs_folder(name: str) -> Path:
    """A profile's folder: as given if absolute, else in $HANDWRITING_OUTPUTS or the repository."""
    return Path(os.environ.get("HANDWRITING_OUTPUTS", ROOT)) / name


def run_name(network: str, seed: int, differing: dict[str, Any] | None = None) -> str:
    """The name of a run and of its folder: custom-seed0, or custom-seed0-epochs=3-augment=1."""
    shown = {
        key: f"{value:g}" if isinstance(value, float) else str(value).strip("/").replace("/", "_")
        for key, value in (differing or {}).items()
    }
    return "-".join([network, f"seed{seed}", *(f"{key}={value}" for key, value in shown.items())])


def write_whole(path: Path, content: str | bytes | Callable[[Path], None]) -> None:
    """Writes the whole file or nothing, so that nobody ever reads half of it.

    content: text, bytes, or a function that writes a file at the path that it gets.
    Raises InputError where it cannot be written; what was there before is kept.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(part)
        else:
            part.write_bytes(content.encode() if isinstance(content, str) else content)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise InputError(
            f"{shown_path(path)} cannot be written ({error.strerror or error}); free some space "
            "or change its permissions, and run the same command again."
        ) from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_json(path: Path, content) -> None:
    """Writes a JSON file as a whole, null standing for what is no finite number."""
    finite = json.loads(json.dumps(content), parse_constant=lambda name: None)
    write_whole(path, json.dumps(finite, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path, kind: type = dict):
    """The file's content, of this type; InputError where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, kind):
            return content
        problem = f"it holds no {kind.__name__}"
    except FileNotFoundError:
        raise InputError(f"{shown_path(path)} is not there: run the notebooks first.") from None
    except (OSError, ValueError, RecursionError) as error:
        problem = str(error)
    raise InputError(f"{shown_path(path)} is damaged ({problem}): delete it and run again.")


def digest_of_code(sources: list[str]) -> str:
    """MD5 of what Python code does: comments, docstrings and layout do not count."""
    md5 = hashlib.md5()
    for source in sources:
        try:
            md5.update(ast.dump(without_docstrings(ast.parse(source))).encode())
        except SyntaxError:  # IPython's own, such as %timeit
            md5.update(source.encode())
    return md5.hexdigest()


def without_docstrings(tree: ast.AST) -> ast.AST:
    """The syntax tree, changed in place, without the docstrings of what it defines."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and ast.get_docstring(node):
            node.body = node.body[1:]
    return tree


def shown_path(path: str | Path) -> str:
    """The path as a user would type it: from the repository, where it lies inside."""
    path = Path(path)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def complete_runs(outputs: Path) -> list[Path]:
    """Folders of the finished runs below a profile's folder, in the order of their names."""
    return sorted(path.parent for path in outputs.glob(f"*/{METRICS}"))


def check_writable(folder: Path) -> None:
    """InputError unless files can be written into the folder, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        problem = f"{folder} cannot be written ({error.strerror})"
        raise InputError(f"{problem}; free some space or change its permissions.") from None
