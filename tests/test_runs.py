"""The files that a run leaves, and model files that are refused."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from lib import files, models, runs
from lib.errors import InputError
from lib.networks import Preparation, PreparedNetwork, make_network

IMAGES = torch.randint(0, 256, (5, 28, 28), dtype=torch.uint8)
LABELS, ANSWERS = np.array([0, 1, 2, 0]), np.eye(3)[[0, 1, 1, 2]]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return PreparedNetwork(make_network("custom", 3), Preparation(40, 80)).eval()


def save(folder, model, keep="all"):
    metrics = {"network": "custom", "test_accuracy": 0.5, "keep": keep}
    predictions = dict.fromkeys(["valid", "test"], (LABELS, ANSWERS))
    history, names = pd.DataFrame({"epoch": [1]}), ["a", "b", "ß"]
    calibration = models.UNCALIBRATED
    runs.save_run(folder, model, metrics, history, predictions, names, calibration)


def test_a_run_leaves_four_files_and_no_checkpoint(tmp_path, model):
    (tmp_path / files.CHECKPOINT).touch()
    save(tmp_path, model)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {files.HISTORY, files.METRICS, files.MODEL, files.PREDICTIONS}


def test_a_run_that_keeps_labels_leaves_no_model_and_no_probabilities(tmp_path, model):
    save(tmp_path, model)
    save(tmp_path, model, keep="labels")
    assert not (tmp_path / files.MODEL).exists()
    actual, predicted = runs.read_answers(tmp_path)
    assert actual.tolist() == [0, 1, 2, 0] and predicted.tolist() == [0, 1, 1, 2]
    with pytest.raises(InputError, match="does not hold test_probabilities; run the training"):
        runs.read_predictions(tmp_path)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_predictions_hold_labels_and_probabilities_of_both_parts(tmp_path, model, part):
    save(tmp_path, model)
    actual, probabilities = runs.read_predictions(tmp_path, part)
    assert actual.tolist() == [0, 1, 2, 0] and np.array_equal(probabilities, ANSWERS)
    assert runs.read_answers(tmp_path, part)[1].tolist() == [0, 1, 1, 2]


def test_each_seed_has_the_images_that_its_run_reads(tmp_path):
    for run, predicted in {"a": [0, 1, 1], "b": [2, 1, 2]}.items():
        arrays = {"test_actual": [0, 1, 2], "test_predicted": predicted}
        (tmp_path / run).mkdir()
        np.savez(tmp_path / run / files.PREDICTIONS, **arrays)
    right = runs.right_by_seed(str(tmp_path), pd.DataFrame({"seed": [3, 5], "run": ["a", "b"]}))
    assert right[3].tolist() == [True, True, False] and right[5].tolist() == [False, True, True]


def test_a_model_answers_after_loading_exactly_as_the_rounded_one(tmp_path, model):
    exact = model(IMAGES)
    models.round_weights(model)
    save(tmp_path, model)
    loaded, class_names = models.load_model(tmp_path / files.MODEL)
    assert torch.equal(loaded(IMAGES), model(IMAGES)) and class_names == ["a", "b", "ß"]
    assert not torch.equal(model(IMAGES), exact)


def test_a_model_file_holds_kernels_and_matrices_in_half_precision(tmp_path, model):
    save(tmp_path, model)
    weights = load_file(tmp_path / files.MODEL)
    assert weights["network.features.0.weight"].dtype == torch.float16
    assert weights["network.features.0.bias"].dtype == torch.float32
    assert weights["preparation.mean"].dtype == torch.float32


def test_weights_in_8_bits_are_kept_so_and_answer_exactly_as_the_rounded_ones(tmp_path, model):
    models.round_weights(model, bits=8)
    save(tmp_path, model)
    weights = load_file(tmp_path / files.MODEL)
    assert weights["network.features.0.weight"].dtype == torch.int8
    assert weights["network.features.0.weight" + models.STEPS].shape == (32,)
    loaded, _ = models.load_model(tmp_path / files.MODEL)
    assert torch.equal(loaded(IMAGES), model(IMAGES))


def test_8_bits_change_no_weight_by_more_than_half_a_step_of_its_output(model):
    exact = model.network.classifier[2].weight.detach().clone()  # (128, 1024)
    models.round_weights(model, bits=8)
    off = (model.network.classifier[2].weight - exact).abs().amax(dim=1)
    assert (off <= 0.51 * exact.abs().amax(dim=1) / 127).all() and (off > 0).all()


def test_the_same_weights_give_the_same_file_in_every_process(tmp_path):
    code = """if True:
        import sys, torch
        from pathlib import Path
        from lib.models import save_model
        from lib.networks import Preparation, PreparedNetwork, make_network
        torch.manual_seed(0)
        model = PreparedNetwork(make_network("custom", 3), Preparation())
        save_model(Path(sys.argv[1]), model, "custom", list("abc"))"""
    paths = [tmp_path / name for name in "123"]
    for path in paths:
        subprocess.run([sys.executable, "-c", code, str(path)], cwd=files.ROOT, check=True)
    assert len({path.read_bytes() for path in paths}) == 1


def test_a_run_counts_as_complete_only_with_its_metrics(tmp_path, model):
    save(tmp_path / "whole", model)
    save(tmp_path / "half", model)
    (tmp_path / "half" / files.METRICS).unlink()
    assert files.complete_runs(tmp_path) == [tmp_path / "whole"]


def test_results_have_a_row_for_each_study_of_a_run(tmp_path):
    rows = [{"run": "a", "studies": ["networks", "size"]}, {"run": "b", "studies": ["size"]}]
    files.write_json(tmp_path / files.RESULTS, rows)
    results = runs.load_results(str(tmp_path))
    assert results.query("study == 'size'")["run"].tolist() == ["a", "b"]
    assert results.query("study == 'networks'")["run"].tolist() == ["a"]


def test_results_of_nothing_say_what_to_run(tmp_path):
    files.write_json(tmp_path / files.RESULTS, [])
    with pytest.raises(InputError, match="has no finished run: `invoke run-all`"):
        runs.load_results(str(tmp_path))


@pytest.mark.parametrize(
    "outputs, origin",
    [("outputs/reference", "come with the repository"), ("outputs/mine", "were made here")],
)
def test_a_chapter_says_whose_results_it_shows(outputs, origin):
    assert f"`{Path(outputs).name}`, which {origin}" in runs.whose_results(outputs)


# ---- model files that are refused ----


def refused(file):
    """Why a model file is not taken, in one line."""
    said = r"^\S+ is not a model of this project or is damaged \(.+\); give another one, or train"
    with pytest.raises(InputError, match=said) as caught:
        models.load_model(file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(folder, model, weights=None, **about):
    """A model file with some of its weights and of what it says of itself replaced."""
    save(folder, model)
    file = folder / files.MODEL
    save_file(
        load_file(file) | (weights or {}),
        file,
        {"model": json.dumps(models.read_about(file) | about)},
    )
    return file


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a model",
        b"\x80\x04pickle",
        b"\x08\x0a\x12\x07pytorch an ONNX file",
        b"\0" * 100,
        b"a line\n" * 1000,
        (2**60).to_bytes(8, "little") + b"{}",
        (10).to_bytes(8, "little") + b'{"a": [[[[',
    ],
)
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    refused(tmp_path / "model.safetensors")


def test_a_folder_or_nothing_in_a_model_s_place_is_refused(tmp_path):
    assert "there is no such file" in refused(tmp_path)
    assert "there is no such file" in refused(tmp_path / "model.safetensors")


@pytest.mark.parametrize("kept", [4, 100, 2000, -100])
def test_a_model_that_was_cut_short_is_refused(tmp_path, model, kept):
    save(tmp_path, model)
    file = tmp_path / files.MODEL
    file.write_bytes(file.read_bytes()[:kept])
    refused(file)


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("harm"),)


@pytest.mark.parametrize(
    "dump", [torch.save, lambda content, file: file.write_bytes(pickle.dumps(content))]
)
def test_no_code_from_a_model_file_is_run(tmp_path, monkeypatch, dump):
    monkeypatch.chdir(tmp_path)
    dump(Harmful(), tmp_path / "model.pt")
    refused(tmp_path / "model.pt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "pt"},
        {"model": "custom"},
        {"model": "[]"},
        {"model": "[" * 100_000},
        {"model": '{"a": NaN'},
    ],
)
def test_weights_of_another_project_are_refused(tmp_path, metadata):
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors", metadata)
    refused(tmp_path / "other.safetensors")


@pytest.mark.parametrize("network", ["vgg", "", None, 3, ["custom"], {"custom": 1}])
def test_a_model_of_an_unknown_network_is_refused(tmp_path, model, network):
    assert "its network is none of lenet, custom" in refused(
        changed(tmp_path, model, network=network)
    )


@pytest.mark.parametrize(
    "names",
    [
        "abc",
        None,
        [],
        ["a", "b", 3],
        ["a", "b", ["c"]],
        {"a": 0, "b": 1, "c": 2},
        ["a", "b", "\ud800"],
    ],
)
def test_a_model_whose_class_names_are_no_texts_is_refused(tmp_path, model, names):
    assert "its class names are not a list of texts" in refused(
        changed(tmp_path, model, class_names=names)
    )


def test_a_model_with_two_classes_of_one_name_is_refused(tmp_path, model):
    assert "two of its classes have the same name" in refused(
        changed(tmp_path, model, class_names=["a", "b", "a"])
    )


@pytest.mark.parametrize(
    "name, shape", [("network.features.0.weight", 31), ("network.features.0.weight", ()), ("b", 3)]
)
def test_a_model_with_steps_that_fit_no_weights_is_refused(tmp_path, model, name, shape):
    steps = {name + models.STEPS: torch.ones(shape)}
    assert "its weights are not those" in refused(changed(tmp_path, model, steps))


@pytest.mark.parametrize("names", [["a", "b"], list(map(str, range(2_000_000)))])
def test_a_model_with_more_or_fewer_names_than_outputs_is_refused(tmp_path, model, names):
    said = refused(changed(tmp_path, model, class_names=names))
    assert f"its weights are not those of the network 'custom' for {len(names)} classes" in said


def test_a_model_with_weights_of_another_network_is_refused(tmp_path, model):
    assert "not those of the network 'lenet'" in refused(changed(tmp_path, model, network="lenet"))


@pytest.mark.parametrize(
    "name, shape",
    [
        ("preparation.mean", (1, 28)),
        ("network.features.0.weight", (64, 1, 3, 3)),
        ("preparation.more", ()),
    ],
)
def test_a_model_with_a_wrong_shape_is_refused(tmp_path, model, name, shape):
    assert "its weights are not those of" in refused(
        changed(tmp_path, model, weights={name: torch.zeros(shape)})
    )


@pytest.mark.parametrize(
    "name, value",
    [
        ("network.classifier.6.bias", np.nan),
        ("network.features.0.weight", np.nan),
        ("preparation.std", 0.0),
        ("network.features.2.running_var", -1.0),
        ("network.features.4.weight", np.inf),
    ],
)
def test_a_model_that_answers_no_numbers_is_refused(tmp_path, model, name, value):
    weights = {name: torch.full_like(model.state_dict()[name], value).contiguous()}
    assert "its answers are not numbers" in refused(changed(tmp_path, model, weights))


@pytest.mark.parametrize(
    "temperature", [0, -1, np.nan, np.inf, 1e-9, "1", True, None, [1.0], 10**400]
)
def test_a_model_with_an_impossible_temperature_is_refused(tmp_path, model, temperature):
    calibration = {"temperature": temperature, "likelihoods": []}
    assert "its temperature is not a number" in refused(
        changed(tmp_path, model, calibration=calibration)
    )


@pytest.mark.parametrize(
    "likelihoods",
    [
        None,
        0.5,
        "0.5",
        {"0.5": 1},
        [0.5, "0.6"],
        [0.5, np.nan],
        [-0.1],
        [1.1],
        [True],
        [[0.5]],
        [0.5, 0.4],
    ],
)
def test_a_model_with_impossible_likelihoods_is_refused(tmp_path, model, likelihoods):
    assert "its likelihoods are not" in refused(
        changed(tmp_path, model, calibration={"temperature": 1.0, "likelihoods": likelihoods})
    )


@pytest.mark.parametrize("limit", [-0.1, 1.5, float("nan"), True, None, "0.5", [0.5]])
def test_a_model_with_an_impossible_limit_for_refusing_is_refused(tmp_path, model, limit):
    calibration = {"temperature": 1.0, "likelihoods": [], "refuse_above": limit}
    assert "its limit for refusing" in refused(changed(tmp_path, model, calibration=calibration))


@pytest.mark.parametrize("calibration", [None, 1.0, []])
def test_a_model_without_a_calibration_is_refused(tmp_path, model, calibration):
    file = changed(tmp_path, model, calibration=calibration)
    assert "it holds no calibration" in refused(file)
    with pytest.raises(InputError, match="it holds no calibration"):
        models.read_calibration(file)


# ---- files ----


def test_a_failed_write_leaves_the_old_file_whole(tmp_path):
    files.write_json(tmp_path / "a.json", [1])
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "a.json", [1, object()])
    assert files.read_json(tmp_path / "a.json", list) == [1] and len(list(tmp_path.iterdir())) == 1


def test_damaged_json_names_its_file(tmp_path):
    (tmp_path / "a.json").write_text("[1,")
    with pytest.raises(InputError, match="a.json is damaged"):
        files.read_json(tmp_path / "a.json")


def test_missing_json_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match="is not there: run the notebooks first"):
        files.read_json(tmp_path / "a.json")


def test_what_is_no_number_is_written_as_null(tmp_path):
    files.write_json(tmp_path / "a.json", {"a": [1.5, float("nan")], "b": float("inf")})
    assert files.read_json(tmp_path / "a.json") == {"a": [1.5, None], "b": None}


def test_a_value_outside_of_its_band_fails():
    with pytest.raises(AssertionError, match="0.5000 lies outside of 0.6 to 0.8"):
        runs.check_band("accuracy", 0.5, (0.6, 0.8))


def test_a_value_inside_of_its_band_and_one_without_a_band_pass():
    runs.check_band("accuracy", 0.7123, (0.6, 0.8))
    runs.check_band("accuracy", 0.7123, None)


def test_a_run_s_folder_is_named_after_what_differs():
    differing = {"epochs": 3, "learning_rate": 0.0030, "start": "/some/file"}
    name = "custom-seed0-epochs=3-learning_rate=0.003-start=some_file"
    assert files.run_name("custom", 0, differing) == name
