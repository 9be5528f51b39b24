"""What there is to run of a profile, and running it."""

import json
from contextlib import closing

import plans
import pytest
from filelock import FileLock
from plans import CUSTOM

from lib import running
from lib.errors import InputError
from lib.files import METRICS, ROOT, read_json, write_json
from lib.params import Profile, load_profile
from lib.running.notebook import NotebookProcess, run_step
from lib.running.plan import EXPLORE, FIND, REPORT_NOTEBOOK, TRAIN
from lib.running.staleness import begin, dependencies


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """A process for notebooks, with a folder of its own for results."""
    environment = {"HANDWRITING_OUTPUTS": str(tmp_path_factory.mktemp("results"))}
    with closing(NotebookProcess(threads=1, environment=environment)) as process:
        yield process


def named(name="small", **values):
    """A profile of that name."""
    profile = Profile(**values)
    profile._name = name
    return profile


def steps_of(folder, **values):
    return {step.name: step for step in running.plan(named(**values), notebooks=folder)}


def explore(folder, **values):
    return steps_of(folder, **values)[EXPLORE]


def run_all(profile, folder, **options):
    return running.run_all(profile, lambda parameters: "", notebooks=folder, **options)


def start_from(start, **values):
    return {"networks": ["custom"], "studies": {"again": {"start": start, "epochs": 9}}} | values


# what is planned


def test_a_plan_trains_every_network_with_every_seed(folder):
    steps = steps_of(folder, networks=["lenet", "custom"], seeds=[0, 1])
    assert [step.run for step in steps.values() if step.run] == [
        "lenet-seed0",
        "lenet-seed1",
        "custom-seed0",
        "custom-seed1",
    ]


def test_a_step_comes_after_all_that_it_waits_for(folder):
    plans.write(folder, REPORT_NOTEBOOK, "1 + 1")
    done = set()
    for step in running.plan(load_profile("reference"), notebooks=folder):
        assert {*step.needs, *step.after} <= done
        done.add(step.name)


def test_whatever_a_step_reads_is_written_by_one_that_it_waits_for(folder):
    steps = steps_of(folder, **start_from("networks"))
    for step in steps.values():
        written = {name for other in [*step.needs, *step.after] for name in steps[other].writes}
        assert {name.partition("#")[0] for name in step.reads} <= written


def test_a_notebook_gets_the_parameters_it_asks_for_and_no_others(folder):
    step = running.plan(named("mine", seeds=[4]), notebooks=folder)[2]
    asked = {"network": "resnet", "seed": 4, "epochs": 4, "run": "resnet-seed4"}
    assert step.parameters == asked | {"outputs": "outputs/mine"}
    assert steps_of(folder)["04-compare"].parameters == {"outputs": "outputs/small"}


def test_training_does_not_wait_for_the_finder_when_its_rate_is_given(folder):
    assert steps_of(folder)["03-train lenet-seed0"].needs == [FIND]
    assert steps_of(folder, learning_rate=0.01)["03-train lenet-seed0"].needs == []


def test_a_run_that_two_studies_share_is_planned_once(folder):
    studies = {"long": {"epochs": [4, 8]}, "short": {"epochs": [4, 2], "keep": "labels"}}
    steps = steps_of(folder, networks=["custom"], studies=studies)
    assert [name for name in steps if name.startswith(TRAIN)] == [
        CUSTOM,
        f"{CUSTOM}-epochs=8",
        f"{CUSTOM}-epochs=2",
    ]
    assert list(steps[CUSTOM].studies) == ["networks", "long", "short"]
    assert "custom-seed0/model.safetensors" in steps[CUSTOM].writes
    assert "custom-seed0-epochs=8/model.safetensors" not in steps[f"{CUSTOM}-epochs=8"].writes


def test_a_run_waits_for_the_one_that_it_starts_from_and_reads_its_weights(folder):
    step = steps_of(folder, learning_rate=0.1, **start_from("networks"))[
        f"{CUSTOM}-epochs=9-start=networks"
    ]
    assert step.needs == [CUSTOM] and step.reads == ["custom-seed0/model.safetensors"]


