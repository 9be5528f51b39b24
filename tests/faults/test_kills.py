"""Whoever is killed, whenever: the same command then ends well, and nothing is left behind."""

import errno
import os
import random
import signal
import time
from contextlib import suppress
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


@pytest.mark.parametrize(("who", "sent", "moment"), EVERY if hostile.FUZZ else SAMPLE)
def test_the_same_command_ends_well_after_a_kill(who, sent, moment, folder, expected):
    slowed(folder)
    command = plans.Command(folder)
    command.wait_for("started")
    time.sleep(random.Random(f"{hostile.FUZZ} {who} {sent} {moment}").uniform(0, 8))
    while not (victims := found(folder, WHO[who])) and command.process.poll() is None:
        time.sleep(0.05)
    hostile.COUNTS["kills" if victims else "kills too late"] += 1
    assert victims or hostile.FUZZ, f"there was no {who} to kill"
    for victim in victims[:1]:
        with suppress(psutil.NoSuchProcess):
            victim.send_signal(sent)
    command.process.wait(120)
    assert plans.wait_until_gone(folder) == []
    again = plans.run_all(folder, jobs=2)
    assert set(again.values()) <= {"done", "fresh"}, again
    assert (folder / "outputs/small" / RESULTS).read_bytes() == expected
    assert plans.wait_until_gone(folder, keep=(os.getpid(),)) == []


def found(folder, word):
    """The processes of a command whose command line holds the word, in random order."""
    processes = []
    for process in plans.notebook_processes(folder):
        with suppress(psutil.NoSuchProcess):
            if any(word in part for part in process.cmdline()):
                processes.append(process)
    return random.Random(hostile.FUZZ).sample(processes, len(processes))


def test_a_full_disk_at_any_write_loses_nothing(folder, expected, monkeypatch):
    """SQLite's way: the n-th write of this process fails, for every n (in the sample a fourth)."""
    real, written = os.fsync, []

    def fsync(file):
        written.append(file)
        if len(written) == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    for fails_at in range(1, 100, 1 if hostile.FUZZ else 4):
        hostile.COUNTS["full disks"] += 1
        written.clear()
        try:
            plans.run_all(folder, jobs=1, force=True)
        except InputError as error:
            hostile.one_sentence(error)
        assert left_over(folder) == []
        if len(written) < fails_at:
            break
    else:
        pytest.fail("the command writes more than a hundred times")
    monkeypatch.setattr(os, "fsync", real)
    assert set(plans.run_all(folder, jobs=1).values()) <= {"done", "fresh"}
    assert (folder / "outputs/small" / RESULTS).read_bytes() == expected
