"""Taking turns, times and peak memory."""

import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, get_start_method, set_start_method
from pathlib import Path

from lib.errors import InputError


def own_process() -> ProcessPoolExecutor:
    """One process that starts bare and stays for all its calls; its workers start as a script's."""
    return ProcessPoolExecutor(1, get_context("spawn"), start_workers_by, (get_start_method(),))


def start_workers_by(method: str) -> None:
    """Has this process start its workers so: those of a bare one start bare, in seconds."""
    set_start_method(method, force=True)


def in_turn(repeats: int, contestants: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The median of each contestant's numbers, taken one after the other so many times."""
    found = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, measure in contestants.items():
            found[name].append(measure())
    return {name: statistics.median(values) for name, values in found.items()}


def timed(action: Callable) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def peak_memory() -> int:
    """The most bytes that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: getrusage would tell of the parent as well
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024
    try:
        import resource
    except ImportError:
        raise InputError(
            "invoke bench reads its peak memory as Linux and macOS tell it; it cannot run here."
        ) from None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def settle() -> None:
    """Waits until a graphics card has done what it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def epoch_rate(learner) -> float:
    """Images per second of one epoch of training, without its validation."""
    from fastai.callback.core import Callback

    class Clock(Callback):
        def before_train(self):
            self.seconds = -time.perf_counter()

        def after_train(self):
            settle()
            self.seconds += time.perf_counter()

    clock = Clock()
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(1, 1e-3, cbs=clock)
    return len(learner.dls.train) * learner.dls.train.bs / clock.seconds


def spread(values) -> dict:
    """Median, lowest and highest."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
