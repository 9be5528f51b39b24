"""What a running plan shows: a live table on a terminal, one line per event in a log.

A log says when a step starts and how it ends, what a training prints (its epochs now and then), and
what is wrong. What other notebooks print stands in their executed copies.
"""

import threading
import time
from datetime import timedelta
from statistics import mean

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TextColumn
from rich.table import Column

from lib.running.plan import Outcome, Step
from lib.running.staleness import read_record

BETWEEN_LINES = 10.0  # seconds, at least, between two lines of a log that say how far one run is
COLUMNS = ("doing", "loss", "accuracy", "time", "memory")
COLORS = {  # of the states, the urgent ones first
    "running": "cyan",
    "failed": "bold red",
    "queued": "dim",
    "waiting": "dim",
    "skipped": "yellow",
    "done": "green",
    "fresh": "green",
}
GOES_ON = ("running", "queued", "waiting")


class Display:
    """A live table where someone watches a terminal, else a log of plain lines.

    Events come from dask's thread, all else from the main one.
    """

    def __init__(self, steps: list[Step], console: Console, at_once: int = 1, clock=time.monotonic):
        name = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        columns = [TextColumn("{task.description}", markup=False, table_column=name)]
        columns += [BarColumn(8)] * (console.width >= 100)
        columns += [TextColumn(f"{{task.fields[{name}]}}") for name in COLUMNS]
        drawn = {"console": console, "disable": not console.is_terminal, "expand": True}
        timed = {"auto_refresh": False, "speed_estimate_period": 600, "get_time": clock}
        self.table = Progress(*columns, transient=True, **drawn, **timed)
        self.lock, self.at_once, self.logged = threading.RLock(), at_once, {}
        self.tasks = {step.name: self.add(short_name(step), step) for step in steps}
        self.hidden, self.total = self.add(""), self.add("total")
        self.table.start_task(self.total.id)
        self.reminded = -60.0

    def add(self, name: str, step: Step | None = None) -> Task:
        record = step and read_record(step) or {}
        again = record and record["parameters"] == step.parameters
        usual = again and record["seconds"] or 0.0  # seconds; 0: nobody knows
        fields = dict.fromkeys(COLUMNS, "") | {"step": step, "usual": usual}
        self.table.add_task(name, start=False, total=1, **fields)
        mark(task := self.table.tasks[-1], "waiting")
        return task

    def say(self, line: str) -> None:
        """A line of its own, above the table where there is one."""
        self.table.console.print(line, markup=False, soft_wrap=True)

    def remind(self, line: str) -> None:
        """The same, at most once a minute."""
        if self.table.get_time() - self.reminded >= 60:
            self.reminded = self.table.get_time()
            self.say(line)

    def queued(self, step: Step) -> None:
        """The step has been handed to the cluster."""
        with self.lock:
            mark(self.tasks[step.name], "queued")

    def progress(self, event: dict) -> None:
        """An event of run_step's with the step's name; the first says that the step has started."""
        name, printed = event["step"], event.get("printed", "")
        with self.lock:
            task = self.tasks[name]
            if task.fields["state"] == "queued":
                mark(task, "running")
                self.table.start_task(task.id)
                self.log(name, "started")
            if task.fields["state"] != "running":
                return  # told late, of a step that has ended
            self.table.update(task.id, **changes(event))
            if "said" in event:
                self.say(f"{name}: {event['said']}")
            if printed and task.fields["step"].run:
                self.log(name, printed, often=printed.startswith("epoch"))

    def ended(self, step: Step, outcome: Outcome) -> None:
        """The step is over, or is not to be run."""
        with self.lock:
            task = self.tasks[step.name]
            self.table.stop_task(task.id)
            mark(task, outcome.state)
            took = f" after {outcome.seconds:.0f} s" if outcome.seconds else ""
            problem = f": {outcome.problem.splitlines()[0]}" if outcome.problem else ""
            self.log(step.name, f"{outcome.state}{took}{problem}")

    def log(self, name: str, line: str, often: bool = False) -> None:
        """A log's line on a step; those that come `often` only where the last is some time ago."""
        now = self.table.get_time()
        if self.table.disable and not (often and now - self.logged[name] < BETWEEN_LINES):
            self.logged[name] = now
            self.say(f"{name}: {line}")

    def refresh(self) -> None:
        """Draws the table anew: the urgent lines where not all have room, and the total."""
        if self.table.disable:
            return
        with self.lock:
            states, room = list(COLORS), max(4, self.table.console.height - 4)
            tasks = sorted(self.tasks.values(), key=lambda task: states.index(task.fields["state"]))
            left = [task for task in tasks if task.fields["state"] in GOES_ON]
            expected = expectations(tasks)
            for place, task in enumerate(tasks):
                task.visible = place < room
                goes_on = task.fields["state"] in GOES_ON
                of = f" of {clock(expected[task.id])}" if goes_on and task.id in expected else ""
                task.fields["time"] = clock(task.elapsed or 0) + of if task.elapsed or of else ""
            self.hidden.visible = len(tasks) > room
            self.hidden.description = f"and {len(tasks) - room} more"
            self.total.completed = 1 - len(left) / len(tasks)
            self.total.fields["doing"] = f"{len(tasks) - len(left)} of {len(tasks)}"
            so_far = self.total.elapsed
            self.total.fields["time"] = total_time(left, expected, so_far, self.at_once)
            self.table.refresh()


