"""What the tasks of the menu do."""

import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from rich.console import Console

from lib import running
from lib.errors import InputError
from lib.files import (
    FINDINGS,
    REPORT,
    RESULTS,
    ROOT,
    outputs_folder,
    read_json,
    shown_path,
    write_whole,
)
from lib.menu import tables
from lib.params import DataParameters, Profile, did_you_mean, load_profile, profile_names
from lib.running.notebook import THREADS, NotebookProcess, quiet_environment, run_step

WIDGET = "application/vnd.jupyter.widget-view+json"
REFERENCE = "reference"  # the profile whose results come with the repository
console = Console(highlight=False)


def checksum_of(parameters: DataParameters) -> str:
    """The checksum of the characters that the parameters name, which are made or downloaded."""
    return _checksum_of(parameters.model_dump_json())


@cache
def _checksum_of(parameters: str) -> str:
    from lib.data import load_data  # after the profile is checked: a wrong key is said at once

    return load_data(DataParameters.model_validate_json(parameters)).checksum


def run_all(
    profile: str, settings: list[str], jobs: str, scheduler: str, force: bool, notebook: str = ""
) -> None:
    """Runs what is not fresh of a profile or of one notebook of it; status 1 if a step failed."""
    if jobs and (not jobs.isdecimal() or int(jobs) < 1):
        raise InputError(
            f"--jobs {jobs}: give a number of notebooks to run at the same time, 1 or more."
        )
    chosen = running.notebook_named(notebook) if notebook else ""
    loaded = load_profile(profile, settings)
    outcomes = running.run_all(loaded, checksum_of, int(jobs or 0), chosen, scheduler, force)
    summarise(outcomes, loaded, chosen)
    written = write_pages(loaded) if not chosen else None
    console.print(f"\nnotebooks and results: {shown_path(outputs_folder(loaded.outputs))}")
    if written:
        console.print(f"report, to open in a browser: {shown_path(written)}", soft_wrap=True)
    if any(outcome.state == "failed" for outcome in outcomes.values()):
        sys.exit(1)


def summarise(outcomes: dict[str, running.Outcome], profile: Profile, chosen: str) -> None:
    """A table of steps, what was found, and every failure with what was skipped for it."""
    name, folder = profile._name, outputs_folder(profile.outputs)
    if all(outcome.state == "fresh" for outcome in outcomes.values()):
        console.print(
            f"profile {name}: nothing has changed since its {len(outcomes)} notebooks were run"
        )
    else:
        console.print(tables.outcomes_table(outcomes, name))
    findings = folder / FINDINGS / f"{chosen}.json"
    if chosen and findings.exists():
        for sentence in read_json(findings).get("sentences", []):
            console.print(sentence.replace("**", ""), markup=False)
    elif results := read_json(folder / RESULTS, list):
        console.print(tables.results_table(results))
    for step, outcome in outcomes.items():
        if outcome.state == "failed":
            console.print(f"\n[bold red]{step} failed[/]: ", end="")
            console.print(outcome.problem, markup=False, soft_wrap=True)
    skipped = [step for step, outcome in outcomes.items() if outcome.state == "skipped"]
    if skipped:
        console.print(f"skipped because of that: {', '.join(skipped)}", soft_wrap=True)


def write_pages(profile: Profile) -> Path | None:
    """The executed notebooks as pages, the report the first of them; None where it was not run."""
    from lib.report import stale_pages, write_page  # nbconvert takes a second

    outputs = outputs_folder(profile.outputs)
    stale = stale_pages(outputs)
    for number, source in enumerate(stale, 1):
        console.print(f"writing pages: {number} of {len(stale)}", end="\r")
        write_page(outputs, source)
    return outputs / REPORT if (outputs / REPORT).exists() else None


def report(profile: str, settings: list[str]) -> None:
    """Runs a profile's report notebook where it is not fresh, and writes its pages."""
    loaded = load_profile(profile, settings)
    if not (outputs_folder(loaded.outputs) / RESULTS).exists():
        raise InputError(
            f"Profile {profile} has no results to report: run `invoke run-all --profile {profile}` "
            "first."
        )
    run_all(profile, settings, "", "", False, "10-report")
    page = write_pages(loaded)
    console.print(f"report, to open in a browser: {shown_path(page)}", soft_wrap=True)


def status(profile: str, settings: list[str]) -> None:
    """A table of the plan: what is fresh, what is not and why, and how long each step took last."""
    loaded = load_profile(profile, settings)
    ever = any((outputs_folder(loaded.outputs) / "notebooks").glob("*.json"))
    # never run: the data need not be made to say so
    steps = running.plan(loaded, checksum_of) if ever else running.plan(loaded)
    console.print(tables.status_table(steps, running.is_running(loaded.outputs), profile))


def compare_runs(first: str, second: str) -> None:
    """The conditions in which two runs or profiles differ, and their results side by side."""
    for table in tables.comparison(first, second):
        console.print(table, soft_wrap=isinstance(table, str))


def describe_data(profile: str, settings: list[str]) -> None:
    """Makes, downloads or reads a profile's characters, which checks them, and says what they are."""
    from lib.data import load_data  # after the profile is checked: a wrong key is said at once

    data = load_data(load_profile(profile, settings))
    train, valid, test = map(len, (data.train_labels, data.valid_labels, data.test_labels))
    console.print(
        f"{f'{data.dataset} {data.split}'.strip()}: {len(data.class_names)} classes, "
        f"{train:,} images to train, {valid:,} to validate, {test:,} to test",
        soft_wrap=True,
    )
    console.print(f"checksum {data.checksum}", data.note, soft_wrap=True)


