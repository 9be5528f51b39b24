"""What has to be run for a profile: the plan of its notebooks."""

import ast
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from lib.errors import InputError
from lib.files import FINDINGS, RATES, ROOT, check_writable, outputs_folder, shown_path
from lib.params import DataParameters, Profile, did_you_mean, given
from lib.running.code import is_parameters, until_changed
from lib.running.studies import Run, planned_runs

NOTEBOOKS = ROOT / "notebooks"
EXPLORE, FIND, TRAIN = "01-explore-data", "02-find-learning-rate", "03-train"
REPORT_NOTEBOOK = "11-report"  # of what there is: it is run however the others have ended


@dataclass(frozen=True)
class Step:
    """One run of a notebook: its parameters and where each comes from, what it reads and writes.

    `notebook` is a path from the repository, so that a machine which shares the folder under
    another name finds it; `outputs` is the profile's folder as `outputs_folder` takes it, and
    `reads` and `writes` are paths within that. It waits for the steps that it `needs`, and is
    skipped if one of them fails; for those it comes `after` it only waits.
    """

    name: str
    notebook: str
    outputs: str
    parameters: dict
    origins: dict = field(default_factory=dict)
    needs: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    checksum: str = ""
    networks: list[str] = field(default_factory=list)  # whose source it depends on
    studies: dict[str, list[str]] = field(default_factory=dict)  # it reads or serves: runs
    run: str = ""  # the folder of a training's results
    minutes: float = 720

    @property
    def executed(self) -> Path:
        """The executed copy that the run leaves."""
        name = self.name.replace(" ", "-")
        return outputs_folder(self.outputs) / "notebooks" / f"{name}.ipynb"

    @property
    def run_folder(self) -> Path | None:
        """Where a training leaves its results; None for other steps."""
        return outputs_folder(self.outputs) / self.run if self.run else None


@dataclass(frozen=True)
class Outcome:
    """How a step ended ("done", "failed", "skipped", "fresh"), its seconds, and what went wrong."""

    state: str
    seconds: float = 0.0
    problem: str = ""


@until_changed
def parameters_of(notebook: Path) -> dict[str, tuple[str, object]]:
    """Type and default value of each name in a notebook's parameters cell."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    lines = [ast.parse("".join(cell["source"])).body for cell in cells if is_parameters(cell)]
    return {
        line.target.id: (line.annotation.id, ast.literal_eval(line.value))
        for line in sum(lines, [])
        if isinstance(line, ast.AnnAssign)
    }


def plan(
    profile: Profile,
    checksum_of: Callable[[DataParameters], str] = lambda parameters: "",
    notebooks: Path = NOTEBOOKS,
) -> list[Step]:
    """Every step of a profile, each after those that it waits for.

    checksum_of: the checksum of the characters that some parameters name, part of every record.
    A notebook whose parameters name `studies` is a chapter about those: it is run for a profile
    that has the first of them. The last chapter comes after the others.
    """
    runs = planned_runs(profile)
    checksum = checksum_of(given(DataParameters, dict(profile)))
    explore = make_step(profile, notebooks / f"{EXPLORE}.ipynb", checksum=checksum)
    found = {"writes": [RATES], "networks": profile.networks, "checksum": checksum}
    rates = make_step(profile, notebooks / f"{FIND}.ipynb", **found)
    trainings = [_training(profile, notebooks, run, checksum_of) for run in runs]
    chapters, known = [], {study for run in runs for study in run.studies}
    for notebook in sorted(notebooks.glob("*.ipynb")):
        asked = parameters_of(notebook).get("studies", ("", []))[1]
        if asked and asked[0] in known:
            read = [study for study in asked if study in known]
            chapters.append(_chapter(profile, notebook, trainings, read, checksum))
    if chapters:
        *before, last = chapters
        needs, after = last.needs, [step.name for step in before]
        if last.name == REPORT_NOTEBOOK:
            needs, after = [], [*needs, *after]
        reads = last.reads + [name for step in before for name in step.writes]
        chapters[-1] = replace(last, needs=needs, after=after, reads=reads)
    return [explore, rates, *trainings, *chapters]


def make_step(profile: Profile, notebook: Path, chosen: dict | None = None, **rest) -> Step:
    """A step with those of the profile's and the chosen values that its notebook asks for."""
    values = profile.model_dump(mode="json", exclude={"studies"}) | {"outputs": profile.outputs}
    values |= chosen or {}
    taken = {name: values[name] for name in parameters_of(notebook) if name in values}
    for name in {"archive", "folder"} & taken.keys():
        if Path(taken[name]).is_relative_to(ROOT.parent):  # not where this machine keeps it
            taken[name] = os.path.relpath(taken[name], ROOT)
    origins = {name: profile.origin(name) for name in taken} | {"outputs": "the profile's name"}
    origins |= rest.pop("origins", {})
    name, path = f"{notebook.stem} {rest.get('run', '')}".strip(), shown_path(notebook)
    return Step(name, path, profile.outputs, taken, origins, minutes=profile.time_limit, **rest)


