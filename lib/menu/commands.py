"""What the tasks of the menu do, and how they tell it."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lib.errors import InputError
from lib.files import (
    REPORT,
    RESULTS,
    ROOT,
    find_model,
    outputs_folder,
    read_json,
    run_name,
    shown_path,
)
from lib.menu import comparison, tables
from lib.params import did_you_mean, load_profile, profile_names
from lib.running import plan as pipeline
from lib.running.notebook import THREADS, NotebookProcess, quiet_environment, run_step

WIDGET = "application/vnd.jupyter.widget-view+json"
console = Console(highlight=False)


def run_all(
    profile: str, settings: list[str], jobs: str, scheduler: str, force: bool, notebook: str = ""
) -> None:
    """Runs what is not fresh of a profile, or of one of its notebooks, and shows what became of it; status 1 if a step failed."""
    if jobs and (not jobs.isdecimal() or int(jobs) < 1):
        raise InputError(
            f"--jobs {jobs}: give a number of notebooks to run at the same time, 1 or more."
        )
    chosen = pipeline.notebook_named(notebook) if notebook else ""
    outcomes = pipeline.run_all(profile, settings, int(jobs or 0), chosen, scheduler, force)
    summarise(outcomes, profile)
    page = outputs_folder(f"outputs/{profile}") / REPORT
    changed = any(outcome.state != "fresh" for outcome in outcomes.values()) or not page.exists()
    if not chosen and changed and read_json(outputs_folder(f"outputs/{profile}") / RESULTS):
        report(profile, settings)
    elif page.exists():
        console.print(f"report: {shown_path(page)}", soft_wrap=True)
    if any(outcome.state == "failed" for outcome in outcomes.values()):
        sys.exit(1)


def summarise(outcomes: dict[str, pipeline.Outcome], profile: str) -> None:
    """A table of steps, a table of results, and every failure with its notebook, cell, error and what was skipped for it."""
    steps = Table("notebook", "state", "seconds", title=f"profile {profile}", title_justify="left")
    for name, outcome in outcomes.items():
        steps.add_row(name, outcome.state, f"{outcome.seconds:.0f}" if outcome.seconds else "")
    results = read_json(outputs_folder(f"outputs/{profile}") / RESULTS)
    if all(outcome.state == "fresh" for outcome in outcomes.values()):
        console.print(
            f"profile {profile}: nothing has changed since its {len(outcomes)} notebooks were run"
        )
    else:
        console.print(steps)
    if results:
        console.print(tables.results_table(results))
    failures = {name: outcome for name, outcome in outcomes.items() if outcome.state == "failed"}
    for name, outcome in failures.items():
        console.print(f"\n[bold red]{name} failed[/]: ", end="")
        console.print(outcome.problem, markup=False, soft_wrap=True)
    skipped = [name for name, outcome in outcomes.items() if outcome.state == "skipped"]
    if skipped:
        console.print(f"skipped because of that: {', '.join(skipped)}", soft_wrap=True)
    console.print(f"\nnotebooks and results: {shown_path(outputs_folder(f'outputs/{profile}'))}")


def status(profile: str, settings: list[str]) -> None:
    """A table of the plan: what is fresh, what is not and why, and how long each step took last."""
    checked, steps, busy = load_profile(profile, settings), [], False
    if any((outputs_folder(f"outputs/{profile}") / "notebooks").glob("*.json")):
        checked, steps = pipeline.planned(profile, settings)
        busy = pipeline.is_running(f"outputs/{profile}")
    table = Table(
        box=None,
        padding=(0, 2, 0, 0),
        header_style="dim",
        title=f"profile {profile}",
        title_justify="left",
    )
    for column in ("notebook", "state", "took", "ended", "because of"):
        table.add_column(column, no_wrap=column != "because of")
    to_run: set[str] = set()
    for step in steps or pipeline.plan(
        checked, f"outputs/{profile}"
    ):  # never run: the data need not be made to say so
        table.add_row(*tables.status_row(step, to_run, busy))
    console.print(table)


def compare_runs(first: str, second: str) -> None:
    """Two tables: the conditions in which two runs or profiles differ, and their results side by side."""
    one, two = comparison.read_runs(first), comparison.read_runs(second)
    pairs = comparison.matched(one, two)
    if not pairs:
        raise InputError(
            f"{first} and {second} have no run of the same name: compare single runs instead, "
            f"such as {first}/{next(iter(one))} with {second}/{next(iter(two))}."
        )
    conditions = Table("differs", first, second, title="conditions", title_justify="left")
    for name, values in comparison.differing_conditions(pairs).items():
        conditions.add_row(name, *map(Text, values))
    console.print(conditions if conditions.row_count else "no condition differs")
    console.print(
        tables.compared(pairs[0], first, second)
        if len(pairs) == 1
        else tables.compared_by_run(pairs, first, second)
    )
    for name, own, other in [(first, one, two), (second, two, one)]:
        alone = [run for run in own if run not in other]
        if alone and len(pairs) < max(len(one), len(two)):
            console.print(f"only in {name}: {', '.join(alone)}", soft_wrap=True)


def describe_data(profile: str, settings: list[str]) -> None:
    """Makes, downloads or reads a profile's characters, which checks them, and says what they are."""
    from lib.data.load import load_data  # after the parameters: a misspelt one is reported at once

    data = load_data(load_profile(profile, settings))
    sizes = f"{len(data.train_labels):,} images to train, {len(data.valid_labels):,} to validate, {len(data.test_labels):,} to test"
    console.print(
        f"{data.dataset} {data.split}".strip() + f": {len(data.class_names)} classes, {sizes}",
        soft_wrap=True,
    )
    console.print(f"checksum {data.checksum}", data.note, soft_wrap=True)