def export(network: str, model: str, profile: str, output: str) -> None:
    """Writes a trained network as ONNX, checked, and says how far it is from torch."""
    from lib.reading.models import find_model  # torch takes seconds
    from lib.reading.onnx_file import N_CHECKED, check_libraries, default_output, export_model

    check_libraries()
    path = find_model(network, model, profile)
    file = Path(output).expanduser() if output else default_output(path)
    difference = export_model(path, file)
    console.print(
        f"exported to {shown_path(file)}, {file.stat().st_size / 1e6:.1f} MB; on {N_CHECKED:,} "
        f"images the same labels as torch, probabilities at most {difference:.1g} apart",
        soft_wrap=True,
    )


def demo(profile: str, port: str) -> None:
    """Serves the notebook to draw in as a page on this machine, until Ctrl-C; status 130 then."""
    if not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise InputError(f"--port {port}: give a number from 1 to 65535.")
    chosen = load_profile(profile)
    from lib.reading.page import serve  # after the checks: with it comes voila, which takes seconds

    def say(address: str) -> None:
        console.print(f"draw at {address} (Ctrl-C ends it)", soft_wrap=True)

    serve({"outputs": chosen.outputs, "data_seed": chosen.data_seed}, int(port), say)
    console.print("The page is no longer served.")
    sys.exit(130)


def test(everything: bool) -> None:
    """ruff, pytest and nbval, a process per core; results go to a folder that is removed."""
    lint = [
        [sys.executable, "-m", "ruff", *words]
        for words in (["check", "-q"], ["format", "-q", "--check"])
    ]
    code = any([subprocess.run(command, cwd=ROOT).returncode for command in lint])
    with tempfile.TemporaryDirectory() as scratch:
        kept = {"HANDWRITING_OUTPUTS": scratch} | dict.fromkeys(THREADS, "1")
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "pytest",
            "-q",
            "-n",
            str(running.n_cores()),
        ]
        which = ["-m", ""] if everything else ["-m", "not slow"]
        real = ["tests/real"] if everything and (ROOT / "../shared/data").is_dir() else []
        nbval = ["--dist", "loadfile", "--nbval", "--nbval-sanitize-with", "tests/sanitize.cfg"]
        for words in (["--dist", "worksteal", *which, "tests", *real], [*nbval, "notebooks"]):
            environment = quiet_environment() | kept
            code |= subprocess.run([*command, *words], cwd=ROOT, env=environment).returncode != 0
    sys.exit(code)


def bench(archive: str, as_json: bool) -> None:
    """Runs the benchmark of tests/bench, which prints its tables."""
    if archive and not Path(archive).is_file():
        raise InputError(
            f"--archive {archive}: there is no such file; give EMNIST's gzip.zip, or leave it out."
        )
    given = ["--archive", str(Path(archive).resolve())] if archive else []
    command = [sys.executable, "-m", "bench", *given, *["--json"] * as_json]
    sys.exit(subprocess.run(command, cwd=ROOT / "tests").returncode)


def refresh() -> None:
    """Makes the results that come with the repository, then the stored notebooks, one by one.

    Both go on where they were interrupted. The notebooks are run with their defaults; those that
    train do it in a folder that is removed.
    """
    run_all(REFERENCE, [], "", "", False)
    with tempfile.TemporaryDirectory() as scratch:
        environment = {"HANDWRITING_OUTPUTS": scratch}
        with NotebookProcess(running.n_cores(), environment) as process:
            for notebook in sorted(running.NOTEBOOKS.glob("*.ipynb")):
                console.print(f"{notebook.stem}: started")
                step = running.Step(notebook.stem, str(notebook), scratch, {})
                outcome = run_step(step, process)
                if outcome.state != "done":
                    raise InputError(
                        f"{notebook.name} is left as it was, since it failed: "
                        f"{outcome.problem.splitlines()[0]}."
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
    write_whole(notebook, nbformat.writes(content) + "\n")


def clean(profile: str, data: bool) -> None:
    """Deletes one profile's results, or all, and with `data` what was downloaded and cached.

    What comes with the repository stays. InputError for a profile that is being run.
    """
    from lib.data.cache import data_folder  # numpy takes a moment

    if profile and profile not in profile_names():
        raise InputError(f"There is no profile '{profile}'{did_you_mean(profile, profile_names())}")
    kept = subprocess.run(["git", "ls-files", "outputs"], cwd=ROOT, capture_output=True, text=True)
    for name in [profile] if profile else [*profile_names(), "by-hand"]:
        folder = outputs_folder(f"outputs/{name}")
        if f"outputs/{name}/" in kept.stdout and folder.is_relative_to(ROOT):
            console.print(f"{shown_path(folder)} comes with the repository and stays")
        elif folder.exists():
            with running.only_one_run(f"outputs/{name}"):
                delete(folder)
    for folder in [data_folder() / "cache", data_folder() / "raw"] if data else []:
        if folder.exists():
            delete(folder)


def delete(folder: Path) -> None:
    """Deletes a folder, and says so."""
    shutil.rmtree(folder)
    console.print(f"deleted {shown_path(folder)}")
