"""The parts of the page that every profile has: how well its networks read, how they learned, and under which conditions."""

import json
import time
from contextlib import suppress
from statistics import mean

from markupsafe import Markup

from lib.files import run_name
from lib.params import TrainingSettings
from lib.plots import color_of
from lib.report import charts
from lib.report.reading import Material, spread
from lib.report.writing import (
    accuracy_digits,
    counted,
    duration,
    known,
    listed,
    name_of,
    percent,
    with_spread,
)

HEADINGS = {
    "test": "test",
    "valid": "validation",
    "train": "training",
    "merged": "look-alikes merged",
    "parameters": "parameters",
    "seconds": "time to train",
}
RATES = ("learning_rate", "finder_steps")  # of the settings, told by themselves or of no interest


def groups(material: Material) -> dict[str, list[dict]]:
    """The runs, a group for each network, or for each network and schedule where there are several; the best first."""
    several = len({run["schedule"] for run in material.runs}) > 1
    found: dict[str, list[dict]] = {}
    for network in material.networks:
        for run in (run for run in material.runs if run["network"] == network):
            found.setdefault(
                name_of(network) + (f", {run['schedule']}" if several else ""), []
            ).append(run)
    return found


def accuracies(material: Material) -> dict:
    """A row of dots per network, a dot per seed, on a scale that tells them apart."""
    found = groups(material)
    values = {name: [run["test_accuracy"] for run in runs] for name, runs in found.items()}
    everything = [value for own in values.values() for value in own]
    scale, digits, rows = charts.round_scale(everything, 0, 1), accuracy_digits(everything), []
    for name, own in values.items():
        color, row = color_of(found[name][0]["network"]), spread(own)
        marks = [
            charts.line(scale, min(own), max(own), color),
            *(charts.dot(scale, value, color, percent(value, 2)) for value in own),
        ]
        rows.append(charts.Row(name, charts.track(scale, marks), with_spread(row, digits)))
    step = scale.ticks[1] - scale.ticks[0] if len(scale.ticks) > 1 else 1
    axis = charts.axis(scale, lambda value: f"{100 * value:.{1 if step < 0.01 else 0}f}")
    return {"rows": rows, "axis": axis, "seeds": len(material.main_runs(material.best))}


def table(material: Material) -> dict:
    """The table: `columns` (a key and a heading each) and `rows`, those that cost nothing first."""
    merged = material.finding("05", "merged", {})
    rows = [
        {
            "name": row["network"],
            "test": percent(row["test_accuracy"]),
            "parameters": f"{row['parameters']:,}" if row["parameters"] else "",
        }
        for row in material.finding("04", "baselines", [])
    ]
    found = groups(material)
    digits = accuracy_digits([run["test_accuracy"] for run in material.runs])
    for name, runs in found.items():
        network = runs[0]["network"]
        shares = {
            part: with_spread(spread([run[f"{part}_accuracy"] for run in runs]), digits)
            for part in ("test", "valid", "train")
        }
        like = (
            merged.get(network, {}).get("look-alikes merged")
            if runs == material.main_runs(network)
            else None
        )
        rows.append(
            {
                "name": name,
                "color": color_of(network),
                **shares,
                "merged": percent(like, digits),
                "parameters": f"{runs[0]['parameters']:,}",
                "seconds": duration(mean(run["seconds"] for run in runs)),
            }
        )
    return {
        "columns": [
            (key, text) for key, text in HEADINGS.items() if any(row.get(key) for row in rows)
        ],
        "rows": rows,
    }


