"""The commands, and what they print."""

import json
import shutil
import subprocess
import sys

import plans
import pytest
from filelock import FileLock
from invoke import Argument, Context
from plans import CUSTOM, SETTINGS

from lib import running
from lib.errors import InputError
from lib.files import REPORT, RESULTS, ROOT, outputs_folder, write_json
from lib.menu import answers, commands
from lib.menu.terminal import FilesTask, words_behind
from lib.running import Outcome
from lib.running.plan import EXPLORE, REPORT_NOTEBOOK
from lib.running.staleness import begin, dependencies, finish

OPTIONS = [Argument(names=("network", "n")), Argument(names=("json", "j"), kind=bool)]


def invoke(*arguments):
    """As `menu` does, in a process of its own."""
    command = [sys.executable, "-m", "invoke", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def planned(folder, *settings):
    """The steps that the commands plan, by name."""
    profile = commands.load_profile("small", [*SETTINGS, *settings])
    steps = running.plan(profile, commands.checksum_of, folder)
    return {step.name: step for step in steps}


def shown_by(capsys):
    """What was printed, line by line, each with single spaces."""
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Tables are printed as on a wide terminal."""
    monkeypatch.setattr(commands.console, "_width", 200)


# words of the command line


@pytest.mark.parametrize(
    ("line", "files"),
    [
        ("predict a.png b.png", ["a.png", "b.png"]),
        ("predict --network custom a.png --json b.png", ["a.png", "b.png"]),
        ("predict -n custom a.png", ["a.png"]),
        ("predict --network=custom a.png", ["a.png"]),
        ("predict --json", []),
        ("status", []),
        ("predict same.png same.png", ["same.png", "same.png"]),
    ],
)
def test_words_that_are_no_options_are_files(line, files):
    assert words_behind("predict", line.split(), OPTIONS) == files


def test_a_task_gets_its_files_as_a_list(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["invoke", "look", "a", "b", "c"])
    look = FilesTask(lambda c, files, json=False: files, name="look")
    asked = [argument.name for argument in look.get_arguments() if argument.positional]
    assert asked == ["file", "file2", "file3"]
    assert look(Context(), file="a", file2="b", file3="c", json=True) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "command",
    [
        "run-all --set epoch=3",
        "run 99",
        "run-all --profile stroke",
        "run-all --jobs 0",
        "run-all --jobs two",
        "status --set epoch=3",
        "compare-runs small nowhere",
        "clean --profile smal",
        "report --profile smal",
        "export --network custom --profile smal",
        "export --model nowhere.safetensors",
        "export --output network.pt",
    ],
)
def test_a_mistake_costs_one_sentence_and_status_2(menu, command):
    status, printed, complaint = menu(*command.split())
    assert status == 2 and not printed
    assert len(complaint.strip().splitlines()) == 1 and complaint.strip()[-1] in ".?"


def test_the_menu_explains_every_task():
    lines = [line for line in invoke("--list").stdout.splitlines() if line.startswith("  ")]
    listed = dict(line.split(maxsplit=1) for line in lines)
    assert set(listed) == set(
        "run-all run status compare-runs lab data test refresh clean readme report bench export "
        "predict page demo pretrain fuzz".split()
    )
    assert all(explanation.endswith(".") for explanation in listed.values())


def test_a_tracker_that_is_not_installed_is_reported_before_anything_runs(folder, monkeypatch):
    monkeypatch.setattr("lib.training.trackers.find_spec", lambda name: None)
    settings = [*SETTINGS, "tracker=wandb"]
    with pytest.raises(InputError, match="which is not installed: `uv sync --extra wandb`"):
        commands.run_all("small", settings, notebooks=folder)
    assert not (folder / "outputs/small/notebooks").exists()


# status


def test_status_tells_what_is_fresh_what_is_not_and_why(folder, capsys):
    for step in planned(folder).values():
        plans.pretend(step)
    broken = planned(folder)[EXPLORE]
    begin(broken, "a run", dependencies(broken))
    finish(broken, "failed", 2.0, "RuntimeError: no data\nin a cell")
    commands.status("small", [*SETTINGS, "networks=[lenet,custom,resnet]", "epochs=5"], folder)
    rows = shown_by(capsys)
    assert any(row.startswith("01-explore-data failed 0:02") for row in rows)
    assert any(row.endswith("RuntimeError: no data") for row in rows)
    trained = [row for row in rows if row.startswith(CUSTOM)]
    assert trained[0].startswith(f"{CUSTOM} stale 0:0")
    assert trained[0].endswith("parameter epochs: 4 -> 5")
    assert "03-train resnet-seed0 never run" in rows


def test_status_says_that_a_chapter_depends_on_what_will_be_run(folder, capsys):
    for step in planned(folder).values():
        plans.pretend(step)
    plans.write(folder, "03-train", "other_code = 1")
    commands.status("small", SETTINGS, folder)
    row = next(row for row in shown_by(capsys) if row.startswith("04-compare"))
    assert row.startswith("04-compare depends") and row.endswith("on what 03-train writes")


def test_status_tells_a_run_that_goes_on_from_one_that_was_interrupted(folder, capsys):
    step = planned(folder)[EXPLORE]
    begin(step, "a run", dependencies(step))
    commands.status("small", SETTINGS, folder)
    assert "01-explore-data interrupted" in shown_by(capsys)
    with running.only_one_run("outputs/small"):
        commands.status("small", SETTINGS, folder)
    assert "01-explore-data running" in shown_by(capsys)


def test_status_of_a_profile_that_was_never_run_makes_no_data(folder, data, capsys):
    commands.status("small", [], folder)
    assert capsys.readouterr().out.count("never run") == 7 and not data.exists()


# run-all


def test_nothing_is_run_when_nothing_has_changed(folder, capsys, monkeypatch):
    for step in planned(folder).values():
        plans.pretend(step)
    monkeypatch.setitem(sys.modules, "lib.running.cluster", None)  # its import would fail
    profile = commands.load_profile("small", SETTINGS)
    outcomes = running.run_all(profile, commands.checksum_of, notebooks=folder)
    assert {outcome.state for outcome in outcomes.values()} == {"fresh"}


def summary(folder, capsys, chosen="", **outcomes):
    """What the summary of these outcomes prints."""
    outcomes = {name.replace("_", "-"): outcome for name, outcome in outcomes.items()}
    write_json(folder / RESULTS, [])
    commands.summarise(outcomes, "small", folder, chosen)
    return capsys.readouterr().out


def test_a_summary_says_that_nothing_has_changed(tmp_path, capsys):
    fresh = {"a": Outcome("fresh"), "b": Outcome("fresh")}
    assert "nothing has changed since its 2 notebooks were run" in summary(
        tmp_path, capsys, **fresh
    )


def test_a_failure_and_what_was_skipped_because_of_it_end_the_summary(tmp_path, capsys):
    failed, skipped = Outcome("failed", 2, "RuntimeError: no [luck]"), Outcome("skipped")
    *_, problem, last = summary(tmp_path, capsys, one=failed, two=skipped).strip().splitlines()
    assert problem == "one failed: RuntimeError: no [luck]"
    assert last == "skipped because of that: two"


def test_the_run_of_a_chapter_prints_what_it_found(tmp_path, capsys):
    write_json(tmp_path / "findings/05-confusions.json", {"sentences": ["**1** and l [both]."]})
    shown = summary(tmp_path, capsys, "05-confusions", **{"05_confusions": Outcome("done", 3)})
    assert "1 and l [both]." in shown.splitlines()
    failed = summary(tmp_path, capsys, "05-confusions", **{"05_confusions": Outcome("failed")})
    assert "both" not in failed


def test_what_is_done_while_pages_are_written_is_said_and_paths_come_last(folder, capsys):
    row = dict.fromkeys(("train_accuracy", "valid_accuracy", "test_accuracy"), 0.5)
    row |= {"dataset": "strokes", "split": "", "n_test": 9, "epochs_run": 1, "seconds": 2}
    plans.write(folder, REPORT_NOTEBOOK, "1 + 1")
    for step in planned(folder).values():
        plans.pretend(step, json.dumps(row))
        shutil.copy(folder / f"{REPORT_NOTEBOOK}.ipynb", step.executed)
    commands.run_all("small", SETTINGS, notebooks=folder)
    lines = [line for line in shown_by(capsys) if line]
    assert "writing 7 pages" in lines and lines[-2].startswith("notebooks and results: ")
    assert lines[-1].endswith(REPORT)
    commands.run_all("small", SETTINGS, notebooks=folder)
    assert "writing" not in capsys.readouterr().out


# clean


def test_clean_deletes_a_profile_with_its_lock(folder, capsys):
    plans.pretend(planned(folder)[EXPLORE])
    with running.only_one_run("outputs/small"):
        pass
    commands.clean("small", data=False)
    assert list((folder / "outputs").iterdir()) == [] and "deleted" in capsys.readouterr().out


@pytest.mark.parametrize("profile", ["small", "by-hand"])
def test_a_folder_whose_name_looks_like_markup_is_named_as_it_is(
    profile, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HANDWRITING_OUTPUTS", str(tmp_path / "[/a]"))
    outputs_folder(f"outputs/{profile}").mkdir(parents=True)
    commands.clean(profile, False)
    assert "[/a]" in capsys.readouterr().out


def test_a_file_at_the_home_of_nobody_is_said_in_one_sentence():
    with pytest.raises(InputError, match="There is no model file ~nobody-here/x"):
        commands.export("", "~nobody-here/x.safetensors", "small", "")
    with pytest.raises(InputError, match="give a JSON file"):
        answers.read_prior("~nobody-here/x.json")


def test_clean_is_refused_while_the_profile_runs(folder):
    plans.pretend(planned(folder)[EXPLORE])
    with FileLock(folder / "outputs/.small.lock"):  # as another process holds it
        with pytest.raises(InputError, match="Another command is running outputs/small"):
            commands.clean("small", data=False)
    assert (folder / "outputs/small").exists()


def test_a_missing_archive_is_reported_before_anything_is_measured():
    done = invoke("bench", "--archive", "nowhere.zip")
    assert done.returncode == 2 and "nowhere.zip: there is no such file" in done.stderr
