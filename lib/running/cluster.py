"""The plan's steps on dask: processes of this machine, or a running cluster that shares the folder.

A worker runs one notebook at a time. One that dies gets its notebook repeated by another; one whose
client is gone, or whose scheduler is, ends the notebook it has.
"""

import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, get_worker
from distributed.core import Status
from distributed.utils import silence_logging_cmgr
from rich.console import Console

from lib.errors import InputError
from lib.running.notebook import ATTEMPTS, NotebookProcess, advice, run_step, visible_cards
from lib.running.plan import Outcome, Step, n_cores
from lib.running.progress import Display
from lib.running.staleness import read_record, reasons

SHARED = ("HANDWRITING_DATA", "HANDWRITING_OUTPUTS")  # which a worker must have as its client has
OWN = {name: os.environ[name] for name in SHARED if name in os.environ}  # a worker's, else
LOCAL = {
    "distributed.scheduler.allowed-failures": ATTEMPTS,
    "distributed.comm.timeouts.connect": "30s",  # a busy laptop is slow to start a process
    # else dask gives a worker up that dies twice within 15 s, before a notebook was tried 3 times
    "distributed.deploy.lost-worker-timeout": "1h",
}
NOT_STARTED = "No process to run notebooks has started; wait if the machine is busy, and try again"
SILENT = logging.CRITICAL + 1  # dask writes lost connections as critical, with a traceback
BAD = ("failed", "skipped")
process: NotebookProcess | None = None  # of a worker: kept from one notebook to the next
one_at_a_time = threading.Lock()  # whatever number of threads a worker was given


def run_on_worker(step: Step, threads: int, topic: str, environment: dict[str, str]) -> Outcome:
    """Runs a step, publishes its events, and ends it when nobody wants it any longer."""
    worker, key = get_worker(), get_worker().get_current_task()

    def stopped() -> bool:
        task = worker.state.tasks.get(key)
        at_work = worker.status in (Status.running, Status.paused)
        return not at_work or task is None or task.state == "cancelled"

    def report(event: dict) -> None:
        worker.log_event(topic, event | {"step": step.name})

    with one_at_a_time:
        return run_step(step, process_for(threads, environment, worker.name), report, stopped, key)


def process_for(threads: int, environment: dict[str, str], number) -> NotebookProcess:
    """This worker's process; a new one where the last has ended, or was another client's."""
    global process
    shared = OWN | environment
    for name in SHARED:
        os.environ.pop(name, None)
    os.environ.update(shared)
    if (cards := visible_cards()) and isinstance(number, int):
        shared["CUDA_VISIBLE_DEVICES"] = cards[number % len(cards)]
    if process and (process.threads, process.environment) != (threads, shared):
        process.close()
    if process is None or process.ended:
        process = NotebookProcess(threads, shared)
    return process


