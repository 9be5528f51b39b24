"""The menu: `invoke --list` shows it, `invoke --help NAME` explains one entry."""

import errno
import functools
import os
import subprocess
import sys

from invoke import Exit, task

from lib.menu.terminal import FilesTask

PROFILE = {"profile": "a file of params/, without .yml", "set": "key=value, as often as needed"}
PAGE = {"profile": PROFILE["profile"], "all": "with its large networks, too: a page of megabytes"}

RUNNING = {
    "jobs": "notebooks run at the same time; as many as the machine allows",
    "scheduler": "tcp://host:8786 of a dask cluster",
    "force": "run what is fresh as well",
}
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


def said_plainly(body):
    """A user's mistake ends a command with its one sentence and status 2, not with a traceback."""

    @functools.wraps(body)
    def wrapper(*args, **kwargs):
        from lib.errors import InputError

        try:
            return body(*args, **kwargs)
        except InputError as error:
            raise Exit(str(error), code=2) from None
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            raise Exit(
                f"{error.filename or 'A file'} cannot be written ({error.strerror}); free some "
                "space or change its permissions, and run the same command again: what has ended "
                "is kept.",
                code=2,
            ) from None
        except KeyboardInterrupt:
            raise Exit(
                "Stopped: what has ended is kept, and the same command continues from here.",
                code=130,
            ) from None

    return wrapper


@task(iterable=["set"], help=PROFILE | RUNNING)
@said_plainly
def run_all(c, profile="strokes", set=None, jobs="", scheduler="", force=False):
    """Run what has changed of a profile."""
    from lib.menu import commands

    commands.run_all(profile, set, jobs, scheduler, force)


@task(
    iterable=["set"],
    positional=["notebook"],
    help=PROFILE | RUNNING | {"notebook": "its name or number, such as 03"},
)
@said_plainly
def run(c, notebook, profile="strokes", set=None, jobs="", scheduler="", force=False):
    """Run one notebook: invoke run 03."""
    from lib.menu import commands

    commands.run_all(profile, set, jobs, scheduler, force, notebook)


@task(iterable=["set"], help=PROFILE)
@said_plainly
def status(c, profile="strokes", set=None):
    """Show what is fresh, what is not, and why."""
    from lib.menu import commands

    commands.status(profile, set)


@task(
    positional=["first", "second"],
    help={"first": "a profile, or a run such as strokes/custom-seed0", "second": "another"},
)
@said_plainly
def compare_runs(c, first, second):
    """Show what differs between two runs or profiles."""
    from lib.menu import commands

    commands.compare_runs(first, second)


@task(iterable=["set"], help=PROFILE)
@said_plainly
def report(c, profile="strokes", set=None):
    """Write a profile's results as a page to read."""
    from lib.menu import commands

    commands.report(profile, set)


@task(iterable=["set"], help=PROFILE)
@said_plainly
def data(c, profile="strokes", set=None):
    """Generate or download the characters, and check them."""
    from lib.menu import commands

    commands.describe_data(profile, set)


@task(
    klass=FilesTask,
    help={
        "files": "images of one character each",
        "network": "handwriting, strokes, or one that a profile trained, such as custom",
        "profile": "whose network; strokes if left out",
        "model": "a model.safetensors",
        "among": "what may be written there: 0-9, A-Z, letters, or a JSON file of frequencies",
        "coverage": "how often the set must hold the right answer",
        "json": "print JSON instead of a table",
    },
)
@said_plainly
def predict(c, files, network="", profile="", model="", coverage="0.95", among="", json=False):
    """Say what characters images show: invoke predict FILE..."""
    from lib.menu import answers

    answers.predict(files, network, profile, model, coverage, among, json)


@task
@said_plainly
def lab(c):
    """Open the notebooks in JupyterLab."""
    c.run(f'"{sys.executable}" -m jupyter lab notebooks', pty=sys.platform != "win32")


@task(help=PAGE)
@said_plainly
def page(c, profile="strokes", all=False):
    """Write one HTML file to draw on: no server, no network."""
    from lib.menu import commands

    commands.page(profile, all)


@task(help=PAGE)
@said_plainly
def demo(c, profile="strokes", all=False):
    """Write the page to draw on, and open it."""
    from lib.menu import commands

    commands.page(profile, all, show=True)


@task(help={"all": "also what needs minutes, a browser, or ../shared/data"})
@said_plainly
def test(c, all=False):
    """Run the tests and check the stored notebooks."""
    sys.exit(subprocess.run([sys.executable, "tests", *["--all"] * all]).returncode)


@task(help={"minutes": "how long", "seed": "the first one; else another one each time"})
@said_plainly
def fuzz(c, minutes="10", seed=""):
    """Try files that are damaged at random."""
    command = [sys.executable, "tests/faults", minutes, *[seed] * bool(seed)]
    sys.exit(subprocess.run(command).returncode)


@task(
    help={
        "archive": "EMNIST's, for the times to 99 % of MNIST and to 85 % of ByClass",
        "json": "print JSON instead of tables",
    }
)
@said_plainly
def bench(c, archive="", json=False):
    """Measure speeds against the usual libraries (15 minutes)."""
    options = ["--archive", os.path.abspath(archive)] * bool(archive) + ["--json"] * json
    command = [sys.executable, "-m", "bench", *options]
    sys.exit(subprocess.run(command, cwd="tests").returncode)


@task(
    help={
        "network": "a trained network of the profile, such as custom",
        "model": "a model.safetensors instead",
        "profile": PROFILE["profile"],
        "output": "the file to write, .onnx",
    }
)
@said_plainly
def export(c, network="", model="", profile="strokes", output=""):
    """Write a trained network as ONNX."""
    from lib.menu import commands

    commands.export(network, model, profile, output)


@task
@said_plainly
def refresh(c):
    """Make the reference results, and store the notebooks anew."""
    from lib.menu import storing

    storing.refresh()


@task(help={"network": "handwriting or strokes", "archive": "EMNIST's, which handwriting needs"})
@said_plainly
def pretrain(c, network="handwriting", archive=""):
    """Make a network of the repository anew (up to 1.5 hours)."""
    from lib.menu import storing

    storing.pretrain(network, archive)


@task
@said_plainly
def readme(c):
    """Write the README's numbers and picture."""
    from lib.report.readme import write_readme

    write_readme()


@task(help={"profile": "only this profile's results", "data": "cached and downloaded data as well"})
@said_plainly
def clean(c, profile="", data=False):
    """Delete results (and, with --data, cached data)."""
    from lib.menu import commands

    commands.clean(profile, data)
