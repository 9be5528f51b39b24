"""What the tasks of the menu do."""

import os
import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path

from rich.console import Console
from rich.progress import track

from lib import running
from lib.errors import InputError
from lib.files import FINDINGS, REPORT, RESULTS, ROOT, outputs_folder, read_json, shown_path
from lib.menu import tables
from lib.params import DataParameters, did_you_mean, load_profile, profile_names
from lib.report import stale_pages

NETWORKS = "networks"  # the study of every profile
CHECKSUMS: dict[str, str] = {}  # of the characters of these parameters
console = Console(highlight=False, markup=False)  # a path may hold brackets


def checksum_of(parameters: DataParameters) -> str:
    """The checksum of the characters that the parameters name, which are made or downloaded."""
    key = parameters.model_dump_json()
    if key not in CHECKSUMS:
        CHECKSUMS[key] = load(parameters).checksum
    return CHECKSUMS[key]


def load(parameters: DataParameters):
    """The characters, as lib.data gives them."""
    from lib.data import load_data  # after the profile is checked: a wrong key is said at once

    return load_data(parameters)


def run_all(
    profile: str,
    settings: list[str],
    jobs: str = "",
    scheduler: str = "",
    force: bool = False,
    notebook: str = "",
    notebooks: Path = running.NOTEBOOKS,
) -> None:
    """Runs what is not fresh of a profile or of one notebook of it; status 1 if a step failed."""
    if jobs and (not jobs.isdecimal() or int(jobs) < 1):
        raise InputError(f"--jobs {jobs}: give a number of notebooks to run at once, 1 or more.")
    chosen = running.notebook_named(notebook, notebooks) if notebook else ""
    loaded = load_profile(profile, settings)
    outputs = outputs_folder(loaded.outputs)
    if loaded.tracker != "none":
        from lib.training import tracking  # fastai takes seconds

        tracking(loaded.tracker, outputs)  # says so at once if its library is missing
    with running.only_one_run(loaded.outputs):  # until all is said: nobody cleans it away before
        outcomes = running.run_all(
            loaded, checksum_of, int(jobs or 0), chosen, scheduler, force, notebooks
        )
        summarise(outcomes, profile, outputs, chosen)
        reported = chosen in ("", running.REPORT_NOTEBOOK)
        if reported:
            write_pages(outputs)
        console.print(f"\nnotebooks and results: {shown_path(outputs)}", soft_wrap=True)
        if reported and (page := outputs / REPORT).exists():
            console.print(f"report, to open in a browser: {shown_path(page)}", soft_wrap=True)
    if any(outcome.state == "failed" for outcome in outcomes.values()):
        sys.exit(1)


def summarise(outcomes: dict, profile: str, outputs: Path, chosen: str) -> None:
    """A table of steps, what was found, and every failure with what was skipped for it."""
    states = {step: outcome.state for step, outcome in outcomes.items()}
    if set(states.values()) == {"fresh"}:
        n = f"its {len(states)} notebooks were" if len(states) > 1 else f"{chosen} was"
        console.print(f"profile {profile}: nothing has changed since {n} run")
    else:
        console.print(tables.outcomes_table(outcomes, profile))
    findings = outputs / FINDINGS / f"{chosen}.json"
    if states.get(chosen) in ("done", "fresh") and findings.exists():
        for sentence in read_json(findings).get("sentences", []):
            console.print(sentence.replace("**", ""), soft_wrap=True)
    elif rows := [row for row in read_json(outputs / RESULTS, list) if NETWORKS in row["studies"]]:
        console.print(tables.results_table(rows))
    for step in [step for step, state in states.items() if state == "failed"]:
        console.print(f"\n{step} failed: ", style="bold red", end="")
        console.print(outcomes[step].problem, soft_wrap=True)
    if skipped := [step for step, state in states.items() if state == "skipped"]:
        console.print(f"skipped because of that: {', '.join(skipped)}", soft_wrap=True)


def write_pages(outputs: Path) -> None:
    """The executed notebooks as pages, the report the first of them, where they have changed."""
    if not (stale := stale_pages(outputs)):
        return
    from lib.report.pages import write_page  # nbconvert takes four seconds

    console.print(f"writing {len(stale)} pages")
    for source in track(stale, "writing pages", console=console, transient=True):
        write_page(outputs, source)


