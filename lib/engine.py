"""The plan's steps on dask: processes of this machine, or the workers of a running cluster that shares the folder.

A worker runs one notebook at a time. One that dies gets its notebook repeated by another; one whose client is gone, or
whose scheduler is, ends the notebook it has.
"""

import logging
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import dask
from distributed import Client, KilledWorker, LocalCluster, get_worker
from distributed.core import Status
from distributed.utils import silence_logging_cmgr

from lib import freshness
from lib.display import display
from lib.errors import InputError
from lib.pipeline import Outcome, Step, n_cores
from lib.runner import ATTEMPTS, NotebookProcess, run_step

SHARED = ("HANDWRITING_DATA", "HANDWRITING_OUTPUTS")  # environment variables that a worker must have as this process has them
LOCAL = {
    "distributed.scheduler.allowed-failures": ATTEMPTS,
    "distributed.comm.timeouts.connect": "10s",
}
process: NotebookProcess | None = None  # of a worker: kept from one notebook to the next
one_at_a_time = threading.Lock()  # whatever number of threads a worker was given


def run_on_worker(step: Step, threads: int, topic: str, environment: dict[str, str]) -> Outcome:
    """What a worker does with a step: runs it, publishes its events, and ends it when nobody wants it any longer."""
    global process
    worker, key = get_worker(), get_worker().get_current_task()
    os.environ |= environment
    cards = visible_cards()
    card = {"CUDA_VISIBLE_DEVICES": cards[worker.name % len(cards)]} if cards and isinstance(worker.name, int) else {}

    def stopped() -> bool:
        task = worker.state.tasks.get(key)
        return worker.status not in (Status.running, Status.paused) or task is None or task.state == "cancelled"

    with one_at_a_time:
        if process is None or process.ended or process.threads != threads:
            process = NotebookProcess(threads, environment | card)
        return run_step(step, process, lambda event: worker.log_event(topic, event | {"step": step.name}), stopped, run=key)


def visible_cards() -> list[str]:
    """The graphics cards that this process may use, without importing torch."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [card for card in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if card]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True).stdout
    return [str(number) for number, line in enumerate(listed.splitlines()) if line.startswith("GPU")]


def jobs_at_once(jobs: int, threads: int, steps: int) -> int:
    """How many notebooks to run at a time: as many as asked for, else one per graphics card, or as the cores allow."""
    return min(jobs or len(visible_cards()) or max(1, n_cores() // threads), steps)


@contextmanager
def connected(scheduler: str, jobs: int) -> Iterator[Client]:
    """A client of the scheduler at this address, or of a cluster of this machine's own that ends with it."""
    if scheduler:
        try:
            client = Client(scheduler, timeout="10s")
        except (OSError, ValueError) as error:
            raise InputError(f"No dask scheduler answers at {scheduler} ({str(error).splitlines()[0]}); start one with "
                             "`dask scheduler`, or leave --scheduler out.") from None
        with client, silence_logging_cmgr(logging.CRITICAL):  # what is wrong is said here, in a sentence
            yield client
        return
    with interrupted_by({signal.SIGINT: signal.SIG_IGN}):  # which the workers inherit: Ctrl-C is this process's to deal with
        cluster = LocalCluster(n_workers=jobs, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0",
                               silence_logs=logging.CRITICAL)
    with cluster, Client(cluster) as client:
        yield client


@contextmanager
def interrupted_by(handlers: dict) -> Iterator[None]:
    """Signal handlers for a while; only the main thread may set them."""
    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()} if here else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_steps(steps: list[Step], jobs: int, threads: int, scheduler: str = "", force: bool = False) -> dict[str, Outcome]:
    """Runs the steps that are not fresh, each as soon as those it needs are done; one that fails stops only those that need it.

    `jobs` at a time on this machine (0: as many as it has cores or cards for), or all at once on a cluster's workers.
    Raises InputError if the scheduler cannot be reached, or no longer.
    """
    outcomes: dict[str, Outcome] = {}
    waiting, running, topic = list(steps), {}, f"handwriting-{uuid.uuid4().hex}"
    jobs = jobs_at_once(jobs, threads, len(steps))
    environment = {name: os.environ[name] for name in SHARED if name in os.environ}
    terminated = {signal.SIGTERM: signal.default_int_handler}  # as by Ctrl-C: a batch system's way of saying that time is over
    with interrupted_by(terminated), dask.config.set(LOCAL), display(steps) as shown, connected(scheduler, jobs) as client:
        client.subscribe_topic(topic, lambda event: shown.progress(event[1]))
        while waiting or running:
            ready = []
            for step, outcome in due(waiting, outcomes, steps, force):
                if outcome is None:
                    ready.append(step)
                else:
                    waiting.remove(step)
                    outcomes[step.name] = outcome
                    shown.ended(step, outcome)
            for step in ready[:free_workers(client, len(running)) if ready else 0]:
                waiting.remove(step)
                shown.queued(step)
                future = client.submit(run_on_worker, step, threads, topic, environment, key=f"{step.name} {topic}", pure=False)
                running[future] = step
            for future in [future for future in running if future.done()]:
                step = running.pop(future)
                outcomes[step.name] = outcome = outcome_of(future)
                shown.ended(step, outcome)
            if client.status != "running":
                raise InputError(f"The dask scheduler {scheduler} no longer answers: what has ended is kept; start it and "
                                 "run the same command again.")
            shown.refresh()
            time.sleep(0.1)
    return {step.name: outcomes[step.name] for step in steps}


def free_workers(client: Client, running: int) -> int:
    """How many notebooks more the workers can take: dask, given more than that, would have a short one wait behind a long one."""
    at_work = client.processing()
    return min(len(at_work) - running, sum(not keys for keys in at_work.values()))


def due(waiting: list[Step], outcomes: dict[str, Outcome], steps: list[Step], force: bool) -> list[tuple[Step, Outcome | None]]:
    """The steps whose turn has come: with None those to be run, with an outcome those that are fresh or cannot be."""
    planned, found = {step.name for step in steps}, []
    for step in waiting:
        needs = planned.intersection(step.needs)
        failed = [name for name in needs if name in outcomes and outcomes[name].state in ("failed", "skipped")]
        if failed:
            found.append((step, Outcome("skipped", problem=f"it needs {', '.join(sorted(failed))}")))
        elif needs <= outcomes.keys():
            fresh = not force and not freshness.reasons(step, freshness.read_record(step))
            found.append((step, Outcome("fresh") if fresh else None))
    return found


def outcome_of(future) -> Outcome:
    """What a step's future says, if it is not the step's own outcome in words."""
    if future.status == "finished":
        return future.result()
    if future.status == "cancelled":
        return Outcome("failed", problem="the cluster gave it up")
    error = future.exception()
    if isinstance(error, KilledWorker):
        return Outcome("failed", problem="the process that ran it died again and again, perhaps for lack of memory")
    return Outcome("failed", problem=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}")
