import json

import pytest

from lib.errors import InputError
from lib.menu import commands, comparison


@pytest.fixture
def results(tmp_path, monkeypatch):
    """write("strokes", "custom-one_cycle-seed0", epochs=3, ...) leaves the metrics of a run."""
    monkeypatch.setenv("HANDWRITING_OUTPUTS", str(tmp_path))

    def write(profile, run, **metrics):
        folder = tmp_path / "outputs" / profile / run
        folder.mkdir(parents=True)
        everything = (
            dict.fromkeys(comparison.RESULTS, 0.5) | {"epochs": 3, "batch_size": 64} | metrics
        )
        (folder / "metrics.json").write_text(json.dumps(everything))

    return write


def test_the_conditions_that_differ_are_named_and_no_others(results):
    results("a", "custom-one_cycle-seed0", epochs=3)
    results("b", "custom-one_cycle-seed0", epochs=4)
    pairs = comparison.matched(comparison.read_runs("a"), comparison.read_runs("b"))
    assert comparison.differing_conditions(pairs) == {"epochs": ("3", "4")}


def test_runs_of_two_profiles_are_matched_by_name(results):
    for run in ("custom-one_cycle-seed0", "custom-one_cycle-seed1"):
        results("a", run)
    results("b", "custom-one_cycle-seed1")
    results("b", "lenet-one_cycle-seed1")
    assert [
        name
        for name, _, _ in comparison.matched(comparison.read_runs("a"), comparison.read_runs("b"))
    ] == ["custom-one_cycle-seed1"]


def test_two_single_runs_are_compared_whatever_their_names(results, capsys):
    results("a", "custom-one_cycle-seed0", test_accuracy=0.80, network="custom")
    results("a", "lenet-one_cycle-seed0", test_accuracy=0.75, network="lenet")
    commands.compare_runs("a/custom-one_cycle-seed0", "a/lenet-one_cycle-seed0")
    shown = capsys.readouterr().out
    assert "80.00%" in shown and "75.00%" in shown and "-5.00" in shown and "lenet" in shown


def test_runs_of_two_profiles_are_shown_a_row_each(results, capsys):
    for profile, accuracy in [("a", 0.8), ("b", 0.81)]:
        for run in ("custom-one_cycle-seed0", "custom-one_cycle-seed1"):
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
    results("strokes", "custom-one_cycle-seed0")
    with pytest.raises(InputError, match="no result named 'stroke'.*did you mean 'strokes'"):
        comparison.read_runs("stroke")


def test_profiles_without_a_run_in_common_are_refused(results):
    for profile, runs in [("a", "pq"), ("b", "rs")]:
        for run in runs:
            results(profile, run)
    with pytest.raises(
        InputError,
        match="no run of the same name: compare single runs instead, such as a/p with b/r",
    ):
        commands.compare_runs("a", "b")
