"""What holds for every fault test: little memory, nothing left behind; and how much was tried."""

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

import hostile
import plans
import psutil
import pytest

MOST = 1024 * 1024  # kilobytes that the inputs of a test may take, beside what the process holds
FORGET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")  # of Linux; "5": forget
totals = {"inputs": Counter(), "memory": 0}


def held(at_most: bool) -> int:
    """Kilobytes that this process holds, or has held `at_most` since that was last forgotten."""
    key = "VmHWM" if at_most else "VmRSS"
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0)


def is_left(process: psutil.Process) -> bool:
    """Whether it still runs, and is none of multiprocessing's own."""
    with suppress(psutil.NoSuchProcess):
        words = " ".join(process.cmdline())
        alive = process.status() != psutil.STATUS_ZOMBIE
        return alive and not any(kept in words for kept in plans.SERVERS)
    return False


@pytest.fixture(autouse=True)
def nothing_left(tmp_path_factory):
    if FORGET.exists():
        FORGET.write_text("5")
    before = held(at_most=False)
    yield
    taken = held(at_most=True) - before
    hostile.MEMORY[0] = max(hostile.MEMORY[0], taken)
    assert taken < MOST
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
