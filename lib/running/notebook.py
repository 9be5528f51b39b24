"""One step, from its record's beginning to its end, wherever it is run: here or by a worker."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from queue import Empty, Queue

import psutil

from lib.files import LIVE_NOTEBOOK, METRICS, PROGRESS, ROOT, check_writable, shown_path
from lib.running import staleness
from lib.running.code import modules
from lib.running.plan import Outcome, Step

ATTEMPTS = 3  # a run whose worker dies is repeated at most twice
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
GLANCE, BETWEEN_LOOKS = 0.5, 10.0  # seconds between two looks at a run, and at its memory


class NotebookProcess:
    """A process that executes notebooks one after the other, and that can be ended.

    `threads` and `environment` (what differs from this process's) hold for all of them. From the
    first notebook on that trains, kernels start warm. Where a graphics card is visible they do not:
    CUDA does not survive a fork.
    """

    def __init__(self, threads: int, environment: dict[str, str] | None = None):
        self.threads, self.environment = threads, environment or {}
        self.next_look, self.held = 0.0, 0  # at its memory; bytes
        self.errors, self.events = tempfile.TemporaryFile("w+"), Queue()
        self.folder = tempfile.TemporaryDirectory(prefix="notebooks-")
        self.progress = Path(self.folder.name) / "progress.json"  # of a training
        own = {PROGRESS: str(self.progress), "TMPDIR": self.folder.name}  # goes with the process
        given = quiet_environment() | dict.fromkeys(THREADS, str(threads)) | self.environment | own
        self.forks = sys.platform == "linux" and not visible_cards(given)
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from lib.running import execute; execute.main()"],
            cwd=ROOT,
            text=True,
            start_new_session=True,
            env=given,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            if line.startswith("{"):  # a kernel may write there, too
                self.events.put(json.loads(line))
        status = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        problem = lines[-1] if status == 1 and lines else "its process was ended from outside"
        self.events.put({"ended": True, "problem": problem + advice(problem)})

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def send(self, step: Step) -> None:
        """Has a step executed; what becomes of it is put into `events`."""
        self.progress.unlink(missing_ok=True)
        order = {
            "notebook": step.notebook,  # from the repository, where the process is
            "executed": shown_path(step.executed),
            "parameters": step.parameters,
            "origins": step.origins,
            "warm": self.forks and "lib/training/__init__.py" in modules(ROOT / step.notebook),
        }
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def memory(self) -> int:
        """Bytes that the process and its kernel hold; what they share counts once. Takes 0.1 s."""
        if time.monotonic() >= self.next_look:
            self.next_look, self.held = time.monotonic() + BETWEEN_LOOKS, 0
            with suppress(psutil.NoSuchProcess):
                family = psutil.Process(self.process.pid)
                for process in [family, *family.children(recursive=True)]:
                    info = process.memory_full_info()
                    self.held += getattr(info, "pss", info.rss)
        return self.held

    def close(self) -> None:
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
    """Has one notebook executed, and records what it depended on, how it ended and what it wrote.

    `report` gets events: {"printed": ...} for each line that the notebook prints, {"said": ...} for
    what has to be said of the run, else where it is (cell, cells, epoch, epochs, batch, batches,
    loss, accuracy) with the bytes of memory it takes. When `stopped` turns true the run is ended,
    and its record says that it was interrupted. `run` is the same for each attempt at a run.
    """
    check_writable(step.executed.parent)
    now, start = staleness.dependencies(step), time.monotonic()
    attempt = staleness.begin(step, run or uuid.uuid4().hex, now)
    if attempt > ATTEMPTS:
        problem = f"the process that ran it died {ATTEMPTS} times, perhaps for lack of memory"
    else:
        if attempt > 1:
            report({"said": f"the process that ran it died: attempt {attempt} of {ATTEMPTS}"})
        if step.run_folder:  # an earlier result must not be taken for this one's
            (step.run_folder / METRICS).unlink(missing_ok=True)
        problem = watch(step, process, report, stopped)
    outcome = Outcome("failed" if problem else "done", time.monotonic() - start, problem)
    if not stopped():
        staleness.finish(step, outcome.state, outcome.seconds, outcome.problem)
    return outcome


def watch(step: Step, process: NotebookProcess, report, stopped) -> str:
    """Has the step executed; what went wrong, or "". A process that must be stopped is ended."""
    latest, ends = 0.0, time.monotonic() + 60 * step.minutes
    process.send(step)
    while not stopped() and time.monotonic() < ends:
        with suppress(Empty):
            event = process.events.get(timeout=GLANCE)
            if "ended" in event:
                shown = event["problem"] and step.executed.exists()
                where = f"\nexecuted notebook: {shown_path(step.executed)}" if shown else ""
                return event["problem"] + where
            report(event if "printed" in event else event | {"memory": process.memory()})
        if process.progress.exists() and process.progress.stat().st_mtime != latest:
            latest = process.progress.stat().st_mtime
            with suppress(ValueError):  # caught half-written: there will be another
                report(json.loads(process.progress.read_text()) | {"memory": process.memory()})
    process.close()
    return (
        f"it was ended after {step.minutes:g} minutes (time_limit): raise the limit if it needs "
        f"longer\nexecuted so far: {shown_path(step.executed)}"
    )


def visible_cards(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The graphics cards that a process with this environment may use, without importing torch."""
    if "CUDA_VISIBLE_DEVICES" in environment:
        named = environment["CUDA_VISIBLE_DEVICES"].split(",")  # ends as it does for CUDA
        return list(takewhile(lambda card: card.lower() not in ("", "-1", "none"), named))
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True).stdout
    return [str(number) for number in range(listed.count("GPU "))]


def quiet_environment() -> dict[str, str]:
    """The environment for notebooks that nobody watches: plain progress, and nothing wasted."""
    kept = {name: value for name, value in os.environ.items() if name not in LIVE_NOTEBOOK}
    # threads that spin are 10 times slower beside other work; freed memory is slow to come back
    keep = dict.fromkeys(["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"], f"{2**31 - 1}")
    return {"OMP_WAIT_POLICY": "PASSIVE"} | keep | kept


def advice(error: str) -> str:
    """What to do about an error that is the machine's rather than the notebook's."""
    if "No space left on device" in error and "free some space" not in error:
        return "; free some space and run the same command again"
    return "; perhaps the memory did not suffice" if "Kernel died" in error else ""
