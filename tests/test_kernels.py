"""Kernels that are forked from a warm process: the same as fresh ones, and never left behind."""

from contextlib import closing

import nbformat
import plans
import psutil
import pytest

from lib.running.notebook import NotebookProcess, run_step
from lib.running.plan import EXPLORE

pytestmark = pytest.mark.slow  # each test waits for processes
TRAINS = "from lib import training"  # what has the kernels start warm
SAME = [
    "import os, sys, torch, numpy as np, matplotlib.pyplot as plt, pandas as pd\n" + TRAINS,
    "sys.path, sys.argv[1::2], os.getcwd(), __name__, sys.warnoptions, torch.get_num_threads()",
    "sorted(set(os.environ) - {'JPY_PARENT_PID', 'KERNEL_ID'}), os.getpid() == os.getsid(0)",
    "torch.manual_seed(0); np.random.seed(0)",
    "torch.randn(500, 900) @ torch.randn(900, 1), pd.Series(np.random.randn(9)).std()",
    "plt.plot(np.random.rand(9));",
]


def process_with(folder, cards=""):
    """Kernels are fresh where a card is visible, and forked where none is."""
    return NotebookProcess(2, {"HANDWRITING_OUTPUTS": str(folder), "CUDA_VISIBLE_DEVICES": cards})


def outputs(folder, process, *code):
    """What the cells of a notebook leave, if it ends well."""
    plans.write(folder, EXPLORE, *code)
    step = plans.planned(folder)[0]
    outcome = run_step(step, process)
    assert outcome.state == "done", outcome.problem
    cells = nbformat.read(step.executed, as_version=4).cells[-len(code) :]
    shown = [output for cell in cells for output in cell.outputs if output.get("name") != "stderr"]
    return [output.get("data") or output.text for output in shown]


def test_a_forked_kernel_gives_what_a_fresh_one_gives(folder):
    left = []
    for cards in ("0", ""):
        with closing(process_with(folder, cards)) as process:
            left.append(outputs(folder, process, *SAME))
    assert left[0] == left[1] and "image/png" in left[1][-1]


def test_forked_kernels_draw_different_random_numbers(folder):
    code = TRAINS + "\nimport random, torch, numpy as np"
    draw = "print(random.random(), np.random.rand(), torch.rand(1))"
    with closing(process_with(folder)) as process:
        first, second = (outputs(folder, process, code, draw)[0].split() for _ in range(2))
    assert all(one != other for one, other in zip(first, second))


def test_the_process_that_is_forked_has_computed_nothing_and_has_one_thread(folder):
    with closing(NotebookProcess(1, {"HANDWRITING_OUTPUTS": str(folder)})) as process:
        outputs(folder, process, TRAINS)
        family = psutil.Process(process.process.pid).children(recursive=True)
        server = next(one for one in family if "forkserver" in " ".join(one.cmdline()))
        assert server.num_threads() == 1


def test_nothing_is_left_of_a_notebook_whose_process_is_killed(folder):
    process = process_with(folder)
    plans.write(folder, EXPLORE, TRAINS, "import time; print('now', flush=True); time.sleep(60)")
    process.send(plans.planned(folder)[0])
    while "printed" not in process.events.get(timeout=90):
        pass
    assert len(plans.notebook_processes(folder)) >= 3  # the process, the fork server, the kernel
    process.process.kill()
    assert plans.wait_until_gone(folder) == []


@pytest.mark.parametrize("cards", ["", "0"])
def test_a_kernel_that_dies_is_a_failure_and_the_next_one_runs(folder, cards):
    with closing(process_with(folder, cards)) as process:
        plans.write(folder, EXPLORE, TRAINS, "import os; os.kill(os.getpid(), 9)")
        outcome = run_step(plans.planned(folder)[0], process)
        assert outcome.problem.startswith("DeadKernelError: Kernel died; perhaps the memory")
        assert outputs(folder, process, "print('well')") == ["well\n"]


def test_no_kernel_warns_of_open_ports(folder):
    with closing(process_with(folder)) as process:
        outputs(folder, process, "1 + 1")
        process.errors.seek(0)
        assert "TCP" not in process.errors.read()
