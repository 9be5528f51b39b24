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


def test_every_room_is_part_of_the_package():
    rooms = {path.parent.name for path in (ROOT / "lib").glob("*/__init__.py")}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == {"lib", *(f"lib.{r}" for r in rooms)}


def test_conda_installs_the_package_and_the_same_test_tools():
    pip = next(entry["pip"] for entry in CONDA if isinstance(entry, dict))
    assert pip == ["-e .", *PROJECT["dependency-groups"]["dev"]]


def test_conda_installs_a_python_that_the_package_accepts():
    python = next(entry for entry in CONDA if str(entry).startswith("python="))
    assert tuple(map(int, python.removeprefix("python=").split("."))) >= (3, 11)
    assert PROJECT["project"]["requires-python"].startswith(">=3.11")


def test_lib_is_not_ignored_by_git():
    command = ["git", "check-ignore", "lib/data/load.py"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode != 0


@pytest.mark.parametrize(
    ("modules", "spared"),
    [
        ("lib.data, lib.params, lib.networks", "fastai pandas seaborn sklearn"),
        ("lib.reading", "fastai pandas seaborn sklearn"),
        ("lib.data.strokes", "fastai pandas"),
    ],
)
def test_a_door_does_not_load_what_only_others_need(modules, spared):
    code = f"import sys, {modules}; print([m for m in {spared.split()} if m in sys.modules])"
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
