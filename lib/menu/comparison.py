"""What differs between two training runs, or between all runs of two profiles: in their conditions and in their results."""

from pathlib import Path

from lib.errors import InputError
from lib.files import METRICS, outputs_folder, read_json
from lib.params import did_you_mean

RESULTS = (
    "test_accuracy",
    "valid_accuracy",
    "train_accuracy",
    "test_loss",
    "valid_loss",
    "train_loss",
    "epochs_run",
    "seconds",
)


def read_runs(name: str) -> dict[str, dict]:
    """The metrics of a profile's runs by run name, or of one run, given as strokes/custom-one_cycle-seed0 or as a path.

    Raises InputError if there is no such result.
    """
    places = [outputs_folder("outputs") / name, Path(name)]
    for folder in places:
        runs = (
            {folder.name: folder}
            if (folder / METRICS).exists()
            else {path.parent.name: path.parent for path in folder.glob(f"*/{METRICS}")}
        )
        if runs:
            return {run: read_json(path / METRICS) for run, path in sorted(runs.items())}
    known = sorted({path.parent.parent.name for path in places[0].parent.glob(f"*/*/{METRICS}")})
    raise InputError(
        f"There is no result named '{name}'; give a profile, a run such as strokes/custom-one_cycle-seed0, "
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
    names = dict.fromkeys(
        name for _, one, two in pairs for name in {**one, **two} if name not in RESULTS
    )
    differing = [
        name for name in names if any(one.get(name) != two.get(name) for _, one, two in pairs)
    ]
    return {
        name: (
            _values(name, [one for _, one, _ in pairs]),
            _values(name, [two for _, _, two in pairs]),
        )
        for name in differing
    }


def _values(name: str, runs: list[dict]) -> str:
    values = (run.get(name, "") for run in runs)
    return ", ".join(
        dict.fromkeys(
            f"{value:.4g}" if isinstance(value, float) else str(value) for value in values
        )
    )
