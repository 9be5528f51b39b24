"""The tables that the commands print."""

import time
from pathlib import Path

from rich.table import Table
from rich.text import Text

from lib.errors import InputError
from lib.files import METRICS, complete_runs, outputs_folder, read_json
from lib.params import did_you_mean
from lib.running import Outcome, Step, read_record, reasons
from lib.running.progress import clock, short_name

COLORS = {
    "fresh": "green",
    "stale": "yellow",
    "failed": "bold red",
    "interrupted": "bold yellow",
    "never run": "dim",
    "running": "cyan",
    "depends": "cyan",
}
MEASURED = (
    "test_accuracy",
    "valid_accuracy",
    "train_accuracy",
    "test_loss",
    "valid_loss",
    "train_loss",
    "epochs_run",
    "seconds",
)


def outcomes_table(outcomes: dict[str, Outcome], profile: str) -> Table:
    """One row per step."""
    table = Table("notebook", "state", "seconds", title=f"profile {profile}", title_justify="left")
    for name, outcome in outcomes.items():
        table.add_row(name, outcome.state, f"{outcome.seconds:.0f}" if outcome.seconds else "")
    return table


def results_table(results: list[dict]) -> Table:
    """One row per run of the study of networks; the data stand in the title where all share them."""
    rows = [row for row in results if "networks" in row["studies"]] or results
    data = {
        f"{row['dataset']} {row['split']}".strip() + f", {row['n_test']:,} test images"
        for row in rows
    }
    title = f"accuracy on {data.pop()}" if len(data) == 1 else "accuracy"
    table = Table(
        *("run", "epochs", "train", "valid", "test", "seconds"), title=title, title_justify="left"
    )
    for row in rows:
        accuracies = (f"{row[f'{part}_accuracy']:.2%}" for part in ("train", "valid", "test"))
        table.add_row(row["run"], str(row["epochs_run"]), *accuracies, f"{row['seconds']:.0f}")
    return table


def status_table(steps: list[Step], busy: bool, profile: str) -> Table:
    """Of each step its state, the time it took last and when it ended, and why it must be run.

    busy: whether a command runs the profile now: what has begun is then running, not interrupted.
    """
    title = {"title": f"profile {profile}", "title_justify": "left", "header_style": "dim"}
    table = Table(box=None, padding=(0, 2, 0, 0), **title)
    for column in ("notebook", "state", "took", "ended", "because of"):
        table.add_column(column, no_wrap=column != "because of")
    to_run: set[str] = set()
    for step in steps:
        record = read_record(step) or {}
        state, because = state_of(step, record, to_run, busy)
        if state != "fresh":
            to_run.add(step.name)
        if len(because) > 3:
            because = [*because[:2], f"{len(because) - 2} more"]
        took = clock(record["seconds"]) if record.get("seconds") else ""
        ended = time.localtime(record["ended"]) if "ended" in record else ""
        table.add_row(
            short_name(step),
            Text(state, style=COLORS[state]),
            took,
            time.strftime("%d %b %H:%M", ended) if ended else "",
            Text("\n".join(because)),
        )
    return table


def state_of(step: Step, record: dict, to_run: set[str], busy: bool) -> tuple[str, list[str]]:
    """A step's state in a word, and the reasons for it, of which inputs come last.

    to_run: steps that will be run, or may be: one that reads what they write depends on that.
    """
    why = sorted(reasons(step, record or None), key=lambda reason: reason.startswith("input"))
    before = [name.partition(" ")[0] for name in step.needs if name in to_run]
    if why and why[0] in COLORS:
        state = "running" if why[0] == "interrupted" and busy else why[0]
        return state, record.get("problem", "").splitlines()[:1] if state == "failed" else []
    if why:
        return "stale", why
    if before:
        return "depends", [f"on what {name} writes" for name in dict.fromkeys(before)]
    return "fresh", []


