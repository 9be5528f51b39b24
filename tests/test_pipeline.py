import json
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from lib import pipeline
from lib.errors import InputError
from lib.params import Profile, load_profile
from lib.files import METRICS, ROOT

PARAMETERS = 'outputs: str = "outputs/small"  # where\nseeds: list = [0]  # which'
TRAINING = 'network: str = "custom"\nseed: int = 0\nschedule: str = "one_cycle"\noutputs: str = "outputs/small"'


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """Five tiny notebooks in place of the real ones; `write(name, code)` changes one. Results go to tmp_path."""

    def write(name, code):
        parameters = new_code_cell(TRAINING if name == pipeline.TRAIN else PARAMETERS, metadata={"tags": ["parameters"]})
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(new_notebook(cells=[parameters, new_code_cell(code)], metadata=kernel), tmp_path / f"{name}.ipynb")

    for name in [*pipeline.PREPARE, pipeline.TRAIN, *pipeline.ANALYSE]:
        write(name, "1 + 1")
    monkeypatch.setattr(pipeline, "NOTEBOOKS", tmp_path)
    monkeypatch.setenv("HANDWRITING_OUTPUTS", str(tmp_path))
    return write


def leave_metrics(tmp_path, test_accuracy=0.5):
    """Code for a training cell that writes nothing but its metrics."""
    return (f"import pathlib, json; folder = pathlib.Path({str(tmp_path)!r}) / outputs / f'{{network}}-{{schedule}}-seed{{seed}}'\n"
            f"folder.mkdir(parents=True, exist_ok=True)\n"
            f"(folder / 'metrics.json').write_text(json.dumps({{'network': network, 'test_accuracy': {test_accuracy}}}))")


def states(outcomes):
    return {name: outcome.state for name, outcome in outcomes.items()}


def test_a_plan_trains_every_network_with_every_seed(notebooks):
    steps = pipeline.plan(Profile(networks=["lenet", "custom"], seeds=[0, 1]), "outputs/small")
    assert [step.name for step in steps if pipeline.is_training(step)] == [
        f"03-train {network}-one_cycle-seed{seed}" for seed in (0, 1) for network in ("lenet", "custom")]


def test_a_plan_names_every_step_after_those_it_needs(notebooks):
    done = set()
    for step in pipeline.plan(Profile(), "outputs/small"):
        assert set(step.needs) <= done
        done.add(step.name)


def test_a_notebook_gets_the_parameters_it_asks_for_and_no_others(notebooks):
    step = pipeline.plan(Profile(seeds=[4]), "outputs/mine")[0]
    assert step.parameters == {"outputs": "outputs/mine", "seeds": [4]}


def test_a_failing_notebook_stops_only_those_that_need_it(notebooks):
    notebooks("02-find-learning-rate", "raise RuntimeError('no rate')")
    outcomes = pipeline.run_steps(pipeline.plan(Profile(networks=["custom"]), "outputs/small"), say=lambda line: None)
    assert states(outcomes) == {"01-explore-data": "done", "02-find-learning-rate": "failed",
                                "03-train custom-one_cycle-seed0": "skipped", "04-compare": "skipped", "05-confusions": "skipped"}


def test_a_failure_names_the_cell_the_error_and_the_executed_notebook(notebooks):
    notebooks("01-explore-data", "numbers = []\nnumbers[3]")
    outcome = pipeline.run_steps(pipeline.plan(Profile(), "outputs/small")[:1], say=lambda line: None)["01-explore-data"]
    assert "IndexError: list index out of range" in outcome.problem
    assert "begins: numbers = []" in outcome.problem and "01-explore-data.ipynb" in outcome.problem


def test_a_kernel_that_dies_is_a_failure(notebooks):
    notebooks("01-explore-data", "import os; os._exit(1)")
    outcome = pipeline.run_steps(pipeline.plan(Profile(), "outputs/small")[:1], say=lambda line: None)["01-explore-data"]
    assert outcome.state == "failed" and "DeadKernelError" in outcome.problem.splitlines()[0]


