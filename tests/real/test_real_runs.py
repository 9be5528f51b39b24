"""The experiment on real handwriting: slower than the other tests, and needing the archive (see test_real_archive.py)."""

import json
import os
import subprocess
import sys

from lib.files import ROOT

ARCHIVE = os.path.join(
    os.environ.get("HANDWRITING_REAL") or ROOT.parent / "shared" / "data", "emnist-layout.zip"
)


def invoke(scratch, *arguments):
    """Runs a task with its results and caches below `scratch`; its results.json and what it printed."""
    environment = os.environ | {
        "HANDWRITING_OUTPUTS": str(scratch),
        "HANDWRITING_DATA": str(scratch / "data"),
    }
    command = [sys.executable, "-m", "invoke", *arguments, "--set", f"archive={ARCHIVE}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(next((scratch / "outputs").glob("*/results.json")).read_text())


def test_two_epochs_of_mnist_bring_the_custom_network_near_99_percent(tmp_path):
    (row,) = invoke(
        tmp_path,
        "run",
        "03",
        "--profile",
        "mnist",
        "--set",
        "networks=[custom]",
        "--set",
        "epochs=2",
    )
    assert row["test_accuracy"] > 0.987 and row["n_test"] == 10_000
    assert "not the official EMNIST archive" in row["note"]


SMALLER = {
    "networks": "[resnet,lenet,custom]",
    "seeds": "[0]",
    "epochs": "6",
    "batch_size": "128",
    "average": "0",
    "trial_images": "1000",
}


def test_every_notebook_runs_on_photographed_characters(tmp_path):
    settings = [part for key, value in SMALLER.items() for part in ("--set", f"{key}={value}")]
    results = invoke(tmp_path, "run-all", "--profile", "byclass", *settings)
    skew = json.loads((tmp_path / "outputs/byclass/findings/06-why-the-gap.json").read_text())[
        "skew"
    ]
    assert all(row["lost"] > 0.05 for row in skew), skew
    assert (tmp_path / "outputs/byclass/report/index.html").exists()
    assert sorted(row["network"] for row in results) == ["custom", "lenet", "resnet"]
    assert all(row["dataset"] != "EMNIST" and row["n_classes"] == 62 for row in results)
