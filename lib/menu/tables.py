"""The tables that the commands print."""

from datetime import datetime
from pathlib import Path

from rich.table import Column, Table
from rich.text import Text

from lib.errors import InputError
from lib.files import METRICS, complete_runs, outputs_folder, read_json
from lib.params import did_you_mean
from lib.running import Outcome, Step, read_record, reasons
from lib.running.progress import clock

COLORS = {"fresh": "green", "stale": "yellow", "running": "cyan", "depends": "cyan"}  # of states
COLORS |= {"failed": "bold red", "interrupted": "bold yellow", "never run": "dim"}
MAIN = ("test_accuracy", "valid_accuracy", "seconds")  # results of a run, in a table of many
MEASURED = (*MAIN, "train_accuracy", "test_loss", "valid_loss", "train_loss", "epochs_run")
PLAIN = {"box": None, "padding": (0, 2, 0, 0), "header_style": "dim", "title_justify": "left"}


def outcomes_table(outcomes: dict[str, Outcome], profile: str) -> Table:
    """One row per step."""
    table = Table(title=f"profile {profile}", title_justify="left")
    table.add_column("notebook", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("seconds", no_wrap=True, justify="right")
    for name, outcome in outcomes.items():
        table.add_row(name, outcome.state, f"{outcome.seconds:.0f}" if outcome.seconds else "")
    return table


def results_table(rows: list[dict]) -> Table:
    """One row per run; all are of the same data, which stand in the title."""
    data = f"{rows[0]['dataset']} {rows[0]['split']}".strip()
    table = Table("run", "epochs", "train", "valid", "test", "seconds", title_justify="left")
    table.title = f"accuracy on {data}, {rows[0]['n_test']:,} test images"
    for row in rows:
        accuracies = (f"{row[f'{part}_accuracy']:.2%}" for part in ("train", "valid", "test"))
        table.add_row(row["run"], str(row["epochs_run"]), *accuracies, f"{row['seconds']:.0f}")
    return table


def status_table(steps: list[Step], busy: bool, profile: str) -> Table:
    """Of each step its state, the time it took last and when it ended, and why it must be run.

    busy: whether a command runs the profile now: what has begun is then running, not interrupted.
    """
    short = (Column(name, no_wrap=True) for name in ("state", "took", "ended"))
    table = Table("notebook", *short, "because of", title=f"profile {profile}", **PLAIN)
    to_run: set[str] = set()
    for step in steps:
        record = read_record(step) or {}
        state, because = state_of(step, record, to_run, busy)
        if state != "fresh":
            to_run.add(step.name)
        if len(because) > 3:
            because = [*because[:2], f"{len(because) - 2} more"]
        took = clock(record["seconds"]) if record.get("seconds") else ""
        when = f"{datetime.fromtimestamp(record['ended']):%d %b %H:%M}" if "ended" in record else ""
        table.add_row(step.name, Text(state, COLORS[state]), took, when, Text("\n".join(because)))
    return table


def state_of(step: Step, record: dict, to_run: set[str], busy: bool) -> tuple[str, list[str]]:
    """A step's state in a word, and the reasons for it, of which inputs come last.

    to_run: steps that will be run, or may be: one that waits for them depends on that.
    """
    why = sorted(reasons(step, record or None), key=lambda reason: reason.startswith("input"))
    if why and why[0] in COLORS:
        state = "running" if why[0] == "interrupted" and busy else why[0]
        return state, record.get("problem", "").splitlines()[:1] if state == "failed" else []
    if why:
        return "stale", why
    waits_for = [name.partition(" ")[0] for name in [*step.needs, *step.after] if name in to_run]
    because = [f"on what {name} writes" for name in dict.fromkeys(waits_for)]
    return ("depends" if because else "fresh"), because


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
    for folder in (outputs_folder(f"outputs/{name}"), Path(name)):
        paths = [folder] if (folder / METRICS).exists() else complete_runs(folder)
        if paths:
            return {path.name: read_json(path / METRICS) for path in paths}
    places = outputs_folder("outputs").glob(f"*/*/{METRICS}")
    known = sorted({path.parent.parent.name for path in places})
    near = did_you_mean(name, known) if known else " (nothing has been run yet)."
    raise InputError(
        f"There is no result named '{name}'; give a profile, a run such as strokes/custom-seed0, "
        f"or a folder{near}"
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
    found = {}
    for name in [name for name in names if name not in MEASURED]:
        values = [(one.get(name, ""), two.get(name, "")) for _, one, two in pairs]
        if any(before != after for before, after in values):
            found[name] = tuple(", ".join(dict.fromkeys(map(str, side))) for side in zip(*values))
    return found


def compared(pairs: list[tuple[str, dict, dict]], first: str, second: str) -> Table:
    """Every result of one pair of runs, or the main results of many, a row each."""
    table = Table("run", "result", first, second, "difference", title="results")
    table.title_justify = "left"
    for run, one, two in pairs:
        for key in MEASURED if len(pairs) == 1 else MAIN:
            a, b = one.get(key), two.get(key)
            if not all(type(value) in (int, float) for value in (a, b)):  # null: it was no number
                difference = ""
            elif key.endswith("accuracy"):
                a, b, difference = f"{a:.2%}", f"{b:.2%}", f"{100 * (b - a):+.2f} points"
            else:
                a, b, difference = f"{a:,.4g}", f"{b:,.4g}", f"{b - a:+,.4g}"
            table.add_row(run, key, str(a), str(b), difference)
    return table
