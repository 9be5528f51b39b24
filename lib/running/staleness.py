"""What a step's result depends on, the record of that, and whether the two still agree.

A step depends on its code cells, its parameters, the modules of lib that it imports (and those that
they import), the source of its networks, the characters, the files that it reads, and the versions
of what computes. A record holds all of it as digests, with the files that were written; it is a
small JSON file beside the executed notebook, written last and as a whole.

Three parts of lib stand in no record. What lib/data made is there as the checksum of its arrays;
lib/running runs notebooks and is not run in them; and of lib/networks.py only what a step's
networks are made of counts.
"""

import hashlib
import json
import platform
import time
from functools import cache
from importlib.metadata import version
from pathlib import Path

from lib.files import CHECKPOINT, ROOT, outputs_folder, read_json, write_json
from lib.running.code import code_digest, modules, network_digest, notebook_digest, state

ELSEWHERE = ("archive", "folder", "outputs")  # paths: the checksum stands for what is there
DRAWS = {"lib/plots.py"}  # nobody wants to train again for the pictures in a training's notebook
RECORD = 2  # version of the record's layout


def dependencies(step) -> dict[str, dict]:
    """All that the step's result depends on, now: kind, then name, then value or MD5."""
    notebook = ROOT / step.notebook
    return {
        "notebook code": {notebook.name: notebook_digest(notebook)},
        "parameter": {
            name: value for name, value in step.parameters.items() if name not in ELSEWHERE
        },
        "lib": {
            name: code_digest(ROOT / name)
            for name in modules(notebook)
            if not (step.run and name in DRAWS)
        },
        "network": {name: network_digest(name) for name in step.networks},
        "data": {"checksum": step.checksum},
        "library": dict(_versions()),
        "study": {} if step.run else step.studies,
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
    """One change in words: "parameter epochs: 3 -> 6", "lib plots.py", "input rates.json"."""
    if kind in ("parameter", "library"):
        old, new = ("none" if value is None else value for value in (before, after))
        return f"{kind} {name}: {old} -> {new}"
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
            folder / file, _written(folder / "notebooks", state(folder / "notebooks")).get(file)
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


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    return (
        ("torch", version("torch")),
        ("fastai", version("fastai")),
        ("python", platform.python_version()),
    )
