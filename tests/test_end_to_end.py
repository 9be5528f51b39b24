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


def run_all(folder, profile, *settings):
    """What `run-all` prints for a profile, and leaves in a folder."""
    places = {"HANDWRITING_OUTPUTS": str(folder), "HANDWRITING_DATA": str(folder / "data")}
    command = [sys.executable, "-m", "invoke", "run-all", "--profile", profile]
    command += [word for setting in settings for word in ("--set", setting)]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | places, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What `run-all --profile folder` printed and left, twice."""
    folder, rng = tmp_path_factory.mktemp("whole"), np.random.default_rng(0)
    for kind in ("bar", "ring", "cross"):
        for number in range(12):
            draw(folder / "letters" / kind / f"{number}.png", kind, rng)
    settings = [f"folder={folder / 'letters'}", "networks=[custom]", "epochs=6", "batch_size=8"]
    runs = [run_all(folder, "folder", *settings) for _ in range(2)]
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


@pytest.mark.slow
def test_the_default_profile_goes_through_with_one_seed_and_little_to_learn_from(tmp_path):
    little = ["networks=[custom]", "per_class=20", "test_per_class=5", "epochs=1"]
    done = run_all(tmp_path, "strokes", *little, "learning_rate=0.01")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "07-transfer-learning: done" in done.stdout