def test_a_study_may_start_from_one_that_is_named_after_it(folder):
    studies = {"second": {"start": "first", "epochs": 9}, "first": {"epochs": 8}}
    names = list(steps_of(folder, networks=["custom"], studies=studies))
    assert names.index(f"{CUSTOM}-epochs=8") < names.index(f"{CUSTOM}-epochs=9-start=first")


def test_the_name_of_the_profile_itself_means_its_networks(folder):
    steps = steps_of(folder, name="strokes", learning_rate=0.1, **start_from("strokes"))
    assert steps[f"{CUSTOM}-epochs=9-start=strokes"].needs == [CUSTOM]


def test_an_archive_in_or_beside_the_repository_is_named_as_seen_from_there(tmp_path):
    (away := tmp_path / "gzip.zip").write_text("an archive")
    for archive, shown in [(str(ROOT / "README.md"), "README.md"), (str(away), str(away))]:
        steps = running.plan(named(source="emnist", archive=archive, learning_rate=0.1))
        assert {step.parameters["archive"] for step in steps if "03" in step.name} == {shown}


def test_a_file_or_another_profile_to_start_from_is_an_input(folder, tmp_path):
    (tmp_path / "outputs/small").mkdir(parents=True)
    weights = tmp_path / "outputs/strokes/custom-seed0/model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_text("some weights")
    for start, read in [
        ("strokes", "../strokes/custom-seed0/model.safetensors"),
        (str(weights), str(weights)),
    ]:
        *_, step, _, _ = steps_of(folder, learning_rate=0.1, **start_from(start)).values()
        assert step.reads == [read] and dependencies(step)["input"][read]


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        ("again", "start names the study again, which has 1 runs of custom with seed 0; it must"),
        ("strokes", "start names the profile strokes, which has no custom of seed 0 yet"),
        ("network", "start 'network' is no study, profile or file; did you mean 'networks'?"),
    ],
)
def test_what_cannot_be_started_from_is_refused(folder, start, sentence):
    with pytest.raises(InputError) as error:
        steps_of(folder, **start_from(start))
    assert sentence in str(error.value)


def test_studies_that_start_from_each_other_are_refused(folder):
    studies = {"a": {"start": "b", "epochs": 8}, "b": {"start": "a", "epochs": 9}}
    with pytest.raises(InputError, match="start from each other"):
        steps_of(folder, networks=["custom"], studies=studies)


def test_a_chapter_is_run_where_the_profile_has_its_first_study(folder):
    for first in ("networks", "size"):
        text = f'studies: list = ["{first}", "schedules"]\noutputs: str = "outputs/small"'
        notebook = json.loads((folder / "04-compare.ipynb").read_text())
        notebook["cells"][1]["source"] = text
        (folder / "04-compare.ipynb").write_text(json.dumps(notebook))
        assert ("04-compare" in steps_of(folder)) is (first == "networks")


def test_the_report_waits_for_all_and_needs_none(folder):
    plans.write(folder, REPORT_NOTEBOOK, "1 + 1")
    *before, report = steps_of(folder, networks=["custom"], learning_rate=0.1).values()
    assert report.needs == [] and report.after == [CUSTOM, "04-compare", "05-confusions"]
    assert {"custom-seed0/metrics.json", "findings/04-compare.json"} <= set(report.reads)


@pytest.mark.parametrize("name", ["3", "03", "03-train", "03-train.ipynb"])
def test_one_notebook_is_named_in_full_or_by_its_number(name):
    assert running.notebook_named(name) == "03-train"


def test_an_unknown_notebook_names_the_nearest():
    with pytest.raises(InputError, match="did you mean '04-compare'"):
        running.notebook_named("04-compar")


def test_the_real_plan_fits_the_real_notebooks():
    steps = running.plan(load_profile("strokes"))
    assert all(step.parameters for step in steps)
    assert {"lenet-seed0", "custom-seed0"} <= {step.run for step in steps}


# one step


