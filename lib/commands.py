"""What the tasks of the menu do, and how they tell it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lib import pipeline
from lib.errors import InputError
from lib.files import RESULTS, ROOT, outputs_folder, read_json, run_name, shown_path
from lib.params import did_you_mean, load_profile, profile_names

console = Console(highlight=False)


def run_all(profile: str, settings: list[str], jobs: str) -> None:
    """Runs a profile, shows what became of each notebook, and exits with status 1 if one did not end well."""
    if not jobs.isdecimal() or int(jobs) < 1:
        raise InputError(f"--jobs {jobs}: give a number of notebooks to run at the same time, 1 or more.")
    summarise(pipeline.run_all(profile, settings, int(jobs)), profile)


def run_notebook(notebook: str, profile: str, settings: list[str]) -> None:
    """Runs the steps of one notebook; status 1 if one did not end well."""
    summarise(pipeline.run_notebook(notebook, profile, settings), profile)


def summarise(outcomes: dict[str, pipeline.Outcome], profile: str) -> None:
    """A table of steps, a table of results, and every failure with its notebook, cell and error."""
    steps = Table("notebook", "state", "seconds", title=f"profile {profile}", title_justify="left")
    for name, outcome in outcomes.items():
        steps.add_row(name, outcome.state, f"{outcome.seconds:.0f}")
    console.print(steps)
    results = read_json(outputs_folder(f"outputs/{profile}") / RESULTS)
    if results:
        console.print(results_table(results))
    failures = {name: outcome for name, outcome in outcomes.items() if outcome.state != "done"}
    for name, outcome in failures.items():
        console.print(f"\n[bold]{name} {outcome.state}[/bold]: ", end="")
        console.print(outcome.problem, markup=False)
    console.print(f"\nnotebooks and results: {shown_path(outputs_folder(f'outputs/{profile}'))}")
    if failures:
        sys.exit(1)


def results_table(results: list[dict]) -> Table:
    """One row per finished run, narrow enough for 80 columns; the data stand in the title where all runs share them."""
    data = {f"{row['dataset']} {row['split']}".strip() + f", {row['n_test']:,} test images" for row in results}
    table = Table("network", "schedule", "seed", "epochs", "train", "valid", "test", "seconds",
                  title=f"accuracy on {data.pop()}" if len(data) == 1 else "accuracy", title_justify="left")
    for row in results:
        accuracies = (f"{row[part]:.2%}" for part in ("train_accuracy", "valid_accuracy", "test_accuracy"))
        table.add_row(row["network"], row["schedule"], str(row["seed"]), str(row["epochs_run"]), *accuracies, f"{row['seconds']:.0f}")
    return table


def describe_data(profile: str, settings: list[str]) -> None:
    """Makes, downloads or reads a profile's characters, which checks them, and says what they are."""
    from lib.data import load_data  # after the parameters: a misspelt one is reported at once

    data = load_data(load_profile(profile, settings))
    sizes = f"{len(data.train_labels):,} images to train, {len(data.valid_labels):,} to validate, {len(data.test_labels):,} to test"
    console.print(f"{data.dataset} {data.split}".strip() + f": {len(data.class_names)} classes, {sizes}", soft_wrap=True)
    console.print(f"checksum {data.checksum}", data.note, soft_wrap=True)


def draw_overview(profile: str, network: str = "custom") -> None:
    """Draws docs/overview.png, the README's picture, from a profile's results."""
    from lib import confusions, plots, runs
    from lib.data import load_data

    chosen = load_profile(profile)
    data = load_data(chosen)
    run = outputs_folder(f"outputs/{profile}") / run_name(network, chosen.schedule, chosen.seeds[0])
    actual, probabilities = runs.read_predictions(run)
    predicted = probabilities.argmax(axis=1)
    counts = confusions.count_confusions(actual, predicted, len(data.class_names))
    pairs = confusions.top_pairs(counts, data.class_names, n=9)[["actual", "predicted"]].itertuples(index=False)
    plots.set_style()
    shares = confusions.errors_only(counts)
    figure = plots.overview(data.dataset, data.test_images, actual, predicted, data.class_names, shares, list(pairs))
    (ROOT / "docs").mkdir(exist_ok=True)
    figure.savefig(ROOT / "docs" / "overview.png", dpi=80)


def test(real: bool) -> None:
    """pytest, then nbval over the notebooks; results go to a folder that is removed, so that no earlier one is read."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = pipeline.quiet_environment() | {"HANDWRITING_OUTPUTS": scratch}
        pytest = [sys.executable, "-W", "ignore", "-m", "pytest", "-q"]
        nbval = ["--nbval", "--nbval-sanitize-with", "tests/sanitize.cfg", "notebooks"]
        runs = [["tests"], nbval] + ([["tests/real"]] if real else [])
        codes = [subprocess.run([*pytest, *arguments], cwd=ROOT, env=environment).returncode for arguments in runs]
    sys.exit(1 if any(codes) else 0)


def bench(archive: str, as_json: bool) -> None:
    """Runs the benchmark and prints a table per part, or everything as JSON; what is going on goes to stderr."""
    from lib import bench as benchmark

    if archive and not Path(archive).is_file():
        raise InputError(f"--archive {archive}: there is no such file; give EMNIST's gzip.zip, or leave it out.")
    notes = Console(stderr=True, highlight=False)
    results = benchmark.run(archive, say=lambda line: notes.print(line, soft_wrap=True))
    if as_json:
        print(json.dumps(results, indent=1))
        return
    console.print(*(f"{name} {value}" for name, value in results.pop("machine").items()), sep=", ", soft_wrap=True)
    for name, rows in results.items():
        console.print(bench_table(getattr(benchmark, f"bench_{name}").__doc__.splitlines()[0], rows))


def bench_table(title: str, rows: dict[str, dict]) -> Table:
    """One row per contestant; numbers with four digits."""
    import pandas as pd  # here, since the other commands start faster without it

    flat = pd.json_normalize(list(rows.values()), sep=" ").set_axis(list(rows), axis=0)
    table = Table("", *flat.columns, title=title, title_justify="left")
    for name, row in flat.iterrows():
        table.add_row(name, *("" if pd.isna(value) else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}" for value in row))
    return table


def refresh() -> None:
    """Executes the stored notebooks with their defaults and replaces them, one by one, when they have ended well.

    What they read of one another is made anew in a folder that is removed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HANDWRITING_OUTPUTS"] = scratch
        for notebook in sorted(pipeline.NOTEBOOKS.glob("*.ipynb")):
            step = pipeline.Step(notebook.stem, str(notebook), f"{scratch}/{notebook.name}", {})
            console.print(f"{notebook.stem}: started")
            outcome = pipeline.run_step(step, threads=os.cpu_count() or 1)
            if outcome.state != "done":
                raise InputError(f"{notebook.name} is left as it was, since it failed: {outcome.problem.splitlines()[0]}.")
            pipeline.store(Path(step.output), notebook)


def clean(profile: str, data: bool) -> None:
    """Deletes one profile's results, or all, and with `data` what was downloaded and cached."""
    from lib.cache import data_folder

    if profile and profile not in profile_names():
        raise InputError(f"There is no profile '{profile}'{did_you_mean(profile, profile_names())}")
    folders = [outputs_folder(f"outputs/{name}") for name in ([profile] if profile else profile_names())]
    for folder in folders + ([data_folder() / "cache", data_folder() / "raw"] if data else []):
        if folder.exists():
            shutil.rmtree(folder)
            console.print(f"deleted {shown_path(folder)}")
