"""Whoever is killed, whenever: the same command then ends well, and nothing is left behind."""

import errno
import os
import random
import signal
import time
from itertools import product

import hostile
import plans
import psutil
import pytest

from lib.errors import InputError
from lib.files import RESULTS

pytestmark = pytest.mark.slow
WHO = {  # a word of its command line
    "command": "command.py",
    "worker": "spawn_main",
    "notebook process": "execute.main()",
    "kernel": "ipykernel",
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What results.json holds where nobody was killed."""
    home = tmp_path_factory.mktemp("whole")
    plans.write_all(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HANDWRITING_OUTPUTS", str(home))
        plans.run_all(home, jobs=2)
        yield (home / "outputs/small" / RESULTS).read_bytes()


def left_over(folder):
    """Half-written files below a folder."""
    return [path for path in folder.rglob("*") if ".part" in path.name]


def slowed(folder):
    """Notebooks that take a while, so that a kill meets them at work."""
    for name in plans.CHAPTERS:
        plans.write(folder, name, "import time\ntime.sleep(1.5)")


SAMPLE = [("notebook process", signal.SIGKILL, 0), ("kernel", signal.SIGTERM, 0)]
EVERY = [*product(WHO, [signal.SIGTERM, signal.SIGKILL], range(5))]


@pytest.mark.parametrize(("who", "sent", "moment"), EVERY if hostile.EXAMPLES else SAMPLE)
def test_the_same_command_ends_well_after_a_kill(who, sent, moment, folder, expected):
    hostile.COUNTS["kills"] += 1
    slowed(folder)
    command = plans.Command(folder)
    command.wait_for("started")
    time.sleep(random.Random(f"{who} {sent} {moment}").uniform(0, 8))
    victims = [command.process] if who == "command" else found(folder, WHO[who])
    if victims:
        random.Random(moment).choice(victims).send_signal(sent)
    command.process.wait(120)
    assert plans.wait_until_gone(folder) == []
    again = plans.run_all(folder, jobs=2)
    assert set(again.values()) <= {"done", "fresh"}, again
    assert (folder / "outputs/small" / RESULTS).read_bytes() == expected
    assert left_over(folder) == [] and plans.wait_until_gone(folder, keep=(os.getpid(),)) == []


def found(folder, word):
    """The processes of a command whose command line holds the word."""
    processes = []
    for process in plans.notebook_processes(folder):
        try:
            if any(word in part for part in process.cmdline()):
                processes.append(process)
        except psutil.NoSuchProcess:
            pass
    return processes


def test_a_full_disk_at_any_write_loses_nothing(folder, expected, monkeypatch):
    """SQLite's way: the n-th write of the command fails, for every n, until none does."""
    real, fails_at, written = os.fsync, 0, 0

    def fsync(file):
        nonlocal written
        written += 1
        if written == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    while fails_at < 40:
        fails_at, written = fails_at + (1 if hostile.EXAMPLES else 4), 0
        hostile.COUNTS["full disks"] += 1
        try:
            plans.run_all(folder, jobs=1, force=True)
        except InputError as error:
            hostile.one_sentence(error)
        assert left_over(folder) == []
        if written < fails_at:
            break
    monkeypatch.setattr(os, "fsync", real)
    assert set(plans.run_all(folder, jobs=1).values()) <= {"done", "fresh"}
    assert (folder / "outputs/small" / RESULTS).read_bytes() == expected
