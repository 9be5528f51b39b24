import os
import shutil
import sys
from contextlib import suppress

import plans
import psutil
import pytest
from invoke.main import program

from lib.files import ROOT


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder of the test's own, so that nothing is read from or left in the user's."""
    monkeypatch.setenv("HANDWRITING_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of tiny notebooks in place of the real ones, and of their results."""
    plans.write_all(tmp_path)
    monkeypatch.setenv("HANDWRITING_OUTPUTS", str(tmp_path))
    yield tmp_path
    for process in plans.notebook_processes(tmp_path):
        with suppress(psutil.NoSuchProcess):
            process.kill()  # of a test that has failed


@pytest.fixture
def menu(monkeypatch, capsys):
    """Gives a command to invoke, in this process: its status, what it printed, its complaints."""

    def given(*words):
        words = ["invoke", *map(str, words)]
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.chdir(ROOT)
        with pytest.raises(SystemExit) as ended:
            program.run(words)
        return ended.value.code, *capsys.readouterr()

    return given


@pytest.fixture(scope="module")
def browser():
    """Chromium; where CI is set, a missing one is a failure, and elsewhere a skip."""
    from playwright.sync_api import sync_playwright  # here: few modules need it

    found = next(
        filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None
    )
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "There is no Chromium to open pages in."
        )
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()
