"""What has to be run for a profile, in which order, and the running of it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path

import nbformat
import papermill

from lib.errors import InputError
from lib.files import (
    LIVE_NOTEBOOK, METRICS, RESULTS, ROOT, check_writable, outputs_folder, read_results, run_name, shown_path, write_json,
)
from lib.params import Profile, did_you_mean, load_profile

NOTEBOOKS = ROOT / "notebooks"
PREPARE = ["01-explore-data", "02-find-learning-rate"]
TRAIN = "03-train"
DEFAULTS = "small"  # the profile that is what the notebooks do by default
ANALYSE = ["04-compare", "05-confusions"]


@dataclass(frozen=True)
class Step:
    """One notebook with its parameters, the executed copy it leaves, and the steps whose files it reads."""

    name: str
    notebook: str
    output: str
    parameters: dict
    needs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """How a step ended: "done", "failed" or "skipped", the seconds it took, and why it did not end well."""

    state: str
    seconds: float = 0.0
    problem: str = ""


def parameters_of(notebook: Path) -> dict:
    """Names and default values, as Python source, of a notebook's parameters cell."""
    return {name: details["default"] for name, details in papermill.inspect_notebook(str(notebook)).items()}


def make_step(profile: Profile, outputs: str, notebook: str, needs=(), **chosen) -> Step:
    """A step that gives the notebook what its parameters cell asks for: from `chosen`, else from the profile."""
    values = profile.model_dump(mode="json") | {"outputs": outputs} | chosen
    parameters = {name: values[name] for name in parameters_of(NOTEBOOKS / f"{notebook}.ipynb") if name in values}
    name = f"{notebook} {run_name(chosen['network'], profile.schedule, chosen['seed'])}" if "network" in chosen else notebook
    output = outputs_folder(outputs) / "notebooks" / f"{name.replace(' ', '-')}.ipynb"
    return Step(name, str(NOTEBOOKS / f"{notebook}.ipynb"), str(output), parameters, list(needs))


def plan(profile: Profile, outputs: str) -> list[Step]:
    """Every step of a profile, each after the steps that it needs."""
    explore, rates = (make_step(profile, outputs, notebook) for notebook in PREPARE)
    needs = [] if profile.learning_rate else [rates.name]
    train = [make_step(profile, outputs, TRAIN, needs, network=network, seed=seed)
             for seed in profile.seeds for network in profile.networks]
    analyse = [make_step(profile, outputs, notebook, [step.name for step in train]) for notebook in ANALYSE]
    return [explore, rates, *train, *analyse]


def run_folder(step: Step) -> Path:
    """Where a training step leaves its results."""
    chosen = step.parameters
    return outputs_folder(chosen["outputs"]) / run_name(chosen["network"], chosen["schedule"], chosen["seed"])


def is_training(step: Step) -> bool:
    """True for the steps that leave a run's results."""
    return Path(step.notebook).stem == TRAIN


def run_step(step: Step, threads: int, say=print) -> Outcome:
    """Runs one notebook in a process of its own, with so many threads for torch; `say` gets each line that it prints."""
    Path(step.output).unlink(missing_ok=True)  # an earlier one would be taken for this one's if it fails at once
    environment = quiet_environment() | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-m", "lib.execute"], text=True, env=environment, cwd=ROOT,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        process.stdin.write(json.dumps(asdict(step)))
        process.stdin.close()
        for line in process.stdout:
            say(f"  {step.name}: {line.rstrip()}")
        ended_well = process.wait() == 0
        errors.seek(0)
        problem = "" if ended_well else describe_failure(step, errors.read())
    return Outcome("done" if ended_well else "failed", time.monotonic() - start, problem)


def quiet_environment() -> dict[str, str]:
    """The environment for notebooks that nobody watches: plain progress."""
    return {name: value for name, value in os.environ.items() if name not in LIVE_NOTEBOOK}


def describe_failure(step: Step, stderr: str) -> str:
    """The error, the cell it arose in, and where to see the rest."""
    said_last = (stderr.strip().splitlines() or ["its process was ended from outside"])[-1]
    if not Path(step.output).exists():
        return said_last
    for cell in nbformat.read(step.output, as_version=4).cells:
        errors = [output for output in cell.get("outputs", []) if output.output_type == "error"]
        if errors:
            first = next(line for line in cell.source.splitlines() if line.strip() and not line.startswith("#"))
            return (f"{errors[0].ename}: {errors[0].evalue}\nin cell [{cell.execution_count}], which begins: {first}\n"
                    f"executed notebook: {shown_path(step.output)}")
    return f"{said_last}\nexecuted so far: {shown_path(step.output)}"


