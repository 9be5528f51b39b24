"""Which model file is meant, and that looking for one costs little."""

import subprocess
import sys

import pytest

from lib.errors import InputError
from lib.files import MODEL, ROOT
from lib.reading import find_model
from lib.reading.models import SHIPPED, first_models


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("HANDWRITING_OUTPUTS", str(tmp_path))
    return tmp_path / "outputs" / "small"


def keep_models(outputs, *runs):
    for run in runs:
        (outputs / run).mkdir(parents=True)
        (outputs / run / MODEL).touch()


@pytest.mark.parametrize(
    "network, found",
    [
        ("custom", "custom-seed2"),
        ("custom-seed10", "custom-seed10"),
        ("custom-seed0-epochs=3", "custom-seed0-epochs=3"),
        ("resnet18-56", "resnet18-56-seed1"),
    ],
)
def test_a_network_is_found_by_its_name_and_any_run_by_its_folders(outputs, network, found):
    runs = ["custom-seed10", "custom-seed2", "custom-seed0-epochs=3", "resnet18-56-seed1"]
    keep_models(outputs, *runs, "custom-seed0-start=a-seed1", "resnet18-seed3")
    assert find_model(network, "", "small") == outputs / found / MODEL


def test_a_run_that_keeps_labels_alone_is_passed_over(outputs):
    keep_models(outputs, "custom-seed1")
    (outputs / "custom-seed0").mkdir()
    assert first_models(outputs) == {"custom": outputs / "custom-seed1" / MODEL}
    with pytest.raises(InputError, match="only custom;"):
        find_model("custom-seed0", "", "small")


def test_a_network_that_was_not_trained_names_those_that_were(outputs):
    keep_models(outputs, "lenet-seed0", "custom-seed0", "custom-seed1")
    said = r"^Profile small has no trained network 'cust', only custom, lenet; train it with .*\.$"
    with pytest.raises(InputError, match=said):
        find_model("cust", "", "small")


def test_a_model_is_the_file_given_or_the_repository_s_own(tmp_path):
    (tmp_path / "mine.safetensors").touch()
    given = str(tmp_path / "mine.safetensors")
    assert find_model("", given, "small") == tmp_path / "mine.safetensors"
    assert find_model("", "", "small") == SHIPPED["handwriting"]
    assert find_model("strokes", "", "small") == SHIPPED["strokes"]


@pytest.mark.parametrize(
    "asked, said",
    [
        (("custom", "a.safetensors", "small"), "give one of them"),
        (("", "no.safetensors", "small"), "no model file no.safe"),
        (("", "lib", "small"), "no model file lib"),
        (("custom", "", "smal"), "did you mean 'small'"),
        (("custom", "", "small"), "nor any other"),
    ],
)
def test_a_model_that_is_not_there_costs_one_sentence(outputs, asked, said):
    with pytest.raises(InputError, match=said):
        find_model(*asked)


@pytest.mark.parametrize("module", ["lib.reading", "lib.reading.page"])
def test_whoever_only_predicts_waits_for_no_library_of_training_or_figures(module):
    slow = {"fastai", "pandas", "seaborn", "sklearn"}
    code = f"import sys, {module}; print(*{slow} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "")