def test_a_failure_names_the_cell_the_error_and_the_executed_notebook(folder, process):
    plans.write(folder, EXPLORE, "numbers = []\nnumbers[3]")
    problem = run_step(explore(folder), process).problem
    assert problem.splitlines()[0] == "IndexError: list index out of range"
    assert "begins: numbers = []" in problem and "----> 2 numbers[3]" in problem
    assert "01-explore-data.ipynb" in problem
    assert len(problem.splitlines()) < 24 and "\x1b" not in problem  # one screen, and no colours


def test_a_kernel_that_dies_is_a_failure(folder, process):
    plans.write(folder, EXPLORE, "import os; os._exit(1)")
    outcome = run_step(explore(folder), process)
    assert outcome.state == "failed" and "DeadKernelError" in outcome.problem.splitlines()[0]


def test_a_notebook_that_hangs_is_ended_after_its_time(folder):
    with closing(NotebookProcess(threads=1)) as process:
        run_step(explore(folder), process)  # the first waits for imports
        plans.write(folder, EXPLORE, "print('here', flush=True)", "import time; time.sleep(60)")
        outcome = run_step(explore(folder, time_limit=0.08), process)
        assert outcome.state == "failed" and process.ended
    assert "ended after 0.08 minutes (time_limit)" in outcome.problem
    assert "here" in explore(folder).executed.read_text()


def test_a_full_disk_is_told_with_what_to_do(folder, process):
    plans.write(folder, EXPLORE, "raise OSError(28, 'No space left on device')")
    said = "No space left on device; free some space and run the same command again"
    assert said in run_step(explore(folder), process).problem


def test_an_executed_notebook_shows_where_each_value_came_from(folder, process):
    profile = load_profile("reference", ["epochs=7", "learning_rate=0.1"])
    step = running.plan(profile, notebooks=folder)[2]
    assert run_step(step, process).state == "done"
    cells = json.loads(step.executed.read_text())["cells"]
    shown = [line.strip() for cell in cells for line in cell["source"]]
    for name, value, origin in [
        ("epochs", "7", "--set"),
        ("network", '"resnet"', "default"),
        ("seed", "0", "params/reference.yml"),
    ]:
        line = next(line for line in shown if line.startswith(f"{name} = {value} "))
        assert f"# {origin}" in line


def test_events_tell_the_cell_the_text_and_the_memory(folder, process):
    plans.write(folder, EXPLORE, "print('hello')", "import time; time.sleep(1.5)")
    events = []
    run_step(explore(folder), process, events.append)
    assert {"printed": "hello"} in events
    assert [event["cell"] for event in events if "cell" in event][-1] > 3
    assert all(event.get("memory", 1) > 0 for event in events)


# the whole plan


def test_results_are_there_before_a_chapter_reads_them(folder, tmp_path):
    plans.write(folder, TRAIN, "assert network == 'custom'", plans.LEAVE_METRICS)
    look = "from lib.files import *; assert read_json(outputs_folder(outputs) / RESULTS, list)"
    plans.write(folder, "04-compare", look)
    profile = named(networks=["custom"], learning_rate=0.1)
    assert set(plans.states(run_all(profile, folder, jobs=1)).values()) == {"done"}
    assert [row["run"] for row in plans.results(tmp_path)] == ["custom-seed0"]


def test_a_profile_that_is_edited_while_it_runs_is_noticed(folder, tmp_path):
    source = tmp_path / "mine.yml"
    source.write_text("networks: [custom]")
    plans.write(folder, EXPLORE, f"open({str(source)!r}, 'a').write('epochs: 9')")
    said = "params/mine.yml was changed while it ran: the results are of what it said before"
    with pytest.raises(InputError, match=said):
        run_all(named("mine"), folder, profiles=tmp_path, notebook=EXPLORE)


def test_an_earlier_result_is_not_taken_for_that_of_a_failed_run(folder, process, tmp_path):
    step = steps_of(folder, learning_rate=0.1)[CUSTOM]
    plans.pretend(step)
    plans.write(folder, TRAIN, "raise RuntimeError")
    assert run_step(step, process).state == "failed" and not (step.run_folder / METRICS).exists()


def test_results_name_the_studies_of_runs_that_are_shared(folder, tmp_path):
    steps = steps_of(folder, networks=["custom"], studies={"same": {}, "long": {"epochs": 9}})
    plans.pretend(steps[CUSTOM])
    running.write_results("outputs/small", list(steps.values()))
    assert plans.results(tmp_path) == [{"run": "custom-seed0", "studies": ["networks", "same"]}]


