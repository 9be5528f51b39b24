"""Five tiny notebooks in place of the real ones, and the running of their plan by a process that can be killed."""

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

from lib.files import ROOT
from lib.running import plan as pipeline

ANALYSE = ["04-compare", "05-confusions"]  # two are enough, and quicker
PARAMETERS = 'outputs: str = "outputs/small"  # where'
TRAINING = 'network: str = "custom"\nseed: int = 0\nschedule: str = "one_cycle"\nepochs: int = 4\noutputs: str = "outputs/small"'
LEAVE_METRICS = """import json
from lib import files
folder = files.outputs_folder(outputs) / files.run_name(network, schedule, seed)
folder.mkdir(parents=True, exist_ok=True)
(folder / 'metrics.json').write_text(json.dumps({'network': network, 'schedule': schedule, 'seed': seed, 'epochs_run': epochs, 'n_test': 9,
    'dataset': 'none', 'split': '', 'train_accuracy': 1, 'valid_accuracy': 1, 'test_accuracy': seed / 9, 'seconds': 1}))"""
SLOW = "import time\nfor i in range(100):\n    print('step', i, flush=True)\n    time.sleep(0.2)"
SETTINGS = ["networks=[lenet,custom]", "learning_rate=0.01"]


def write(folder: Path, name: str, *code: str, prose: str = "About this notebook.") -> None:
    """Writes a notebook of that name."""
    asked = (
        TRAINING
        if name == pipeline.TRAIN
        else PARAMETERS + "\nseeds: list = [0]  # which" * (name in ANALYSE)
    )
    parameters = new_code_cell(asked, metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [new_markdown_cell(prose), parameters, *map(new_code_cell, code)]
    nbformat.write(new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb")


def write_all(folder: Path) -> None:
    """Notebooks that do next to nothing; the training one leaves metrics."""
    for name in [pipeline.EXPLORE, pipeline.FIND, *ANALYSE]:
        write(folder, name, "1 + 1")
    write(folder, pipeline.TRAIN, LEAVE_METRICS)


class Command:
    """run-all on the notebooks of a folder, as a process of its own session, with what it prints in `log`."""

    def __init__(self, folder: Path, *arguments: str):
        code = (
            "import sys; from pathlib import Path; from lib import commands, pipeline; import tasks; from invoke import Exit\n"
            f"pipeline.NOTEBOOKS = Path({str(folder)!r}); pipeline.ANALYSE = {ANALYSE}; commands.report = print\n"
            "run = tasks.said_plainly(lambda: commands.run_all('small', sys.argv[3:], sys.argv[1], sys.argv[2], False))\n"
            "try: run()\nexcept Exit as end: print(end.message); sys.exit(end.code)"
        )
        self.log = folder / f"log-{time.monotonic_ns()}.txt"
        script = folder / "command.py"
        script.write_text(
            f"if __name__ == '__main__':\n    {code.replace(chr(10), chr(10) + '    ')}\n"
        )
        self.process = psutil.Popen(
            [sys.executable, str(script), *(arguments or ("2", "")), *SETTINGS],
            cwd=ROOT,
            stdout=open(self.log, "w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"HANDWRITING_OUTPUTS": str(folder), "PYTHONPATH": str(ROOT)},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def wait_for(self, text: str, seconds: float = 90) -> None:
        """Waits until the log holds the text."""
        ends = time.monotonic() + seconds
        while text not in self.log.read_text():
            assert time.monotonic() < ends and self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)


def notebook_processes(folder: Path) -> list[psutil.Process]:
    """The processes that run notebooks for a command of this folder, or for its workers, and those notebooks' kernels."""
    found = []
    for process in psutil.process_iter():
        try:
            own = process.ppid() == os.getpid() and "resource_tracker" in " ".join(
                process.cmdline()
            )  # Python's, of the tests themselves
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
    """Command lines of the processes that are still there after so long; empty as soon as all are gone."""
    ends, left = time.monotonic() + seconds, [None]
    while left and time.monotonic() < ends:
        left = [process for process in notebook_processes(folder) if process.pid not in keep]
        time.sleep(0.1)
    return [" ".join(process.cmdline()) for process in left]


def results(folder: Path) -> list[dict]:
    """results.json of the small profile."""
    return json.loads((folder / "outputs/small/results.json").read_text())
