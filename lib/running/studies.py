"""A profile's studies, spelt out: which runs of 03-train there are, and what each is called."""

from dataclasses import dataclass, field
from itertools import product
from typing import Any

from lib.errors import InputError
from lib.files import HISTORY, METRICS, MODEL, PREDICTIONS, outputs_folder, run_name
from lib.params import Profile, RunParameters, check, did_you_mean, existing_path, profile_names

OWN = ("archive", "folder", "class_ratio")  # parameters that mean something to one source alone
IMAGENET = "imagenet"  # as `start`: torchvision's weights of ResNet-18


@dataclass
class Run:
    """One run of 03-train: all its parameters, what differs from the profile's, and its studies."""

    parameters: RunParameters
    differing: dict[str, Any]
    studies: list[str] = field(default_factory=list)
    needs: str = ""  # name of the run whose weights it begins with, if that is of the same plan
    reads: str = ""  # the file with those weights, from the profile's folder

    @property
    def name(self) -> str:
        """The run's folder, such as custom-seed0 or custom-seed0-epochs=3."""
        return run_name(self.parameters.network, self.parameters.seed, self.differing)

    @property
    def files(self) -> list[str]:
        """The files that it leaves: one that keeps labels alone has no model."""
        return [MODEL] * (self.parameters.keep == "all") + [HISTORY, PREDICTIONS, METRICS]


def planned_runs(profile: Profile) -> list[Run]:
    """The runs of all studies, each once, and after the one that it starts from.

    A study keeps labels alone unless it says otherwise, or shares the run with one that keeps all,
    or another run starts from it. Raises InputError for a study that cannot be.
    """
    runs: dict[str, Run] = {}
    asked = {"networks": {"network": profile.networks, "keep": "all"}} | profile.studies
    for study, grid in asked.items():
        for run in study_runs(profile, study, {"keep": "labels"} | grid):
            known = runs.setdefault(run.name, run)
            known.studies = list(dict.fromkeys([*known.studies, study]))
            if "all" in (run.parameters.keep, known.parameters.keep):
                known.parameters.keep = "all"
    for run in runs.values():
        find_start(run, runs, profile)
    waiting, ordered = list(runs.values()), {"": None}
    while waiting:
        ready = [run for run in waiting if run.needs in ordered]
        if not ready:
            raise InputError(f"{waiting[0].name} and {waiting[0].needs} start from each other.")
        ordered |= {run.name: run for run in ready}
        waiting = [run for run in waiting if run.name not in ordered]
    return list(ordered.values())[1:]


def study_runs(profile: Profile, study: str, grid: dict[str, Any]) -> list[Run]:
    """The runs of one study; a list in the grid means one for each of its values."""
    own = {key: getattr(profile, key, None) for key in RunParameters.model_fields}
    origins = dict.fromkeys([*RunParameters.model_fields, *grid], f"study {study}: ")
    runs = []
    for chosen in expand({"network": profile.networks, "seed": profile.seeds} | grid, study):
        values = own | chosen
        if values["source"] != profile.source:  # the profile's archive is of no use to another
            values |= {key: RunParameters.model_fields[key].default for key in OWN} | chosen
        parameters = check(RunParameters, values, origins)
        dumped = parameters.model_dump(include=set(chosen) - {"network", "seed", "keep"})
        differing = {key: value for key, value in dumped.items() if value != own[key]}
        runs.append(Run(parameters, differing))
    return runs


def expand(grid: dict[str, Any], study: str) -> list[dict[str, Any]]:
    """Every combination of a grid's values: {"a": [1, 2], "b": 3} gives two.

    `variants` is a list of further grids: each combination of the rest with each of one of these.
    """
    variants = grid.get("variants", [{}])
    if not isinstance(variants, list) or not all(isinstance(one, dict) for one in variants):
        raise InputError(f"study {study}: variants must be a list of parameters, such as [{{}}].")

    def combinations(values: dict[str, Any]) -> list[dict[str, Any]]:
        lists = [value if isinstance(value, list) else [value] for value in values.values()]
        return [dict(zip(values, chosen)) for chosen in product(*lists)]

    rest = combinations({key: value for key, value in grid.items() if key != "variants"})
    return [one | own for variant in variants for one in rest for own in combinations(variant)]


def find_start(run: Run, runs: dict[str, Run], profile: Profile) -> None:
    """Turns the name that a run starts from into the path of a weights file."""
    chosen, studies = run.parameters, {study for other in runs.values() for study in other.studies}
    start = "networks" if chosen.start == profile._name else chosen.start
    if start in ("", IMAGENET):
        return
    same = chosen.network, chosen.seed
    if start in studies:
        found = [
            other
            for other in runs.values()
            if start in other.studies and (other.parameters.network, other.parameters.seed) == same
        ]
        if len(found) != 1 or found[0] is run:
            raise InputError(
                f"start names the study {start}, which has {len(found)} runs of {chosen.network} "
                f"with seed {chosen.seed}; it must have one other."
            )
        found[0].parameters.keep, run.needs = "all", found[0].name
        run.reads = f"{run.needs}/{MODEL}"
        chosen.start = f"{profile.outputs}/{run.reads}"
    elif start in profile_names():
        file = f"{start}/{run_name(*same)}/{MODEL}"
        run.reads, chosen.start = f"../{file}", f"outputs/{file}"
        if not outputs_folder(chosen.start).is_file():
            raise InputError(
                f"start names the profile {start}, which has no {chosen.network} of seed "
                f"{chosen.seed} yet: run `invoke run-all --profile {start}` first."
            )
    else:
        try:
            path, home = existing_path("start", start), outputs_folder("")
            run.reads = chosen.start = str(path)
            if path.is_relative_to(home) and not chosen.network.startswith("resnet18"):
                chosen.start = str(path.relative_to(home))  # results hold no paths of a machine
        except ValueError:
            near = did_you_mean(start, [*studies, *profile_names()])
            raise InputError(f"start '{start}' is no study, profile or file{near}") from None
