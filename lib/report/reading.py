"""What a report is written from: the files that a profile's runs and notebooks left, where they are there and fit together."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pandas as pd

from lib.data import CharacterData, load_data
from lib.errors import InputError
from lib.files import FINDINGS, HISTORY, RESULTS, read_json, run_name
from lib.params import Profile


@dataclass(frozen=True)
class Material:
    """A profile's results. `runs` are the metrics of each run, the networks in the profile's order.

    `histories` holds a table of epochs per run name; `answers` for each network the probabilities float32 (N, n_classes)
    of its first run, in the order of the test images; `findings` the JSON of each analysis notebook. All may lack entries.
    """

    profile: str
    outputs: Path
    runs: list[dict]
    data: CharacterData
    histories: dict[str, pd.DataFrame]
    answers: dict[str, np.ndarray]
    findings: dict[str, dict]

    @cached_property
    def networks(self) -> list[str]:
        """Names of the networks that were trained, the best on validation first."""
        names = dict.fromkeys(run["network"] for run in self.runs)
        return sorted(
            names, key=lambda name: -mean(run["valid_accuracy"] for run in self.main_runs(name))
        )

    @property
    def best(self) -> str:
        """The network that 05 looked at, or that with the highest mean validation accuracy: test has no part in the choice."""
        chosen = self.finding("05", "best", self.networks[0])
        return chosen if chosen in self.networks else self.networks[0]

    @property
    def schedule(self) -> str:
        """The schedule of the first run, which most of the page is about."""
        return self.runs[0]["schedule"]

    def main_runs(self, network: str) -> list[dict]:
        """A network's runs, a seed each, with the first schedule it was trained with."""
        own = [run for run in self.runs if run["network"] == network]
        return [run for run in own if run["schedule"] == own[0]["schedule"]]

    def finding(self, notebook: str, key: str, otherwise=None):
        """What a notebook found, by its number such as "05"; where it has not, `otherwise`, or KeyError if that is None."""
        found = next(
            (found for name, found in self.findings.items() if name.startswith(notebook)), None
        )
        if isinstance(found, dict) and found.get(key) is not None:
            return found[key]
        if otherwise is None:
            raise KeyError(f"{notebook} {key}")
        return otherwise


def spread(values: list[float]) -> dict:
    """`n`, `mean` and `std` (of the sample; None for one value)."""
    return {
        "n": len(values),
        "mean": mean(values),
        "std": stdev(values) if len(values) > 1 else None,
    }


def read_material(profile_name: str, profile: Profile, outputs: Path) -> Material:
    """Reads what there is; InputError if no run has ended."""
    runs = read_json(outputs / RESULTS)
    if not runs:
        raise InputError(
            f"No run of profile {profile_name} has ended yet: run `invoke run-all --profile {profile_name}` first."
        )
    data = load_data(profile)
    runs.sort(
        key=lambda run: (
            _place(run["network"], profile.networks),
            _place(run["schedule"], profile.schedules),
            run["seed"],
        )
    )
    return Material(
        profile_name,
        outputs,
        runs,
        data,
        _histories(outputs, runs),
        _answers(outputs, runs, data),
        _findings(outputs),
    )


def _place(name: str, names: list[str]) -> int:
    return names.index(name) if name in names else len(names)


def _folder(outputs: Path, run: dict) -> Path:
    return outputs / run_name(run["network"], run["schedule"], run["seed"])


def _histories(outputs: Path, runs: list[dict]) -> dict[str, pd.DataFrame]:
    from lib.runs import read_history

    folders = [_folder(outputs, run) for run in runs]
    return {folder.name: read_history(folder) for folder in folders if (folder / HISTORY).exists()}


def _answers(outputs: Path, runs: list[dict], data: CharacterData) -> dict[str, np.ndarray]:
    # Predictions for other test images than the profile's (made with --set, or of an earlier version) are not shown beside them.
    from lib.runs import read_predictions

    answers = {}
    for run in runs:
        if run["network"] not in answers:
            try:
                actual, probabilities = read_predictions(_folder(outputs, run))
            except InputError:
                continue
            if np.array_equal(actual, data.test_labels) and probabilities.shape[1] == len(
                data.class_names
            ):
                answers[run["network"]] = probabilities
    return answers


def _findings(outputs: Path) -> dict[str, dict]:
    return {path.stem: read_json(path) for path in sorted((outputs / FINDINGS).glob("*.json"))}
