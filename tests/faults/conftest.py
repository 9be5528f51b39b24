"""What holds for every fault test: little memory, nothing left behind; and how much was tried."""

import json
import resource
from collections import Counter
from contextlib import suppress

import hostile
import plans
import psutil
import pytest

MOST = 1024 * 1024  # kilobytes that an input may take, beside what the process holds
totals = {"inputs": Counter(), "memory": 0}


def highest() -> int:
    """Kilobytes that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def is_left(process: psutil.Process) -> bool:
    """Whether it still runs, and is none of multiprocessing's own."""
    with suppress(psutil.NoSuchProcess):
        words = " ".join(process.cmdline())
        alive = process.status() != psutil.STATUS_ZOMBIE
        return alive and not any(kept in words for kept in plans.SERVERS)
    return False


@pytest.fixture(autouse=True)
def nothing_left(tmp_path_factory):
    before = highest()
    yield
    hostile.MEMORY[0] = max(hostile.MEMORY[0], highest() - before)
    assert highest() - before < MOST
    assert [*filter(is_left, psutil.Process().children(recursive=True))] == []
    assert [*tmp_path_factory.getbasetemp().rglob("*.part*")] == []


def pytest_sessionfinish(session):
    own = {"inputs": dict(hostile.COUNTS), "memory": hostile.MEMORY[0]}
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tried"] = own
    else:
        add(own)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    add(getattr(node, "workeroutput", {}).get("tried", {"inputs": {}, "memory": 0}))


def add(own: dict) -> None:
    totals["inputs"].update(own["inputs"])
    totals["memory"] = max(totals["memory"], own["memory"])


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"tried: {json.dumps(totals)}")
