"""A profile's plan, what of it must be run, and running it: papermill on dask.

Behind it: `plan` and `studies` say what there is to run, `staleness` what has changed, `notebook`
runs one notebook in a process of its own, `cluster` many at a time, `progress` shows it.
"""

# ruff: noqa: F401  these are the names for others
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lib.errors import InputError
from lib.files import METRICS, RESULTS, complete_runs, outputs_folder, read_json, write_json
from lib.params import PROFILES, DataParameters, Profile
from lib.running.plan import (
    NOTEBOOKS,
    REPORT_NOTEBOOK,
    Outcome,
    Step,
    is_running,
    n_cores,
    notebook_named,
    only_one_run,
    parameters_of,
    plan,
    share_of_cores,
)
from lib.running.staleness import read_record, reasons


def run_all(
    profile: Profile,
    checksum_of: Callable[[DataParameters], str],
    jobs: int = 0,
    notebook: str = "",
    scheduler: str = "",
    force: bool = False,
    notebooks: Path = NOTEBOOKS,
    profiles: Path = PROFILES,
) -> dict[str, Outcome]:
    """Runs what is not fresh of a profile, or of one of its notebooks, and keeps results.json.

    checksum_of: makes or downloads the characters that some parameters name, and gives their
    checksum. `jobs` notebooks at a time (0: as many as the cores, or graphics cards, allow) on this
    machine, or those of a dask `scheduler`. Raises InputError for whatever the user can mend; a
    notebook that fails is an outcome, not an error.
    """
    source = profiles / f"{profile._name}.yml"
    with only_one_run(profile.outputs):
        before = source.read_bytes()
        everything = plan(profile, checksum_of, notebooks)
        steps = [step for step in everything if notebook in ("", Path(step.notebook).stem)]
        if not steps:
            raise InputError(
                f"Profile {profile._name} has no study for {notebook}; add one to {source.name}."
            )
        write_results(profile.outputs, everything)
        if not force and not any(reasons(step, read_record(step)) for step in steps):
            return {step.name: Outcome("fresh") for step in steps}
        from lib.running.cluster import run_steps  # with it comes dask, which takes a second

        ended = lambda step: write_results(profile.outputs, everything)  # noqa: E731
        threads = share_of_cores(profile, everything)
        outcomes = run_steps(steps, jobs, threads, scheduler, force, ended=ended)
        if source.read_bytes() != before:
            raise InputError(
                f"params/{source.name} was changed while it ran: the results are of what it said "
                "before; run the same command again for what it says now."
            )
    return outcomes


def write_results(outputs: str, steps: list[Step]) -> None:
    """results.json: the metrics of every finished run, with its name and the studies it serves."""
    studies, rows = {step.run: list(step.studies) for step in steps if step.run}, []
    for folder in complete_runs(outputs_folder(outputs)):
        with suppress(InputError):  # damaged: its record says so, and it is run again
            own = {"run": folder.name, "studies": studies.get(folder.name, [])}
            rows.append(own | read_json(folder / METRICS))
    write_json(outputs_folder(outputs) / RESULTS, rows)
