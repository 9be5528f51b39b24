"""Commands at once, in any order: each ends well or says why not, and nothing is lost."""

import multiprocessing
import os
import random
import sys
import time
from contextlib import redirect_stderr, redirect_stdout

import hostile
import plans
import pytest
from invoke import Exit

import tasks
from lib.menu import commands
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


def act(name, home, wait, log):
    """In a process of its own: waits, does it, and exits as the menu would."""
    os.environ["HANDWRITING_OUTPUTS"] = str(home)
    time.sleep(wait)
    with open(log, "w") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            tasks.said_plainly(ACTIONS[name])(home)
        except Exit as end:
            print(end.message)
            sys.exit(end.code)


@pytest.fixture(scope="module")
def processes():
    """Processes that start with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


@pytest.mark.parametrize("start", range(100 if hostile.EXAMPLES else 2))
def test_all_commands_at_once(start, processes, folder):
    hostile.COUNTS["commands at once"] += len(ACTIONS)
    plans.write(folder, REPORT_NOTEBOOK, "1 + 1")
    for name in plans.CHAPTERS:  # the report reads no chapter here
        (folder / f"{name}.ipynb").unlink()
    luck, started = random.Random(f"{start} {hostile.EXAMPLES}"), {}
    for name in luck.sample([*ACTIONS], len(ACTIONS)):
        given = (name, folder, luck.uniform(0, 8), folder / f"{name}.log")
        started[name] = processes.Process(target=act, args=given)
        started[name].start()
    for name, process in started.items():
        process.join(120)
        said = (folder / f"{name}.log").read_text()
        assert process.exitcode in (0, 2), f"{name} ended with {process.exitcode}: {said}"
        assert "Traceback" not in said, f"{name}: {said}"
        if process.exitcode == 2:
            assert "run this again" in said, f"{name}: {said}"
    assert set(plans.run_all(folder, jobs=2).values()) <= {"done", "fresh"}
    assert {row["run"] for row in plans.results(folder)} == {"custom-seed0", "lenet-seed0"}
    assert [path for path in folder.rglob("*") if ".part" in path.name] == []
    assert plans.wait_until_gone(folder, keep=(os.getpid(),)) == []
