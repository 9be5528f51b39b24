"""The README's numbers, written from a run: docs/results.json keeps the run, and text between two markers is made from it."""

import re
from pathlib import Path

import pandas as pd

from lib.files import FINDINGS, ROOT, outputs_folder, read_json, read_results, write_json

KEPT = ROOT / "docs" / "results.json"
README = ROOT / "README.md"
NOT_KEPT = {
    "05-confusions": ("sets", "suspicious"),
    "06-why-the-gap": ("off",),
    "08-better": ("published",),
}
NAMES = {"lenet": "LeNet", "resnet": "ResNet", "custom": "custom"}


def keep(profile: str) -> dict:
    """The metrics of a profile's runs and what its analyses found, less lists of images, as docs/results.json."""
    folder = outputs_folder(f"outputs/{profile}")
    found = {path.stem: read_json(path) for path in sorted((folder / FINDINGS).glob("*.json"))}
    found = {
        name: {key: value for key, value in content.items() if key not in NOT_KEPT.get(name, ())}
        for name, content in found.items()
    }
    content = {"profile": profile, "results": read_results(folder), "findings": found}
    write_json(KEPT, content)
    return content


def write(content: dict, path: Path = README) -> None:
    """Puts the tables made from `content` in the place of those in the README."""
    path.write_text(with_tables(path.read_text(encoding="utf-8"), content), encoding="utf-8")


def with_tables(text: str, content: dict) -> str:
    """The text with what stands between `<!-- results -->` and `<!-- end -->`, and so on, made anew from `content`."""
    for name, table in {
        "results": results_table(content),
        "findings": findings_table(content),
    }.items():
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda match: f"{match[1]}{table}{match[2]}",
            text,
            flags=re.S,
        )
    return text


def percent(value, digits: int = 1) -> str:
    """0.8641 as "86.4 %"; nothing for a value that is not there."""
    return "" if value is None or pd.isna(value) else f"{100 * value:.{digits}f} %"


def with_spread(mean: float, std: float | None) -> str:
    """A mean with its standard deviation, where there is one: "85.4 ± 0.2 %"."""
    return percent(mean) if std is None or pd.isna(std) else f"{100 * mean:.1f} ± {100 * std:.1f} %"


def rows(header: list[str], lines: list[list[str]]) -> str:
    """A Markdown table."""
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, ["---"] * len(header), *lines])


def results_table(content: dict) -> str:
    """A row per network, over its seeds, under those of the answers that cost nothing; then the conditions."""
    results, found = pd.DataFrame(content["results"]), content["findings"]
    lines = [
        [
            row["network"],
            f"{row['parameters']:,}" if row["parameters"] else "",
            "",
            "",
            percent(row["test_accuracy"]),
            "",
            "",
            "",
        ]
        for row in found["04-compare"]["baselines"]
    ]
    for network, runs in results.groupby("network", sort=False):
        merged = found["05-confusions"]["merged"][network]
        means = [
            with_spread(
                runs[f"{part}_accuracy"].mean(),
                runs[f"{part}_accuracy"].std() if len(runs) > 1 else None,
            )
            for part in ("train", "valid", "test")
        ]
        lines.append(
            [
                NAMES.get(network, network),
                f"{runs['parameters'].iloc[0]:,}",
                *means,
                percent(merged["case folded"]),
                percent(merged["look-alikes merged"]),
                f"{runs['seconds'].mean():.0f} s",
            ]
        )
    one = results.iloc[0]
    seeds = results.groupby("network").size().max()
    conditions = (
        f"\n{one['dataset'].capitalize()}, {one['n_classes']} classes, {one['n_train']:,} images to train, {one['n_valid']:,} to validate, {one['n_test']:,} to test;\n"
        f"{one['epochs']} epochs, {seeds} seeds (mean ± standard deviation; merged columns: the first seed); {one['device_name']} each, {one['precision']},\n"
        f"torch {one['torch']}, fastai {one['fastai']}. Rates, batch size and all else stand in `docs/results.json`.\n"
    )
    return (
        rows(
            [
                "",
                "parameters",
                "train",
                "validation",
                "test",
                "case folded",
                "look-alikes merged",
                "training",
            ],
            lines,
        )
        + conditions
    )