def report(profile: str, settings: list[str]) -> None:
    """Writes a profile's results as a page for people who were not there, and says where it is."""
    from lib.report import write_report

    page = write_report(profile, settings)
    console.print(f"report, to open in a browser: {shown_path(page)}", soft_wrap=True)


def export(network: str, model: str, profile: str, output: str) -> None:
    """Writes a trained network as ONNX, checked, and says where it is and how far its probabilities are from torch's."""
    from lib.reading.onnx_file import N_CHECKED, check_libraries, default_output, export_model

    check_libraries()
    path = find_model(network, model, profile)
    file = Path(output).expanduser() if output else default_output(path)
    difference = export_model(path, file)
    console.print(
        f"exported to {shown_path(file)}, {file.stat().st_size / 1e6:.1f} MB; on {N_CHECKED:,} images the same labels as torch, "
        f"probabilities at most {difference:.1g} apart",
        soft_wrap=True,
    )


def demo(profile: str, port: str) -> None:
    """Serves the notebook to draw in as a page on this machine, until Ctrl-C; status 130 then."""
    if not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise InputError(f"--port {port}: give a number from 1 to 65535.")
    chosen = load_profile(profile)
    from lib.reading.page import (
        serve,
    )  # after the parameters: with it comes voila, which takes seconds

    def say(address: str) -> None:
        console.print(f"draw at {address} (Ctrl-C ends it)", soft_wrap=True)

    serve(chosen, profile, int(port), say)
    console.print("The page is no longer served.")
    sys.exit(130)


def write_readme(profile: str) -> None:
    """Draws the README's picture and writes its tables from a profile's results, which are kept beside it."""
    from lib.report import readme

    draw_overview(profile)
    readme.write(readme.keep(profile))


