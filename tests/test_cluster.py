"""Notebooks in parallel, here and on a dask cluster, and what is left when something is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace

import plans
import psutil
import pytest
from plans import CUSTOM, LENET

from lib.errors import InputError
from lib.files import ROOT
from lib.running import cluster as on_dask
from lib.running import execute
from lib.running.cluster import jobs_at_once, process_for, run_steps
from lib.running.notebook import visible_cards
from lib.running.plan import EXPLORE, FIND, TRAIN, only_one_run
from lib.running.staleness import read_record

pytestmark = pytest.mark.slow  # processes are started, killed and waited for


def states_of(steps, jobs=1, threads=1, **options):
    return plans.states(run_steps(steps, jobs, threads, **options))


def test_two_jobs_give_the_same_results_as_one(folder):
    results = []
    for jobs in (1, 2):
        assert set(plans.run_all(folder, jobs=jobs, force=True).values()) == {"done"}
        results.append((folder / "outputs/small/results.json").read_text())
    assert results[0] == results[1] and results[0].count('"custom"') == 1


def test_a_failing_notebook_stops_only_those_that_need_it(folder):
    plans.write(folder, FIND, "raise RuntimeError('no rate')")
    steps = plans.planned(folder, "learning_rate=0")
    assert states_of(steps, jobs=2) == {
        "01-explore-data": "done",
        "02-find-learning-rate": "failed",
        LENET: "skipped",
        CUSTOM: "skipped",
        "04-compare": "skipped",
        "05-confusions": "skipped",
    }


def test_a_step_waits_for_a_failing_one_that_it_comes_after(folder):
    plans.write(folder, "04-compare", "import time; time.sleep(1); raise RuntimeError")
    first, last = plans.planned(folder)[-2:]
    steps = [first, replace(last, after=[first.name])]
    assert states_of(steps, jobs=2) == {first.name: "failed", last.name: "done"}
    assert read_record(last)["began"] > read_record(first)["ended"]


def test_each_step_that_has_run_is_told_of(folder):
    ended, steps = [], plans.planned(folder)[:1]
    states_of(steps, ended=ended.append)
    states_of(steps, ended=ended.append)
    assert ended == steps


def test_a_notebook_computes_with_its_share_of_the_threads(folder):
    code = "import os; assert os.environ['OMP_NUM_THREADS'] == os.environ['MKL_NUM_THREADS'] == '3'"
    plans.write(folder, EXPLORE, code)
    assert states_of(plans.planned(folder)[:1], threads=3) == {"01-explore-data": "done"}


def test_of_a_flood_no_more_is_kept_or_passed_on_than_anyone_reads(folder, capsys):
    plans.write(folder, EXPLORE, "for i in range(300_000): print('drop', i)")
    assert states_of(plans.planned(folder)[:1]) == {"01-explore-data": "done"}
    executed = folder / "outputs/small/notebooks/01-explore-data.ipynb"
    assert "cut off here" in executed.read_text() and executed.stat().st_size < 3_000_000
    printed = execute.Printed()
    printed.write("drop\n" * 300_000)
    assert capsys.readouterr().out.count("drop") == execute.MOST_LINES


def test_as_many_notebooks_run_at_once_as_the_cores_or_cards_allow():
    assert jobs_at_once(0, threads=2, n_steps=10, cores=8, cards=0) == 4
    assert jobs_at_once(0, threads=2, n_steps=3, cores=8, cards=0) == 3
    assert jobs_at_once(7, threads=2, n_steps=10, cores=8, cards=0) == 7
    assert jobs_at_once(0, threads=2, n_steps=10, cores=8, cards=2) == 2


@pytest.mark.parametrize(
    ("named", "cards"), [("3,5", ["3", "5"]), ("", []), ("-1", []), ("none", []), ("0,-1,1", ["0"])]
)
def test_the_cards_are_those_that_cuda_would_see(named, cards):
    assert visible_cards({"CUDA_VISIBLE_DEVICES": named}) == cards


def test_each_job_has_a_graphics_card_of_its_own(folder, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    card = "import os, time; print('card', os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(2)"
    plans.write(folder, TRAIN, card)
    steps = [step for step in plans.planned(folder) if step.run]
    assert set(states_of(steps, jobs=2).values()) == {"done"}
    text = "".join(step.executed.read_text() for step in steps)
    assert "card 3" in text and "card 5" in text


def test_an_address_where_no_scheduler_answers_is_reported(folder):
    with pytest.raises(InputError, match="No dask scheduler answers at tcp://127.0.0.1:9"):
        states_of(plans.planned(folder)[:1], scheduler="tcp://127.0.0.1:9")


def test_processes_that_do_not_start_are_reported(folder, monkeypatch):
    def busy(**_):
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(on_dask, "LocalCluster", busy)
    with pytest.raises(InputError, match="wait if the machine is busy, and try again .Nanny"):
        states_of(plans.planned(folder)[:1])


@pytest.fixture
def worker(monkeypatch):
    """process_for as a worker has it, whose environment and process end with the test."""
    monkeypatch.setattr(on_dask, "process", None)
    monkeypatch.setattr(on_dask, "OWN", {})
    for name in on_dask.SHARED:
        monkeypatch.setenv(name, "the test's")
    yield process_for
    on_dask.process.close()


def test_a_worker_keeps_its_process_for_the_next_notebook_of_the_same_client(worker):
    first = worker(1, {"HANDWRITING_OUTPUTS": "here"}, "name")
    assert worker(1, {"HANDWRITING_OUTPUTS": "here"}, "name") is first


@pytest.mark.parametrize("other", [(2, {"HANDWRITING_OUTPUTS": "here"}), (1, {})])
def test_a_worker_ends_its_process_for_a_client_with_other_settings(worker, other):
    first = worker(1, {"HANDWRITING_OUTPUTS": "here"}, "name")
    second = worker(*other, "name")
    assert first.ended and not second.ended
    assert os.environ.get("HANDWRITING_OUTPUTS") == other[1].get("HANDWRITING_OUTPUTS")


@pytest.mark.parametrize(
    "sent", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM], ids=["ctrl-c", "kill", "terminate"]
)
def test_nothing_is_left_running_when_the_command_is_ended(folder, sent):
    plans.write(folder, TRAIN, plans.SLOW)
    command = plans.Command(folder)
    command.wait_for("custom-seed0: started")
    command.wait_for("lenet-seed0: started")
    # command, two workers, and for each a process for notebooks and a kernel
    assert len(plans.notebook_processes(folder)) >= 7
    (os.killpg if sent == signal.SIGINT else os.kill)(command.process.pid, sent)
    code = command.process.wait(20)
    assert plans.wait_until_gone(folder) == []
    if sent != signal.SIGKILL:
        assert code == 130 and "the same command continues from here" in command.log.read_text()
        assert "Traceback" not in command.log.read_text()


def test_the_same_command_goes_on_after_it_was_killed(folder):
    plans.write(folder, TRAIN, "import time; time.sleep(4)", plans.LEAVE_METRICS)
    command = plans.Command(folder)
    command.wait_for("custom-seed0: started")
    command.process.kill()
    assert plans.wait_until_gone(folder) == []
    again = plans.Command(folder)
    assert again.process.wait(300) == 0
    log = again.log.read_text()
    assert "01-explore-data: fresh" in log and "custom-seed0: done" in log


def start(folder, module, *arguments):
    """A scheduler or worker of dask's as a process of its own."""
    return psutil.Popen(
        [sys.executable, "-m", f"distributed.cli.{module}", *arguments, "--no-dashboard"],
        cwd=ROOT,
        env=os.environ | {"HANDWRITING_OUTPUTS": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def end(process):
    """Ends a process, if no test has done so."""
    with suppress(psutil.NoSuchProcess):
        process.kill()
    process.wait()


@pytest.fixture
def scheduler(folder):
    """A scheduler without workers: its address and process."""
    file = folder / "scheduler.json"
    process = start(folder, "dask_scheduler", "--port", "0", "--scheduler-file", str(file))
    while not file.exists() or not file.read_text():
        time.sleep(0.1)
    yield json.loads(file.read_text())["address"], process
    end(process)


@pytest.fixture
def cluster(folder, scheduler):
    """The scheduler's address and process, and two workers."""
    workers = [start(folder, "dask_worker", scheduler[0], "--nthreads", "1") for _ in range(2)]
    yield *scheduler, workers
    for process in [*workers, scheduler[1]]:
        end(process)
    assert plans.wait_until_gone(folder) == []


def test_a_cluster_gives_the_same_results_as_this_machine(folder, cluster):
    plans.run_all(folder, jobs=2)
    here = plans.results(folder)
    assert set(plans.run_all(folder, scheduler=cluster[0], force=True).values()) == {"done"}
    assert plans.results(folder) == here


def test_a_scheduler_without_workers_is_told_of_and_waited_for(folder, scheduler):
    command = plans.Command(folder, scheduler[0])
    command.wait_for(f"no worker has joined {scheduler[0]}: start one with `dask worker")
    worker = start(folder, "dask_worker", scheduler[0], "--nthreads", "1")
    assert command.process.wait(300) == 0 and "05-confusions: done" in command.log.read_text()
    worker.terminate()
    worker.wait()


def kill_a_worker(cluster):
    """Kills a worker that runs a notebook, at once."""
    children = [child for worker in cluster[2] for child in worker.children()]
    next(child for child in children if len(child.children(recursive=True)) >= 2).kill()


def test_a_run_whose_worker_dies_is_repeated(folder, cluster):
    plans.write(folder, TRAIN, "import time; time.sleep(5)", plans.LEAVE_METRICS)
    command = plans.Command(folder, cluster[0])
    command.wait_for("custom-seed0: started")
    command.wait_for("lenet-seed0: started")
    kill_a_worker(cluster)
    assert command.process.wait(300) == 0, command.log.read_text()
    assert "the process that ran it died: attempt 2 of 3" in command.log.read_text()
    assert [row["network"] for row in plans.results(folder)] == ["custom", "lenet"]


def test_a_run_that_kills_every_worker_is_repeated_twice_and_no_more(folder):
    kill = """import psutil, time
for parent in psutil.Process().parents()[:2]:  # process for notebooks, worker
    if 'spawn' in ' '.join(parent.cmdline()):
        parent.kill()
time.sleep(9)"""
    plans.write(folder, EXPLORE, kill)
    outcome = run_steps(plans.planned(folder)[:1], jobs=1, threads=1)["01-explore-data"]
    assert outcome.state == "failed" and "died 3 times" in outcome.problem
    assert read_record(plans.planned(folder)[0])["attempt"] == 4


def test_a_scheduler_that_is_killed_ends_everything_with_one_sentence(folder, cluster):
    plans.write(folder, TRAIN, plans.SLOW)
    command = plans.Command(folder, cluster[0])
    command.wait_for("custom-seed0: started")
    cluster[1].kill()
    assert command.process.wait(60) == 2
    log = command.log.read_text()
    assert "no longer answers" in log and "Traceback" not in log
    assert plans.wait_until_gone(folder, 15) == []


def test_a_command_that_is_killed_leaves_the_cluster_without_work(folder, cluster):
    plans.write(folder, TRAIN, plans.SLOW)
    command = plans.Command(folder, cluster[0])
    command.wait_for("custom-seed0: started")
    command.process.kill()
    keep = {process.pid for own in [cluster[1], *cluster[2]] for process in [own, *own.children()]}
    assert plans.wait_until_gone(folder, 15, keep=tuple(keep)) == []


def test_a_second_command_on_the_same_profile_is_refused(folder):
    plans.write(folder, TRAIN, plans.SLOW)
    command = plans.Command(folder)
    command.wait_for("started")
    with pytest.raises(InputError, match="Another command is running outputs/small"):
        plans.run_all(folder)
    command.process.kill()
    assert plans.wait_until_gone(folder) == []
    with only_one_run("outputs/small"):
        pass  # the lock has gone with its holder