def mark(task: Task, state: str) -> None:
    """Sets a task's state, and says it."""
    task.fields |= {"state": state, "doing": f"[{COLORS[state]}]{state}", "memory": ""}


def changes(event: dict) -> dict[str, str | float]:
    """What an event changes in the line of its task; after the last epoch it is being measured."""
    formats = {"loss": "loss {:.2f}", "accuracy": "valid {:.0%}"}
    fields = {name: formats[name].format(event[name]) for name in formats if name in event}
    if "memory" in event:
        fields["memory"] = f"{event['memory'] / 1e9:.1f} GB"
    if "epochs" in event:
        batches = event["batch"] / max(1, event["batches"])
        fields["completed"] = share = (event["epoch"] - 1 + batches) / event["epochs"]
        doing = f"epoch {event['epoch']}/{event['epochs']}" if share < 1 else "measuring"
        fields["doing"] = f"[cyan]{doing}"
    elif "cell" in event:
        fields["doing"] = f"[cyan]cell {event['cell']}/{event['cells']}"
    return fields


def expectations(tasks: list[Task]) -> dict[int, float]:
    """Seconds each task takes: as last time, else by its epochs' pace, else as those like it."""
    known, alike = {}, {}
    for task in tasks:
        elapsed, usual = task.elapsed or 0.0, task.fields["usual"]
        if usual or task.fields["state"] == "done":
            known[task.id] = elapsed if task.fields["state"] == "done" else max(usual, elapsed)
        elif task.completed > 0.05 and task.time_remaining is not None:
            known[task.id] = elapsed + task.time_remaining
        for kind in kinds(task) if task.id in known else []:
            alike.setdefault(kind, []).append(known[task.id])
    for task in tasks:
        like = next((alike[kind] for kind in kinds(task) if kind in alike), None)
        if task.id not in known and like:
            known[task.id] = max(task.elapsed or 0.0, mean(like))
    return known


def kinds(task: Task) -> list[tuple]:
    """What a task is like others in, the closest first: notebook and networks, else notebook."""
    step = task.fields["step"]
    return [(step.notebook, *step.networks), (step.notebook,)]


def short_name(step: Step) -> str:
    """A step's name for a narrow table: of a notebook that is run many times the number will do."""
    notebook, _, run = step.name.partition(" ")
    return f"{notebook[:2]} {run}" if run else notebook


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any: 1:05, 2:00:00."""
    return str(timedelta(seconds=int(seconds))).removeprefix("0:").removeprefix("0")


def total_time(left: list[Task], expected: dict[int, float], elapsed: float, at_once: int) -> str:
    """The time so far, and about how long all will have taken, as soon as one step's is known."""
    remaining = [expected[task.id] - (task.elapsed or 0) for task in left if task.id in expected]
    if not remaining:
        return clock(elapsed)
    at_once = max(at_once, sum(task.fields["state"] == "running" for task in left))
    whole = elapsed + max(sum(remaining) / at_once, *remaining)
    about = f"{whole / 60:.0f} min" if whole >= 90 else f"{whole:.0f} s"
    return f"{clock(elapsed)} of about {about}"
