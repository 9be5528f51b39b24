"""Checked parameters: what a profile, a command line and a notebook's parameters cell may say."""

import ast
import difflib
import os
import reprlib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from lib.errors import InputError
from lib.files import ROOT

PROFILES = ROOT / "params"


@cache
def network_names() -> list[str]:
    """The keys of NETWORKS, read from the source: importing it takes torch, and seconds."""
    lines = ast.parse((ROOT / "lib" / "networks.py").read_text()).body
    tables = {line.targets[0].id: line.value for line in lines if isinstance(line, ast.Assign)}
    return [key.value for key in tables["NETWORKS"].keys]


def did_you_mean(name: str, known) -> str:
    """The end of a sentence: '; did you mean ...?', or what there is to choose from."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else f"; choose from {', '.join(known)}."


def known_network(name: str) -> str:
    """The name, if it is one of a network; else ValueError."""
    if name not in network_names():
        near = did_you_mean(name, network_names())
        raise ValueError(f"lib/networks.py has no network '{name}'{near}")
    return name


Network = Annotated[str, AfterValidator(known_network)]
Seed = Annotated[int, Field(ge=0, strict=True)]


class Parameters(BaseModel):
    """Values that are checked: no unknown key, no true or false for a number or a name."""

    model_config = {"extra": "forbid"}

    @model_validator(mode="before")
    @classmethod
    def refuse_booleans(cls, values: dict) -> dict:
        for name, value in values.items():
            if isinstance(value, bool):
                raise ValueError(f"{name} is {str(value).lower()}, which is no number and no name")
        return values


class DataParameters(Parameters):
    """Which characters, and how they are divided."""

    source: Literal["strokes", "emnist", "digits", "folder"] = "strokes"
    split: Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"] = "byclass"
    archive: str = ""  # emnist: a local gzip.zip; empty: downloaded once
    folder: str = ""  # folder: class subfolders or labels.csv
    per_class: int = Field(60, ge=10, le=100_000)  # strokes: of each class to train and validate on
    test_per_class: int = Field(20, ge=1, le=100_000)  # strokes: of each class to test on
    class_ratio: float = Field(1, ge=1, le=100)  # strokes: commonest class to rarest
    cap: Literal["none", "mean", "drawn"] = "none"  # mean: at most the mean class size of train;
    # drawn: so many of each class of train and test, with replacement, as the original drew
    valid_fraction: float = Field(0.1, gt=0, lt=1)  # share of train kept for validation
    data_seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def find_paths(self):
        """Makes the paths absolute; a relative one starts here or else at the repository."""
        for name, source in (("archive", "emnist"), ("folder", "folder")):
            value = getattr(self, name)
            if value and self.source != source:
                problem = f"{name} is given, but source is {self.source}"
                raise ValueError(f"{problem}: set source={source} to use it")
            if value:
                setattr(self, name, str(existing_path(name, value)))
        if self.source == "folder" and not self.folder:
            raise ValueError("source is folder, but no folder is given: set folder=PATH")
        return self


def existing_path(name: str, value: str) -> Path:
    """The path, absolute, looked for from here and then from the repository; else ValueError."""
    for path in (Path(os.path.expanduser(value)), ROOT / value):
        if path.exists():
            return path.resolve()
    raise ValueError(f"{name} '{value}' does not exist")


class TrainingSettings(Parameters):
    """How a network is trained, whichever it is, and what its run keeps."""

    schedule: Literal["one_cycle", "triangular2", "cosine", "constant"] = "one_cycle"
    half_cycle: int = Field(0, ge=0, le=1000)  # epochs, of triangular2; 0: a quarter of all
    epochs: int = Field(4, ge=1, le=1000)
    optimiser: Literal["adam", "rmsprop"] = "adam"
    batch_size: int = Field(64, ge=2, le=65_536)
    learning_rate: float = Field(0.0, ge=0, le=10)  # highest rate; 0: the one the finder suggests
    finder_steps: int = Field(100, ge=40, le=10_000)  # batches of the learning-rate test
    weight_decay: float = Field(0.01, ge=0, le=10)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    augment: float = Field(0.0, ge=0, le=5)  # strength of random turns, scales, shifts; 0: none
    warp: float = Field(0.0, ge=0, le=5)  # random smooth bending, deviation in pixels; 0: none
    erase: float = Field(0.0, ge=0, le=1)  # share of training images with a blanked rectangle
    average: float = Field(0.0, ge=0, lt=1)  # decay, per step, of the average weights; 0: the last
    views: Literal[1, 5, 9] = 1  # shifted copies of an image that a prediction is averaged over
    patience: int = Field(0, ge=0)  # epochs without a lower validation loss; 0: never stop early
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    train_images: int = Field(0, ge=0)  # so many of them, drawn with the seed; 0: all
    start: str = ""  # a study, a profile or a file whose weights training begins with; empty: fresh
    keep: Literal["all", "labels"] = "all"  # labels: no model and no probabilities are kept
    tracker: Literal["none", "tensorboard", "wandb", "comet", "mlflow"] = "none"

    @model_validator(mode="after")
    def keep_one_kind_of_weights(self):
        if self.patience and self.average:
            raise ValueError("patience keeps the best, average the mean: set one of them to 0")
        return self


class TrainingParameters(TrainingSettings):
    """How one network is trained once."""

    network: Network = "custom"
    seed: int = Field(0, ge=0)


class RunParameters(DataParameters, TrainingParameters):
    """All that one run of 03-train is given, the folder for its results aside."""


class Profile(DataParameters, TrainingSettings):
    """A whole experiment: data, training, and which runs.

    Every network with every seed is the study `networks`. Each further study is a grid over the
    parameters of a run: a list means one run for each of its values, and `variants` is a list of
    further grids. The study `networks` may be spelt out, too. Without `seed` a study takes `seeds`.
    """

    networks: list[Network] = Field(["resnet", "lenet", "custom"], min_length=1)  # slowest first
    seeds: list[Seed] = Field([0], min_length=1)
    studies: dict[str, dict[str, Any]] = {}
    explorer: Literal["images", "counts"] = "images"  # what the report shows of each confusion
    accuracy_bands: dict[str, list[float]] = {}  # network: test accuracies to accept
    threads: int = Field(0, ge=0, le=1024)  # of each notebook; 0: the cores, divided among the runs
    time_limit: float = Field(720, gt=0)  # minutes after which a notebook is ended
    _name: str = ""  # of the file in params/
    _origins: dict[str, str] = {}  # key: where its value is set; else a default

    @property
    def outputs(self) -> str:
        """The folder of its results, as `lib.files.outputs_folder` takes it."""
        return f"outputs/{self._name}"

    def origin(self, key: str) -> str:
        """Where a key has its value from: "default", the profile's file or "--set"."""
        return self._origins.get(key, "default")

    @model_validator(mode="after")
    def name_each_run_once(self):
        for key, values in (("networks", self.networks), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"{key} names the same one twice")
        for name, band in self.accuracy_bands.items():
            if len(band) != 2 or not 0 <= band[0] <= band[1] <= 1:
                expected = "[lowest, highest] between 0 and 1"
                raise ValueError(f"accuracy_bands of {name} is {band}, but it must be {expected}")
        return self


