"""Parameters are checked before anything starts, and a mistake costs one sentence."""

import re

import pytest

from lib import params
from lib.errors import InputError
from lib.params import (
    Profile,
    TrainingParameters,
    check,
    did_you_mean,
    given,
    load_profile,
    profile_names,
    read_settings,
)


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_is_valid(name, tmp_path):
    settings = [f"folder={tmp_path}"] if name == "folder" else []
    assert load_profile(name, settings).epochs >= 1


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_begins_by_saying_its_cost_and_accuracy(name):
    text = (params.PROFILES / f"{name}.yml").read_text()
    header = " ".join(line for line in text.splitlines() if line.startswith("# ")).lower()
    assert re.search(r"minute|hour|cost", header) and re.search(r"%|accuracy", header)


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_holds_only_what_differs_from_the_defaults(name):
    defaults = {key: details.get_default() for key, details in Profile.model_fields.items()}
    assert not [key for key, value in params.read_profile(name).items() if value == defaults[key]]


def test_an_unknown_key_names_the_nearest_right_one():
    with pytest.raises(InputError, match="no parameter 'epoch'; did you mean 'epochs'"):
        load_profile("small", ["epoch=3"])


def test_a_wrong_type_names_the_key_and_the_value():
    with pytest.raises(InputError, match="epochs is 'many'"):
        load_profile("small", ["epochs=many"])


def test_an_impossible_value_names_the_bound():
    with pytest.raises(InputError, match="valid_fraction is 1.5.*less than 1"):
        load_profile("small", ["valid_fraction=1.5"])


def test_an_unknown_choice_lists_the_choices():
    with pytest.raises(InputError, match="precision is 'float8'.*float32"):
        load_profile("small", ["precision=float8"])


def test_true_is_not_taken_for_the_number_one():
    with pytest.raises(InputError, match="epochs is true"):
        load_profile("small", ["epochs=true"])


def test_a_profile_without_its_folder_says_what_to_set():
    with pytest.raises(InputError, match="set folder=PATH"):
        load_profile("folder")


@pytest.mark.parametrize(
    "setting",
    [
        "seeds=[-1]",
        "seeds=[true]",
        "seeds=[0,0]",
        "schedule=linear",
        "studies=[networks]",
        "keep=some",
        "views=3",
        "time_limit=0",
        "threads=-1",
        "networks=[]",
        "networks=[custom,custom]",
        "accuracy_bands={custom: [0.9, 0.1]}",
        "accuracy_bands={custom: [1]}",
        "networks=[lenett]",
        "folder=2024",
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_starts(setting):
    with pytest.raises(InputError, match=setting.split("=")[0]):
        load_profile("small", [setting])


def test_a_mistake_says_where_it_was_made(tmp_path):
    (tmp_path / "mine.yml").write_text("epochs: 0")
    with pytest.raises(InputError, match="^params/mine.yml: epochs is 0"):
        load_profile("mine", ["batch_size=8"], tmp_path)
    with pytest.raises(InputError, match="^--set: batch_size is 1"):
        load_profile("mine", ["epochs=3", "batch_size=1"], tmp_path)


def test_a_key_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "mine.yml").write_text("3: 4")
    with pytest.raises(InputError, match="key: value"):
        load_profile("mine", folder=tmp_path)


def test_an_unknown_network_is_refused_before_anything_runs():
    with pytest.raises(InputError, match="'lenett'.*did you mean 'lenet'"):
        load_profile("small", ["networks=[lenett]"])


def test_an_unknown_profile_names_the_nearest():
    with pytest.raises(InputError, match="no profile 'stroke'; did you mean 'strokes'"):
        load_profile("stroke")


def test_an_archive_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="archive 'nowhere.zip' does not exist"):
        load_profile("small", ["source=emnist", "archive=nowhere.zip"])


def test_an_archive_without_its_source_is_refused(tmp_path):
    with pytest.raises(InputError, match="source is strokes: set source=emnist"):
        load_profile("small", [f"archive={tmp_path}"])