def comparison(first: str, second: str) -> list[Table | str]:
    """What differs between two runs or profiles: a table of conditions, a table of results."""
    one, two = read_runs(first), read_runs(second)
    pairs = matched(one, two)
    if not pairs:
        raise InputError(
            f"{first} and {second} have no run of the same name: compare single runs instead, "
            f"such as {first}/{next(iter(one))} with {second}/{next(iter(two))}."
        )
    conditions = Table("differs", first, second, title="conditions", title_justify="left")
    for name, values in differing_conditions(pairs).items():
        conditions.add_row(name, *map(Text, values))
    shown = [conditions if conditions.row_count else "no condition differs"]
    shown.append(compared(pairs, first, second))
    for name, own, other in [(first, one, two), (second, two, one)]:
        alone = [run for run in own if run not in other]
        if alone and len(pairs) < max(len(one), len(two)):
            shown.append(f"only in {name}: {', '.join(alone)}")
    return shown


def read_runs(name: str) -> dict[str, dict]:
    """The metrics of a profile's runs, or of one run, given as strokes/custom-seed0 or a path."""
    for folder in (outputs_folder("outputs") / name, Path(name)):
        paths = [folder] if (folder / METRICS).exists() else complete_runs(folder)
        if paths:
            return {path.name: read_json(path / METRICS) for path in paths}
    places = outputs_folder("outputs").glob(f"*/*/{METRICS}")
    known = sorted({path.parent.parent.name for path in places})
    raise InputError(
        f"There is no result named '{name}'; give a profile, a run such as strokes/custom-seed0, "
        f"or a folder{did_you_mean(name, known) if known else ' (nothing has been run yet).'}"
    )


def matched(first: dict[str, dict], second: dict[str, dict]) -> list[tuple[str, dict, dict]]:
    """Pairs of runs of the same name; two single runs are a pair whatever they are called."""
    if len(first) == len(second) == 1:
        (name, one), (other, two) = *first.items(), *second.items()
        return [(name if name == other else f"{name} / {other}", one, two)]
    return [(name, first[name], second[name]) for name in first if name in second]


def differing_conditions(pairs: list[tuple[str, dict, dict]]) -> dict[str, tuple[str, str]]:
    """Conditions in which any pair differs: name to the values on each side, those of all pairs."""
    names = dict.fromkeys(name for _, one, two in pairs for name in {**one, **two})
    return {
        name: (
            _values(name, [one for _, one, _ in pairs]),
            _values(name, [two for *_, two in pairs]),
        )
        for name in names
        if name not in MEASURED and any(one.get(name) != two.get(name) for _, one, two in pairs)
    }


def _values(name: str, runs: list[dict]) -> str:
    values = (run.get(name, "") for run in runs)
    shown = (f"{value:.4g}" if isinstance(value, float) else str(value) for value in values)
    return ", ".join(dict.fromkeys(shown))


def compared(pairs: list[tuple[str, dict, dict]], first: str, second: str) -> Table:
    """Every result of one pair of runs, or the main results of many, a row each."""
    if len(pairs) == 1:
        name, one, two = pairs[0]
        table = Table("result", first, second, "difference", title=name, title_justify="left")
        for key in MEASURED:
            a, b = one[key], two[key]
            if key.endswith("accuracy"):
                table.add_row(key, f"{a:.2%}", f"{b:.2%}", f"{100 * (b - a):+.2f} points")
            else:
                table.add_row(key, f"{a:,.4g}", f"{b:,.4g}", f"{b - a:+,.4g}")
        return table
    columns = ("run", f"test {first}", f"test {second}", "difference", "valid", "seconds")
    table = Table(*columns, title="results", title_justify="left")
    for name, a, b in pairs:
        tests = [f"{row['test_accuracy']:.2%}" for row in (a, b)]
        gains = [f"{100 * (b[k] - a[k]):+.2f}" for k in ("test_accuracy", "valid_accuracy")]
        table.add_row(name, *tests, *gains, f"{a['seconds']:.0f} / {b['seconds']:.0f}")
    return table
