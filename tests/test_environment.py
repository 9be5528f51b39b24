import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from lib.files import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]


def test_every_direct_dependency_is_pinned_exactly():
    everything = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]
    assert [line for line in everything if not re.fullmatch(r"[A-Za-z0-9-]+==[0-9.]+", line)] == []


def test_conda_installs_the_package_and_the_same_test_tools():
    pip = next(entry["pip"] for entry in CONDA if isinstance(entry, dict))
    assert pip == ["-e .", *PROJECT["dependency-groups"]["dev"]]


def test_conda_installs_a_python_that_the_package_accepts():
    python = next(entry for entry in CONDA if str(entry).startswith("python="))
    assert tuple(map(int, python.removeprefix("python=").split("."))) >= (3, 11)
    assert PROJECT["project"]["requires-python"].startswith(">=3.11")


def test_lib_is_not_ignored_by_git():
    ignored = subprocess.run(
        ["git", "check-ignore", "lib/data/load.py"], cwd=ROOT, capture_output=True
    )
    assert ignored.returncode != 0


@pytest.mark.parametrize(
    "module",
    ["lib.data.strokes", "lib.data", "lib.networks", "lib.params", "lib.reading.recogniser"],
)
def test_a_module_without_training_in_it_does_not_load_fastai(module):
    code = f"import sys, {module}; sys.exit('fastai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_prediction_does_not_load_pandas():
    code = "import sys, lib.reading.recogniser; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