def check(model: type[Parameters], values: dict[str, Any], origins: dict[str, str] | None = None):
    """The values as a checked `model`; InputError naming the key, its fault and the nearest right.

    `origins` says where each key was set, for the message, such as "--set: ".
    """
    try:
        return model(**values)
    except UnicodeEncodeError:  # half of a letter, which pydantic cannot say
        raise InputError("A parameter holds what is no text in UTF-8: write it anew.") from None
    except ValidationError as error:
        first, *_ = error.errors()
    key, message = ".".join(map(str, first["loc"])), first["msg"]
    said = f"{key} is {reprlib.repr(first['input']):.60}"
    if first["type"] == "extra_forbidden":
        problem = f"there is no parameter '{key}'{did_you_mean(key, model.model_fields)}"
    elif first["type"] == "value_error":
        problem = str(first["ctx"]["error"])
    elif message.startswith("Input should be "):
        problem = f"{said}, {message.replace('Input should be', 'but it must be')}"
    else:
        problem = f"{said}: {message[0].lower()}{message[1:]}"
    origin = (origins or {}).get(key.split(".")[0], "")
    raise InputError(f"{origin}{problem}{'' if problem[-1] in '?.' else '.'}")


def profile_names(folder: Path = PROFILES) -> list[str]:
    """The profiles of params/, in alphabetical order."""
    return sorted(path.stem for path in folder.glob("*.yml"))


def read_profile(name: str, folder: Path = PROFILES) -> dict:
    """The keys that params/<name>.yml sets; InputError for an unknown profile or a bad file."""
    names = profile_names(folder)
    if name not in names:
        raise InputError(f"There is no profile '{name}'{did_you_mean(name, names)}")
    values = _read_yaml(folder / f"{name}.yml", f"params/{name}.yml") or {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"params/{name}.yml must hold lines of the form 'key: value'.")
    return values


def read_settings(settings: list[str]) -> dict:
    """['epochs=3', 'seeds=[0,1]'] to {'epochs': 3, 'seeds': [0, 1]}; values are read as YAML."""
    values = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: write it as key=value, for example --set epochs=3.")
        values[key.strip()] = _read_yaml(value, f"--set {setting}") if value else ""
    return values


def _read_yaml(source: str | Path, origin: str):
    try:
        return yaml.safe_load(source.read_text("utf-8") if isinstance(source, Path) else source)
    except Exception as error:  # PyYAML passes on whatever making a value raises
        raise InputError(f"{origin} is not valid YAML: {' '.join(str(error).split())}.") from None


def load_profile(name: str, settings: list[str] = (), folder: Path = PROFILES) -> Profile:
    """A profile with the settings of the command line on top; InputError if either cannot be."""
    own, set_now = read_profile(name, folder), read_settings(settings)
    origins = dict.fromkeys(own, f"params/{name}.yml") | dict.fromkeys(set_now, "--set")
    profile = check(Profile, own | set_now, {key: f"{at}: " for key, at in origins.items()})
    profile._name, profile._origins = name, origins
    return profile


def given(model: type[Parameters], values: dict[str, Any]) -> Parameters:
    """Those of the values that the model has, checked: given(DataParameters, globals())."""
    return check(model, {key: values[key] for key in model.model_fields if key in values})
