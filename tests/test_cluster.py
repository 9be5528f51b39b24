"""Notebooks in parallel, on this machine and on a dask cluster, and what is left when something is killed."""

import json
import os
import signal
import subprocess
import sys
import time

import plans
import psutil
import pytest

from lib.errors import InputError
from lib.files import ROOT
from lib.params import load_profile
from lib.running import plan as pipeline
from lib.running import staleness as freshness
from lib.running.cluster import jobs_at_once, run_steps, visible_cards


def planned(*settings):
    return pipeline.plan(load_profile("small", [*plans.SETTINGS, *settings]), "outputs/small")


def states(outcomes):
    return {name: outcome.state for name, outcome in outcomes.items()}


def test_two_jobs_give_the_same_results_as_one(folder):
    results = []
    for jobs in (1, 2):
        outcomes = pipeline.run_all("small", plans.SETTINGS, jobs, force=True)
        results.append((folder / "outputs/small/results.json").read_text())
        assert set(states(outcomes).values()) == {"done"}
    assert results[0] == results[1] and results[0].count("custom") == 1


def test_a_failing_notebook_stops_only_those_that_need_it(folder):
    plans.write(folder, pipeline.FIND, "raise RuntimeError('no rate')")
    outcomes = run_steps(planned("learning_rate=0"), jobs=2, threads=1)
    assert states(outcomes) == {
        "01-explore-data": "done",
        "02-find-learning-rate": "failed",
        "03-train lenet-one_cycle-seed0": "skipped",
        "03-train custom-one_cycle-seed0": "skipped",
        "04-compare": "skipped",
        "05-confusions": "skipped",
    }


def test_a_notebook_computes_with_its_share_of_the_threads(folder):
    plans.write(
        folder,
        pipeline.EXPLORE,
        "import os\nassert os.environ['OMP_NUM_THREADS'] == os.environ['MKL_NUM_THREADS'] == '3'",
    )
    assert states(run_steps(planned()[:1], jobs=1, threads=3)) == {"01-explore-data": "done"}


def test_as_many_notebooks_run_at_once_as_the_cores_or_cards_allow(monkeypatch):
    monkeypatch.setattr("lib.running.cluster.n_cores", lambda: 8)
    monkeypatch.setattr("lib.running.cluster.visible_cards", lambda: [])
    assert (
        jobs_at_once(0, threads=2, steps=10) == 4
        and jobs_at_once(0, threads=2, steps=3) == 3
        and jobs_at_once(7, 2, 10) == 7
    )
    monkeypatch.setattr("lib.running.cluster.visible_cards", lambda: ["0", "1"])
    assert jobs_at_once(0, threads=2, steps=10) == 2


def test_each_job_has_a_graphics_card_of_its_own(folder, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert visible_cards() == ["3", "5"]
    plans.write(
        folder,
        pipeline.TRAIN,
        "import os, time; print('card', os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(2)",
    )
    steps = [step for step in planned() if step.run_folder]
    assert set(states(run_steps(steps, jobs=2, threads=1)).values()) == {"done"}
    assert {
        card for card in ("card 3", "card 5") for step in steps if card in step.executed.read_text()
    } == {"card 3", "card 5"}


def test_threads_are_shared_among_the_trainings_of_the_plan_whatever_runs_at_once(monkeypatch):
    monkeypatch.setattr(pipeline, "n_cores", lambda: 8)
    assert pipeline.share_of_cores(load_profile("small")) == 2
    assert pipeline.share_of_cores(load_profile("small", ["networks=[custom]"])) == 8
    assert pipeline.share_of_cores(load_profile("small", ["seeds=[0,1,2,3,4]"])) == 1
    assert pipeline.share_of_cores(load_profile("small", ["threads=5"])) == 5


def test_an_address_where_no_scheduler_answers_is_reported(folder):
    with pytest.raises(InputError, match="No dask scheduler answers at tcp://127.0.0.1:9"):
        run_steps(planned()[:1], jobs=1, threads=1, scheduler="tcp://127.0.0.1:9")


@pytest.mark.parametrize(
    "sent", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM], ids=["ctrl-c", "kill", "terminate"]
)
def test_nothing_is_left_running_when_the_command_is_ended(folder, sent):
    plans.write(folder, pipeline.TRAIN, plans.SLOW)
    command = plans.Command(folder)
    command.wait_for("custom-one_cycle-seed0: started")
    command.wait_for("lenet-one_cycle-seed0: started")
    assert (
        len(plans.notebook_processes(folder)) >= 6
    )  # command, two workers, two processes for notebooks, kernels
    (os.killpg if sent == signal.SIGINT else os.kill)(command.process.pid, sent)
    code = command.process.wait(20)
    assert plans.wait_until_gone(folder) == []
    if sent != signal.SIGKILL:
        assert code == 130 and "the same command continues from here" in command.log.read_text()
        assert "Traceback" not in command.log.read_text()