def jobs_at_once(jobs: int, threads: int, n_steps: int, cores: int, cards: int) -> int:
    """As many notebooks at a time as asked for, else one per card, or as the cores allow."""
    return min(jobs or cards or max(1, cores // threads), n_steps)


@contextmanager
def connected(scheduler: str, jobs: int) -> Iterator[Client]:
    """A client of the scheduler at this address, or of a cluster of this machine's own."""
    with silence_logging_cmgr(SILENT):  # what is wrong is said in a sentence
        if scheduler:
            try:
                client = Client(scheduler, timeout="10s")
            except (OSError, ValueError) as error:
                raise InputError(
                    f"No dask scheduler answers at {scheduler} ({str(error).splitlines()[0]}); "
                    "start one with `dask scheduler`, or leave --scheduler out."
                ) from None
            with client:
                yield client
        else:
            each = {"threads_per_worker": 1, "memory_limit": 0, "silence_logs": SILENT}
            try:
                with handled({signal.SIGINT: signal.SIG_IGN}):  # workers inherit it: Ctrl-C is ours
                    cluster = LocalCluster(n_workers=jobs, dashboard_address="127.0.0.1:0", **each)
            except RuntimeError as error:
                raise InputError(f"{NOT_STARTED} ({error}).") from None
            with cluster, Client(cluster) as client:
                yield client


@contextmanager
def handled(handlers: dict) -> Iterator[None]:
    """Signal handlers for a while; only the main thread may set them."""
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_steps(
    steps: list[Step],
    jobs: int,
    threads: int,
    scheduler: str = "",
    force: bool = False,
    ended: Callable[[Step], None] = lambda step: None,
) -> dict[str, Outcome]:
    """Runs the steps that are not fresh, each as soon as those it waits for are over.

    One that fails stops only those that need it. `jobs` at a time on this machine (0: as many as it
    has cores or cards for), or all at once on a cluster's workers. `ended` is called after each
    step that was run. Raises InputError if the scheduler cannot be reached, or no longer.
    """
    jobs = jobs_at_once(jobs, threads, len(steps), n_cores(), len(visible_cards()))
    shown = Display(steps, Console(highlight=False), jobs)
    # a batch system says by SIGTERM that time is over: as by Ctrl-C
    with (
        handled({signal.SIGTERM: signal.default_int_handler}),
        dask.config.set(LOCAL),
        shown.table,
        connected(scheduler, jobs) as client,
    ):
        plan = Running(client, steps, shown, threads, force)
        while len(plan.outcomes) < len(steps):
            if client.status != "running":
                raise InputError(
                    f"The dask scheduler {scheduler} no longer answers: what has ended is kept; "
                    "start it and run the same command again."
                )
            plan.settle()
            if not plan.submit() and scheduler:
                join = f"start one with `dask worker {scheduler}`"
                shown.remind(f"no worker has joined {scheduler}: {join}")
            for step in plan.collect():
                ended(step)
            shown.refresh()
            time.sleep(0.2)
    return {step.name: plan.outcomes[step.name] for step in steps}


class Running:
    """A plan while it is run. Its steps wait for others, then for a free worker, then to end."""

    def __init__(self, client: Client, steps: list[Step], shown: Display, threads: int, force):
        self.client, self.shown, self.threads, self.force = client, shown, threads, force
        self.planned, self.waiting, self.ready = {step.name for step in steps}, list(steps), []
        self.running: dict[Future, Step] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.topic = f"handwriting-{uuid.uuid4().hex}"
        client.subscribe_topic(self.topic, lambda event: shown.progress(event[1]))

    def settle(self) -> None:
        """Decides on steps that wait no longer: to be run, fresh, or skipped after a failure."""
        for step in list(self.waiting):
            over = self.outcomes.keys()
            bad = [name for name in step.needs if name in over and self.outcomes[name].state in BAD]
            if bad:
                self.waiting.remove(step)
                self.end(step, Outcome("skipped", problem=f"it needs {', '.join(sorted(bad))}"))
            elif self.planned.intersection([*step.needs, *step.after]) <= over:
                self.waiting.remove(step)
                if self.force or reasons(step, read_record(step)):
                    self.ready.append(step)
                else:
                    self.end(step, Outcome("fresh"))

    def submit(self) -> bool:
        """Hands out as many steps as workers are free; False if it waits for a first one."""
        if not self.ready:
            return True
        at_work = self.client.processing()
        # dask, given more, would have a short one wait behind a long one
        free = min(len(at_work) - len(self.running), sum(not keys for keys in at_work.values()))
        environment = {name: os.environ[name] for name in SHARED if name in os.environ}
        for step in self.ready[: max(0, free)]:
            self.ready.remove(step)
            self.shown.queued(step)
            given, key = (step, self.threads, self.topic, environment), f"{step.name} {self.topic}"
            self.running[self.client.submit(run_on_worker, *given, key=key, pure=False)] = step
        return bool(at_work)

    def collect(self) -> list[Step]:
        """Takes in the steps that have ended."""
        ended = {future: self.running.pop(future) for future in list(self.running) if future.done()}
        for future, step in ended.items():
            self.end(step, outcome_of(future))
        return list(ended.values())

    def end(self, step: Step, outcome: Outcome) -> None:
        self.outcomes[step.name] = outcome
        self.shown.ended(step, outcome)


def outcome_of(future: Future) -> Outcome:
    """What a step's future says, if it is not the step's own outcome in words."""
    if future.status == "finished":
        return future.result()
    if future.status == "cancelled":
        return Outcome("failed", problem="the cluster gave it up")
    error = future.exception()
    said = str(error).strip().partition("\n")[0]
    if isinstance(error, KilledWorker):
        said = "the process that ran it died again and again, perhaps for lack of memory"
    elif not isinstance(error, InputError):
        said = f"{type(error).__name__}: {said}{advice(said)}"
    return Outcome("failed", problem=said)
