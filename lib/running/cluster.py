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
from distributed import Client, Future, KilledWorker, LocalCluster, get_worker
from distributed.core import Status
from distributed.utils import silence_logging_cmgr

from lib.errors import InputError
from lib.running import staleness as freshness
from lib.running.notebook import ATTEMPTS, NotebookProcess, advice, run_step
from lib.running.plan import Outcome, Step, n_cores
from lib.running.progress import PlainDisplay, display

SHARED = (
    "HANDWRITING_DATA",
    "HANDWRITING_OUTPUTS",
)  # environment variables that a worker must have as this process has them
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
    card = (
        {"CUDA_VISIBLE_DEVICES": cards[worker.name % len(cards)]}
        if cards and isinstance(worker.name, int)
        else {}
    )

    def stopped() -> bool:
        task = worker.state.tasks.get(key)
        return (
            worker.status not in (Status.running, Status.paused)
            or task is None
            or task.state == "cancelled"
        )

    with one_at_a_time:
        if process is None or process.ended or process.threads != threads:
            process = NotebookProcess(threads, environment | card)
        return run_step(
            step,
            process,
            lambda event: worker.log_event(topic, event | {"step": step.name}),
            stopped,
            run=key,
        )


def visible_cards() -> list[str]:
    """The graphics cards that this process may use, without importing torch."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [card for card in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if card]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True).stdout
    return [
        str(number) for number, line in enumerate(listed.splitlines()) if line.startswith("GPU")
    ]


def jobs_at_once(jobs: int, threads: int, steps: int) -> int:
    """How many notebooks to run at a time: as many as asked for, else one per graphics card, or as the cores allow."""
    return min(jobs or len(visible_cards()) or max(1, n_cores() // threads), steps)


@contextmanager
def connected(scheduler: str, jobs: int) -> Iterator[Client]:
    """A client of the scheduler at this address, or of a cluster of this machine's own that ends with it."""
    if scheduler:
        with (
            silence_logging_cmgr(logging.CRITICAL),
            client_of(scheduler) as client,
        ):  # what is wrong is said here, in a sentence
            yield client
        return
    with interrupted_by(
        {signal.SIGINT: signal.SIG_IGN}
    ):  # which the workers inherit: Ctrl-C is this process's to deal with
        cluster = LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
    with cluster, Client(cluster) as client:
        yield client


def client_of(scheduler: str) -> Client:
    """A client of a running scheduler; InputError if none answers."""
    try:
        return Client(scheduler, timeout=LOCAL["distributed.comm.timeouts.connect"])
    except (OSError, ValueError) as error:
        raise InputError(
            f"No dask scheduler answers at {scheduler} ({str(error).splitlines()[0]}); start one with "
            "`dask scheduler`, or leave --scheduler out."
        ) from None


@contextmanager
def interrupted_by(handlers: dict) -> Iterator[None]:
    """Signal handlers for a while; only the main thread may set them."""
    here = threading.current_thread() is threading.main_thread()
    before = (
        {number: signal.signal(number, handler) for number, handler in handlers.items()}
        if here
        else {}
    )
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_steps(
    steps: list[Step], jobs: int, threads: int, scheduler: str = "", force: bool = False
) -> dict[str, Outcome]:
    """Runs the steps that are not fresh, each as soon as those it needs are done; one that fails stops only those that need it.

    `jobs` at a time on this machine (0: as many as it has cores or cards for), or all at once on a cluster's workers.
    Raises InputError if the scheduler cannot be reached, or no longer.
    """
    terminated = {
        signal.SIGTERM: signal.default_int_handler
    }  # as by Ctrl-C: a batch system's way of saying that time is over
    jobs = jobs_at_once(jobs, threads, len(steps))
    with (
        interrupted_by(terminated),
        dask.config.set(LOCAL),
        display(steps) as shown,
        connected(scheduler, jobs) as client,
    ):
        plan = Running(client, steps, shown, threads, force)
        while len(plan.outcomes) < len(steps):
            plan.settle()
            plan.submit()
            plan.collect()
            if client.status != "running":
                raise InputError(
                    f"The dask scheduler {scheduler} no longer answers: what has ended is kept; start it and "
                    "run the same command again."
                )
            shown.refresh()
            time.sleep(0.2)
    return {step.name: plan.outcomes[step.name] for step in steps}


class Running:
    """A plan while it is run. Its steps wait for those they need, then for a free worker, and then for their end."""

    def __init__(
        self, client: Client, steps: list[Step], shown: PlainDisplay, threads: int, force: bool
    ):
        self.client, self.shown, self.threads, self.force = client, shown, threads, force
        self.planned, self.waiting, self.ready = {step.name for step in steps}, list(steps), []
        self.running: dict[Future, Step] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.topic = f"handwriting-{uuid.uuid4().hex}"
        client.subscribe_topic(self.topic, lambda event: shown.progress(event[1]))

    def settle(self) -> None:
        """Decides on the steps whose needs have ended: to be run, fresh, or skipped since one that they need has failed."""
        for step in list(self.waiting):
            needs = self.planned.intersection(step.needs)
            failed = [
                name
                for name in needs
                if name in self.outcomes and self.outcomes[name].state in ("failed", "skipped")
            ]
            if failed:
                self.waiting.remove(step)
                self.end(step, Outcome("skipped", problem=f"it needs {', '.join(sorted(failed))}"))
            elif needs <= self.outcomes.keys():
                self.waiting.remove(step)
                if self.force or freshness.reasons(step, freshness.read_record(step)):
                    self.ready.append(step)
                else:
                    self.end(step, Outcome("fresh"))

    def submit(self) -> None:
        """Hands out as many steps as there are free workers: dask, given more, would have a short one wait behind a long one."""
        at_work = self.client.processing() if self.ready else {}
        free = min(len(at_work) - len(self.running), sum(not keys for keys in at_work.values()))
        environment = {name: os.environ[name] for name in SHARED if name in os.environ}
        for step in self.ready[: max(0, free)]:
            self.ready.remove(step)
            self.shown.queued(step)
            future = self.client.submit(
                run_on_worker,
                step,
                self.threads,
                self.topic,
                environment,
                key=f"{step.name} {self.topic}",
                pure=False,
            )
            self.running[future] = step

    def collect(self) -> None:
        """Takes in what has ended."""
        for future in [future for future in self.running if future.done()]:
            self.end(self.running.pop(future), outcome_of(future))

    def end(self, step: Step, outcome: Outcome) -> None:
        self.outcomes[step.name] = outcome
        self.shown.ended(step, outcome)


def outcome_of(future) -> Outcome:
    """What a step's future says, if it is not the step's own outcome in words."""
    if future.status == "finished":
        return future.result()
    if future.status == "cancelled":
        return Outcome("failed", problem="the cluster gave it up")
    error = future.exception()
    if isinstance(error, KilledWorker):
        return Outcome(
            "failed",
            problem="the process that ran it died again and again, perhaps for lack of memory",
        )
    said = str(error).strip().partition("\n")[0]
    return Outcome(
        "failed",
        problem=said
        if isinstance(error, InputError)
        else f"{type(error).__name__}: {said}{advice(said)}",
    )
