"""Five tiny notebooks in place of the real ones, and a command on them that can be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lib import running
from lib.files import ROOT, outputs_folder
from lib.params import load_profile
from lib.running.plan import EXPLORE, FIND, REPORT_NOTEBOOK, TRAIN
from lib.running.staleness import begin, dependencies, finish

CHAPTERS = ["04-compare", "05-confusions"]
PARAMETERS = {
    TRAIN: 'network: str = "custom"\nseed: int = 0\nepochs: int = 4\nrun: str = "none"\n'
    'outputs: str = "outputs/small"',
    **dict.fromkeys([EXPLORE, FIND], 'outputs: str = "outputs/small"  # where'),
    **dict.fromkeys(
        [*CHAPTERS, REPORT_NOTEBOOK], 'studies: list = ["networks"]\noutputs: str = "outputs/small"'
    ),
}
METRICS = {"test_accuracy": 0.5, "train_accuracy": 1, "valid_accuracy": 1, "seconds": 1}
METRICS |= {"dataset": "none", "split": "", "n_test": 9, "epochs_run": 4}
LEAVE_METRICS = """import json
from lib import files
folder = files.outputs_folder(outputs) / run
folder.mkdir(parents=True, exist_ok=True)
metrics = {'network': network, 'seed': seed, 'epochs_run': epochs, 'test_accuracy': seed / 9}
metrics |= {'train_accuracy': 1, 'valid_accuracy': 1, 'seconds': 1}
metrics |= {'dataset': 'none', 'split': '', 'n_test': 9}
(folder / 'metrics.json').write_text(json.dumps(metrics))"""
SLOW = """import time
for i in range(100):
    print('step', i, flush=True)
    time.sleep(0.2)"""
SETTINGS = ["networks=[lenet,custom]", "learning_rate=0.01", "studies={}"]
LENET, CUSTOM = f"{TRAIN} lenet-seed0", f"{TRAIN} custom-seed0"


def write(folder: Path, name: str, *code: str, prose: str = "About this notebook.") -> None:
    """Writes a notebook of that name."""
    parameters = new_code_cell(PARAMETERS[name], metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [new_markdown_cell(prose), parameters, *map(new_code_cell, code)]
    nbformat.write(new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb")


def write_all(folder: Path) -> None:
    """Notebooks that do next to nothing; the training one leaves metrics."""
    for name in [EXPLORE, FIND, *CHAPTERS]:
        write(folder, name, "1 + 1")
    write(folder, TRAIN, LEAVE_METRICS)


def planned(folder: Path, *settings: str) -> list[running.Step]:
    """The steps of the folder's notebooks."""
    return running.plan(load_profile("small", [*SETTINGS, *settings]), notebooks=folder)


def run_all(folder: Path, **options) -> dict[str, str]:
    """Runs the folder's notebooks; the state in which each has ended."""
    profile = load_profile("small", SETTINGS)
    return states(running.run_all(profile, lambda parameters: "", notebooks=folder, **options))


def states(outcomes: dict[str, running.Outcome]) -> dict[str, str]:
    return {name: outcome.state for name, outcome in outcomes.items()}


def pretend(step: running.Step, content: str = "{}") -> None:
    """Leaves the files and the record of a run of the step that has ended well."""
    begin(step, "a run", dependencies(step))
    for file in [step.executed, *(outputs_folder(step.outputs) / name for name in step.writes)]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    finish(step, "done", 1.5)


SERVERS = ("resource_tracker", "forkserver")  # multiprocessing's, of the tests themselves


class Command:
    """run_all as a process of its own session, with what it prints in `log`."""

    def __init__(self, folder: Path, scheduler: str = ""):
        script, self.log = folder / "command.py", folder / f"log-{time.monotonic_ns()}.txt"
        script.write_text(
            "import sys; from pathlib import Path; import plans, tasks; from invoke import Exit\n"
            "@tasks.said_plainly\n"
            f"def run(): plans.run_all(Path({str(folder)!r}), jobs=2, scheduler={scheduler!r})\n"
            "if __name__ == '__main__':\n"
            "    try: run()\n"
            "    except Exit as end: print(end.message); sys.exit(end.code)\n"
        )
        paths = {"HANDWRITING_OUTPUTS": str(folder), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        self.process = psutil.Popen(
            [sys.executable, str(script)],
            cwd=ROOT,
            stdout=open(self.log, "w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | paths,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def wait_for(self, text: str, seconds: float = 300) -> None:
        """Waits until the log holds the text."""
        ends = time.monotonic() + seconds
        while text not in self.log.read_text():
            assert time.monotonic() < ends and self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)


def notebook_processes(folder: Path) -> list[psutil.Process]:
    """The processes that run notebooks for this folder, and those notebooks' kernels."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            own = process.ppid() == os.getpid() and any(kept in words for kept in SERVERS)
            if (
                process.environ().get("HANDWRITING_OUTPUTS") == str(folder)
                and process.status() != psutil.STATUS_ZOMBIE
                and not own
            ):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            pass
    return found


def wait_until_gone(folder: Path, seconds: float = 10, keep: tuple[int, ...] = ()) -> list[str]:
    """Command lines of the processes that are left after so long; empty once all are gone."""
    ends, left = time.monotonic() + seconds, [None]
    while left and time.monotonic() < ends:
        left = [process for process in notebook_processes(folder) if process.pid not in keep]
        time.sleep(0.1)
    return [" ".join(process.cmdline()) for process in left]


def results(folder: Path) -> list[dict]:
    """results.json of the small profile."""
    return json.loads((folder / "outputs/small/results.json").read_text())
