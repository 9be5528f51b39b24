"""When a step is run again, and when not."""

import json
import shutil
import subprocess
import sys
import time

import plans
import pytest

from lib.files import CHECKPOINT, ROOT, outputs_folder
from lib.params import Profile, load_profile
from lib.running import plan as pipeline
from lib.running import staleness as freshness
from lib.running.notebook import NotebookProcess, run_step
from lib.running.staleness import digest_of_code, modules, read_record, reasons


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    with NotebookProcess(
        threads=1, environment={"HANDWRITING_OUTPUTS": str(tmp_path_factory.mktemp("results"))}
    ) as process:
        yield process


def planned(checksum="some data", **values):
    chosen = Profile(**{"networks": ["custom"], "learning_rate": 0.01} | values)
    return {step.name: step for step in pipeline.plan(chosen, "outputs/small", checksum=checksum)}


def step_of(name, **values):
    return planned(**values)[name]


def pretend(step):
    """Leaves the files and the record of a run of the step that has ended well."""
    freshness.begin(step, "a run", freshness.dependencies(step))
    for file in [step.executed, *(outputs_folder(step.outputs) / name for name in step.writes)]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    freshness.finish(step, "done", 1.5)


def why(step):
    return reasons(step, read_record(step))


TRAINING = "03-train custom-one_cycle-seed0"


def test_a_step_that_was_never_run_says_so(folder):
    assert why(step_of(TRAINING)) == ["never run"]


def test_a_step_is_fresh_after_its_run_and_stays_so(folder, process):
    step = step_of("01-explore-data")
    assert run_step(step, process).state == "done" and why(step) == []


def test_prose_comments_and_stored_outputs_do_not_matter(folder):
    pretend(step_of("01-explore-data"))
    plans.write(folder, "01-explore-data", "# a comment\n1 +  1", prose="Said better.")
    assert why(step_of("01-explore-data")) == []


def test_code_of_the_notebook_matters(folder):
    pretend(step_of("01-explore-data"))
    plans.write(folder, "01-explore-data", "1 + 2")
    assert why(step_of("01-explore-data")) == ["notebook code"]


def test_a_parameter_matters_with_its_old_and_its_new_value(folder):
    pretend(step_of(TRAINING))
    assert why(step_of(TRAINING, epochs=7)) == ["parameter epochs: 4 -> 7"]


def test_a_parameter_that_the_notebook_does_not_take_is_no_matter(folder):
    pretend(step_of(TRAINING))
    assert why(step_of(TRAINING, batch_size=7)) == []


def test_the_data_matter(folder):
    pretend(step_of(TRAINING))
    assert why(step_of(TRAINING, checksum="other data")) == ["data"]


def test_the_versions_of_libraries_matter(folder, monkeypatch):
    pretend(step_of(TRAINING))
    monkeypatch.setattr(
        freshness, "_versions", lambda: (("torch", "99"), ("fastai", "2"), ("python", "3"))
    )
    assert why(step_of(TRAINING))[0].startswith("library torch: ") and why(step_of(TRAINING))[
        0
    ].endswith(" -> 99")


def test_a_file_that_is_read_matters_by_its_content(folder):
    pretend(step_of(TRAINING))
    pretend(step_of("04-compare"))
    metrics = folder / "outputs/small/custom-one_cycle-seed0/metrics.json"
    metrics.write_text("{}")  # the same again
    assert why(step_of("04-compare")) == []
    metrics.write_text('{"test_accuracy": 1}')
    assert why(step_of("04-compare")) == ["input custom-one_cycle-seed0/metrics.json"]
    assert why(step_of(TRAINING)) == ["custom-one_cycle-seed0/metrics.json was changed"]


def test_of_the_learning_rates_only_those_of_the_own_network_matter(folder):
    rates = folder / "outputs/small/learning_rates.json"
    rates.parent.mkdir(parents=True)
    rates.write_text('{"custom": {"suggested": 0.01}}')
    pretend(step_of(TRAINING, learning_rate=0))
    rates.write_text('{"lenet": {}, "custom": {"suggested": 0.01}}')
    assert why(step_of(TRAINING, learning_rate=0)) == []
    rates.write_text('{"custom": {"suggested": 0.02}}')
    assert why(step_of(TRAINING, learning_rate=0)) == ["input learning_rates.json of custom"]


def test_a_result_that_is_missing_is_made_again(folder):
    pretend(step_of(TRAINING))
    (folder / "outputs/small/custom-one_cycle-seed0/model.safetensors").unlink()
    assert why(step_of(TRAINING)) == ["custom-one_cycle-seed0/model.safetensors is missing"]


def test_a_run_that_failed_and_one_that_was_interrupted_are_made_again(folder):
    step = step_of(TRAINING)
    freshness.begin(step, "a run", freshness.dependencies(step))
    assert why(step) == ["interrupted"]
    freshness.finish(step, "failed", 1.0, "no reason")
    assert why(step) == ["failed"]


