"""Notebooks executed by papermill, one after the other, in a process of lib.running.notebook's.

A step comes as a line of JSON on stdin. Events go out as lines of JSON on stdout: {"printed": ...},
{"cell": 3, "cells": 30}, and at last {"ended": true, "problem": ""}. When stdin ends, because
whoever holds its other end has finished or was killed, everything that was started here is ended.
"""

import io
import json
import os
import re
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from queue import Queue

import papermill
import psutil
from filelock import FileLock
from papermill.translators import PythonTranslator, papermill_translators

from lib.files import ROOT
from lib.running import kernels
from lib.running.notebook import advice

MOST_PRINTED, MOST_LINES = 10_000, 100  # letters at once and lines in a second that are passed on
MOST_KEPT = 1_000_000  # letters that a cell prints and that are kept in its notebook


class Explained(PythonTranslator):
    """Writes the cell of injected parameters, with where each value comes from."""

    origins: dict[str, str] = {}

    @classmethod
    def codify(cls, parameters: dict, comment: str = "") -> str:
        lines = ["# What this run was given, and where each value comes from\n"]
        for name, value in parameters.items():
            line = cls.assign(name, cls.translate(value))
            lines.append(f"{line:40}  # {cls.origins.get(name, 'default')}\n")
        return "".join(lines)


class Printed(io.TextIOBase):
    """What a notebook prints, line by line, as events; of a flood no more than anyone reads."""

    next_second, lines = 0.0, 0

    def write(self, text: str) -> None:
        if time.monotonic() >= self.next_second:
            self.next_second, self.lines = time.monotonic() + 1, 0
        for line in filter(str.strip, text[:MOST_PRINTED].splitlines()):
            self.lines += 1
            if self.lines <= MOST_LINES:
                tell({"printed": line})


def tell(event: dict) -> None:
    """Sends an event; one line, whatever it holds."""
    print(json.dumps(event), flush=True)


def read_steps(steps: Queue) -> None:
    """Hands on the steps that come on stdin; at its end, ends all processes below and this one."""
    for line in sys.stdin:
        steps.put(json.loads(line))
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended by itself
            process.kill()
    os._exit(1)


def execute(step: dict, manager: type) -> str:
    """Runs one notebook; what went wrong, with the cell and the traceback's end, or ""."""
    notebook, executed = step["notebook"], Path(step["executed"])
    n_cells = len(json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"])
    Explained.origins = step["origins"]
    executed.unlink(missing_ok=True)  # would be taken for this one's if that fails at once

    async def on_cell_start(cell, cell_index):  # a hook of nbclient's
        tell({"cell": cell_index + 1, "cells": n_cells + 1})

    async def on_cell_executed(cell, cell_index, execute_reply):  # before it is written
        room, kept = MOST_KEPT, []
        for output in cell.outputs:
            size = len(output.get("text", ""))
            if size > room:
                output.text = output.text[:room] + "\n... cut off here: too much is printed\n"
            if room > 0 or not size:
                kept.append(output)
            room -= size
        cell.outputs = kept

    try:
        papermill.execute_notebook(
            notebook,
            str(executed),
            step["parameters"],
            kernel_name="python3",
            cwd=str(ROOT / "notebooks"),
            progress_bar=False,
            start_timeout=600,
            stdout_file=Printed(),
            kernel_manager_class=manager,
            on_cell_start=on_cell_start,
            on_cell_executed=on_cell_executed,
        )
    except papermill.PapermillExecutionError as error:
        lines = [line for line in error.source.splitlines() if line.strip() and line[0] != "#"]
        place = f"in cell [{error.exec_count}], which begins: {lines[0]}"
        traceback = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback)).rstrip()
        named = f"{error.ename}: {error.evalue}{advice(error.evalue)}"
        return "\n".join([named, place, *traceback.splitlines()[-11:-1]])
    except Exception as error:  # whatever it is becomes the step's failure
        said = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[-1]}"
        return said + advice(said)
    return ""


def main() -> None:
    """Runs the steps that come on stdin, until that ends."""
    papermill_translators.register("python", Explained)
    steps, manager = Queue(), kernels.KernelManager
    threading.Thread(target=read_steps, args=[steps], daemon=True).start()
    while step := steps.get():
        if step["warm"]:
            manager = kernels.WarmKernelManager  # for all that follow: the imports are done
        executed = Path(step["executed"])
        # held by the run of a worker that died, until that is over
        with FileLock(executed.with_name(f".{executed.stem}.lock")):
            tell({"ended": True, "problem": execute(step, manager)})
