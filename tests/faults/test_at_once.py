"""Commands at once, in any order: each ends well or says that another one is running.

A run-all afterwards ends well, whatever `clean` has deleted.
"""

import multiprocessing
import os
import random
import shutil
import sys
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout

import hostile
import plans
import pytest
from invoke import Exit

import tasks
from lib.files import outputs_folder, write_json
from lib.menu import commands
from lib.running import Outcome, cluster, staleness
from lib.running.plan import REPORT_NOTEBOOK

pytestmark = pytest.mark.slow
OF = ["small", plans.SETTINGS]
ACTIONS = {
    "first run-all": lambda home: commands.run_all(*OF, jobs="2", notebooks=home),
    "second run-all": lambda home: commands.run_all(*OF, jobs="2", notebooks=home),
    "status": lambda home: commands.status(*OF, home),
    "report": lambda home: commands.run_all(*OF, notebook=REPORT_NOTEBOOK, notebooks=home),
    "clean": lambda home: commands.clean("small", False),
}
PRELOADED = ["test_at_once", "lib.report.pages", "lib.running.cluster"]


def pretend_steps(steps, jobs, threads, scheduler="", force=False, ended=lambda step: None):
    """As run_steps, but each notebook is copied, not run: it takes seconds less."""
    outcomes = {}
    for step in steps:
        if not staleness.reasons(step, staleness.read_record(step)):
            outcomes[step.name] = Outcome("fresh")
            continue
        staleness.begin(step, "a run", staleness.dependencies(step))
        time.sleep(0.2)
        shutil.copy(step.notebook, step.executed)
        for file in step.writes:
            metrics = {"network": step.parameters.get("network"), "seed": 0, **plans.METRICS}
            write_json(outputs_folder(step.outputs) / file, metrics)
        staleness.finish(step, "done", 0.2)
        ended(step)
        outcomes[step.name] = Outcome("done")
    return outcomes


def act(name, home, wait, log, pretends):
    """In a process of its own: waits, does it, and exits as the menu would."""
    os.environ["HANDWRITING_OUTPUTS"] = str(home)
    if pretends:
        cluster.run_steps = pretend_steps
    time.sleep(wait)
    with open(log, "w") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            tasks.said_plainly(ACTIONS[name])(home)
        except Exit as end:
            print(end.message)
            sys.exit(end.code)
        except Exception:
            traceback.print_exc()
            sys.exit(1)


@pytest.fixture(scope="module")
def processes():
    """Processes that start with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


@pytest.mark.parametrize("start", range(100 if hostile.FUZZ else 8))
def test_all_commands_at_once(start, processes, folder):
    """Every twentieth time with notebooks that are really run."""
    pretends = start % 20 != 7
    hostile.COUNTS["commands at once"] += len(ACTIONS)
    plans.write(folder, REPORT_NOTEBOOK, "1 + 1")
    for name in plans.CHAPTERS:  # the report reads no chapter here
        (folder / f"{name}.ipynb").unlink()
    luck, started = random.Random(f"{hostile.FUZZ} {start}"), {}

    def begin(name: str, wait: float = 0) -> None:
        given = (name, folder, wait, folder / f"{name}.log", pretends)
        started[name] = processes.Process(target=act, args=given)
        started[name].start()

    def end(name: str, allowed: tuple) -> None:
        started[name].join(120)
        status, said = started[name].exitcode, (folder / f"{name}.log").read_text()
        assert status in allowed and "Traceback" not in said, f"{name} ended with {status}: {said}"
        assert status == 0 or "Another command is running" in said, f"{name}: {said}"

    for name in luck.sample([*ACTIONS], len(ACTIONS)):
        begin(name, luck.uniform(0, 2 if pretends else 8))
    for name in list(started):
        end(name, (0, 2))
    begin("first run-all")
    end("first run-all", (0,))
    assert {row["run"] for row in plans.results(folder)} == {"custom-seed0", "lenet-seed0"}
    assert plans.wait_until_gone(folder, keep=(os.getpid(),)) == []