def report(profile: str, settings: list[str]) -> None:
    """Runs a profile's report notebook where it is not fresh, and writes its pages."""
    if not (outputs_folder(load_profile(profile, settings).outputs) / RESULTS).exists():
        raise InputError(f"{profile} has no results: `invoke run-all --profile {profile}` first.")
    run_all(profile, settings, notebook=running.REPORT_NOTEBOOK)


def status(profile: str, settings: list[str], notebooks: Path = running.NOTEBOOKS) -> None:
    """A table of the plan: what is fresh, what is not and why, and how long each step took last."""
    loaded = load_profile(profile, settings)
    ever = any((outputs_folder(loaded.outputs) / "notebooks").glob("*.json"))
    # never run: the data need not be made to say so
    known = checksum_of if ever else lambda parameters: ""
    steps = running.plan(loaded, known, notebooks)
    console.print(tables.status_table(steps, running.is_running(loaded.outputs), profile))


def compare_runs(first: str, second: str) -> None:
    """The conditions in which two runs or profiles differ, and their results side by side."""
    for table in tables.comparison(first, second):
        console.print(table, soft_wrap=isinstance(table, str))


def describe_data(profile: str, settings: list[str]) -> None:
    """Makes, downloads or reads a profile's characters, which checks them; says what they are."""
    data = load(load_profile(profile, settings))
    train, valid, test = map(len, (data.train_labels, data.valid_labels, data.test_labels))
    console.print(
        f"{f'{data.dataset} {data.split}'.strip()}: {len(data.class_names)} classes, "
        f"{train:,} images to train, {valid:,} to validate, {test:,} to test",
        soft_wrap=True,
    )
    console.print(f"checksum {data.checksum}", data.note, soft_wrap=True)
    console.print(f"test images that are also to train or validate on: {data.n_shared() or 'none'}")


def export(network: str, model: str, profile: str, output: str) -> None:
    """Writes a trained network as ONNX, checked, and says how far it is from torch."""
    from lib.reading import models, onnx_file  # torch takes seconds

    onnx_file.check_libraries()
    path = models.find_model(network, model, profile)
    file = Path(os.path.expanduser(output)) if output else onnx_file.default_output(path)
    difference = onnx_file.export_model(path, file)
    n, size = onnx_file.N_CHECKED, file.stat().st_size / 1e6
    console.print(
        f"exported to {shown_path(file)}, {size:.1f} MB; on {n:,} images the same labels as torch, "
        f"probabilities at most {difference:.1g} apart",
        soft_wrap=True,
    )


def page(profile: str, every: bool, show: bool = False) -> None:
    """Writes the page to draw on beside a profile's results, and with `show` opens it.

    every: with all of its networks, however large the page becomes.
    """
    home = outputs_folder(load_profile(profile).outputs)
    from lib.reading import page  # after the check: torch takes seconds

    networks, problems = page.load_networks(home)
    data = page.page_data(networks, home, 0 if every else page.MOST)
    page.write_page(path := home / "draw.html", data)
    for problem in problems:
        console.print(problem)
    if data["without"]:
        console.print(f"left out, to keep the page small: {', '.join(data['without'])} (--all)")
    console.print(f"page to draw on: {path} ({path.stat().st_size / 1e6:.1f} MB)", soft_wrap=True)
    if show:
        webbrowser.open(path.as_uri())


def clean(profile: str, data: bool) -> None:
    """Deletes one profile's results, or all, and with `data` what was downloaded and cached.

    What comes with the repository stays. InputError for a profile that is being run.
    """
    from lib.data.cache import data_folder  # numpy takes a moment

    known = [*profile_names(), "by-hand"]
    if profile and profile not in known:
        raise InputError(f"There is no profile '{profile}'{did_you_mean(profile, known)}")
    names = [profile] if profile else known
    kept = subprocess.run(["git", "ls-files", "outputs"], cwd=ROOT, capture_output=True, text=True)
    for name in names:
        folder = outputs_folder(f"outputs/{name}")
        if f"outputs/{name}/" in kept.stdout and folder.is_relative_to(ROOT):
            console.print(f"{shown_path(folder)} comes with the repository and stays")
        elif folder.exists():
            with running.only_one_run(f"outputs/{name}", last=True):
                delete(folder)
    for folder in [data_folder() / "cache", data_folder() / "raw"] if data else []:
        if folder.exists():
            delete(folder)


def delete(folder: Path) -> None:
    """Deletes a folder, and says so."""
    shutil.rmtree(folder)
    console.print(f"deleted {shown_path(folder)}", soft_wrap=True)
