"""A profile's studies, spelt out: which runs there are, what each keeps, and what is refused.

What a run may start from, and in which order, is tested with the plan.
"""

import pytest

from lib.errors import InputError
from lib.params import Profile
from lib.running.studies import expand, planned_runs


def runs_of(studies, **values):
    """The runs of a profile with these studies, by their names."""
    profile = Profile(**{"networks": ["custom"], "studies": studies} | values)
    profile._name = "mine"
    return {run.name: run for run in planned_runs(profile)}


def test_a_list_means_one_run_for_each_of_its_values():
    assert expand({"a": [1, 2], "b": 3, "c": [4, 5]}, "mine") == [
        {"a": 1, "b": 3, "c": 4},
        {"a": 1, "b": 3, "c": 5},
        {"a": 2, "b": 3, "c": 4},
        {"a": 2, "b": 3, "c": 5},
    ]


def test_variants_are_set_together_and_over_the_rest():
    grid = {"a": [1, 2], "variants": [{}, {"a": 3, "b": 4}]}
    assert expand(grid, "mine") == [{"a": 1}, {"a": 2}, {"a": 3, "b": 4}, {"a": 3, "b": 4}]


def test_a_variant_may_be_a_grid_itself():
    grid = {"a": 1, "variants": [{}, {"a": [2, 3], "b": 4}]}
    assert expand(grid, "mine") == [{"a": 1}, {"a": 2, "b": 4}, {"a": 3, "b": 4}]


@pytest.mark.parametrize("variants", [{"a": 1}, 3, ["a"], [{}, None]])
def test_variants_that_are_no_list_of_parameters_are_refused(variants):
    with pytest.raises(InputError, match="^study mine: variants must be a list of parameters"):
        expand({"variants": variants}, "mine")


def test_every_network_with_every_seed_is_a_study_of_its_own():
    names = list(runs_of({}, networks=["lenet", "custom"], seeds=[0, 3]))
    assert names == ["lenet-seed0", "lenet-seed3", "custom-seed0", "custom-seed3"]


def test_a_study_takes_the_profile_s_networks_and_seeds_unless_it_names_its_own():
    runs = runs_of({"long": {"epochs": 9}, "one": {"epochs": 8, "seed": 5}}, seeds=[0, 1])
    assert list(runs)[2:] == [
        "custom-seed0-epochs=9",
        "custom-seed1-epochs=9",
        "custom-seed5-epochs=8",
    ]


def test_a_run_s_name_tells_what_differs_from_the_profile_s_settings():
    runs = runs_of({"mine": {"augment": [0, 1], "epochs": [4, 6], "learning_rate": 0.01}}, epochs=6)
    assert "custom-seed0-learning_rate=0.01-augment=1" in runs
    assert "custom-seed0-epochs=4-learning_rate=0.01" in runs


def test_runs_that_studies_share_are_trained_once_and_belong_to_each():
    runs = runs_of({"short": {"epochs": [2, 4]}, "long": {"epochs": [4, 8]}}, epochs=4)
    assert len(runs) == 3
    assert runs["custom-seed0"].studies == ["networks", "short", "long"]
    assert runs["custom-seed0-epochs=8"].studies == ["long"]


def test_a_run_keeps_labels_alone_unless_a_study_or_the_networks_ask_for_all():
    runs = runs_of({"a": {"epochs": [2, 3]}, "b": {"epochs": 3, "keep": "all"}})
    kept = {name: run.parameters.keep for name, run in runs.items()}
    labels, both = "custom-seed0-epochs=2", "custom-seed0-epochs=3"
    assert kept == {"custom-seed0": "all", labels: "labels", both: "all"}


def test_a_run_that_another_starts_from_keeps_its_model():
    runs = runs_of({"first": {"epochs": 2}, "second": {"epochs": 3, "start": "first"}})
    assert runs["custom-seed0-epochs=2"].parameters.keep == "all"
    assert runs["custom-seed0-epochs=3-start=first"].needs == "custom-seed0-epochs=2"


def test_imagenet_s_weights_are_no_run():
    runs = runs_of({"photos": {"network": "resnet18", "start": "imagenet"}})
    run = runs["resnet18-seed0-start=imagenet"]
    assert (run.needs, run.parameters.start) == ("", "imagenet")


def test_the_folder_of_the_profile_is_of_no_use_to_a_study_on_other_characters(tmp_path):
    settings = {"source": "folder", "folder": str(tmp_path)}
    runs = runs_of({"strokes": {"source": "strokes", "class_ratio": 2}}, **settings)
    parameters = runs["custom-seed0-source=strokes-class_ratio=2"].parameters
    assert (parameters.folder, parameters.class_ratio) == ("", 2)


@pytest.mark.parametrize(
    "grid, said",
    [
        ({"epoch": 3}, "no parameter 'epoch'; did you mean 'epochs'?"),
        ({"epochs": [3, 0]}, "epochs is 0"),
        ({"network": "lenett"}, "no network 'lenett'; did you mean 'lenet'?"),
        ({"variants": [{"keep": "some"}]}, "keep is 'some'"),
    ],
)
def test_a_mistake_in_a_study_names_the_study_and_the_key(grid, said):
    with pytest.raises(InputError) as caught:
        runs_of({"mine": grid})
    assert said in str(caught.value)


def test_a_mistake_in_a_study_names_the_study():
    with pytest.raises(InputError, match="^study mine: epochs is 0"):
        runs_of({"mine": {"epochs": 0}})
