"""Trainings that begin with the weights of another run, or with ImageNet's."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18, resnet34

from lib.errors import InputError
from lib.files import MODEL
from lib.models import round_weights, save_model
from lib.networks import Preparation, PreparedNetwork, make_network
from lib.training import load_start

IMAGES = torch.randint(0, 256, (4, 28, 28), dtype=torch.uint8)


def model(network: str, n_classes: int, seed: int) -> PreparedNetwork:
    torch.manual_seed(seed)
    made = PreparedNetwork(make_network(network, n_classes), Preparation(float(seed), 90.0)).eval()
    round_weights(made)
    return made


@pytest.fixture
def old(tmp_path):
    """A network of the classes a to d, kept in tmp_path."""
    made = model("custom", 4, seed=1)
    save_model(tmp_path / MODEL, made, "custom", list("abcd"))
    return made


def test_a_start_with_the_same_classes_answers_as_the_old_network(old, tmp_path):
    new = model("custom", 4, seed=2)
    assert not torch.equal(new(IMAGES), old(IMAGES))
    load_start(new, str(tmp_path / MODEL), list("abcd"))
    assert torch.equal(new(IMAGES), old(IMAGES))


def test_a_run_s_folder_stands_for_its_model(old, tmp_path):
    new = model("custom", 4, seed=2)
    load_start(new, str(tmp_path), list("abcd"))
    assert torch.equal(new(IMAGES), old(IMAGES))


def test_the_rows_of_classes_that_both_know_are_carried_over(old, tmp_path):
    new = model("custom", 3, seed=2)
    load_start(new, str(tmp_path), list("dab"))
    assert torch.allclose(new(IMAGES), old(IMAGES)[:, [3, 0, 1]], atol=1e-6)


def test_a_class_that_the_old_network_did_not_know_keeps_its_fresh_weights(old, tmp_path):
    new = model("custom", 2, seed=2)
    before = new.network.classifier[-1].weight.detach().clone()
    load_start(new, str(tmp_path), ["a", "ä"])
    after = new.network.classifier[-1].weight
    assert torch.equal(after[1], before[1]) and not torch.equal(after[0], before[0])


def test_a_start_without_a_common_class_carries_all_but_the_last_layer(old, tmp_path):
    new = model("custom", 2, seed=2)
    before = new.network.classifier[-1].weight.detach().clone()
    load_start(new, str(tmp_path), ["x", "y"])
    assert torch.equal(new.network.classifier[-1].weight, before)
    assert torch.equal(new.network.features[0].weight, old.network.features[0].weight)


def test_no_start_changes_nothing():
    new = model("custom", 3, seed=2)
    before = new(IMAGES)
    load_start(new, "", list("abc"))
    assert torch.equal(new(IMAGES), before)


def test_a_start_from_a_larger_network_is_refused(tmp_path):
    save_model(tmp_path / MODEL, model("resnet18", 4, seed=1), "resnet18", list("abcd"))
    with pytest.raises(InputError, match="holds another network than the one"):
        load_start(model("custom", 4, seed=2), str(tmp_path), list("abcd"))


@pytest.mark.parametrize("network", ["lenet", "wide"])
def test_a_start_with_another_network_is_refused(old, tmp_path, network):
    with pytest.raises(InputError, match="holds another network than the one"):
        load_start(model(network, 4, seed=2), str(tmp_path), list("abcd"))


def test_a_start_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "other.safetensors").write_text("no model")
    with pytest.raises(InputError, match="other.safetensors is not a model of this project"):
        load_start(model("custom", 4, seed=2), str(tmp_path / "other.safetensors"), list("abcd"))


# ---- ImageNet's weights, in a local file ----


@pytest.fixture(scope="module")
def weights():
    return resnet18().state_dict()


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.save(weights, path)
    return path


def save_as_safetensors(weights, path):
    save_file(weights, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def save_as_before(weights, path):
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize("save", [save_as_safetensors, save_as_before])
def test_a_local_file_gives_its_weights_to_all_layers_but_the_last(weights, tmp_path, save):
    new = model("resnet18", 62, seed=0)
    head = new.network.body.fc.weight.detach().clone()
    load_start(new, str(save(weights, tmp_path / "mine.pth")), [])
    body = new.network.body.state_dict()
    assert torch.equal(body.pop("conv1.weight"), weights["conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(body.pop("fc.weight"), head) and body.pop("fc.bias").shape == (62,)
    assert all(torch.equal(value, weights[name]) for name, value in body.items())


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1000])


def another_network(path):
    torch.save(resnet34().state_dict(), path)


def a_whole_model(path):
    torch.save(resnet18(), path)


def no_weights(path):
    torch.save([1, 2, 3], path)


def a_web_page(path):
    path.write_text("<!doctype html><title>Sign in</title>")


def nothing(path):
    path.write_bytes(b"")


def not_there(path):
    path.unlink()


DAMAGES = [cut_short, another_network, a_whole_model, no_weights, a_web_page, nothing, not_there]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_cannot_be_used_is_named_in_one_sentence(file, tmp_path, damage):
    path = Path(shutil.copy(file, tmp_path / "bad.pth"))
    damage(path)
    with pytest.raises(InputError, match="bad.pth does not give .* leave the study out.$") as error:
        load_start(model("resnet18", 62, seed=0), str(path), [])
    assert "\n" not in str(error.value) and "arbitrary code" not in str(error.value)