def store(executed: Path, notebook: Path) -> None:
    """Replaces a stored notebook by its executed copy, less papermill's notes of when and where it ran."""
    content = nbformat.read(executed, as_version=4)
    content.metadata.pop("papermill", None)
    for cell in content.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
    nbformat.write(content, notebook.with_suffix(".part"))
    os.replace(notebook.with_suffix(".part"), notebook)


def run_steps(steps: list[Step], jobs: int = 1, say=print) -> dict[str, Outcome]:
    """Runs the steps, `jobs` at a time, each as soon as those it needs are done; one that fails stops only those that need it."""
    outcomes: dict[str, Outcome] = {}
    waiting, running = list(steps), {}
    threads = max(1, (os.cpu_count() or 1) // jobs)
    planned = {step.name for step in steps}
    for folder in {Path(step.output).parent for step in steps}:
        check_writable(folder)
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            for step in list(waiting):
                needs = planned.intersection(step.needs)
                failed = [name for name in step.needs if name in outcomes and outcomes[name].state != "done"]
                if failed:
                    waiting.remove(step)
                    outcomes[step.name] = Outcome("skipped", problem=f"it needs {', '.join(failed)}")
                    say(f"{step.name}: skipped")
                elif needs <= outcomes.keys() and len(running) < jobs:
                    waiting.remove(step)
                    if is_training(step):  # an earlier result must not be taken for this one's
                        (run_folder(step) / METRICS).unlink(missing_ok=True)
                    say(f"{step.name}: started")
                    running[pool.submit(run_step, step, threads, say)] = step
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                step = running.pop(future)
                outcomes[step.name] = outcome = future.result()
                say(f"{step.name}: {outcome.state} after {outcome.seconds:.0f} s")
    return outcomes


def run_all(profile_name: str, settings: list[str] = (), jobs: int = 1, notebook: str = "") -> dict[str, Outcome]:
    """The steps of a profile, or those of one of its notebooks; then results.json, the metrics of all its finished runs, as one list."""
    from lib.data import load_data  # after the parameters: a misspelt one is reported at once

    profile, outputs = load_profile(profile_name, settings), f"outputs/{profile_name}"
    check_writable(outputs_folder(outputs))
    load_data(profile)  # here, where a progress bar can be seen, and before any notebook starts on data that cannot be used
    steps = [step for step in plan(profile, outputs) if not notebook or Path(step.notebook).stem == notebook]
    outcomes = run_steps(steps, jobs)
    write_json(outputs_folder(outputs) / RESULTS, read_results(outputs_folder(outputs)))
    return outcomes


def run_notebook(name: str, profile_name: str, settings: list[str] = ()) -> dict[str, Outcome]:
    """The steps of one notebook, named in full or by its number; what it reads must have been run before."""
    known = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    notebook = next((stem for stem in known if name in (stem, stem[:2], stem.lstrip("0")[:1], f"{stem}.ipynb")), None)
    if notebook is None:
        raise InputError(f"There is no notebook '{name}'{did_you_mean(name, known)}")
    return run_all(profile_name, settings, notebook=notebook)


def train_missing(outputs: str, networks: list[str], seeds: list[int], schedule: str) -> list[str]:
    """Names of the training runs asked for; those of the small profile are run now where they have no result yet.

    Raises InputError for a missing run of any other profile, which may take hours, or if a run fails.
    """
    names = [run_name(network, schedule, seed) for network in networks for seed in seeds]
    missing = [name for name in names if not (outputs_folder(outputs) / name / METRICS).exists()]
    if missing and Path(outputs).name != DEFAULTS:
        raise InputError(f"{outputs} has no result of {missing[0]}: run `invoke run-all --profile {Path(outputs).name}` first.")
    chosen = load_profile(DEFAULTS).model_copy(update={"networks": networks, "seeds": seeds, "schedule": schedule})
    steps = [step for step in plan(chosen, outputs) if is_training(step) and run_folder(step).name in missing]
    for name, outcome in run_steps(steps).items():
        if outcome.state != "done":
            raise InputError(f"{name} did not end well: {outcome.problem.splitlines()[0]}.")
    return names
