"""What has to be run for a profile: the plan of its notebooks, and the one call that runs it."""

import ast
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path

from filelock import FileLock, Timeout

from lib.errors import InputError
from lib.files import (
    FINDINGS,
    HISTORY,
    METRICS,
    MODEL,
    PREDICTIONS,
    RATES,
    RESULTS,
    ROOT,
    check_writable,
    outputs_folder,
    read_results,
    run_name,
    write_json,
)
from lib.params import PROFILES, Profile, did_you_mean, load_profile, where_from
from lib.running import staleness as freshness

NOTEBOOKS = ROOT / "notebooks"
EXPLORE, FIND, TRAIN = "01-explore-data", "02-find-learning-rate", "03-train"
ANALYSE = [
    "08-better",
    "07-transfer-learning",
    "04-compare",
    "06-why-the-gap",
    "05-confusions",
]  # the longest first: two at a time then end together
INTERACTIVE = "09-try-it"  # waits for a person, and is no part of a plan
DEFAULTS = "small"  # the profile that is what the notebooks do by default


@dataclass(frozen=True)
class Step:
    """One run of a notebook: its parameters and where each comes from, and the files it reads and writes.

    `notebook` is a path from the repository, so that a machine which shares the folder under another name finds it;
    `outputs` is the profile's folder as `outputs_folder` takes it, and `reads` and `writes` are paths within that.
    """

    name: str
    notebook: str
    outputs: str
    parameters: dict
    origins: dict = field(default_factory=dict)
    needs: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    checksum: str = ""
    minutes: float = 720

    @property
    def executed(self) -> Path:
        """The executed copy that the run leaves."""
        return outputs_folder(self.outputs) / "notebooks" / f"{self.name.replace(' ', '-')}.ipynb"

    @property
    def run_folder(self) -> Path | None:
        """Where a training step leaves its results; None for the others."""
        chosen = self.parameters
        if "network" not in chosen:
            return None
        return outputs_folder(self.outputs) / run_name(
            chosen["network"], chosen["schedule"], chosen["seed"]
        )


@dataclass(frozen=True)
class Outcome:
    """How a step ended: "done", "failed", "skipped" or "fresh", the seconds it took, and why it did not end well."""

    state: str
    seconds: float = 0.0
    problem: str = ""