def findings_table(content: dict) -> str:
    """A row per question of the original, with the answer that was measured."""
    found = content["findings"]
    lines = [[question, answer(found)] for question, answer in QUESTIONS.items()]
    return rows(["question", "measured"], lines)


def gap(found: dict) -> str:
    skew = pd.DataFrame(found["06-why-the-gap"]["skew"]).groupby("network", sort=False)
    parts = [
        f"{NAMES.get(name, name)} {percent(own['as_trained'].mean())} to {percent(own['as_tested'].mean())}"
        for name, own in skew
    ]
    return f"tested without the mean image that training subtracts: {', '.join(parts)}"


def classes(found: dict) -> str:
    prior = (
        pd.DataFrame(found["06-why-the-gap"]["prior"]).groupby("trained_on").mean(numeric_only=True)
    )
    return (
        f"trained on capped classes, {percent(prior.loc['capped', 'natural test'])} of a test with unequal ones, corrected for the prior "
        f"{percent(prior.loc['capped', 'natural test, corrected'])}; trained on unequal ones {percent(prior.loc['natural', 'natural test'])}"
    )


def confused(found: dict) -> str:
    found = found["05-confusions"]
    own = found["budget"][found["best"]]
    shares = [f"{name} {percent(count / own['errors'], 0)}" for name, count in own["parts"].items()]
    return f"of the {own['errors']:,} errors of {found['best']} in {own['images']:,} images: {', '.join(shares)}"


def honest(found: dict) -> str:
    errors = found["05-confusions"]["calibration"].items()
    return "expected calibration error, after temperature scaling: " + ", ".join(
        f"{NAMES.get(name, name)} {percent(own['ece_before'])} to {percent(own['ece_after'])}"
        for name, own in errors
    )


def promised(found: dict) -> str:
    return "; ".join(
        f"{percent(row['coverage'], 0)} promised, {percent(row['measured'])} kept with {row['mean_size']:.2f} answers"
        for row in found["05-confusions"]["conformal"]
    )


def cyclic(found: dict) -> str:
    found = found["04-compare"]
    parts = [
        f"{row['schedule']} {with_spread(row['mean'], row['std'])}"
        + (f" ({row['verdict']})" if row["schedule"] != "constant" else "")
        for row in found["schedules"]
    ]
    return f"{', '.join(parts)}, each at its best of three rates; {found['schedule_conditions']['network']}, {found['schedule_conditions']['images']:,} images, {found['schedule_conditions']['epochs']} epochs"


def transfer(found: dict) -> str:
    found = found["07-transfer-learning"]
    curves = pd.DataFrame(found["curves"]).pivot(index="per_class", columns="start", values="mean")
    parts = [
        f"{per_class} per class {percent(row['scratch'])} alone, {percent(row['strokes'])} after strokes"
        for per_class, row in curves.iterrows()
    ]
    return f"{found['target']}: {'; '.join(parts)}"


def helps(found: dict) -> str:
    trials = [row for row in found["08-better"]["trials"] if row["variant"] != "nothing"]
    points = [
        f"{row['variant']} {100 * row['gain']:+.1f}"
        for row in sorted(trials, key=lambda row: -row["gain"])
    ]
    vote = found["08-better"]["ensemble"]
    return f"points of accuracy: {', '.join(points)}; the vote of all runs {percent(vote['mean'])} against {percent(vote['best_single'])} ({vote['verdict']})"


QUESTIONS = {
    "Why did test accuracy collapse, most of all for the ResNet? (`06`)": gap,
    "And the capped classes? (`06`)": classes,
    "Which characters cannot be told apart? (`05`)": confused,
    "Can the probabilities be believed? (`05`)": honest,
    "Sets of answers: is the right one in them? (`05`)": promised,
    "Do cyclic rates bring a great boost? (`04`)": cyclic,
    "Does transfer learning help? (`07`)": transfer,
    "How does it get better? (`08`)": helps,
}
