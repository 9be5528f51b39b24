"""When a step is run again, and when not."""

import json
import shutil
import subprocess
import sys
import time

import plans
import pytest
from plans import CUSTOM

from lib import running
from lib.files import CHECKPOINT, ROOT, digest_of_code
from lib.params import Profile, load_profile
from lib.running import read_record, reasons
from lib.running.code import modules
from lib.running.plan import EXPLORE, FIND, TRAIN
from lib.running.staleness import DRAWS, begin, dependencies, finish, record_path


def planned(folder, checksum="some data", **values):
    """The steps of the custom network alone, by name."""
    profile = Profile(**{"networks": ["custom"], "learning_rate": 0.01} | values)
    profile._name = "small"
    steps = running.plan(profile, lambda parameters: checksum, folder)
    return {step.name: step for step in steps}


def done(folder, name=CUSTOM, **values):
    """A step that has been run."""
    step = planned(folder, **values)[name]
    plans.pretend(step)
    return step


def why(folder, name=CUSTOM, **values):
    """Why that step has to be run."""
    step = planned(folder, **values)[name]
    return reasons(step, read_record(step))


def test_a_step_that_was_never_run_says_so(folder):
    assert why(folder) == ["never run"]


def test_a_step_is_fresh_after_its_run(folder):
    done(folder)
    assert why(folder) == []


def test_prose_comments_and_stored_outputs_do_not_matter(folder):
    done(folder, EXPLORE)
    plans.write(folder, EXPLORE, "# a comment\n1 +  1", prose="Said better.")
    assert why(folder, EXPLORE) == []


def test_code_of_the_notebook_matters(folder):
    done(folder, EXPLORE)
    plans.write(folder, EXPLORE, "1 + 2")
    assert why(folder, EXPLORE) == ["notebook code"]


def test_a_parameter_matters_with_its_old_and_its_new_value(folder):
    done(folder)
    assert why(folder, epochs=7) == ["parameter epochs: 4 -> 7"]


def test_a_parameter_that_the_notebook_does_not_take_is_no_matter(folder):
    done(folder)
    assert why(folder, batch_size=7) == []


def test_the_data_matter(folder):
    done(folder)
    assert why(folder, checksum="other data") == ["data"]


def test_the_versions_of_libraries_matter(folder):
    step, record = done(folder), json.loads(record_path(done(folder)).read_text())
    now = record["depends"]["library"]["torch"]
    record["depends"]["library"]["torch"] = "1.0"
    assert reasons(step, record) == [f"library torch: 1.0 -> {now}"]


def test_a_file_that_is_read_matters_by_its_content(folder):
    done(folder)
    done(folder, "04-compare")
    metrics = folder / "outputs/small/custom-seed0/metrics.json"
    metrics.write_text("{}")  # the same again
    assert why(folder, "04-compare") == []
    metrics.write_text('{"test_accuracy": 1}')
    assert why(folder, "04-compare") == ["input custom-seed0/metrics.json"]
    assert why(folder) == ["custom-seed0/metrics.json was changed"]


def test_of_the_learning_rates_only_those_of_the_own_network_matter(folder):
    rates = folder / "outputs/small/learning_rates.json"
    rates.parent.mkdir(parents=True)
    rates.write_text('{"custom": {"suggested": 0.01}}')
    done(folder, learning_rate=0)
    rates.write_text('{"lenet": {}, "custom": {"suggested": 0.01}}')
    assert why(folder, learning_rate=0) == []
    rates.write_text('{"custom": {"suggested": 0.02}}')
    assert why(folder, learning_rate=0) == ["input learning_rates.json of custom"]


def test_a_result_that_is_missing_is_made_again(folder):
    step = done(folder)
    (step.run_folder / "model.safetensors").unlink()
    assert why(folder) == ["custom-seed0/model.safetensors is missing"]


def test_a_run_that_failed_and_one_that_was_interrupted_are_made_again(folder):
    step = planned(folder)[CUSTOM]
    begin(step, "a run", dependencies(step))
    assert why(folder) == ["interrupted"]
    finish(step, "failed", 1.0, "no reason")
    assert why(folder) == ["failed"]


@pytest.mark.parametrize("damage", ['{"record": 2, "sta', "[]", "null", '{"record": 1}', "\x00"])
def test_a_damaged_record_counts_as_none(folder, damage):
    record_path(done(folder)).write_text(damage)
    assert why(folder) == ["never run"] and why(folder, "04-compare") == ["never run"]
    dependencies(planned(folder)["04-compare"])  # which looks into every record


def test_more_seeds_leave_those_that_are_there_alone(folder):
    for step in planned(folder).values():
        plans.pretend(step)
    names = planned(folder, seeds=[0, 1])
    assert [name for name in names if why(folder, name, seeds=[0, 1])] == [
        "03-train custom-seed1",
        "04-compare",
        "05-confusions",
    ]


def test_a_study_that_shares_all_its_runs_trains_nothing(folder):
    for step in planned(folder).values():
        plans.pretend(step)
    assert why(folder, studies={"same": {}}) == []


@pytest.mark.parametrize("changed", [False, True], ids=["unchanged", "changed"])
def test_a_checkpoint_is_kept_only_if_nothing_has_changed_since(folder, changed):
    step = planned(folder)[CUSTOM]
    begin(step, "a run", dependencies(step))
    step.run_folder.mkdir(parents=True)
    (step.run_folder / CHECKPOINT).write_text("half-way")
    if changed:
        plans.write(folder, TRAIN, "other_code = 1")
    begin(step, "another run", dependencies(step))
    assert (step.run_folder / CHECKPOINT).exists() is not changed


