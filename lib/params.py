"""Checked parameters: what a profile, a command line and a notebook's parameters cell may say."""

import ast
import difflib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lib.errors import InputError
from lib.files import ROOT

PROFILES = ROOT / "params"


class Parameters(BaseModel):
    """Values that are checked: no unknown key, and no true or false where a number or a name is meant."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def refuse_booleans(cls, values: dict) -> dict:
        for name, value in values.items():
            if isinstance(value, bool):
                raise ValueError(
                    f"{name} is {str(value).lower()}, which is neither a number nor a name"
                )
        return values


class DataParameters(Parameters):
    """Which characters, and how they are divided."""

    source: Literal["strokes", "emnist", "folder"] = "strokes"
    split: Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"] = "byclass"
    archive: str = ""  # emnist: a local gzip.zip; empty: downloaded once
    folder: str = ""  # folder: class subfolders or labels.csv
    per_class: int = Field(
        60, ge=10, le=100_000
    )  # strokes: characters of each class to train and validate on
    test_per_class: int = Field(
        20, ge=1, le=100_000
    )  # strokes: characters of each class to test on
    cap: Literal["none", "mean"] = "none"  # mean: at most the mean class size of train
    valid_fraction: float = Field(0.1, gt=0, lt=1)  # share of train kept for validation
    data_seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def find_paths(self):
        """Makes the paths absolute; a relative one starts at the current folder or else at the repository."""
        for name, source in (("archive", "emnist"), ("folder", "folder")):
            value = getattr(self, name)
            if value and self.source != source:
                raise ValueError(
                    f"{name} is given, but source is {self.source}: set source={source} to use it"
                )
            if value:
                setattr(self, name, str(existing_path(name, value)))
        if self.source == "folder" and not self.folder:
            raise ValueError(
                "source is folder, but no folder is given: set folder=PATH to your own images"
            )
        return self


def existing_path(name: str, value: str) -> Path:
    """The path, absolute, looked for from the current folder and then from the repository; ValueError if it is nowhere."""
    for path in (Path(value).expanduser(), ROOT / value):
        if path.exists():
            return path.resolve()
    raise ValueError(f"{name} '{value}' does not exist")


Schedule = Literal["one_cycle", "triangular2", "constant"]


class TrainingSettings(Parameters):
    """How a network is trained, whichever it is."""

    epochs: int = Field(4, ge=1, le=1000)
    batch_size: int = Field(64, ge=2, le=65_536)
    learning_rate: float = Field(
        0.0, ge=0, le=10
    )  # highest rate of the schedule; 0: the one the finder suggests
    finder_steps: int = Field(100, ge=40, le=10_000)  # batches of the learning-rate test
    weight_decay: float = Field(0.01, ge=0, le=10)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    augment: float = Field(
        0.0, ge=0, le=5
    )  # strength of the random turns, scales, slants and shifts; 0: none
    warp: float = Field(
        0.0, ge=0, le=5
    )  # standard deviation, in pixels, of a random smooth bending; 0: none
    erase: float = Field(0.0, ge=0, le=1)  # share of training images that a rectangle is blanked in
    average: float = Field(
        0.0, ge=0, lt=1
    )  # decay, per step, of the average weights that are kept; 0: the last weights
    views: Literal[1, 5, 9] = 1  # how many shifted copies of an image a prediction is averaged over
    patience: int = Field(
        0, ge=0
    )  # epochs without a lower validation loss before stopping; 0: never stop early
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    tracker: Literal["none", "tensorboard", "wandb", "comet", "mlflow"] = (
        "none"  # where else losses and rates are logged
    )
    processes: int = Field(
        1, ge=0, le=1024
    )  # graphics cards (or processes) that share every batch; 0: every card there is

    @model_validator(mode="after")
    def keep_one_kind_of_weights(self):
        if self.patience and self.average:
            raise ValueError(
                "patience keeps the weights of the best epoch and average those of all: set one of them to 0"
            )
        return self


class TrainingParameters(TrainingSettings):
    """How one network is trained once."""

    network: str = "custom"
    seed: int = Field(0, ge=0)
    schedule: Schedule = "one_cycle"


class Profile(DataParameters, TrainingSettings):
    """A whole experiment: the data, the training, and which networks, seeds and schedules; a run for each combination."""

    networks: list[str] = Field(
        ["resnet", "lenet", "custom"], min_length=1
    )  # the slowest first: two at a time end together
    seeds: list[Annotated[int, Field(ge=0, strict=True)]] = Field([0], min_length=1)
    schedules: list[Schedule] = Field(["one_cycle"], min_length=1)
    trial_images: int = Field(
        1000, ge=100
    )  # training images of each of the many short trainings in 04, 06, 07 and 08
    imagenet_weights: str = ""  # 07: a local file with ImageNet weights of ResNet-18; empty: downloaded where that is possible
    accuracy_bands: dict[
        str, list[float]
    ] = {}  # network: lowest and highest test accuracy to accept
    threads: int = Field(
        0, ge=0, le=1024
    )  # that each notebook computes with; 0: the cores, divided among the trainings of the plan
    time_limit: float = Field(720, gt=0)  # minutes after which a notebook is ended

    @model_validator(mode="after")
    def find_the_weights(self):
        if self.imagenet_weights:
            self.imagenet_weights = str(existing_path("imagenet_weights", self.imagenet_weights))
        return self

    @model_validator(mode="after")
    def know_the_networks(self):
        for name in self.networks:
            if name not in network_names():
                raise ValueError(
                    f"networks names '{name}', which lib/networks.py does not have{did_you_mean(name, network_names())}"
                )
        return self

    @model_validator(mode="after")
    def name_each_run_once(self):
        for key in ("networks", "seeds", "schedules"):
            if len(set(getattr(self, key))) < len(getattr(self, key)):
                raise ValueError(f"{key} names the same one twice")
        for name, band in self.accuracy_bands.items():
            if len(band) != 2 or not 0 <= band[0] <= band[1] <= 1:
                raise ValueError(
                    f"accuracy_bands of {name} is {band}, but it must be [lowest, highest] between 0 and 1"
                )
        return self


@cache
def network_names() -> list[str]:
    """The keys of NETWORKS in lib/networks.py, read from its source: importing it takes torch and seconds."""
    lines = ast.parse((ROOT / "lib" / "networks.py").read_text()).body
    table = next(
        line.value
        for line in lines
        if isinstance(line, ast.Assign) and line.targets[0].id == "NETWORKS"
    )
    return [key.value for key in table.keys]


def did_you_mean(name: str, known) -> str:
    """The end of a sentence: '; did you mean ...?' with the nearest known name, or else what there is to choose from."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else f"; choose from {', '.join(known)}."


