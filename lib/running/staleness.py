"""What a step's result depends on, the record of that, and whether the two still agree.

A step depends on its code cells, its parameters, the modules of lib that it imports (and those that
they import), the source of its networks, the characters, the files that it reads, and the versions
of what computes. A record holds all of it as digests, with the files that were written; it is a
small JSON file beside the executed notebook, written last and as a whole.

Some parts of lib stand in no record. What lib/data made is there as the checksum of its arrays;
lib/running runs notebooks and is not run in them; parameters are there by their values, whatever
lib/params.py says of wrong ones; of lib/networks.py only what a step's networks are made of counts.
"""

import hashlib
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from lib.errors import InputError
from lib.files import CHECKPOINT, ROOT, outputs_folder, read_json, write_json
from lib.running.code import code_digest, modules, network_digests, until_changed

ELSEWHERE = ("archive", "folder", "outputs")  # paths: the checksum stands for what is there
DRAWS = {"lib/plots.py", "lib/wording.py"}  # nobody trains again for pictures or words
RECORD = 2  # version of the record's layout
AGAIN = {"failed": "failed", "running": "interrupted"}
VERSIONS = {name: version(name) for name in ("torch", "fastai")}  # of what computes
VERSIONS["python"] = platform.python_version()


class Written(BaseModel):
    """A file that a step has written."""

    md5: str
    size: int
    mtime_ns: int


class Record(BaseModel):
    """What a record must hold to be believed."""

    record: Literal[RECORD]
    state: Literal["done", "failed", "running"]
    run: str
    attempt: int
    seconds: float | None = Field(ge=0, le=1e8)
    ended: float = Field(0.0, ge=0, le=1e11)
    problem: str = ""
    parameters: dict[str, Any]
    depends: dict[str, dict[str, Any]]
    writes: dict[str, Written]


def dependencies(step, root: Path = ROOT) -> dict[str, dict]:
    """All that the step's result depends on, now: kind, then name, then value or MD5."""
    notebook, folder = root / step.notebook, outputs_folder(step.outputs)
    networks = network_digests(root / "lib" / "networks.py") if step.networks else {}
    used = [name for name in modules(notebook, root) if not (step.run and name in DRAWS)]
    values = step.parameters.items()
    return {
        "notebook code": {notebook.name: code_digest(notebook)},
        "parameter": {name: value for name, value in values if name not in ELSEWHERE},
        "lib": {name: code_digest(root / name) for name in used},
        "network": {name: networks[name] for name in step.networks},
        "data": {"checksum": step.checksum},
        "library": VERSIONS,
        "study": {} if step.run else step.studies,
        "input": {name: input_digest(folder, name) for name in step.reads},
    }


def reasons(step, record: dict | None, root: Path = ROOT) -> list[str]:
    """Why a step has to be run, in a few words each; none if a run now would give the same."""
    if record is None:
        return ["never run"]
    if record["state"] != "done":
        return [AGAIN[record["state"]]]
    changed = []
    for kind, values in dependencies(step, root).items():
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
        Record.model_validate(record := read_json(path), strict=True)
        return record
    except (InputError, ValidationError):
        return None


def begin(step, run: str, now: dict) -> int:
    """Notes that a run starts; its attempt, from 1: more if a worker died over this `run`."""
    earlier = read_record(step) or {}
    again = earlier.get("state") == "running" and earlier["run"] == run
    attempt = earlier["attempt"] + 1 if again else 1
    same = earlier.get("state") in AGAIN and earlier["depends"] == json.loads(json.dumps(now))
    if step.run and not same:  # a checkpoint is continued only where nothing has changed
        (step.run_folder / CHECKPOINT).unlink(missing_ok=True)
    record = {"record": RECORD, "state": "running", "run": run, "attempt": attempt}
    record |= {"began": time.time(), "seconds": earlier.get("seconds")}
    record |= {"parameters": step.parameters, "origins": step.origins}
    write_json(record_path(step), record | {"depends": now, "writes": {}})
    return attempt


def finish(step, state: str, seconds: float, problem: str = "") -> None:
    """Notes how the run that was begun has ended, and what it has written."""
    folder, written = outputs_folder(step.outputs), {}
    for name in step.writes if state == "done" else []:
        if (folder / name).exists():
            found = (folder / name).stat()
            known = {"size": found.st_size, "mtime_ns": found.st_mtime_ns}
            written[name] = {"md5": file_digest(folder / name)} | known
    ended = {"state": state, "seconds": round(seconds, 1), "problem": problem, "ended": time.time()}
    write_json(record_path(step), read_json(record_path(step)) | ended | {"writes": written})


def file_digest(file: Path, known: dict | None = None) -> str:
    """MD5 of a file; the one that is `known` if the file still has that size and time of change."""
    state = file.stat()
    if known and (state.st_size, state.st_mtime_ns) == (known["size"], known["mtime_ns"]):
        return known["md5"]
    return _md5(file)


@until_changed
def _md5(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def input_digest(folder: Path, name: str) -> str:
    """MD5 of a file that a step reads, or of one entry: "rates.json#custom"; "" if not there."""
    file, _, key = name.partition("#")
    if not (folder / file).exists():
        return ""
    if not key:
        records = folder / "notebooks"
        return file_digest(folder / file, _written(records).get(file) if records.exists() else None)
    entry = read_json(folder / file).get(key)
    return hashlib.md5(json.dumps(entry, sort_keys=True).encode()).hexdigest() if entry else ""


@until_changed
def _written(notebooks: Path) -> dict[str, dict]:
    """What the records of a profile say of the files that its steps wrote."""
    records = [record for path in notebooks.glob("*.json") if (record := _read(path))]
    return {name: written for record in records for name, written in record["writes"].items()}