def test_three_hundred_runs_are_planned_and_checked_in_three_seconds(folder):
    """The one test with a clock: the bound is ten times what it takes."""
    many = {"networks": ["resnet", "lenet", "custom"], "seeds": list(range(100))}
    for step in planned(folder, **many).values():
        plans.pretend(step)
    start = time.process_time()
    checked = [reasons(step, read_record(step)) for step in planned(folder, **many).values()]
    assert checked == [[]] * 304 and time.process_time() - start < 3


# the real repository


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """changed(file, old, new) says which steps are stale, and why, where lib is changed so."""
    monkeypatch.setenv("HANDWRITING_OUTPUTS", str(tmp_path / "results"))
    steps = running.plan(load_profile("strokes", ["seeds=[0, 1]"]), lambda parameters: "some data")
    for step in steps:
        plans.pretend(step)
    for name in ("lib", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))

    def change(file, old, new):
        text = (tmp_path / file).read_text()
        assert old in text
        (tmp_path / file).write_text(text.replace(old, new, 1))
        found = {step.name: reasons(step, read_record(step), tmp_path) for step in steps}
        return {name: because for name, because in found.items() if because}

    return change


def test_a_changed_plotting_function_trains_nothing(changed):
    stale = changed("lib/plots.py", "import ", "more = 1\nimport ")
    assert {EXPLORE, FIND} <= set(stale) and not [name for name in stale if TRAIN in name]
    assert "lib plots.py" in stale[EXPLORE]


def test_a_changed_reader_of_data_makes_nothing_stale(changed):
    """What it reads is in the record as a checksum."""
    assert changed("lib/data/emnist.py", "InputError(", "InputError('' + ") == {}


def test_what_is_said_of_a_wrong_parameter_makes_nothing_stale(changed):
    assert changed("lib/params.py", "import ", "more = 1\nimport ") == {}


def test_a_new_network_makes_nothing_stale(changed):
    new = "class Tiny(nn.Module):\n    width = 3\n\n\nNETWORKS = {\n    'tiny': Tiny,"
    assert changed("lib/networks.py", "NETWORKS = {", new) == {}


def test_a_changed_network_trains_its_own_runs_anew_and_no_others(changed):
    stale = changed(
        "lib/networks.py", "class LeNet(nn.Module):", "class LeNet(nn.Module):\n    n = 3"
    )
    assert {name for name in stale if TRAIN in name} == {f"{TRAIN} lenet-seed{n}" for n in (0, 1)}
    assert stale[f"{TRAIN} lenet-seed0"] == ["network lenet"] and EXPLORE not in stale


def test_a_part_of_networks_is_followed_to_all_that_have_it(changed):
    stale = changed(
        "lib/networks.py", "class CustomCNN(nn.Module):", "class CustomCNN(nn.Module):\n    n = 3"
    )
    assert changed(
        "lib/networks.py", "class Block(nn.Module):", "class Block(nn.Module):\n    n = 3"
    )
    trained = {name for name in stale if TRAIN in name}
    assert trained and {name for name in trained if "custom" not in name} == set()


def test_a_changed_preparation_trains_everything_anew(changed):
    stale = changed(
        "lib/networks.py",
        "class Preparation(nn.Module):",
        "class Preparation(nn.Module):\n    n = 3",
    )
    assert {f"{TRAIN} {network}-seed0" for network in ("resnet", "lenet", "custom")} <= set(stale)


def test_a_changed_comment_or_docstring_of_lib_runs_nothing(changed):
    assert changed("lib/runs.py", "import ", "# a comment\nimport ") == {}
    assert changed("lib/runs.py", '"""', '"""Said better: ') == {}
    assert digest_of_code(["f(1)"]) != digest_of_code(["f(2)"])


def test_modules_are_followed_through_those_that_import_them():
    training = modules(ROOT / "notebooks" / "03-train.ipynb")
    assert {"lib/training/learner.py", "lib/training/augment.py", "lib/models.py"} <= set(training)
    assert not [name for name in training if name.startswith(("lib/running", "lib/data"))]


def test_what_draws_is_there():
    assert [name for name in DRAWS if (ROOT / name).exists()]


def test_checking_imports_neither_torch_nor_papermill():
    slow = ("torch", "papermill", "distributed", "scipy", "matplotlib", "fastai", "nbconvert")
    code = (
        "import sys, lib.menu.commands, lib.data; from lib.params import load_profile\n"
        f"load_profile('strokes'); print([name for name in {slow} if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_the_record_tells_where_each_value_came_from(folder):
    step = running.plan(load_profile("reference", ["epochs=9"]), notebooks=folder)[2]
    plans.pretend(step)
    origins = json.loads(record_path(step).read_text())["origins"]
    expected = {"network": "default", "seed": "params/reference.yml", "epochs": "--set"}
    assert {name: origins[name] for name in expected} == expected


def test_a_run_of_a_study_tells_which(folder):
    step = planned(folder, studies={"long": {"epochs": 9}})[f"{CUSTOM}-epochs=9"]
    assert step.origins["epochs"] == "study long"
