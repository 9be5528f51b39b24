"""Notebooks executed by papermill, one after the other, for lib.running.notebook: `python -m lib.running.execute`.

A step comes as a line of JSON on stdin, and events go out as lines of JSON on stdout: {"text": ...} for what the
notebook prints, {"cell": 3, "cells": 30}, and at last {"ended": true, "problem": ""}. When stdin ends, because whoever
holds its other end has finished, has been stopped or has been killed, every process that was started from here is ended.
"""

import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from queue import Queue

import papermill
import psutil
from filelock import FileLock
from papermill.translators import PythonTranslator, papermill_translators

from lib.files import ROOT


class Explained(PythonTranslator):
    """Writes the cell of injected parameters, with where each value comes from."""

    origins: dict[str, str] = {}

    @classmethod
    def codify(cls, parameters: dict, comment: str = "Parameters") -> str:
        lines = {name: cls.assign(name, cls.translate(value)) for name, value in parameters.items()}
        width = min(max(map(len, lines.values()), default=0), 40)
        return (
            "\n".join(
                [
                    "# What this run was given, and where each value comes from",
                    *(
                        f"{line:{width}}  # {cls.origins.get(name, 'default')}"
                        for name, line in lines.items()
                    ),
                ]
            )
            + "\n"
        )


class Printed:
    """What a notebook prints, line by line, as events."""

    def write(self, text: str) -> None:
        for line in filter(str.strip, text.splitlines()):
            tell({"text": line})

    def flush(self) -> None:
        pass


def tell(event: dict) -> None:
    """Sends an event; one line, whatever it holds."""
    print(json.dumps(event), flush=True)


def read_steps(steps: Queue) -> None:
    """Hands on the steps that come on stdin; when it ends, ends every process below this one, and this one."""
    for line in sys.stdin:
        steps.put(json.loads(line))
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended by itself
            process.kill()
    os._exit(1)


def execute(step: dict) -> str:
    """Runs one notebook; what went wrong in one line, or "" if nothing did."""
    cells = len(json.loads((ROOT / step["notebook"]).read_text(encoding="utf-8"))["cells"])
    Explained.origins = step["origins"]
    executed = Path(step["executed"])
    executed.unlink(
        missing_ok=True
    )  # an earlier one would be taken for this one's if it fails at once
    try:
        # a hook of nbclient's, to which papermill hands on what it does not know
        async def on_cell_start(cell, cell_index):
            tell({"cell": cell_index + 1, "cells": cells + 1})

        papermill.execute_notebook(
            str(ROOT / step["notebook"]),
            str(executed),
            step["parameters"],
            kernel_name="python3",
            cwd=str(ROOT / "notebooks"),
            progress_bar=False,
            stdout_file=Printed(),
            on_cell_start=on_cell_start,
        )
    except (
        Exception
    ) as error:  # whatever it is becomes the step's failure, told by lib.running.notebook
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[-1]}"
    return ""


def main() -> None:
    """Runs the steps that come on stdin, until that ends."""
    papermill_translators.register("python", Explained)
    steps = Queue()
    threading.Thread(target=read_steps, args=[steps], daemon=True).start()
    while step := steps.get():
        executed = Path(step["executed"])
        with FileLock(
            executed.with_name(f".{executed.stem}.lock")
        ):  # held by the run of a worker that died, until that is over
            tell({"ended": True, "problem": execute(step)})


if __name__ == "__main__":
    main()
