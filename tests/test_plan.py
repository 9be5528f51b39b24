import subprocess
import sys

import plans
import pytest
from rich.console import Console

from lib.errors import InputError
from lib.files import METRICS, REPORT, ROOT, read_json, write_json
from lib.menu import commands
from lib.params import Profile, load_profile
from lib.running import plan as pipeline
from lib.running import staleness as freshness
from lib.running.notebook import NotebookProcess, run_step


@pytest.fixture
def notebooks(folder):
    """write(name, code...) changes one of the tiny notebooks."""
    return lambda name, *code: plans.write(folder, name, *code)


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    with NotebookProcess(
        threads=1, environment={"HANDWRITING_OUTPUTS": str(tmp_path_factory.mktemp("results"))}
    ) as process:
        yield process


def states(outcomes):
    return {name: outcome.state for name, outcome in outcomes.items()}


def explore(**values):
    return pipeline.plan(Profile(**values), "outputs/small")[0]


def test_a_plan_trains_every_network_with_every_seed_and_schedule(notebooks):
    chosen = Profile(
        networks=["lenet", "custom"], seeds=[0, 1], schedules=["one_cycle", "constant"]
    )
    assert [step.name for step in pipeline.plan(chosen, "outputs/small") if step.run_folder] == [
        f"03-train {network}-{schedule}-seed{seed}"
        for seed in (0, 1)
        for schedule in ("one_cycle", "constant")
        for network in ("lenet", "custom")
    ]


def test_a_plan_names_every_step_after_those_it_needs(notebooks):
    done = set()
    for step in pipeline.plan(Profile(), "outputs/small"):
        assert set(step.needs) <= done
        done.add(step.name)


def test_whatever_a_step_reads_is_written_by_one_that_it_needs(notebooks):
    steps = {step.name: step for step in pipeline.plan(Profile(), "outputs/small")}
    for step in steps.values():
        assert {name.partition("#")[0] for name in step.reads} <= {
            name for needed in step.needs for name in steps[needed].writes
        }


def test_a_notebook_gets_the_parameters_it_asks_for_and_no_others(notebooks):
    step = pipeline.plan(Profile(seeds=[4]), "outputs/mine")[-1]
    assert step.parameters == {"outputs": "outputs/mine", "seeds": [4]}


def test_training_does_not_wait_for_the_finder_when_its_rate_is_given(notebooks):
    steps = pipeline.plan(Profile(learning_rate=0.01), "outputs/small")
    assert all(not step.needs for step in steps if step.run_folder)


def test_a_failure_names_the_cell_the_error_and_the_executed_notebook(notebooks, process):
    notebooks("01-explore-data", "numbers = []\nnumbers[3]")
    problem = run_step(explore(), process).problem
    assert problem.splitlines()[0] == "IndexError: list index out of range"
    assert (
        "begins: numbers = []" in problem
        and "----> 2 numbers[3]" in problem
        and "01-explore-data.ipynb" in problem
    )
    assert len(problem.splitlines()) < 24 and "\x1b" not in problem  # one screen, and no colours


def test_a_kernel_that_dies_is_a_failure(notebooks, process):
    notebooks("01-explore-data", "import os; os._exit(1)")
    outcome = run_step(explore(), process)
    assert outcome.state == "failed" and "DeadKernelError" in outcome.problem.splitlines()[0]


def test_a_notebook_that_hangs_is_ended_after_its_time(notebooks):
    notebooks("01-explore-data", "print('here', flush=True)", "import time; time.sleep(60)")
    with NotebookProcess(threads=1) as process:
        outcome = run_step(explore(time_limit=0.08), process)
        assert (
            outcome.state == "failed" and "ended after 0.08 minutes (time_limit)" in outcome.problem
        )
        assert process.ended and "here" in explore().executed.read_text()


def test_a_full_disk_is_told_with_what_to_do(notebooks, process):
    notebooks("01-explore-data", "raise OSError(28, 'No space left on device')")
    assert (
        "No space left on device; free some space and run the same command again"
        in run_step(explore(), process).problem
    )


def test_an_executed_notebook_shows_where_each_value_came_from(notebooks, process):
    origins = {"networks": "params/small.yml", "epochs": "--set"}
    step = pipeline.plan(Profile(epochs=7, learning_rate=0.1), "outputs/small", origins)[2]
    assert run_step(step, process).state == "done"
    shown = step.executed.read_text()
    for name, value, origin in [
        ("epochs", "7", "--set"),
        ("network", r"\"resnet\"", "params/small.yml"),
        ("seed", "0", "default"),
    ]:
        assert any(
            line.strip().startswith(f'"{name} = {value} ') and f"# {origin}" in line
            for line in shown.splitlines()
        ), name


def test_events_tell_the_cell_the_text_and_the_memory(notebooks, process):
    notebooks("01-explore-data", "print('hello')", "import time; time.sleep(1.5)")
    events = []
    run_step(explore(), process, events.append)
    assert {"text": "hello"} in events
    assert [event["cell"] for event in events if "cell" in event][-1] == 5 and all(
        event.get("memory", 1) > 0 for event in events
    )


