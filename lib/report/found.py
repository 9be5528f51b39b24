"""The parts of the page that an analysis notebook has to find first. Each raises KeyError, or the like, where it has not."""

from statistics import mean

from lib.plots import color_of
from lib.report import charts
from lib.report.explorer import Sprite
from lib.report.reading import Material, spread
from lib.report.writing import counted, known, name_of, percent, points, with_spread

CAUSES = {
    "case only": "#c8b78e",
    "look-alikes": "#a9915a",
    "found groups": "#7d97a8",
    "suspected labels": "#4f6b7d",
    "rest": "#d1495b",
}
START_COLORS = {"strokes": "#ee6677", "scratch": "#4477aa"}
SHOWN_SETS, SHOWN_SUSPECTS = 12, 12


def paired(material: Material) -> list[dict]:
    """Every two networks on the same images: the bars of what only one of them reads, and the verdict in words."""
    found = material.finding("04", "paired")
    most = max(max(row["only_first"], row["only_second"]) for row in found) or 1
    scale, rows = charts.Scale(-most, most, []), []
    for row in found:
        marks = [
            charts.bar(scale, -row["only_first"], 0, color_of(row["first"])),
            charts.bar(scale, 0, row["only_second"], color_of(row["second"])),
        ]
        winner, _, rest = row["verdict"].partition(" ")
        p = "p < 0.001" if row["p"] < 0.001 else f"p = {row['p']:.2g}"
        rows.append(
            {
                "first": name_of(row["first"]),
                "second": name_of(row["second"]),
                "only_first": f"{row['only_first']:,}",
                "only_second": f"{row['only_second']:,}",
                "track": charts.track(scale, marks, zero=True),
                "verdict": f"{name_of(winner)} {rest}, {p}",
            }
        )
    if not rows:
        raise KeyError("paired")
    return rows


def schedules(material: Material) -> dict:
    """What each schedule of the learning rate came to on the same part of the data, against the constant one."""
    rows = []
    for row in material.finding("04", "schedules"):
        compared = row["schedule"] != "constant" and known(row.get("gain"))
        interval = (
            f"{points(row['gain_low'])} to {points(row['gain_high'])}"
            if compared and known(row.get("gain_low"))
            else ""
        )
        rows.append(
            {
                "name": row["schedule"].replace("_", " "),
                "accuracy": with_spread(row),
                "gain": points(row["gain"]) if compared else "",
                "interval": interval,
                "epochs": f"{row['epochs_to_goal']:.0f}"
                if known(row.get("epochs_to_goal"))
                else "",
            }
        )
    asked = material.finding("04", "schedule_conditions", {})
    told = (
        f"{name_of(asked['network'])}, {asked['images']:,} training images, {counted(asked['epochs'], 'epoch')}"
        if asked
        else ""
    )
    return {"rows": rows, "conditions": told}


def budget(material: Material) -> dict:
    """What the errors of each network are made of: a bar of causes per network, as long as its share of errors."""
    found = material.finding("05", "budget")
    networks = [name for name in material.networks if name in found]
    scale, rows = (
        charts.round_scale(
            [0, *(found[name]["errors"] / found[name]["images"] for name in networks)], 0, 1
        ),
        [],
    )
    for name in networks:
        parts, images, start, marks = found[name]["parts"], found[name]["images"], 0.0, []
        for cause, errors in parts.items():
            end = start + errors / images
            marks.append(
                charts.bar(
                    scale, start, end, CAUSES.get(cause, "#999999"), f"{cause}: {errors:,}", 18
                )
            )
            start = end
        said = ", ".join(f"{errors:,} {cause}" for cause, errors in parts.items())
        rows.append(
            charts.Row(
                name_of(name),
                charts.track(scale, marks),
                percent(found[name]["errors"] / images),
                said=said,
            )
        )
    causes = list(found[networks[0]]["parts"])
    return {
        "rows": rows,
        "axis": charts.axis(scale, lambda value: f"{100 * value:.3g}"),
        "legend": charts.legend(
            [
                (CAUSES.get(cause, "#999999"), "everything else" if cause == "rest" else cause)
                for cause in causes
            ]
        ),
    }