def test_results_list_the_runs_that_finished(notebooks, tmp_path):
    notebooks(pipeline.TRAIN, "assert network == 'custom'\n" + leave_metrics(tmp_path))
    outcomes = pipeline.run_notebook("03", "small", ["networks=[lenet,custom]"])
    results = json.loads((tmp_path / "outputs/small/results.json").read_text())
    assert [row["network"] for row in results] == ["custom"]
    assert states(outcomes)["03-train lenet-one_cycle-seed0"] == "failed"


def test_an_earlier_result_is_not_taken_for_that_of_a_failed_run(notebooks, tmp_path):
    notebooks(pipeline.TRAIN, leave_metrics(tmp_path))
    pipeline.run_notebook("03", "small", ["networks=[custom]"])
    notebooks(pipeline.TRAIN, "raise RuntimeError")
    pipeline.run_notebook("03", "small", ["networks=[custom]"])
    assert json.loads((tmp_path / "outputs/small/results.json").read_text()) == []


def test_two_jobs_give_the_same_results_as_one(notebooks, tmp_path):
    notebooks(pipeline.TRAIN, leave_metrics(tmp_path))
    results = []
    for jobs in (1, 2):
        pipeline.run_all("small", ["networks=[lenet,custom]"], jobs)
        results.append((tmp_path / "outputs/small/results.json").read_text())
    assert results[0] == results[1]


def test_only_missing_runs_are_trained(notebooks, tmp_path):
    notebooks(pipeline.TRAIN, leave_metrics(tmp_path))
    kept = tmp_path / "outputs/small/lenet-one_cycle-seed0"
    kept.mkdir(parents=True)
    (kept / METRICS).write_text('{"network": "lenet", "test_accuracy": "as it was"}')
    pipeline.train_missing("outputs/small", ["lenet", "resnet"], [0], "one_cycle")
    assert "as it was" in (kept / METRICS).read_text() and (kept.parent / "resnet-one_cycle-seed0" / METRICS).exists()
    assert not (kept.parent / "custom-one_cycle-seed0").exists()


def test_a_long_run_is_never_started_by_a_notebook_that_reads_it(notebooks):
    with pytest.raises(InputError, match="no result of lenet-one_cycle-seed0: run `invoke run-all --profile byclass`"):
        pipeline.train_missing("outputs/byclass", ["lenet"], [0], "one_cycle")


def test_training_does_not_wait_for_the_finder_when_its_rate_is_given(notebooks):
    steps = pipeline.plan(Profile(learning_rate=0.01), "outputs/small")
    assert all(not step.needs for step in steps if pipeline.is_training(step))


def test_a_folder_that_cannot_be_written_is_reported_before_anything_runs(notebooks, tmp_path):
    (tmp_path / "outputs").write_text("a file where a folder should be")
    with pytest.raises(InputError, match="cannot be written"):
        pipeline.run_all("small")


@pytest.mark.parametrize("name", ["3", "03-train.ipynb"])
def test_one_notebook_is_run_by_name_or_number(notebooks, name):
    assert states(pipeline.run_notebook(name, "small", ["networks=[custom]"])) == {"03-train custom-one_cycle-seed0": "done"}


def test_an_unknown_notebook_names_the_nearest(notebooks):
    with pytest.raises(InputError, match="did you mean '04-compare'"):
        pipeline.run_notebook("04-compar", "small")


def test_the_real_plan_fits_the_real_notebooks():
    steps = pipeline.plan(load_profile("strokes"), "outputs/strokes")
    assert len(steps) == 7 and all(step.parameters for step in steps)


def invoke(*arguments):
    return subprocess.run([sys.executable, "-m", "invoke", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("command", [["run-all", "--set", "epoch=3"], ["run", "99"], ["run-all", "--profile", "stroke"],
                                     ["run-all", "--jobs", "0"], ["run-all", "--jobs", "two"],
                                     ["clean", "--profile", "smal"]])
def test_a_mistake_costs_one_sentence_and_status_2(command):
    done = invoke(*command)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1 and done.stderr.strip()[-1] in ".?" and not done.stdout


def test_the_menu_explains_every_task():
    listed = dict(line.split(maxsplit=1) for line in invoke("--list").stdout.splitlines() if line.startswith("  "))
    assert set(listed) == {"run-all", "run", "lab", "data", "test", "refresh", "clean", "picture", "bench"}
    assert all(explanation.endswith(".") for explanation in listed.values())
