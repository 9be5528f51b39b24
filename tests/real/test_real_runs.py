"""The experiment on real handwriting, which needs the archive that test_real_archive.py names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib.files import ROOT

REAL = Path(os.environ.get("HANDWRITING_REAL") or ROOT.parent / "shared" / "data")
ARCHIVE = REAL / "emnist-layout.zip"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ARCHIVE.exists(), reason="the archive is not here"),
]


def invoke(scratch, *arguments, **settings):
    """Runs a task with its results and caches below `scratch`; the content of results.json."""
    paths = {"HANDWRITING_OUTPUTS": str(scratch), "HANDWRITING_DATA": str(scratch / "data")}
    settings |= {"archive": ARCHIVE}
    said = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "invoke", *arguments, *said]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | paths, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(next((scratch / "outputs").glob("*/results.json")).read_text())


def test_two_epochs_of_mnist_bring_the_custom_network_near_99_percent(tmp_path):
    settings = {"networks": "[custom]", "seeds": "[0]", "epochs": 2}
    (row,) = invoke(tmp_path, "run", "03", "--profile", "mnist", **settings)
    assert row["test_accuracy"] > 0.987 and row["n_test"] == 10_000
    assert "not the official EMNIST archive" in row["note"]


def test_every_notebook_runs_on_photographed_characters(tmp_path):
    settings = {"networks": "[resnet,lenet,custom]", "seeds": "[0]", "epochs": 6}
    settings |= {"batch_size": 128, "average": 0}
    results = invoke(tmp_path, "run-all", "--profile", "byclass", **settings)
    assert (tmp_path / "outputs/byclass/report/index.html").exists()
    assert sorted(row["network"] for row in results) == ["custom", "lenet", "resnet"]
    assert all(row["dataset"] != "EMNIST" and row["n_classes"] == 62 for row in results)