def found_groups(material: Material) -> list[str]:
    """Groups of classes that the best network takes for each other, the most confused first."""
    return [" ".join(group) for group in material.finding("05", "found_groups")[:14]]


def missed_by_all(material: Material) -> dict:
    """How many images no network reads, and how many that would be if they failed independently."""
    found = material.finding("05", "missed_by_all")
    return {
        "networks": counted(found["networks"], "network"),
        "found": f"{found['found']:,}",
        "expected": f"{found['expected']:,.0f}",
        "hard": found["found"] > 2 * found["expected"],
    }


def calibration(material: Material) -> list[dict]:
    """How far each network's probabilities are off, before and after one number mends them."""
    found = material.finding("05", "calibration")
    return [
        {
            "name": name_of(name),
            "temperature": f"{found[name]['temperature']:.2f}",
            "before": percent(found[name]["ece_before"]),
            "after": percent(found[name]["ece_after"]),
        }
        for name in material.networks
        if name in found
    ]


def coverage(material: Material) -> list[dict]:
    """What prediction sets promise, what they keep on test, and how large they are."""
    return [
        {
            "promised": percent(row["coverage"], 0),
            "kept": percent(row["measured"]),
            "size": f"{row['mean_size']:.2f}",
            "single": percent(row.get("single"), 0),
        }
        for row in material.finding("05", "conformal")
    ]


def sets(material: Material, sprite: Sprite) -> list[dict]:
    """Images whose prediction set holds several classes: `place`, `actual` and `set`."""
    return [
        {
            "place": sprite.place(_within(row["index"], sprite)),
            "actual": row["actual"],
            "set": row["set"],
        }
        for row in material.finding("05", "sets")[:SHOWN_SETS]
    ]


def suspicious(material: Material, sprite: Sprite) -> dict:
    """Images whose label the networks doubt, the most suspicious first, and how well planted wrong labels were found."""
    found = material.finding("05", "suspicious")
    shown = [
        {
            "place": sprite.place(_within(row["index"], sprite)),
            "label": row["label"],
            "answer": row["answer"],
            "probability": percent(row["probability"], 0),
        }
        for row in found[:SHOWN_SUSPECTS]
    ]
    if not shown:
        raise KeyError("suspicious")
    planted = material.finding("05", "planted", {})
    return {
        "images": shown,
        "found": percent(planted.get("recall"), 0),
        "right": percent(planted.get("precision"), 0),
    }


def _within(index: int, sprite: Sprite) -> int:
    if not 0 <= index < len(sprite.images):
        raise IndexError(index)  # of other test images
    return index


def gap(material: Material) -> dict:
    """A row per network: its test accuracy with the images prepared as for training, and with the mean image left in."""
    skew, rows = material.finding("06", "skew"), []
    networks = [name for name in material.networks if any(row["network"] == name for row in skew)]
    scale = charts.Scale(0, 1, [0, 0.25, 0.5, 0.75, 1])
    for name in networks:
        own, color = [row for row in skew if row["network"] == name], color_of(name)
        before, after = (mean(row[way] for row in own) for way in ("as_trained", "as_tested"))
        marks = [
            charts.line(scale, after, before, color, 3),
            charts.dot(scale, before, color, "as trained"),
            charts.dot(scale, after, color, "mean image left in", hollow=True),
        ]
        lost = with_spread(
            spread([row["as_trained"] - row["as_tested"] for row in own])
        ).removesuffix("\N{NO-BREAK SPACE}%")
        rows.append(
            charts.Row(
                name_of(name),
                charts.track(scale, marks),
                f"{percent(before, 0)} to {percent(after, 0)}",
                f"lost {lost}",
            )
        )
    seeds = f"mean over {counted(len(own), 'seed')}" if len(own) > 1 else "one seed"
    return {
        "rows": rows,
        "axis": charts.axis(scale, lambda value: f"{100 * value:.0f}"),
        "seeds": seeds,
    }


def original(material: Material) -> list[dict]:
    """What the experiment of 2019 reported."""
    return [
        {
            "name": name_of(row["network"]),
            **{part: percent(row[part], 0) for part in ("train", "validation", "test")},
        }
        for row in material.finding("06", "original")
    ]