def learning(material: Material) -> dict:
    """Validation accuracy and losses over the epochs, all runs together."""
    runs = [
        (run, material.histories[name])
        for run in material.runs
        if (name := run_name(run["network"], run["schedule"], run["seed"])) in material.histories
    ]
    last = int(max(history["epoch"].max() for _, history in runs))
    ticks = [
        float(epoch) for epoch in range(1, last + 1) if epoch % -(-last // 8) == 0 or epoch == 1
    ]
    epochs = charts.Scale(min(1, last - 1), last, ticks)

    def lines(column: str, dashed: bool = False) -> list[charts.Curve]:
        return [
            charts.Curve(
                list(zip(history["epoch"], history[column])),
                color_of(run["network"]),
                f"{name_of(run['network'])}, seed {run['seed']}",
                dashed,
            )
            for run, history in runs
        ]

    def plot(drawn: list[charts.Curve], what: str, shown, most: float | None) -> Markup:
        scale = charts.round_scale([y for curve in drawn for _, y in curve.points], 0, most)
        return charts.curves(
            drawn, epochs, scale, lambda x: f"{x:.0f}", shown, _in_words(runs, what)
        )

    networks = [
        name for name in material.networks if any(run["network"] == name for run, _ in runs)
    ]
    return {
        "accuracy": plot(lines("valid_accuracy"), "valid_accuracy", lambda y: f"{100 * y:.4g}", 1),
        "loss": plot(
            lines("train_loss", dashed=True) + lines("valid_loss"),
            "valid_loss",
            lambda y: f"{y:.3g}",
            None,
        ),
        "legend": charts.legend([(color_of(name), name_of(name)) for name in networks]),
        "runs": len(runs),
        "epochs": last,
    }


def _in_words(runs: list[tuple], column: str) -> str:
    said = []
    for network in dict.fromkeys(run["network"] for run, _ in runs):
        own = [history[column] for run, history in runs if run["network"] == network]
        first, last = (
            mean(values.iloc[0] for values in own),
            mean(values.iloc[-1] for values in own),
        )
        numbers = (
            (percent(first, 0), percent(last, 0))
            if column.endswith("accuracy")
            else (f"{first:.2f}", f"{last:.2f}")
        )
        said.append(
            f"{name_of(network)} from {numbers[0]} after the first epoch to {numbers[1]} after the last"
        )
    what = "Validation accuracy" if column.endswith("accuracy") else "Validation loss"
    return f"{what}, mean over seeds: {'; '.join(said)}."


def conditions(material: Material) -> list[tuple[str, str]]:
    """What the numbers were made with, as (what, value); a value in which runs differ names them."""
    first = material.runs[0]
    changed = [
        key
        for key, field in TrainingSettings.model_fields.items()
        if key in first
        and key not in RATES
        and any(run.get(key) != field.default for run in material.runs)
    ]
    rates = {
        run["network"]: f"{run['learning_rate']:.2g} ({name_of(run['network'])})"
        for run in material.runs
    }
    data = ", ".join(
        filter(
            None,
            [
                first["dataset"],
                first["split"] and f"split {first['split']}",
                f"{first['n_classes']} classes",
            ],
        )
    )
    seeds = counted(len({run["seed"] for run in material.runs}), "seed")
    rows = [
        ("Profile", material.profile),
        ("Data", f"{data}. {first.get('note', '')}".strip()),
        (
            "Images",
            f"{first['n_train']:,} to train on, {first['n_valid']:,} to validate, {first['n_test']:,} to test",
        ),
        ("Checksum of the data", first["checksum"]),
        (
            "Runs",
            f"{len(material.runs)}: {listed([name_of(name) for name in material.networks])}, {seeds} each",
        ),
        ("Schedule", listed(list(dict.fromkeys(run["schedule"] for run in material.runs)))),
        ("Highest learning rate", listed(list(rates.values()))),
        *((key.replace("_", " ").capitalize(), _values(material.runs, key)) for key in changed),
        ("Machine", _values(material.runs, "device_name")),
        ("Versions", f"torch {first['torch']}, fastai {first['fastai']}, Python {first['python']}"),
        ("Training took", f"{duration(sum(run['seconds'] for run in material.runs))} in all"),
        ("Ended", _ended(material)),
    ]
    return [(what, value) for what, value in rows if value]


def _values(runs: list[dict], key: str) -> str:
    return listed(
        list(
            dict.fromkeys(
                f"{run[key]:g}" if isinstance(run[key], float) else str(run[key])
                for run in runs
                if known(run.get(key))
            )
        )
    )


def _ended(material: Material) -> str:
    ends = []
    for record in (material.outputs / "notebooks").glob("*.json"):
        with suppress(
            ValueError, KeyError, TypeError
        ):  # one that is damaged, or of a notebook that has not ended
            ends.append(float(json.loads(record.read_text())["ended"]))
    return time.strftime("%d %B %Y, %H:%M", time.localtime(max(ends))) if ends else ""
