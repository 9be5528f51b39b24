"""What a step's result depends on, the record of that beside the result, and whether the two still agree.

A step depends on its code cells, its parameters, the modules of lib that it imports (and those that they import), the
data, the files that it reads, and the versions of what computes. A record holds all of it as digests, with the files
that were written; it is a small JSON file beside the executed notebook, written last and as a whole.
"""

import ast
import hashlib
import json
import platform
import time
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

from lib.files import CHECKPOINT, ROOT, outputs_folder, read_json, write_json

ELSEWHERE = (
    "archive",
    "folder",
    "outputs",
)  # parameters that are paths: the data's checksum stands for what is there
RUNS_NOTEBOOKS = {
    f"lib/running/{name}.py"
    for name in ("__init__", "plan", "staleness", "cluster", "notebook", "execute", "progress")
}
DRAWS = {
    "lib/plots.py"
}  # for the pictures in a training's notebook alone nobody wants to train again
RECORD = 1  # version of the record's layout


def dependencies(step) -> dict[str, dict]:
    """All that the step's result depends on, now: kind, then name, then value or MD5."""
    notebook = ROOT / step.notebook
    return {
        "notebook code": {notebook.name: _notebook_digest(notebook, _state(notebook))},
        "parameter": {
            name: value for name, value in step.parameters.items() if name not in ELSEWHERE
        },
        "lib": {
            name: _code_digest(ROOT / name, _state(ROOT / name))
            for name in modules(notebook)
            if not (step.run_folder and name in DRAWS)
        },
        "data": {"checksum": step.checksum},
        "library": dict(_versions()),
        "input": {name: input_digest(outputs_folder(step.outputs), name) for name in step.reads},
    }


def reasons(step, record: dict | None) -> list[str]:
    """Why a step has to be run, in a few words each; empty if its record and its files are those of a run made now."""
    if record is None:
        return ["never run"]
    if record["state"] != "done":
        return [{"failed": "failed", "running": "interrupted"}[record["state"]]]
    changed = []
    for kind, values in dependencies(step).items():
        before = record["depends"].get(kind, {})
        names = [name for name in {**before, **values} if before.get(name) != values.get(name)]
        changed += [_describe(kind, name, before.get(name), values.get(name)) for name in names]
    folder = outputs_folder(step.outputs)
    for name, written in record["writes"].items():
        if not (folder / name).exists():
            changed.append(f"{name} is missing")
        elif written["md5"] != file_digest(folder / name, written):
            changed.append(f"{name} was changed")
    return changed


def _describe(kind: str, name: str, before, after) -> str:
    """One change in words: "parameter epochs: 3 -> 6", "lib plots.py", "input learning_rates.json"."""
    if kind in ("parameter", "library"):
        return f"{kind} {name}: {'none' if before is None else before} -> {'none' if after is None else after}"
    if kind == "lib":
        return f"{kind} {name.removeprefix('lib/')}"
    return kind if kind in ("data", "notebook code") else f"{kind} {name.replace('#', ' of ')}"


def record_path(step) -> Path:
    """The step's record, beside its executed notebook."""
    return step.executed.with_suffix(".json")


def read_record(step) -> dict | None:
    """The record of the step's last run; None if there is none of this layout, or a damaged one."""
    return _read(record_path(step))


def _read(path: Path) -> dict | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("record") == RECORD else None


def begin(step, run: str, now: dict) -> int:
    """Notes that a run starts, and returns which attempt of `run` it is, from 1: more if a worker died over it.

    A checkpoint is left to be continued only where nothing has changed since it was begun.
    """
    earlier = read_record(step) or {}
    attempt = (
        earlier.get("attempt", 0) + 1
        if earlier.get("state") == "running" and earlier.get("run") == run
        else 1
    )
    unchanged = earlier.get("state") in ("running", "failed") and earlier["depends"] == json.loads(
        json.dumps(now)
    )
    if step.run_folder and not unchanged:
        (step.run_folder / CHECKPOINT).unlink(missing_ok=True)
    write_json(
        record_path(step),
        {
            "record": RECORD,
            "state": "running",
            "run": run,
            "attempt": attempt,
            "began": time.time(),
            "seconds": earlier.get("seconds"),
            "parameters": step.parameters,
            "origins": step.origins,
            "depends": now,
            "writes": {},
        },
    )
    return attempt