def transfer(material: Material) -> dict:
    """Accuracy on real characters against how many of each class there were to learn from, for each start."""
    rows, target = material.finding("07", "curves"), material.finding("07", "target")
    sizes = sorted({row["per_class"] for row in rows})
    starts = list(dict.fromkeys(row["start"] for row in rows))
    x = charts.Scale(sizes[0], max(sizes[-1], sizes[0] * 1.01), sizes, logarithmic=True)
    tops = [
        row["mean"] + sign * (row["std"] if known(row.get("std")) else 0)
        for row in rows
        for sign in (-1, 1)
    ]
    y, drawn, said = charts.round_scale(tops, 0, 1), [], []
    for start in starts:
        own = sorted(
            (row for row in rows if row["start"] == start), key=lambda row: row["per_class"]
        )
        halves = [row["std"] if known(row.get("std")) else None for row in own]
        drawn.append(
            charts.Curve(
                [(row["per_class"], row["mean"]) for row in own],
                _start_color(start),
                _start(start),
                spread=halves,
            )
        )
        said.append(
            f"{_start(start)}: "
            + ", ".join(f"{percent(row['mean'], 0)} with {row['per_class']}" for row in own)
        )
    label = f"Accuracy by characters per class. {'; '.join(said)}."
    plot = charts.curves(
        drawn, x, y, lambda value: f"{value:g}", lambda value: f"{100 * value:.3g}", label
    )
    return {
        "plot": plot,
        "legend": charts.legend([(_start_color(start), _start(start)) for start in starts]),
        "target": target,
        "seeds": counted(max(row["n"] for row in rows), "seed"),
    }


def _start(start: str) -> str:
    return {"strokes": "first trained on generated strokes", "scratch": "from scratch"}.get(
        start, start
    )


def _start_color(start: str) -> str:
    return START_COLORS.get(start, "#999999")


def imagenet(material: Material) -> list[tuple[str, str]]:
    """What a network that began with photographs of things came to."""
    rows = [
        (row["variant"], percent(row["accuracy"])) for row in material.finding("07", "imagenet")
    ]
    if not rows:
        raise KeyError("imagenet")
    return rows


def trials(material: Material) -> dict:
    """What each change to the training gains, in points of test accuracy, the most helpful first, with its interval if it has one."""
    found = sorted(material.finding("08", "trials"), key=lambda row: -row["gain"])
    scale, rows = charts.round_scale([0, *(end for row in found for end in _ends(row))]), []
    for row in found:
        low, high = _ends(row)
        marks = [charts.bar(scale, 0, row["gain"], "#228833" if row["gain"] > 0 else "#d1495b")]
        if low < high:
            marks.append(charts.line(scale, low, high, "currentColor", 1.5))
        rows.append(
            charts.Row(
                row["variant"],
                charts.track(scale, marks, zero=True),
                points(row["gain"]),
                with_spread(row),
            )
        )
    asked = material.finding("08", "conditions", {})
    return {
        "rows": rows,
        "axis": charts.axis(
            scale, lambda value: points(value, 0 if scale.high - scale.low > 0.03 else 1)
        ),
        "seeds": counted(max(row["n"] for row in found), "seed"),
        "intervals": any(low < high for low, high in map(_ends, found)),
        "conditions": f"{name_of(asked['network'])}, {asked['images']:,} training images, {counted(asked['epochs'], 'epoch')}"
        if asked
        else "",
    }


def _ends(row: dict) -> tuple[float, float]:
    if known(row.get("gain_low")):
        return row["gain_low"], row["gain_high"]
    half = row["std"] if known(row.get("std")) else 0.0
    return row["gain"] - half, row["gain"] + half


def ensemble(material: Material) -> dict:
    """Several networks asked together, beside the best of them alone."""
    found = material.finding("08", "ensemble")
    return {
        "together": percent(found["mean"]),
        "alone": percent(found["best_single"]),
        "gain": points(found["mean"] - found["best_single"]),
        "verdict": found.get("verdict", ""),
    }