def test_a_damaged_record_counts_as_none(folder):
    pretend(step_of(TRAINING))
    freshness.record_path(step_of(TRAINING)).write_text('{"record": 1, "sta')
    assert why(step_of(TRAINING)) == ["never run"]
    assert why(step_of("04-compare")) == ["never run"]
    freshness.dependencies(step_of("04-compare"))  # which looks into every record


def test_more_seeds_leave_those_that_are_there_alone(folder):
    for step in planned().values():
        pretend(step)
    stale = [name for name, step in planned(seeds=[0, 1]).items() if why(step)]
    assert stale == ["03-train custom-one_cycle-seed1", "04-compare", "05-confusions"]


@pytest.mark.parametrize("changed", [False, True], ids=["unchanged", "changed"])
def test_a_checkpoint_is_kept_only_if_nothing_has_changed_since(folder, changed):
    step = step_of(TRAINING)
    freshness.begin(step, "a run", freshness.dependencies(step))
    step.run_folder.mkdir(parents=True)
    (step.run_folder / CHECKPOINT).write_text("half-way")
    if changed:
        plans.write(folder, pipeline.TRAIN, "other_code = 1")
    freshness.begin(step, "another run", freshness.dependencies(step))
    assert (step.run_folder / CHECKPOINT).exists() is not changed


def test_three_hundred_runs_are_planned_and_checked_in_three_seconds(folder):
    """The one test with a clock: the bound is the issue's, and ten times what it takes."""

    def check():
        return [
            why(step)
            for step in planned(
                networks=["resnet", "lenet", "custom"], seeds=list(range(100))
            ).values()
        ]

    for step in planned(networks=["resnet", "lenet", "custom"], seeds=list(range(100))).values():
        pretend(step)
    start = time.monotonic()
    assert check() == [[]] * 304 and time.monotonic() - start < 3


# the real repository


def copy_of_lib(tmp_path, monkeypatch, file, change):
    """Has freshness look at a copy of the repository in which a file of lib is changed."""
    for name in ("lib", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = (tmp_path / file).read_text()
    assert text != change(text)
    (tmp_path / file).write_text(change(text))
    monkeypatch.setattr(freshness, "ROOT", tmp_path)


@pytest.fixture
def real(tmp_path, monkeypatch):
    """Records, with pretended files, of the default profile; and a call that tells which steps are stale, and why."""
    monkeypatch.setenv("HANDWRITING_OUTPUTS", str(tmp_path / "results"))
    steps = pipeline.plan(load_profile("strokes"), "outputs/strokes", checksum="some data")
    for step in steps:
        pretend(step)
    return lambda: {step.name.partition(" ")[0]: why(step) for step in steps if why(step)}


def test_a_changed_plotting_function_trains_nothing(real, tmp_path, monkeypatch):
    copy_of_lib(
        tmp_path,
        monkeypatch,
        "lib/plots.py",
        lambda text: text.replace("font_scale=0.85", "font_scale=0.9"),
    )
    assert real() == dict.fromkeys(
        [pipeline.EXPLORE, pipeline.FIND, *pipeline.ANALYSE], ["lib plots.py"]
    )


def test_a_changed_network_trains_anew_and_leaves_the_data_alone(real, tmp_path, monkeypatch):
    copy_of_lib(tmp_path, monkeypatch, "lib/networks.py", lambda text: text + "\nlayers = 3\n")
    stale = real()
    assert stale["03-train"] == ["lib networks.py"] and "01-explore-data" not in stale


def test_a_changed_comment_or_docstring_of_lib_runs_nothing(real, tmp_path, monkeypatch):
    copy_of_lib(tmp_path, monkeypatch, "lib/networks.py", lambda text: text + "\n# a comment\n")
    assert real() == {}
    assert digest_of_code(['def f():\n    """One."""\n    return 1']) == digest_of_code(
        ['def f():\n    """Two."""\n    return 1']
    )
    assert digest_of_code(["f(1)"]) != digest_of_code(["f(2)"])


def test_modules_are_followed_through_those_that_import_them():
    training = modules(ROOT / "notebooks" / "03-train.ipynb")
    assert {
        "lib/training.py",
        "lib/loaders.py",
        "lib/augment.py",
        "lib/together.py",
        "lib/checkpoint.py",
    } <= set(training)
    assert not set(training) & freshness.RUNS_NOTEBOOKS


def test_modules_that_run_notebooks_exist():
    assert all((ROOT / name).exists() for name in freshness.RUNS_NOTEBOOKS | freshness.DRAWS)


def test_checking_imports_neither_torch_nor_papermill():
    code = (
        "import sys, lib.menu.commands, lib.data; from lib.params import load_profile; load_profile('strokes')\n"
        "print([name for name in ('torch', 'papermill', 'distributed', 'scipy', 'matplotlib', 'fastai') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_record_tells_where_each_value_came_from(folder):
    step = pipeline.plan(
        load_profile("small"), "outputs/small", {"networks": "params/mine.yml", "epochs": "--set"}
    )[2]
    pretend(step)
    origins = json.loads(freshness.record_path(step).read_text())["origins"]
    assert (origins["network"], origins["epochs"], origins["seed"]) == (
        "params/mine.yml",
        "--set",
        "default",
    )