def test_the_same_command_goes_on_after_it_was_killed(folder):
    plans.write(folder, pipeline.TRAIN, "import time; time.sleep(4)", plans.LEAVE_METRICS)
    command = plans.Command(folder)
    command.wait_for("custom-one_cycle-seed0: started")
    command.process.kill()
    assert plans.wait_until_gone(folder) == []
    again = plans.Command(folder)
    assert again.process.wait(90) == 0
    assert (
        "01-explore-data: fresh" in again.log.read_text()
        and "custom-one_cycle-seed0: done" in again.log.read_text()
    )


@pytest.fixture
def cluster(folder):
    """A scheduler and two workers as separate processes: their address, the scheduler and the workers."""
    environment = os.environ | {"HANDWRITING_OUTPUTS": str(folder)}

    def start(module, *arguments):
        return psutil.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", *arguments, "--no-dashboard"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    file = folder / "scheduler.json"
    scheduler = start("dask_scheduler", "--port", "0", "--scheduler-file", str(file))
    workers = [
        start("dask_worker", "--scheduler-file", str(file), "--nthreads", "1") for _ in range(2)
    ]
    while not file.exists() or not file.read_text():
        time.sleep(0.1)
    yield json.loads(file.read_text())["address"], scheduler, workers
    for process in [*workers, scheduler]:
        process.kill()
        process.wait()
    assert plans.wait_until_gone(folder) == []


def test_a_cluster_gives_the_same_results_as_this_machine(folder, cluster):
    pipeline.run_all("small", plans.SETTINGS, jobs=2)
    here = plans.results(folder)
    outcomes = pipeline.run_all("small", plans.SETTINGS, scheduler=cluster[0], force=True)
    assert set(states(outcomes).values()) == {"done"} and plans.results(folder) == here


def kill_a_worker(cluster):
    """Kills a worker that runs a notebook, at once."""
    busy = [
        child
        for worker in cluster[2]
        for child in worker.children()
        if len(child.children(recursive=True)) >= 2
    ]
    busy[0].kill()


def test_a_run_whose_worker_dies_is_repeated(folder, cluster):
    plans.write(folder, pipeline.TRAIN, "import time; time.sleep(5)", plans.LEAVE_METRICS)
    command = plans.Command(folder, "2", cluster[0])
    command.wait_for("custom-one_cycle-seed0: started")
    command.wait_for("lenet-one_cycle-seed0: started")
    kill_a_worker(cluster)
    assert command.process.wait(90) == 0, command.log.read_text()
    assert "the process that ran it died: attempt 2 of 3" in command.log.read_text()
    assert [row["network"] for row in plans.results(folder)] == ["custom", "lenet"]


def test_a_run_that_kills_every_worker_is_repeated_twice_and_no_more(folder):
    kill = "import os, psutil; [p.kill() for p in psutil.Process().parents()[:2] if 'spawn' in ' '.join(p.cmdline())]; import time; time.sleep(9)"
    plans.write(folder, pipeline.EXPLORE, kill)
    outcome = run_steps(planned()[:1], jobs=1, threads=1)["01-explore-data"]
    assert outcome.state == "failed" and "died 3 times" in outcome.problem
    assert freshness.read_record(planned()[0])["attempt"] == 4


def test_a_scheduler_that_is_killed_ends_everything_with_one_sentence(folder, cluster):
    plans.write(folder, pipeline.TRAIN, plans.SLOW)
    command = plans.Command(folder, "2", cluster[0])
    command.wait_for("custom-one_cycle-seed0: started")
    cluster[1].kill()
    assert command.process.wait(60) == 2
    assert (
        "no longer answers" in command.log.read_text()
        and "Traceback" not in command.log.read_text()
    )
    assert plans.wait_until_gone(folder, 15) == []


def test_a_command_that_is_killed_leaves_the_cluster_without_work(folder, cluster):
    plans.write(folder, pipeline.TRAIN, plans.SLOW)
    command = plans.Command(folder, "2", cluster[0])
    command.wait_for("custom-one_cycle-seed0: started")
    command.process.kill()
    keep = {process.pid for own in [cluster[1], *cluster[2]] for process in [own, *own.children()]}
    assert plans.wait_until_gone(folder, 15, keep=tuple(keep)) == []


def test_a_second_command_on_the_same_profile_is_refused(folder):
    plans.write(folder, pipeline.TRAIN, plans.SLOW)
    command = plans.Command(folder)
    command.wait_for("started")
    with pytest.raises(InputError, match="Another command is running outputs/small"):
        pipeline.run_all("small", plans.SETTINGS)
    command.process.kill()
    assert plans.wait_until_gone(folder) == []
    with pipeline.only_one_run("outputs/small"):
        pass  # the lock has gone with its holder