def check(
    model: type[Parameters], values: dict[str, Any], origins: dict[str, str] | None = None
) -> Parameters:
    """The values as a checked model; InputError naming the key, what is wrong with it, and the nearest right one.

    `origins` says where each key was set, for the message.
    """
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
    key, message = ".".join(map(str, first["loc"])), first["msg"]
    if first["type"] == "extra_forbidden":
        problem = f"there is no parameter '{key}'{did_you_mean(key, model.model_fields)}"
    elif first["type"] == "value_error":
        problem = str(first["ctx"]["error"])
    elif message.startswith("Input should be "):
        problem = f"{key} is {first['input']!r}, but it must be {message.removeprefix('Input should be ')}"
    else:
        problem = f"{key} is {first['input']!r}: {message[0].lower()}{message[1:]}"
    origin = (origins or {}).get(key.split(".")[0], "")
    raise InputError(f"{origin}{problem}{'' if problem[-1] in '?.' else '.'}")


def profile_names() -> list[str]:
    """The profiles of params/, in alphabetical order."""
    return sorted(path.stem for path in PROFILES.glob("*.yml"))


def read_profile(name: str) -> dict:
    """The keys that params/<name>.yml sets; InputError for an unknown profile or a file that is not `key: value`."""
    if name not in profile_names():
        raise InputError(f"There is no profile '{name}'{did_you_mean(name, profile_names())}")
    path = PROFILES / f"{name}.yml"
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise InputError(
            f"params/{path.name} is not valid YAML: {' '.join(str(error).split())}."
        ) from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"params/{path.name} must hold lines of the form 'key: value'.")
    return values


def read_settings(settings: list[str]) -> dict:
    """['epochs=3', 'seeds=[0,1]'] to {'epochs': 3, 'seeds': [0, 1]}; values are read as YAML."""
    values = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: write it as key=value, for example --set epochs=3.")
        try:
            values[key.strip()] = yaml.safe_load(value) if value else ""
        except yaml.YAMLError:
            raise InputError(
                f"--set {setting}: the value is not valid YAML; lists are written '[0,1,2]'."
            ) from None
    return values


def load_profile(name: str, settings: list[str] = ()) -> Profile:
    """A profile with the settings of the command line on top; InputError if anything in either cannot be."""
    given, set_now = read_profile(name), read_settings(settings)
    origins = {
        key: f"{origin}: "
        for key, origin in where_from(name, settings).items()
        if key in given or key in set_now
    }
    return check(Profile, given | set_now, origins)


def where_from(name: str, settings: list[str] = ()) -> dict[str, str]:
    """Where each key of a loaded profile has its value from: the default, the profile or the command line."""
    given, set_now = read_profile(name), read_settings(settings)
    return (
        dict.fromkeys(Profile.model_fields, "default")
        | dict.fromkeys(given, f"params/{name}.yml")
        | dict.fromkeys(set_now, "--set")
    )