def draw_overview(profile: str, network: str = "custom") -> None:
    """Draws docs/overview.png, the README's picture, from a profile's results."""
    from lib import plots, runs
    from lib.analysis import confusions
    from lib.data import load_data

    chosen = load_profile(profile)
    data = load_data(chosen)
    run = outputs_folder(f"outputs/{profile}") / run_name(
        network, chosen.schedules[0], chosen.seeds[0]
    )
    actual, probabilities = runs.read_predictions(run)
    predicted = probabilities.argmax(axis=1)
    counts = confusions.count_confusions(actual, predicted, len(data.class_names))
    pairs = confusions.top_pairs(counts, data.class_names, n=9)[["actual", "predicted"]].itertuples(
        index=False
    )
    plots.set_style()
    shares = confusions.errors_only(counts)
    figure = plots.overview(
        data.dataset, data.test_images, actual, predicted, data.class_names, shares, list(pairs)
    )
    (ROOT / "docs").mkdir(exist_ok=True)
    figure.savefig(ROOT / "docs" / "overview.png", dpi=80)


def test(real: bool) -> None:
    """pytest, then nbval over the notebooks, a process per core; results go to a folder that is removed, so that no earlier one is read."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = (
            quiet_environment() | {"HANDWRITING_OUTPUTS": scratch} | dict.fromkeys(THREADS, "1")
        )
        pytest = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "pytest",
            "-q",
            "-n",
            str(pipeline.n_cores()),
        ]
        tests = subprocess.run(
            [*pytest, "--dist", "worksteal", "tests", *(["tests/real"] if real else [])],
            cwd=ROOT,
            env=environment,
        )
        notebooks = subprocess.run(
            [
                *pytest,
                "--dist",
                "loadfile",
                "--nbval",
                "--nbval-sanitize-with",
                "tests/sanitize.cfg",
                "notebooks",
            ],
            cwd=ROOT,
            env=environment,
        )
    sys.exit(1 if tests.returncode or notebooks.returncode else 0)


def bench(archive: str, as_json: bool) -> None:
    """Runs the benchmark of tests/bench, which prints its tables."""
    command = [
        sys.executable,
        "-m",
        "bench",
        *(["--archive", str(Path(archive).resolve())] if archive else []),
        *(["--json"] if as_json else []),
    ]
    if archive and not Path(archive).is_file():
        raise InputError(
            f"--archive {archive}: there is no such file; give EMNIST's gzip.zip, or leave it out."
        )
    sys.exit(subprocess.run(command, cwd=ROOT / "tests").returncode)


def refresh() -> None:
    """Executes the stored notebooks with their defaults and replaces them, one by one, when they have ended well.

    What they read of one another is made anew in a folder that is removed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HANDWRITING_OUTPUTS"] = scratch
        with NotebookProcess(pipeline.n_cores()) as process:
            for notebook in sorted(pipeline.NOTEBOOKS.glob("*.ipynb")):
                console.print(f"{notebook.stem}: started")
                step = pipeline.Step(notebook.stem, str(notebook), scratch, {})
                outcome = run_step(step, process)
                if outcome.state != "done":
                    raise InputError(
                        f"{notebook.name} is left as it was, since it failed: {outcome.problem.splitlines()[0]}."
                    )
                store(step.executed, notebook)


def store(executed: Path, notebook: Path) -> None:
    """Replaces a stored notebook by its executed copy, less papermill's notes of when and where it ran."""
    import nbformat  # slow to import, and needed for this alone

    content = nbformat.read(executed, as_version=4)
    for key in ("papermill", "widgets"):
        content.metadata.pop(key, None)
    for cell in content.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(
                WIDGET, None
            )  # lives in the kernel alone; what it says without one is kept
    nbformat.write(content, notebook.with_suffix(".part"))
    os.replace(notebook.with_suffix(".part"), notebook)


def clean(profile: str, data: bool) -> None:
    """Deletes one profile's results, or all, and with `data` what was downloaded and cached."""
    from lib.data.cache import data_folder

    if profile and profile not in profile_names():
        raise InputError(f"There is no profile '{profile}'{did_you_mean(profile, profile_names())}")
    folders = [
        outputs_folder(f"outputs/{name}") for name in ([profile] if profile else profile_names())
    ]
    for folder in folders + ([data_folder() / "cache", data_folder() / "raw"] if data else []):
        if folder.exists():
            shutil.rmtree(folder)
            console.print(f"deleted {shown_path(folder)}")