def test_results_list_the_runs_that_finished(notebooks, tmp_path):
    notebooks(pipeline.TRAIN, "assert network == 'custom'", plans.LEAVE_METRICS)
    outcomes = pipeline.run_all("small", plans.SETTINGS, notebook="03-train")
    assert [row["network"] for row in plans.results(tmp_path)] == ["custom"]
    assert states(outcomes)["03-train lenet-one_cycle-seed0"] == "failed"


def test_an_earlier_result_is_not_taken_for_that_of_a_failed_run(notebooks, tmp_path):
    settings = ["networks=[custom]", "learning_rate=0.1"]
    pipeline.run_all("small", settings, notebook="03-train")
    assert len(plans.results(tmp_path)) == 1
    notebooks(pipeline.TRAIN, "raise RuntimeError")
    pipeline.run_all("small", settings, notebook="03-train")
    assert plans.results(tmp_path) == []


def test_only_missing_runs_are_trained(notebooks, tmp_path):
    kept = tmp_path / "outputs/small/lenet-one_cycle-seed0"
    kept.mkdir(parents=True)
    (kept / METRICS).write_text('{"network": "lenet", "test_accuracy": "as it was"}')
    assert pipeline.train_missing("outputs/small", ["lenet", "resnet"], [0], ["one_cycle"]) == [
        "lenet-one_cycle-seed0",
        "resnet-one_cycle-seed0",
    ]
    assert (
        "as it was" in (kept / METRICS).read_text()
        and (kept.parent / "resnet-one_cycle-seed0" / METRICS).exists()
    )
    assert not (kept.parent / "custom-one_cycle-seed0").exists()


def test_a_long_run_is_never_started_by_a_notebook_that_reads_it(notebooks):
    with pytest.raises(
        InputError,
        match="no result of lenet-one_cycle-seed0: run `invoke run-all --profile byclass`",
    ):
        pipeline.train_missing("outputs/byclass", ["lenet"], [0], ["one_cycle"])


def test_a_profile_that_is_edited_while_it_runs_is_noticed(notebooks, tmp_path, monkeypatch):
    profile = tmp_path / "mine.yml"
    profile.write_text("learning_rate: 0.1\nnetworks: [custom]\n")
    for module in ("pipeline", "params"):
        monkeypatch.setattr(f"lib.{module}.PROFILES", tmp_path)
    notebooks("01-explore-data", f"open({str(profile)!r}, 'a').write('epochs: 9')")
    with pytest.raises(
        InputError,
        match="params/mine.yml was changed while it ran: the results are of what it said before",
    ):
        pipeline.run_all("mine")
    assert (tmp_path / "outputs/mine/custom-one_cycle-seed0" / METRICS).exists()


def test_a_folder_that_cannot_be_written_is_reported_before_anything_runs(notebooks, tmp_path):
    (tmp_path / "outputs").write_text("a file where a folder should be")
    with pytest.raises(InputError, match="cannot be written"):
        pipeline.run_all("small")


def test_a_disk_that_fills_up_costs_one_sentence_and_leaves_no_half_of_a_file(
    notebooks, tmp_path, monkeypatch
):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lib.files.os.replace", fail)
    with pytest.raises(
        InputError,
        match=r"results.json cannot be written \(No space left on device\); free some space",
    ):
        write_json(tmp_path / "results.json", [])
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("name", ["3", "03", "03-train", "03-train.ipynb"])
def test_one_notebook_is_named_in_full_or_by_its_number(name):
    assert pipeline.notebook_named(name) == "03-train"


def test_an_unknown_notebook_names_the_nearest():
    with pytest.raises(InputError, match="did you mean '04-compare'"):
        pipeline.notebook_named("04-compar")


def test_the_real_plan_fits_the_real_notebooks():
    steps = pipeline.plan(load_profile("strokes"), "outputs/strokes")
    assert len(steps) == 2 + 9 + len(pipeline.ANALYSE) and all(step.parameters for step in steps)


def invoke(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "invoke", *arguments], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "command",
    [
        ["run-all", "--set", "epoch=3"],
        ["run", "99"],
        ["run-all", "--profile", "stroke"],
        ["run-all", "--jobs", "0"],
        ["run-all", "--jobs", "two"],
        ["status", "--set", "epoch=3"],
        ["compare-runs", "small", "nowhere"],
        ["clean", "--profile", "smal"],
        ["export", "--network", "custom", "--profile", "smal"],
        ["export", "--model", "nowhere.safetensors"],
        ["export", "--output", "network.pt"],
    ],
)
def test_a_mistake_costs_one_sentence_and_status_2(command):
    done = invoke(*command)
    assert done.returncode == 2
    assert (
        len(done.stderr.strip().splitlines()) == 1
        and done.stderr.strip()[-1] in ".?"
        and not done.stdout
    )