def finish(step, state: str, seconds: float, problem: str = "") -> None:
    """Notes how the run that was begun has ended, and what it has written."""
    record, folder = read_json(record_path(step)), outputs_folder(step.outputs)
    written = {name: described(folder / name) for name in step.writes if (folder / name).exists()}
    write_json(
        record_path(step),
        record
        | {
            "state": state,
            "seconds": round(seconds, 1),
            "problem": problem,
            "ended": time.time(),
            "writes": written if state == "done" else {},
        },
    )


def described(file: Path) -> dict:
    """What tells a file from another: its MD5, and size and time of change, which spare reading it again."""
    state = file.stat()
    return {"md5": file_digest(file), "size": state.st_size, "mtime_ns": state.st_mtime_ns}


def file_digest(file: Path, known: dict | None = None) -> str:
    """MD5 of a file; the one that is `known` if the file still has that size and time of change."""
    state = file.stat()
    if known and (state.st_size, state.st_mtime_ns) == (known["size"], known["mtime_ns"]):
        return known["md5"]
    return _file_digest(file, state.st_size, state.st_mtime_ns)


@cache
def _file_digest(file: Path, *_state) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def input_digest(folder: Path, name: str) -> str:
    """MD5 of a file that a step reads, or "" if it is not there; "rates.json#custom" is that entry of a JSON file."""
    file, _, key = name.partition("#")
    if not (folder / file).exists():
        return ""
    if not key:
        return file_digest(
            folder / file, _written(folder / "notebooks", _state(folder / "notebooks")).get(file)
        )
    entry = read_json(folder / file).get(key)
    return (
        "" if entry is None else hashlib.md5(json.dumps(entry, sort_keys=True).encode()).hexdigest()
    )


@cache
def _written(notebooks: Path, _state) -> dict[str, dict]:
    """What the records of a profile say of the files that its steps wrote."""
    records = map(_read, notebooks.glob("*.json"))
    return {
        name: written for record in records if record for name, written in record["writes"].items()
    }


def modules(source: Path) -> list[str]:
    """The files of lib that a notebook imports, and those they import, in alphabetical order: lib/data.py, ..."""
    found, waiting = set(), [source]
    while waiting:
        path = waiting.pop()
        imported = _imports(path, _state(path)) - found - RUNS_NOTEBOOKS
        found |= imported
        waiting += [ROOT / name for name in imported]
    return sorted(found)


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


@cache
def _imports(path: Path, _state) -> set[str]:
    names = {"lib"} if path.suffix == ".py" else set()
    for tree in _trees(path):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = (
        f"{name.replace('.', '/')}{end}"
        for name in names
        if name.split(".")[0] == "lib"
        for end in (".py", "/__init__.py")
    )
    return {file for file in files if (ROOT / file).is_file()}


def _trees(path: Path) -> Iterator[ast.Module]:
    """A module's, or each code cell's, syntax tree; a cell that is not plain Python has an empty one."""
    for source in [path.read_text(encoding="utf-8")] if path.suffix == ".py" else code_cells(path):
        try:
            yield ast.parse(source)
        except SyntaxError:
            yield ast.Module([], [])


@cache
def _code_digest(path: Path, _state) -> str:
    return digest_of_code([path.read_text(encoding="utf-8")])


@cache
def _notebook_digest(path: Path, _state) -> str:
    return digest_of_code(code_cells(path))


def code_cells(notebook: Path) -> list[str]:
    """The code of a notebook, cell by cell, less its parameters, which are compared by their values."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [
        cell
        for cell in cells
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", [])
    ]
    return ["".join(cell["source"]) for cell in code]


def digest_of_code(sources: list[str]) -> str:
    """MD5 of what the code does: comments, docstrings and layout do not count."""
    md5 = hashlib.md5()
    for source in sources:
        try:
            md5.update(ast.dump(_without_docstrings(ast.parse(source))).encode())
        except SyntaxError:  # IPython's own, such as %timeit
            md5.update(source.encode())
    return md5.hexdigest()


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(
            node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        ) and ast.get_docstring(node):
            node.body = node.body[1:]
    return tree


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    return (
        ("torch", version("torch")),
        ("fastai", version("fastai")),
        ("python", platform.python_version()),
    )