@pytest.mark.parametrize("damage", ["", '{"network": "cus', "[1]", "null"])
def test_a_run_whose_metrics_are_damaged_is_left_out_and_repeated(folder, tmp_path, damage):
    step = steps_of(folder, learning_rate=0.1)[CUSTOM]
    plans.pretend(step)
    (step.run_folder / METRICS).write_text(damage)
    running.write_results("outputs/small", [step])
    assert plans.results(tmp_path) == []
    assert running.reasons(step, running.read_record(step)) == [f"{step.run}/{METRICS} was changed"]


def test_a_notebook_without_a_study_for_it_is_refused(folder):
    with pytest.raises(InputError, match="small has no study for 10-try-it; add one to small.yml"):
        run_all(named(), folder, notebook="10-try-it")


# one command at a time


def test_the_lock_lies_beside_the_folder_and_goes_with_the_last_command(folder, tmp_path):
    with running.only_one_run("outputs/small"):
        assert [path.name for path in (tmp_path / "outputs").iterdir()] == [".small.lock"]
        with running.only_one_run("outputs/small"):  # the same process may take it again
            assert running.is_running("outputs/small")
    with FileLock(tmp_path / "outputs/.small.lock"):  # as another process holds it
        with pytest.raises(InputError, match="Another command is running outputs/small: wait"):
            plans.run_all(folder)
    with running.only_one_run("outputs/small", last=True):
        pass
    assert list((tmp_path / "outputs").iterdir()) == []


def test_who_waits_for_a_lock_that_goes_gets_a_new_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HANDWRITING_OUTPUTS", str(tmp_path))
    with running.only_one_run("outputs/small", last=True):
        pass
    with running.only_one_run("outputs/small"):
        assert running.is_running("outputs/small")
    assert not running.is_running("outputs/small")


def test_looking_whether_a_profile_runs_leaves_no_trace(tmp_path, monkeypatch):
    monkeypatch.setenv("HANDWRITING_OUTPUTS", str(tmp_path))
    assert not running.is_running("outputs/small") and list(tmp_path.iterdir()) == []


def test_a_look_at_the_lock_does_not_disturb_a_command_that_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("HANDWRITING_OUTPUTS", str(tmp_path))
    held = hold_for_a_moment(tmp_path / "outputs/.small.lock")
    with running.only_one_run("outputs/small"):
        held.join()


def hold_for_a_moment(lock):
    """Holds a lock for a third of a second, as `status` does for much less."""
    from threading import Event, Thread
    from time import sleep

    from filelock import FileLock

    lock.parent.mkdir(parents=True)
    started = Event()

    def hold():
        with FileLock(lock, thread_local=False):
            started.set()
            sleep(0.3)

    thread = Thread(target=hold)
    thread.start()
    started.wait()
    return thread


def test_a_folder_that_cannot_be_written_is_reported_before_anything_runs(folder, tmp_path):
    (tmp_path / "outputs").write_text("a file where a folder should be")
    with pytest.raises(InputError, match="cannot be written"):
        plans.run_all(folder)


def test_a_command_that_was_interrupted_leaves_a_step_that_says_so(folder):
    step = explore(folder)
    begin(step, "a run", dependencies(step))
    assert running.reasons(step, running.read_record(step)) == ["interrupted"]


# files


def test_a_disk_that_fills_up_costs_one_sentence_and_leaves_no_half_of_a_file(
    tmp_path, monkeypatch
):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lib.files.os.replace", fail)
    said = r"results.json cannot be written \(No space left on device\); free some space"
    with pytest.raises(InputError, match=said):
        write_json(tmp_path / "results.json", [])
    assert not list(tmp_path.glob("*.part*"))


def test_what_is_not_a_number_is_written_as_null(tmp_path):
    nan = float("nan")
    write_json(tmp_path / "found.json", {"std": nan, "rows": [{"low": nan, "n": 1}]})
    assert read_json(tmp_path / "found.json") == {"std": None, "rows": [{"low": None, "n": 1}]}
