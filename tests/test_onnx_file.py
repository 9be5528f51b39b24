import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from lib import files
from lib.data.strokes import generate
from lib.errors import InputError
from lib.menu import commands
from lib.models import save_model
from lib.networks import Preparation, PreparedNetwork, make_network
from lib.reading import Recogniser, onnx_file
from lib.reading.models import SHIPPED

IMAGES = generate(per_class=17, part="test")[0][:1000]


def made(folder, network="custom", n_classes=62, temperature=0.5):
    """A model file whose answers are as varied and as sure as those of a trained network."""
    torch.manual_seed(0)
    model = PreparedNetwork(make_network(network, n_classes), Preparation(IMAGES.mean(axis=0), 80))
    images = torch.from_numpy(IMAGES[:100])
    with torch.no_grad():
        for _ in range(3):
            model.train()(images)  # for the statistics of batch norm
        logits, last = model.eval()(images), list(model.modules())[-1]
        last.weight *= 3 / logits.std(dim=0)[:, None]
        last.bias += 3 * (last.bias - logits.mean(dim=0)) / logits.std(dim=0) - last.bias
    names = [f"class {number}" for number in range(n_classes - 1)] + ["ß"]
    calibration = {"temperature": temperature, "likelihoods": [0.25, 0.5]}
    save_model(folder / files.MODEL, model, network, names, calibration)
    return folder / files.MODEL


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The custom network of 62 classes and its export, for the tests that only look at it."""
    path = made(tmp_path_factory.mktemp("run"))
    onnx_file.export_model(path, path.with_suffix(".onnx"))
    return path


def session(path):
    return onnxruntime.InferenceSession(path.with_suffix(".onnx"))


def probabilities(path, images):
    return session(path).run(["probabilities"], {"images": images})[0]


@pytest.mark.parametrize(
    "network, n_classes",
    [("lenet", 62), ("custom", 62), ("custom", 10), ("resnet", 62)]
    + [pytest.param("resnet18-56", 62, marks=pytest.mark.slow)],
)
def test_an_exported_network_answers_as_torch_does(tmp_path, network, n_classes):
    path = made(tmp_path, network, n_classes)
    assert onnx_file.export_model(path, tmp_path / "model.onnx") <= 1e-4
    found, expected = probabilities(path, IMAGES), Recogniser.load(path).probabilities(IMAGES)
    assert found.shape == (1000, n_classes) and found.dtype == np.float32
    assert np.abs(found - expected).max() <= 1e-4
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()


@pytest.mark.parametrize("n", [0, 1, 7])
def test_an_exported_network_takes_any_number_of_images(exported, n):
    expected = Recogniser.load(exported).probabilities(IMAGES[:n])
    assert np.allclose(probabilities(exported, IMAGES[:n]), expected, atol=1e-4)


def test_exported_probabilities_are_calibrated(exported, tmp_path):
    path = made(tmp_path, temperature=1.0)
    onnx_file.export_model(path, tmp_path / "model.onnx")
    powers = probabilities(path, IMAGES[:7]) ** 2
    scaled = powers / powers.sum(axis=1, keepdims=True)
    assert np.allclose(probabilities(exported, IMAGES[:7]), scaled, atol=1e-4)


def test_an_exported_network_says_what_it_takes_and_gives(exported):
    (taken,), (given,) = session(exported).get_inputs(), session(exported).get_outputs()
    assert (taken.name, taken.type, taken.shape[1:]) == ("images", "tensor(uint8)", [28, 28])
    assert (given.name, given.type, given.shape[1:]) == ("probabilities", "tensor(float)", [62])
    assert isinstance(taken.shape[0], str)


def test_an_exported_network_holds_its_name_its_classes_and_its_temperature(exported):
    held = session(exported).get_modelmeta().custom_metadata_map
    assert json.loads(held["class_names"]) == [f"class {number}" for number in range(61)] + ["ß"]
    assert (held["network"], held["temperature"]) == ("custom", "0.5")
    assert "uint8 (N, 28, 28)" in held["input"] and "float32 (N, n_classes)" in held["output"]


def test_an_exported_network_names_no_file_of_this_machine(exported):
    content = exported.with_suffix(".onnx").read_bytes()
    assert str(files.ROOT).encode() not in content and b".py" not in content


def test_an_export_leaves_the_file_alone(exported):
    assert sorted(path.name for path in exported.parent.iterdir()) == [
        "model.onnx",
        "model.safetensors",
    ]


def fail(*_):
    raise RuntimeError("the exporter fails")


def without_temperature(self, images):
    return self.network(self.preparation(images)).softmax(dim=1)


@pytest.mark.parametrize("forward", [fail, without_temperature])
def test_a_failed_export_leaves_an_older_file_as_it_was(tmp_path, monkeypatch, forward):
    path = made(tmp_path)
    (tmp_path / "model.onnx").write_text("older")
    monkeypatch.setattr(onnx_file.WithProbabilities, "forward", forward)
    with pytest.raises((RuntimeError, InputError)):
        onnx_file.export_model(path, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_text() == "older" and len(list(tmp_path.iterdir())) == 2


def test_an_export_to_a_place_that_cannot_be_written_is_said(exported, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        onnx_file.export_model(exported, tmp_path / "file" / "model.onnx")


def test_a_file_that_answers_otherwise_is_refused(exported, tmp_path):
    content = exported.with_suffix(".onnx").read_bytes()
    other = Recogniser.load(made(tmp_path, "lenet"))
    said = r"does not answer as torch does \([\d,]+ other labels of 1,000, .* apart\), .*\.$"
    with pytest.raises(InputError, match=said):
        onnx_file.compare(content, other)


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors", "folder.onnx"])
def test_an_export_to_something_else_than_an_onnx_file_is_refused(exported, tmp_path, name):
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(InputError, match="ends in .onnx"):
        onnx_file.export_model(exported, tmp_path / name)


@pytest.mark.parametrize("missing", [["onnx", "onnxruntime", "onnxscript"], ["onnxruntime"]])
def test_a_missing_library_is_named_with_what_installs_it_before_anything_else(
    monkeypatch, missing
):
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    commands_to_run = r".*`uv sync --extra export` or `pip install -e '.\[export\]'`\.$"
    said = f"^invoke export needs {' and '.join(missing)}, {commands_to_run}"
    with pytest.raises(InputError, match=said):
        commands.export("nowhere", "nowhere", "nowhere", "nowhere")


def test_the_command_says_where_the_file_is_how_large_and_how_far_from_torch(tmp_path, capsys):
    commands.export("", str(made(tmp_path)), "strokes", "")
    file = tmp_path / "model.onnx"
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"exported to {file}, {file.stat().st_size / 1e6:.1f} MB; on 1,000 ")
    assert "images the same labels as torch, probabilities at most " in line


def test_the_repository_s_own_model_is_exported_to_the_current_folder(exported):
    assert str(onnx_file.default_output(SHIPPED["strokes"])) == "strokes.onnx"
    assert onnx_file.default_output(exported) == exported.with_suffix(".onnx")
