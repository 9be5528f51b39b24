"""The tables that the commands print."""

import time

from rich.table import Table
from rich.text import Text

from lib.menu import comparison
from lib.running import staleness as freshness
from lib.running.plan import Step
from lib.running.progress import clock, short_name

STATES = {
    "fresh": "green",
    "stale": "yellow",
    "failed": "bold red",
    "interrupted": "bold yellow",
    "never run": "dim",
    "running": "cyan",
    "depends": "cyan",
}


def status_row(step: Step, to_run: set[str], busy: bool = False) -> list:
    """Name, state, time taken, time of day, and the first reasons for running the step again, of which inputs come last.

    `to_run` gathers the steps that will be run, or may be: one that only reads what they write depends on what that will be.
    `busy` is whether a command runs this profile now: what has begun and not ended is then not interrupted, but running.
    """
    record = freshness.read_record(step)
    why = sorted(freshness.reasons(step, record), key=lambda reason: reason.startswith("input"))
    before = [name.partition(" ")[0] for name in step.needs if name in to_run]
    state = (
        why[0] if why and why[0] in STATES else "stale" if why else "depends" if before else "fresh"
    )
    state = "running" if state == "interrupted" and busy else state
    because = {
        "stale": why,
        "depends": [f"on what {name} writes" for name in dict.fromkeys(before)],
        "failed": record.get("problem", "").splitlines()[:1] if record else [],
    }.get(state, [])
    if state != "fresh":
        to_run.add(step.name)
    if len(because) > 3:
        because = [*because[:2], f"{len(because) - 2} more"]
    took = clock(record["seconds"]) if record and record["seconds"] else ""
    ended = (
        time.strftime("%d %b %H:%M", time.localtime(record["ended"]))
        if record and "ended" in record
        else ""
    )
    return [
        short_name(step),
        Text(state, style=STATES[state]),
        took,
        ended,
        Text("\n".join(because)),
    ]


def compared(pair: tuple[str, dict, dict], first: str, second: str) -> Table:
    """Every result of one pair of runs."""
    table = Table("result", first, second, "difference", title=pair[0], title_justify="left")
    for name in comparison.RESULTS:
        a, b = pair[1][name], pair[2][name]
        if name.endswith("accuracy"):
            table.add_row(name, f"{a:.2%}", f"{b:.2%}", f"{100 * (b - a):+.2f} points")
        else:
            table.add_row(name, f"{a:,.4g}", f"{b:,.4g}", f"{b - a:+,.4g}")
    return table


def compared_by_run(pairs: list[tuple[str, dict, dict]], first: str, second: str) -> Table:
    """The main results of many pairs, a row each; differences in points of accuracy."""
    table = Table(
        "run",
        f"test {first}",
        f"test {second}",
        "difference",
        "valid",
        "seconds",
        title="results",
        title_justify="left",
    )
    for name, a, b in pairs:
        differences = (
            f"{100 * (b[key] - a[key]):+.2f}" for key in ("test_accuracy", "valid_accuracy")
        )
        table.add_row(
            name,
            f"{a['test_accuracy']:.2%}",
            f"{b['test_accuracy']:.2%}",
            *differences,
            f"{a['seconds']:.0f} / {b['seconds']:.0f}",
        )
    return table


def results_table(results: list[dict]) -> Table:
    """One row per finished run, narrow enough for 80 columns; the data stand in the title where all runs share them."""
    data = {
        f"{row['dataset']} {row['split']}".strip() + f", {row['n_test']:,} test images"
        for row in results
    }
    table = Table(
        "network",
        "schedule",
        "seed",
        "epochs",
        "train",
        "valid",
        "test",
        "seconds",
        title=f"accuracy on {data.pop()}" if len(data) == 1 else "accuracy",
        title_justify="left",
    )
    for row in results:
        accuracies = (
            f"{row[part]:.2%}" for part in ("train_accuracy", "valid_accuracy", "test_accuracy")
        )
        table.add_row(
            row["network"],
            row["schedule"],
            str(row["seed"]),
            str(row["epochs_run"]),
            *accuracies,
            f"{row['seconds']:.0f}",
        )
    return table