def test_the_menu_explains_every_task():
    listed = dict(
        line.split(maxsplit=1)
        for line in invoke("--list").stdout.splitlines()
        if line.startswith("  ")
    )
    assert set(listed) == {
        "run-all",
        "run",
        "status",
        "compare-runs",
        "lab",
        "data",
        "test",
        "refresh",
        "clean",
        "readme",
        "report",
        "bench",
        "export",
        "predict",
        "demo",
        "pretrain",
    }
    assert all(explanation.endswith(".") for explanation in listed.values())


def test_status_tells_what_is_fresh_what_is_not_and_why(notebooks, capsys, monkeypatch):
    monkeypatch.setattr(commands, "console", Console(width=200))
    pipeline.run_all("small", plans.SETTINGS)
    notebooks("01-explore-data", "raise RuntimeError('no data')")
    pipeline.run_all("small", plans.SETTINGS, notebook="01-explore-data")
    notebooks("03-train", plans.LEAVE_METRICS, "2 + 2")
    capsys.readouterr()
    commands.status("small", ["networks=[lenet,resnet]", "learning_rate=0.01"])
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[2:]]
    assert shown[0].startswith("01-explore-data failed") and shown[0].endswith(
        "RuntimeError: no data"
    )
    assert shown[1].startswith("02-find-learning-rate fresh")
    assert shown[2].startswith("03 lenet-one_cycle-seed0 stale") and shown[2].endswith(
        "notebook code"
    )
    assert shown[3] == "03 resnet-one_cycle-seed0 never run"
    commands.status("small", plans.SETTINGS)
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[2:]]
    assert shown[4].startswith("04-compare depends") and shown[4].endswith(
        "on what 03-train writes"
    )


def test_status_tells_a_run_that_goes_on_from_one_that_was_interrupted(notebooks, capsys):
    step = pipeline.planned("small", plans.SETTINGS)[1][0]
    freshness.begin(step, "a run", freshness.dependencies(step))
    commands.status("small", plans.SETTINGS)
    assert "01-explore-data            interrupted" in capsys.readouterr().out
    with pipeline.only_one_run("outputs/small"):
        commands.status("small", plans.SETTINGS)
    assert "01-explore-data            running" in capsys.readouterr().out


def test_status_of_a_profile_that_was_never_run_makes_no_data(notebooks, data, capsys):
    commands.status("small", [])
    assert capsys.readouterr().out.count("never run") == 7 and not data.exists()


def test_nothing_is_run_when_nothing_has_changed(notebooks, tmp_path, monkeypatch, capsys):
    pipeline.run_all("small", plans.SETTINGS)
    monkeypatch.setattr(
        "lib.running.cluster.run_steps", lambda *arguments: pytest.fail("something was run")
    )
    write_json(tmp_path / "outputs/small" / REPORT, "a page")
    monkeypatch.setattr(commands, "report", lambda *arguments: pytest.fail("a report was written"))
    commands.run_all("small", plans.SETTINGS, "", "", force=False)
    shown = capsys.readouterr().out
    assert (
        "nothing has changed since its 6 notebooks were run" in shown
        and REPORT in shown.replace("\n", "")
    )


def test_run_all_ends_by_writing_the_report(notebooks, monkeypatch):
    written = []
    monkeypatch.setattr(commands, "report", lambda *arguments: written.append(arguments))
    commands.run_all("small", plans.SETTINGS, "", "", force=False, notebook="03")
    assert written == []
    commands.run_all("small", plans.SETTINGS, "", "", force=False)
    commands.run_all(
        "small", plans.SETTINGS, "", "", force=False
    )  # nothing has changed, but there is no report
    assert written == [("small", plans.SETTINGS)] * 2


def test_a_failure_and_what_was_skipped_because_of_it_end_the_summary(notebooks, capsys):
    notebooks(pipeline.TRAIN, "raise RuntimeError('no luck')")
    with pytest.raises(SystemExit) as end:
        commands.run_all("small", ["networks=[custom]", "learning_rate=0.1"], "", "", force=False)
    shown = capsys.readouterr().out
    assert end.value.code == 1 and "RuntimeError: no luck" in shown
    assert "skipped because of that: 04-compare, 05-confusions" in shown


def test_a_tracker_that_is_not_installed_is_reported_before_anything_runs(
    notebooks, tmp_path, monkeypatch
):
    monkeypatch.setattr("lib.training.trackers.find_spec", lambda name: None)
    with pytest.raises(
        InputError,
        match="tracker wandb needs the library wandb, which is not installed: run `uv sync --extra wandb`",
    ):
        pipeline.run_all("small", ["tracker=wandb"])
    assert not (tmp_path / "outputs/small/notebooks").exists()


def test_what_is_not_a_number_is_written_as_null(tmp_path):
    write_json(
        tmp_path / "found.json", {"std": float("nan"), "rows": [{"low": float("nan"), "n": 1}]}
    )
    assert read_json(tmp_path / "found.json") == {"std": None, "rows": [{"low": None, "n": 1}]}