def _training(profile: Profile, notebooks: Path, run: Run, checksum_of) -> Step:
    chosen = run.parameters.model_dump(mode="json") | {"run": run.name}
    finds = not run.parameters.learning_rate and run.parameters.network in profile.networks
    chosen_by = f"study {', '.join(run.studies)}"
    origins = dict.fromkeys(["network", "seed", *run.differing, "run"], chosen_by)
    if "networks" in run.studies:
        origins |= {"network": profile.origin("networks"), "seed": profile.origin("seeds")}
    return make_step(
        profile,
        notebooks / f"{TRAIN}.ipynb",
        chosen,
        run=run.name,
        origins=origins,
        checksum=checksum_of(given(DataParameters, dict(run.parameters))),
        needs=[FIND] * finds + [f"{TRAIN} {run.needs}"] * bool(run.needs),
        reads=[f"{RATES}#{run.parameters.network}"] * finds + [run.reads] * bool(run.reads),
        writes=[f"{run.name}/{name}" for name in run.files],
        networks=[run.parameters.network],
        studies={study: [run.name] for study in run.studies},
    )


def _chapter(profile: Profile, notebook: Path, trainings, studies, checksum: str) -> Step:
    chosen = [step for step in trainings if step.studies.keys() & studies]
    return make_step(
        profile,
        notebook,
        needs=[step.name for step in chosen],
        reads=[name for step in chosen for name in step.writes],
        writes=[f"{FINDINGS}/{notebook.stem}.json"],
        checksum=checksum,
        networks=sorted({name for step in chosen for name in step.networks}),
        studies={
            study: [step.run for step in chosen if study in step.studies] for study in studies
        },
    )


def share_of_cores(profile: Profile, steps: list[Step]) -> int:
    """Threads of each notebook: the profile's, else the cores divided among all its trainings."""
    # not those that run at once: a result's last digits depend on this, and must not on --jobs
    trainings = sum(bool(step.run) for step in steps)
    return profile.threads or max(1, n_cores() // max(1, trainings))


def n_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def only_one_run(outputs: str, last: bool = False) -> Iterator[None]:
    """InputError if another process runs this profile; the lock goes when its holder dies.

    The same one may take it again. It lies beside the folder: deleting that asks for it. `last`:
    its file is deleted in the end, while it is held: who waits for it then waits for a new one.
    """
    lock = _lock(outputs)
    check_writable(lock.parent)
    try:
        with FileLock(lock, timeout=1, is_singleton=True):  # `status` holds it for a moment
            yield
            if last and os.name == "posix":  # Windows deletes no open file
                lock.unlink()
    except Timeout:
        raise InputError(
            f"Another command is running {outputs}: wait for its end, or stop it, "
            "and run this again."
        ) from None


def is_running(outputs: str) -> bool:
    """Whether a command runs this profile now."""
    if not _lock(outputs).exists():
        return False
    try:
        with FileLock(_lock(outputs), timeout=0):
            return False
    except Timeout:
        return True


def _lock(outputs: str) -> Path:
    folder = outputs_folder(outputs)
    return folder.with_name(f".{folder.name}.lock")


def notebook_named(name: str, notebooks: Path = NOTEBOOKS) -> str:
    """A notebook's full name, from that or from its number; InputError if there is none."""
    known = {path.stem: path for path in sorted(notebooks.glob("*.ipynb"))}
    for stem, path in known.items():
        if name in (stem, stem[:2], stem[:2].lstrip("0"), f"{stem}.ipynb"):
            if stem not in (EXPLORE, FIND, TRAIN) and "studies" not in parameters_of(path):
                raise InputError(
                    f"{stem} waits for someone who draws: `invoke demo` shows it as a page, "
                    "and `invoke lab` opens it."
                )
            return stem
    raise InputError(f"There is no notebook '{name}'{did_you_mean(name, known)}")
