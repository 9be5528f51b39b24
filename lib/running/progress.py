"""What a running plan shows: a live table on a terminal, one line per event in a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lib.running import staleness as freshness
from lib.running.plan import Outcome, Step

BETWEEN_LINES = 10.0  # seconds, at least, between two lines of a log that say how far one run is
COLORS = {
    "running": "cyan",
    "done": "green",
    "fresh": "green",
    "failed": "bold red",
    "skipped": "yellow",
}
ENDED = ("done", "fresh", "failed", "skipped")
URGENCY = ("running", "failed", "queued", "waiting", "skipped", "done", "fresh")


@dataclass
class Row:
    """What is known of one step while the plan runs."""

    step: Step
    state: str = "waiting"
    began: float = 0.0
    seconds: float = 0.0
    usual: float | None = None  # seconds that it took last time
    latest: dict = field(default_factory=dict)

    def elapsed(self) -> float:
        return time.monotonic() - self.began if self.state == "running" else self.seconds

    def share(self) -> float:
        """How much of it is done, 0 to 1, by its epochs and batches; 0 if that is not known."""
        told = self.latest
        if self.state != "running" or "epochs" not in told:
            return 0.0
        return (told["epoch"] - 1 + told["batch"] / max(1, told["batches"])) / told["epochs"]

    def expected(self) -> float | None:
        """Seconds that it will have taken: as last time, else by how far its training is; None if nobody knows."""
        if self.state in ENDED:
            return self.seconds
        share = self.share()
        if self.usual is None and share > 0.05:
            return self.elapsed() / share
        return None if self.usual is None else max(self.usual, self.elapsed())


class PlainDisplay:
    """Lines for a log: when a step starts, where its training is now and then, and how it ends."""

    def __init__(self, steps: list[Step], console: Console):
        self.console = console
        self.rows = {
            step.name: Row(step, usual=(freshness.read_record(step) or {}).get("seconds"))
            for step in steps
        }
        self.said = dict.fromkeys(self.rows, 0.0)

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)

    def queued(self, step: Step) -> None:
        """The step has been handed to the cluster."""
        self.rows[step.name].state = "queued"

    def progress(self, event: dict) -> None:
        """An event of lib.running.notebook's, with the step's name; the first one says that the step has started."""
        row = self.rows[event["step"]]
        if row.state not in ("queued", "running"):
            return  # told late, of a step that has ended
        if row.state == "queued":
            row.state, row.began = "running", time.monotonic()
            self.tell(row, f"{row.step.name}: started")
        row.latest |= event
        if "text" in event:
            self.tell(
                row, f"{row.step.name}: {event['text']}", often=event["text"].startswith("epoch")
            )

    def ended(self, step: Step, outcome: Outcome) -> None:
        """The step is over, or is not to be run."""
        row = self.rows[step.name]
        row.state, row.seconds = outcome.state, outcome.seconds
        self.tell(
            row,
            f"{step.name}: {outcome.state}"
            + (f" after {outcome.seconds:.0f} s" if outcome.seconds else ""),
        )

    def tell(self, row: Row, line: str, often: bool = False) -> None:
        """One line; those that come `often` only where the last one is some time ago."""
        now = time.monotonic()
        if not often or now - self.said[row.step.name] >= BETWEEN_LINES:
            self.said[row.step.name] = now
            self.say(line)

    def refresh(self) -> None:
        """Called several times a second."""


class LiveDisplay(PlainDisplay):
    """A table for a terminal, drawn anew in place: one row per step, and the total."""

    def __init__(self, steps: list[Step], live: Live):
        super().__init__(steps, live.console)
        self.live, self.began = live, time.monotonic()

    def tell(self, row: Row, line: str, often: bool = False) -> None:
        pass  # the table shows it

    def refresh(self) -> None:
        self.live.update(self.table(), refresh=True)

    def table(self) -> Table:
        """The rows that fit on the screen, what is going on first where not all do; the total below."""
        table = Table(
            "notebook",
            "state",
            "loss",
            "valid",
            "time",
            "memory",
            box=None,
            padding=(0, 2, 0, 0),
            header_style="dim",
        )
        rows, room = list(self.rows.values()), max(4, self.console.height - 5)
        chosen = (
            rows
            if len(rows) <= room
            else sorted(rows, key=lambda row: URGENCY.index(row.state))[:room]
        )
        for row in chosen:
            table.add_row(*cells(row))
        if len(rows) > len(chosen):
            table.add_row(f"and {len(rows) - len(chosen)} more", style="dim")
        table.add_row(*total(rows, time.monotonic() - self.began), style="bold")
        return table


def cells(row: Row) -> list:
    """Name, state or progress, training loss, validation accuracy, time and memory of one step."""
    told, state = row.latest, row.state
    if state == "running" and "epochs" in told:
        state = (
            f"epoch {told['epoch']}/{told['epochs']} {told['batch'] / max(1, told['batches']):4.0%}"
        )
    elif state == "running" and "cells" in told:
        state = f"cell {told['cell']}/{told['cells']}"
    expected = row.expected() if row.state != "fresh" else None
    times = [clock(row.elapsed())] if row.elapsed() else []
    if expected and row.state not in ENDED:
        times.append(clock(expected))
    return [
        short_name(row.step),
        Text(state, style=COLORS.get(row.state, "dim")),
        f"{told['loss']:.3f}" if "loss" in told else "",
        f"{told['accuracy']:.1%}" if "accuracy" in told else "",
        " of ".join(times),
        size(told.get("memory", 0)) if row.state == "running" else "",
    ]


def short_name(step: Step) -> str:
    """A step's name for a narrow table: of a notebook that is run many times the number will do."""
    notebook, _, run = step.name.partition(" ")
    return f"{notebook[:2]} {run}" if run else notebook


def total(rows: list[Row], elapsed: float) -> list[str]:
    """How many steps are over, the time so far with the one to expect, and the memory that all take together."""
    over, running = (
        [row for row in rows if row.state in ENDED],
        [row for row in rows if row.state == "running"],
    )
    left = [(row.expected(), row.elapsed()) for row in rows if row.state not in ENDED]
    times = clock(elapsed)
    if left and all(expected is not None for expected, _ in left):
        remaining = [expected - passed for expected, passed in left]
        times += f" of {clock(elapsed + max(sum(remaining) / max(1, len(running)), *remaining))}"
    memory = sum(row.latest.get("memory", 0) for row in running)
    return ["total", f"{len(over)} of {len(rows)}", "", "", times, size(memory)]


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any: 1:05, 2:00:00."""
    minutes, seconds = divmod(int(seconds), 60)
    return (
        f"{minutes}:{seconds:02d}"
        if minutes < 60
        else f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
    )


def size(n_bytes: int) -> str:
    """Bytes in gigabytes, to one digit; nothing for none."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes else ""


@contextmanager
def display(steps: list[Step]) -> Iterator[PlainDisplay]:
    """A live table where someone watches a terminal, else plain lines."""
    console = Console(highlight=False)
    if not console.is_terminal:
        yield PlainDisplay(steps, console)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield LiveDisplay(steps, live)