def test_a_folder_source_needs_a_folder():
    with pytest.raises(InputError, match="no folder is given"):
        load_profile("small", ["source=folder"])


def test_settings_are_read_as_yaml():
    assert read_settings(["epochs=3", "seeds=[0,1]", "archive="]) == {
        "epochs": 3,
        "seeds": [0, 1],
        "archive": "",
    }


def test_a_setting_without_a_value_is_refused():
    with pytest.raises(InputError, match="key=value"):
        read_settings(["epochs"])


def test_a_small_number_in_scientific_notation_is_a_number():
    assert load_profile("small", ["learning_rate=1e-3"]).learning_rate == 0.001


def test_broken_yaml_names_where_it_stands(tmp_path):
    (tmp_path / "mine.yml").write_text("epochs: [3")
    with pytest.raises(InputError, match="params/mine.yml is not valid YAML"):
        load_profile("mine", folder=tmp_path)
    with pytest.raises(InputError, match=r"--set seeds=\[0 is not valid YAML"):
        read_settings(["seeds=[0"])


NESTED = [
    "a: &a [x, x]",
    *(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefghi", "bcdefghij")),
]


@pytest.mark.parametrize(
    "setting",
    [
        "epochs=2020-13-45",
        "epochs=!!int x",
        "epochs=!!timestamp x",
        f"epochs={'9' * 5000}",
        f"epochs={'[' * 5000}",
        f"networks={'x' * 5000}",
        "folder=~nosuchuser/letters",
        "epochs=\ud800",
        "a\x1b[31m=3",
        f"seeds={{{', '.join(NESTED)}}}",
    ],
)
def test_odd_settings_get_a_short_sentence(setting):
    with pytest.raises(InputError) as refused:
        load_profile("small", ["source=folder", setting])
    said = str(refused.value)
    assert said.isprintable() and len(said) < 600 and said.encode()


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b"epochs: 3  # \xff"),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to(path.name),
        lambda path: path.write_text("studies: " + "[" * 5000),
    ],
    ids=["not UTF-8", "a folder", "a link to itself", "brackets"],
)
def test_a_profile_that_cannot_be_read_is_named(write, tmp_path):
    write(tmp_path / "mine.yml")
    with pytest.raises(InputError, match="params/mine.yml is not valid YAML: .*"):
        load_profile("mine", folder=tmp_path)


def test_defaults_pass_their_own_checks():
    assert check(TrainingParameters, TrainingParameters().model_dump()) == TrainingParameters()


def test_average_weights_and_those_of_the_best_epoch_exclude_each_other():
    with pytest.raises(InputError, match="patience keeps .* set one of them to 0"):
        check(TrainingParameters, {"patience": 2, "average": 0.9})


def test_each_value_comes_from_the_default_the_profile_or_the_command_line():
    profile = load_profile("strokes", ["epochs=9"])
    origins = [profile.origin(key) for key in ("per_class", "epochs", "views")]
    assert origins == ["params/strokes.yml", "--set", "default"]
    assert profile.outputs == "outputs/strokes"


def test_a_cell_gives_the_parameters_of_a_model_and_keeps_the_rest():
    cell = {"network": "lenet", "epochs": 9, "outputs": "outputs/mine", "data": [1]}
    assert given(TrainingParameters, cell) == TrainingParameters(network="lenet", epochs=9)
    with pytest.raises(InputError, match="batch_size is 'many'"):
        given(TrainingParameters, {"batch_size": "many"})


def test_the_nearest_name_is_suggested_or_else_all_are_named():
    assert did_you_mean("epoch", ["epochs", "seed"]) == "; did you mean 'epochs'?"
    assert did_you_mean("xyz", ["epochs", "seed"]) == "; choose from epochs, seed."


def test_the_names_of_the_networks_are_those_of_the_table():
    from lib.networks import NETWORKS

    assert params.network_names() == list(NETWORKS)