def parameters_of(notebook: Path) -> dict[str, tuple[str, object]]:
    """Type and default value of each name in a notebook's parameters cell."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    cell = next(cell for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    lines = [
        line for line in ast.parse("".join(cell["source"])).body if isinstance(line, ast.AnnAssign)
    ]
    return {line.target.id: (line.annotation.id, ast.literal_eval(line.value)) for line in lines}


def plan(
    profile: Profile, outputs: str, origins: dict[str, str] | None = None, checksum: str = ""
) -> list[Step]:
    """Every step of a profile, each after the steps that it needs; `origins` says where each parameter comes from."""
    origins = (origins or {}) | {"outputs": "the profile's name"}
    values = profile.model_dump(mode="json") | {"outputs": outputs}

    def make(notebook: str, needs=(), reads=(), writes=(), **chosen) -> Step:
        path = NOTEBOOKS / f"{notebook}.ipynb"
        asked = _parameters_asked(path, path.stat().st_mtime_ns)
        run = run_name(**chosen) if chosen else ""
        taken = {name: (values | chosen)[name] for name in asked if name in values | chosen}
        said = {
            name: origins.get(f"{name}s" if name in chosen else name, "default") for name in taken
        }
        shown = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
        return Step(
            f"{notebook} {run}".strip(),
            shown,
            outputs,
            taken,
            said,
            list(needs),
            list(reads),
            [f"{run}/{name}" for name in writes] if run else list(writes),
            checksum,
            profile.time_limit,
        )

    explore, rates = make(EXPLORE), make(FIND, writes=[RATES])
    trainings = [
        make(
            TRAIN,
            [] if profile.learning_rate else [rates.name],
            [] if profile.learning_rate else [f"{RATES}#{network}"],
            [MODEL, HISTORY, PREDICTIONS, METRICS],
            network=network,
            schedule=schedule,
            seed=seed,
        )
        for seed, schedule, network in product(profile.seeds, profile.schedules, profile.networks)
    ]
    read = [name for step in trainings for name in step.writes]
    analyses = [
        make(notebook, [step.name for step in trainings], read, [f"{FINDINGS}/{notebook}.json"])
        for notebook in ANALYSE
    ]
    return [explore, rates, *trainings, *analyses]


@cache
def _parameters_asked(notebook: Path, _changed: int) -> list[str]:
    return list(parameters_of(notebook))


def share_of_cores(profile: Profile) -> int:
    """Threads that each notebook computes with: the profile's, else the cores divided among all trainings of the plan.

    Not among those that run at once: the last digits of a result depend on this number, and must not depend on --jobs.
    """
    trainings = len(profile.networks) * len(profile.seeds) * len(profile.schedules)
    return profile.threads or max(1, n_cores() // trainings)


def n_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def only_one_run(outputs: str) -> Iterator[None]:
    """InputError if another command runs this profile; the operating system drops the lock when its holder dies."""
    folder = outputs_folder(outputs)
    check_writable(folder)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise InputError(
            f"Another command is running {outputs}: wait for its end, or stop it, and run this again."
        ) from None


def is_running(outputs: str) -> bool:
    """Whether a command runs this profile now."""
    lock = FileLock(outputs_folder(outputs) / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def planned(profile_name: str, settings: list[str] = ()) -> tuple[Profile, list[Step]]:
    """A checked profile and its plan. The data are made or downloaded for it: their checksum is part of every step."""
    profile = load_profile(profile_name, settings)  # first: a misspelt key is reported at once
    if profile.tracker != "none":
        from lib.training.trackers import check_tracker  # with it comes fastai, which takes seconds

        check_tracker(profile.tracker)
    from lib.data import load_data

    checksum = load_data(
        profile
    ).checksum  # here, where a progress bar can be seen, and before any notebook starts
    return profile, plan(
        profile, f"outputs/{profile_name}", where_from(profile_name, settings), checksum
    )


def run_all(
    profile_name: str,
    settings: list[str] = (),
    jobs: int = 0,
    notebook: str = "",
    scheduler: str = "",
    force: bool = False,
) -> dict[str, Outcome]:
    """Runs what is not fresh of a profile, or of one of its notebooks; then writes results.json, the metrics of all its runs.

    `jobs` notebooks at a time (0: as many as the cores, or graphics cards, allow) on this machine, or those of a dask
    `scheduler`. Raises InputError for whatever the user can mend; a notebook that fails is an outcome, not an error.
    """
    outputs, source = f"outputs/{profile_name}", PROFILES / f"{profile_name}.yml"
    load_profile(profile_name, settings)
    with only_one_run(outputs):
        before = source.read_bytes()
        profile, steps = planned(profile_name, settings)
        steps = [step for step in steps if not notebook or Path(step.notebook).stem == notebook]
        outcomes = {step.name: Outcome("fresh") for step in steps}
        if force or any(freshness.reasons(step, freshness.read_record(step)) for step in steps):
            from lib.running.cluster import run_steps  # with it comes dask, which takes a second

            outcomes = run_steps(steps, jobs, share_of_cores(profile), scheduler, force)
        write_json(outputs_folder(outputs) / RESULTS, read_results(outputs_folder(outputs)))
        if source.read_bytes() != before:
            raise InputError(
                f"params/{source.name} was changed while it ran: the results are of what it said before; "
                "run the same command again for what it says now."
            )
    return outcomes


def notebook_named(name: str) -> str:
    """A notebook's full name, from that or from its number; InputError if there is none."""
    known = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    for stem in known:
        if name in (stem, stem[:2], stem.lstrip("0")[:1], f"{stem}.ipynb"):
            if stem == INTERACTIVE:
                raise InputError(
                    f"{stem} waits for someone who draws: `invoke demo` shows it as a page, and `invoke lab` opens it."
                )
            return stem
    raise InputError(f"There is no notebook '{name}'{did_you_mean(name, known)}")


def train_missing(
    outputs: str, networks: list[str], seeds: list[int], schedules: list[str]
) -> list[str]:
    """Names of the training runs asked for; those of the small profile are run now where they have no result yet.

    Raises InputError for a missing run of any other profile, which may take hours, or if a run fails.
    """
    names = [
        run_name(network, schedule, seed)
        for seed, schedule, network in product(seeds, schedules, networks)
    ]

    def missing() -> list[str]:
        return [name for name in names if not (outputs_folder(outputs) / name / METRICS).exists()]

    if not missing():
        return names
    if Path(outputs).name != DEFAULTS:
        raise InputError(
            f"{outputs} has no result of {missing()[0]}: run `invoke run-all --profile {Path(outputs).name}` first."
        )
    from lib.data import load_data
    from lib.running.notebook import NotebookProcess, run_step

    def say(event: dict) -> None:
        if "text" in event:
            print(event["text"])

    chosen = load_profile(DEFAULTS).model_copy(
        update={"networks": networks, "seeds": seeds, "schedules": schedules}
    )
    steps = plan(chosen, outputs, checksum=load_data(chosen).checksum)
    check_writable(outputs_folder(outputs))
    with (
        FileLock(outputs_folder(outputs) / ".missing.lock"),
        NotebookProcess(n_cores()) as process,
    ):  # two notebooks may be opened at once
        for step in steps:
            if step.run_folder and step.run_folder.name in missing():
                outcome = run_step(step, process, say)
                if outcome.state != "done":
                    raise InputError(
                        f"{step.name} did not end well: {outcome.problem.splitlines()[0]}."
                    )
    return names
