"""One step, from its record's beginning to its end, wherever it is run: here, or by a worker of lib.running.cluster."""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue

import psutil

from lib.files import LIVE_NOTEBOOK, METRICS, PROGRESS, ROOT, check_writable, shown_path
from lib.running import staleness as freshness
from lib.running.plan import Outcome, Step

ATTEMPTS = 3  # a run whose worker dies is repeated at most twice
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
GLANCE = 0.5  # seconds between two looks at a run


class NotebookProcess:
    """A process that executes notebooks one after the other, so that papermill is imported once, and that can be ended."""

    def __init__(self, threads: int, environment: dict[str, str] | None = None):
        self.threads, self.errors, self.events = threads, tempfile.TemporaryFile("w+"), Queue()
        self.folder = tempfile.TemporaryDirectory(prefix="notebooks-")
        self.progress = (
            Path(self.folder.name) / "progress.json"
        )  # where a training says how far it is
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "lib.running.execute"],
            cwd=ROOT,
            text=True,
            start_new_session=True,
            env=quiet_environment()
            | dict.fromkeys(THREADS, str(threads))
            | (environment or {})
            | {
                PROGRESS: str(self.progress),
                "TMPDIR": self.folder.name,
            },  # what a kernel that is killed leaves there goes with it
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            if line.startswith("{"):
                self.events.put(json.loads(line))
        self.events.put({"ended": True, "problem": self._last_words()})

    def _last_words(self) -> str:
        self.process.wait()
        self.errors.seek(0)
        return (self.errors.read().strip().splitlines() or ["its process was ended from outside"])[
            -1
        ]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.end()

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def send(self, step: Step) -> None:
        """Has a step executed; what becomes of it is put into `events`."""
        self.progress.unlink(missing_ok=True)
        order = {
            "notebook": step.notebook,
            "executed": str(step.executed),
            "parameters": step.parameters,
            "origins": step.origins,
        }
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def memory(self) -> int:
        """Bytes that the process and its kernel hold."""
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.process.pid)
            return sum(
                process.memory_info().rss for process in [family, *family.children(recursive=True)]
            )
        return 0

    def end(self) -> None:
        """Ends the process and every kernel below it, and waits until they are gone."""
        with suppress(OSError):
            self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()


def run_step(
    step: Step,
    process: NotebookProcess,
    report: Callable[[dict], None] = lambda event: None,
    stopped: Callable[[], bool] = lambda: False,
    run: str = "",
) -> Outcome:
    """Has one notebook executed by `process`, and records what it depended on, how it ended and what it wrote.

    `report` gets events: {"text": ...} for each line that the notebook prints, else where it is (cell, cells, epoch, epochs,
    batch, batches, loss, accuracy) with the bytes of memory it takes. When `stopped` turns true the run is ended, and
    its record says that it was interrupted. `run` is the same for each attempt at a run whose worker dies.
    """
    check_writable(step.executed.parent)
    now, start = freshness.dependencies(step), time.monotonic()
    attempt = freshness.begin(step, run or uuid.uuid4().hex, now)
    if attempt > ATTEMPTS:
        problem = f"the process that ran it died {ATTEMPTS} times, perhaps for lack of memory"
    else:
        if attempt > 1:
            report({"text": f"the process that ran it died: attempt {attempt} of {ATTEMPTS}"})
        if step.run_folder:  # an earlier result must not be taken for this one's
            (step.run_folder / METRICS).unlink(missing_ok=True)
        problem = watch(step, process, report, stopped)
    outcome = Outcome("failed" if problem else "done", time.monotonic() - start, problem)
    if not stopped():
        freshness.finish(step, outcome.state, outcome.seconds, outcome.problem)
    return outcome


def watch(step: Step, process: NotebookProcess, report, stopped) -> str:
    """Has the step executed and looks after it; what went wrong, or "". A process that must be stopped is ended."""
    latest, ends = 0.0, time.monotonic() + 60 * step.minutes
    process.send(step)
    while not stopped() and time.monotonic() < ends:
        with suppress(Empty):
            event = process.events.get(timeout=GLANCE)
            if "ended" in event:
                return describe_failure(step, event["problem"]) if event["problem"] else ""
            report(event if "text" in event else event | {"memory": process.memory()})
        if process.progress.exists() and process.progress.stat().st_mtime > latest:
            latest = process.progress.stat().st_mtime
            with suppress(ValueError):  # caught half-written: there will be another
                report(json.loads(process.progress.read_text()) | {"memory": process.memory()})
    process.end()
    return (
        f"it was ended after {step.minutes:g} minutes (time_limit): raise the limit if it needs longer\n"
        f"executed so far: {shown_path(step.executed)}"
    )


def quiet_environment() -> dict[str, str]:
    """The environment for notebooks that nobody watches: plain progress, and threads that leave the cores to others."""
    kept = {name: value for name, value in os.environ.items() if name not in LIVE_NOTEBOOK}
    return {
        "OMP_WAIT_POLICY": "PASSIVE"
    } | kept  # threads that wait by spinning are 10 times slower beside another busy process


def describe_failure(step: Step, said_last: str) -> str:
    """The error, the cell it arose in with the end of the traceback, and where to see the rest."""
    try:
        cells = json.loads(step.executed.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError):  # none was written, or half of one
        return f"{said_last}{advice(said_last)}"
    for cell in cells:
        errors = [output for output in cell.get("outputs", []) if output["output_type"] == "error"]
        if errors:
            code = "".join(cell["source"]).splitlines()
            first = next(line for line in code if line.strip() and not line.startswith("#"))
            traceback = (
                re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(errors[0]["traceback"]))
                .rstrip()
                .splitlines()
            )
            return "\n".join(
                [
                    f"{errors[0]['ename']}: {errors[0]['evalue']}{advice(errors[0]['evalue'])}",
                    f"in cell [{cell['execution_count']}], which begins: {first}",
                    *traceback[-11:-1],
                    f"executed notebook: {shown_path(step.executed)}",
                ]
            )
    return f"{said_last}{advice(said_last)}\nexecuted so far: {shown_path(step.executed)}"


def advice(error: str) -> str:
    """What to do about an error that is the machine's rather than the notebook's."""
    if "No space left on device" in error and "free some space" not in error:
        return "; free some space and run the same command again"
    return "; perhaps the memory did not suffice" if "Kernel died" in error else ""
