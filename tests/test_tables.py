"""What compare-runs says of two results."""

import json

import pytest

from lib.errors import InputError
from lib.menu import commands, tables


@pytest.fixture
def results(tmp_path, monkeypatch):
    """results("strokes", "custom-seed0", epochs=3, ...) leaves the metrics of a run."""
    monkeypatch.setenv("HANDWRITING_OUTPUTS", str(tmp_path))

    def write(profile, run, **metrics):
        folder = tmp_path / "outputs" / profile / run
        folder.mkdir(parents=True)
        everything = dict.fromkeys(tables.MEASURED, 0.5) | {"epochs": 3, "batch_size": 64} | metrics
        (folder / "metrics.json").write_text(json.dumps(everything))

    return write


def pairs_of(first, second):
    return tables.matched(tables.read_runs(first), tables.read_runs(second))


def test_the_conditions_that_differ_are_named_and_no_others(results):
    results("a", "custom-seed0", epochs=3)
    results("b", "custom-seed0", epochs=4)
    assert tables.differing_conditions(pairs_of("a", "b")) == {"epochs": ("3", "4")}


def test_runs_of_two_profiles_are_matched_by_name(results):
    for run in ("custom-seed0", "custom-seed1"):
        results("a", run)
    for run in ("custom-seed1", "lenet-seed1"):
        results("b", run)
    assert [name for name, *_ in pairs_of("a", "b")] == ["custom-seed1"]


def test_two_single_runs_are_compared_whatever_their_names(results, capsys):
    results("a", "custom-seed0", test_accuracy=0.80, network="custom")
    results("a", "lenet-seed0", test_accuracy=0.75, network="lenet", test_loss=None)
    commands.compare_runs("a/custom-seed0", "a/lenet-seed0")
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("80.00%", "75.00%", "-5.00", "lenet", "None"))


def test_runs_of_two_profiles_are_shown_a_row_each(results, capsys):
    for profile, accuracy in [("a", 0.8), ("b", 0.81)]:
        for run in ("custom-seed0", "custom-seed1"):
            results(profile, run, test_accuracy=accuracy)
    commands.compare_runs("a", "b")
    assert capsys.readouterr().out.count("+1.00") == 2


def test_runs_that_only_one_profile_has_are_named(results, capsys):
    for profile, run in [("a", "x"), ("a", "y"), ("b", "y"), ("b", "z")]:
        results(profile, run)
    commands.compare_runs("a", "b")
    shown = capsys.readouterr().out
    assert "no condition differs" in shown and "only in a: x" in shown and "only in b: z" in shown


def test_an_unknown_result_names_the_nearest(results):
    results("strokes", "custom-seed0")
    with pytest.raises(InputError, match="no result named 'stroke'.*did you mean 'strokes'"):
        tables.read_runs("stroke")


def test_profiles_without_a_run_in_common_are_refused(results):
    for profile, runs in [("a", "pq"), ("b", "rs")]:
        for run in runs:
            results(profile, run)
    said = "no run of the same name: compare single runs instead, such as a/p with b/r"
    with pytest.raises(InputError, match=said):
        commands.compare_runs("a", "b")


def test_the_results_of_the_networks_stand_in_a_table_with_their_data():
    row = {"run": "custom-seed0", "dataset": "strokes", "split": "", "n_test": 3100, "seconds": 9.1}
    row |= {"epochs_run": 3} | dict.fromkeys(tables.MEASURED[:2] + ("train_accuracy",), 0.5)
    table = tables.results_table([row])
    assert table.title == "accuracy on strokes, 3,100 test images" and table.row_count == 1
