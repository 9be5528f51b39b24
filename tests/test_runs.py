import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from lib import files, runs
from lib.errors import InputError
from lib.networks import Preparation, PreparedNetwork, make_network


@pytest.fixture
def model():
    torch.manual_seed(0)
    return PreparedNetwork(make_network("custom", 3), Preparation(40, 80)).eval()


def save(folder, model):
    probabilities = np.full((4, 3), 1 / 3)
    runs.save_run(folder, model, {"network": "custom", "test_accuracy": 0.5}, pd.DataFrame({"epoch": [1]}),
                  dict.fromkeys(["valid", "test"], (np.array([0, 1, 2, 0]), probabilities)), ["a", "b", "ß"])


def test_a_run_leaves_four_files_and_nothing_half_written(tmp_path, model):
    save(tmp_path / "run", model)
    files = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert files == ["history.csv", "metrics.json", "model.safetensors", "predictions.npz"]


def test_a_model_answers_the_same_after_loading(tmp_path, model):
    save(tmp_path, model)
    loaded, class_names = runs.load_model(tmp_path / files.MODEL)
    images = torch.randint(0, 256, (5, 28, 28), dtype=torch.uint8)
    assert torch.equal(loaded(images), model(images)) and class_names == ["a", "b", "ß"]


def test_the_same_weights_give_the_same_file_in_every_process(tmp_path):
    code = ("import sys; from pathlib import Path; from lib.networks import Preparation, PreparedNetwork, make_network; from lib.runs import save_model\n"
            "import torch; torch.manual_seed(0); save_model(Path(sys.argv[1]), PreparedNetwork(make_network('custom', 3), Preparation()), 'custom', list('abc'))")
    paths = [tmp_path / name for name in "123"]
    for path in paths:
        subprocess.run([sys.executable, "-c", code, str(path)], cwd=files.ROOT, check=True)
    assert len({path.read_bytes() for path in paths}) == 1


def test_predictions_hold_actual_labels_and_probabilities_of_both_parts(tmp_path, model):
    save(tmp_path, model)
    for part in ("valid", "test"):
        actual, probabilities = runs.read_predictions(tmp_path, part)
        assert actual.tolist() == [0, 1, 2, 0] and probabilities.shape == (4, 3)


def test_a_run_counts_as_complete_only_with_its_metrics(tmp_path, model):
    save(tmp_path / "whole", model)
    save(tmp_path / "half", model)
    (tmp_path / "half" / files.METRICS).unlink()
    assert files.complete_runs(tmp_path) == [tmp_path / "whole"]


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x04pickle"])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="model.safetensors is not a model of this project"):
        runs.load_model(tmp_path / "model.safetensors")


def test_a_model_that_was_cut_short_is_refused(tmp_path, model):
    save(tmp_path, model)
    file = tmp_path / files.MODEL
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged"):
        runs.load_model(file)


def test_a_failed_write_leaves_the_old_file_whole(tmp_path):
    files.write_json(tmp_path / "a.json", [1])
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "a.json", [1, object()])
    assert files.read_json(tmp_path / "a.json") == [1] and len(list(tmp_path.iterdir())) == 1


def test_damaged_json_names_its_file(tmp_path):
    (tmp_path / "a.json").write_text("[1,")
    with pytest.raises(InputError, match="a.json is damaged"):
        files.read_json(tmp_path / "a.json")


def test_missing_json_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match="run the training notebook first"):
        files.read_json(tmp_path / "a.json")


def test_a_value_outside_of_its_band_fails():
    with pytest.raises(AssertionError, match="0.5000 lies outside of 0.6 to 0.8"):
        runs.check_band("accuracy", 0.5, (0.6, 0.8))


def test_a_value_inside_of_its_band_is_not_printed():
    assert runs.check_band("accuracy", 0.7123, (0.6, 0.8)) == "accuracy lies within 0.6 to 0.8"
