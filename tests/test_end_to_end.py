"""The whole of it on next to nothing: a folder of easy images, from run-all to its report."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lib.files import ROOT


def draw(path, kind, rng):
    """A bar, a ring or a cross on paper, a little elsewhere each time: easy to tell apart."""
    picture, (row, column) = np.full((40, 40), 245, np.uint8), rng.integers(-2, 3, 2)
    y, x = np.mgrid[:40, :40] - 20
    y, x = y - row, x - column
    ink = {
        "bar": (abs(x) < 3) & (abs(y) < 12),
        "ring": abs(np.hypot(x, y) - 9) < 2,
        "cross": ((abs(x) < 2) | (abs(y) < 2)) & (np.maximum(abs(x), abs(y)) < 11),
    }
    picture[ink[kind]] = 20
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What `run-all --profile folder` printed and left, twice."""
    folder, rng = tmp_path_factory.mktemp("whole"), np.random.default_rng(0)
    for kind in ("bar", "ring", "cross"):
        for number in range(12):
            draw(folder / "letters" / kind / f"{number}.png", kind, rng)
    environment = os.environ | {
        "HANDWRITING_OUTPUTS": str(folder),
        "HANDWRITING_DATA": str(folder / "data"),
    }
    settings = [f"folder={folder / 'letters'}", "networks=[custom]", "epochs=6", "batch_size=8"]
    command = [sys.executable, "-m", "invoke", "run-all", "--profile", "folder"]
    command += [word for setting in settings for word in ("--set", setting)]
    runs = [
        subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        for _ in range(2)
    ]
    return folder / "outputs" / "folder", runs


def test_three_easy_classes_go_through_to_the_report(ran):
    outputs, (first, _) = ran
    assert first.returncode == 0, first.stdout + first.stderr
    assert (outputs / "report" / "index.html").stat().st_size > 10_000
    row = json.loads((outputs / "results.json").read_text())[0]
    assert row["run"] == "custom-seed0" and row["studies"] == ["networks"]


def test_executed_notebooks_do_not_say_where_the_repository_lies(ran):
    outputs, _ = ran
    executed = [path.read_text() for path in outputs.glob("notebooks/*.ipynb")]
    assert len(executed) > 5 and not any(f'"{ROOT}/' in text for text in executed)


def test_the_paths_come_last(ran):
    _, (first, _) = ran
    assert first.stdout.strip().splitlines()[-1].startswith("report, to open in a browser: ")


def test_the_second_time_nothing_is_run(ran):
    _, (_, second) = ran
    assert "nothing has changed" in second.stdout and second.returncode == 0
