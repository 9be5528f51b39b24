import hashlib
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18, resnet34

from lib.analysis import transfer
from lib.data import load_data
from lib.data.emnist import check_fit
from lib.errors import InputError
from lib.networks import Preparation, PreparedNetwork, count_parameters, make_network
from lib.params import TrainingParameters


@pytest.fixture(scope="module")
def data():
    return load_data(per_class=10, test_per_class=2)


@pytest.fixture(scope="module")
def weights():
    return resnet18().state_dict()


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.save(weights, path)
    return path


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ---- a local file ----


def test_a_local_file_gives_its_weights_and_its_name(weights, file):
    found, origin = transfer.find_imagenet(str(file))
    assert same(found, weights) and origin == "ImageNet's weights are those of mine.pth."


def test_a_file_of_safetensors_gives_its_weights(weights, tmp_path):
    save_file(weights, tmp_path / "mine.safetensors")
    assert same(transfer.read_weights(tmp_path / "mine.safetensors"), weights)


def test_a_file_in_the_older_format_of_torch_gives_its_weights(weights, tmp_path):
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(transfer.read_weights(tmp_path / "old.pth"), weights)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1000])


def change_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


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


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        change_a_byte,
        another_network,
        a_whole_model,
        no_weights,
        a_web_page,
        nothing,
        not_there,
    ],
)
def test_a_file_that_cannot_be_used_is_named_in_one_sentence(file, tmp_path, damage):
    path = Path(shutil.copy(file, tmp_path / "bad.pth"))
    damage(path)
    with pytest.raises(
        InputError, match="bad.pth.* set imagenet_weights to a good copy, or to nothing.$"
    ) as error:
        transfer.find_imagenet(str(path))
    assert "\n" not in str(error.value) and "arbitrary code" not in str(error.value)


def test_a_file_of_safetensors_that_is_cut_short_is_named(weights, tmp_path):
    save_file(weights, tmp_path / "bad.safetensors")
    cut_short(tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match="bad.safetensors does not hold the weights"):
        transfer.read_weights(tmp_path / "bad.safetensors")


# ---- the hub ----


class Host(BaseHTTPRequestHandler):
    """A host that sends `content`, in the manner of `answer`."""

    content, answer, asked = b"", "whole", 0

    def do_GET(self):
        Host.asked += 1
        if self.answer == "silent":
            time.sleep(3)
            return
        self.send_response(404 if self.answer == "absent" else 200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        if self.answer == "slow":
            for start in range(0, 40 * 2**14, 2**14):
                self.wfile.write(self.content[start : start + 2**14])
                time.sleep(0.1)
        elif self.answer != "absent":
            self.wfile.write(self.content[:-5000] if self.answer == "cut" else self.content)

    def log_message(self, *_):
        pass


@pytest.fixture
def host(file, tmp_path, monkeypatch):
    """A host near by in place of torch's, with `file` as the official one, and an empty cache."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    content = file.read_bytes()
    name = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    for key, value in {"content": content, "answer": "whole", "asked": 0}.items():
        monkeypatch.setattr(Host, key, value)
    monkeypatch.setattr(transfer, "NAME", name)
    monkeypatch.setattr(transfer, "URL", f"http://127.0.0.1:{server.server_port}/{name}")
    monkeypatch.setattr(transfer, "PATIENCE", (5, 2, 60))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    yield Host
    server.shutdown()


def kept(tmp_path: Path) -> list[str]:
    return [path.name for path in tmp_path.rglob("*") if path.is_file()]


def test_the_official_file_is_recognised_by_its_name():
    assert transfer.NAME == "resnet18-f37072fd.pth" and not transfer.is_official(b"")


def test_the_hub_is_asked_once_and_the_file_kept(host, weights, tmp_path):
    assert same(transfer.find_imagenet()[0], weights) and kept(tmp_path) == [transfer.NAME]
    assert same(transfer.find_imagenet()[0], weights) and host.asked == 1


def test_a_kept_file_that_is_damaged_is_fetched_anew(host, weights, tmp_path):
    transfer.find_imagenet()
    change_a_byte(next(tmp_path.rglob(transfer.NAME)))
    assert same(transfer.find_imagenet()[0], weights) and host.asked == 2


@pytest.mark.parametrize(
    "answer, said",
    [
        ("cut", "ChunkedEncodingError"),
        ("absent", "the host answered 404"),
        ("silent", "ReadTimeout"),
        ("slow", "longer than 1 seconds"),
    ],
)
def test_a_bad_host_leaves_no_file_and_a_reason(host, tmp_path, monkeypatch, answer, said):
    monkeypatch.setattr(host, "answer", answer)
    monkeypatch.setattr(transfer, "PATIENCE", (5, 2, 1 if answer == "slow" else 60))
    found, sentence = transfer.find_imagenet()
    assert found is None and said in sentence and kept(tmp_path) == []


def test_another_file_is_not_kept(host, tmp_path, monkeypatch):
    monkeypatch.setattr(host, "content", b"<!doctype html><title>Sign in</title>")
    found, sentence = transfer.find_imagenet()
    assert found is None and "another file, by its SHA-256" in sentence and kept(tmp_path) == []


def test_without_a_connection_the_sentence_says_what_to_do(host, monkeypatch):
    monkeypatch.setattr(transfer, "URL", "http://127.0.0.1:1/x")
    sentence = transfer.find_imagenet()[1]
    assert (
        "ConnectionError" in sentence
        and transfer.NAME in sentence
        and sentence.endswith("or name one with imagenet_weights.")
    )


def test_a_full_disk_is_no_reason_to_stop(host, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transfer, "replace_file", full)
    assert "(No space left on device)" in transfer.find_imagenet()[1]


def test_five_seconds_is_the_longest_wait_for_a_connection(monkeypatch):
    asked = {}

    def refuse(url, **how):
        asked.update(how)
        raise requests.ConnectTimeout

    monkeypatch.setattr(transfer.requests, "get", refuse)
    with pytest.raises(requests.ConnectTimeout):
        transfer.download()
    assert asked["timeout"][0] == 5


# ---- ResNet-18 ----


def test_exactly_these_weights_arrive_in_the_body(data, weights):
    body = transfer.resnet_learner(data, 28, 0, weights).model.network[0]
    expected = nn.Sequential(*list(resnet18().children())[:-2]).state_dict().keys()
    found = dict(zip(expected, body.state_dict().values(), strict=True))
    given = dict(
        zip(
            expected,
            [weights[name] for name in resnet18().state_dict() if not name.startswith("fc.")],
            strict=True,
        )
    )
    assert torch.equal(found.pop("0.weight"), given.pop("0.weight").sum(dim=1, keepdim=True))
    assert same(found, given)


def test_one_channel_of_summed_kernels_answers_like_three_equal_channels(weights):
    grey = torch.rand(2, 1, 56, 56)
    network = resnet18().eval()
    network.load_state_dict(weights)
    whole = nn.Sequential(*list(network.children())[:-2])(grey.expand(-1, 3, -1, -1))
    assert torch.allclose(transfer.imagenet_body(weights).eval()(grey), whole, atol=1e-5)


def test_the_same_seed_makes_the_same_resnet_and_another_another(data):
    first, again, other = (
        transfer.resnet_learner(data, 28, seed).model.state_dict() for seed in (1, 1, 2)
    )
    assert same(first, again) and not same(first, other)


def test_a_frozen_body_keeps_its_kernels_and_a_free_one_does_not(data, weights, capsys):
    learner = transfer.resnet_learner(data, 28, 0, weights, batch_size=256)
    kernels = learner.model.network[0][0].weight
    before, head = kernels.detach().clone(), learner.model.network[1][-1].weight.detach().clone()
    learner.freeze()
    learner.fit_one_cycle(1, 1e-3)
    assert torch.equal(kernels, before) and not torch.equal(
        learner.model.network[1][-1].weight, head
    )
    learner.unfreeze()
    learner.fit_one_cycle(1, 1e-3)
    assert not torch.equal(kernels, before) and capsys.readouterr().out == ""


def test_an_image_is_enlarged_after_its_preparation():
    images = torch.randint(0, 256, (2, 28, 28), dtype=torch.uint8)
    assert torch.equal(
        transfer.Enlarging(28)(images), Preparation(transfer.GREY, transfer.SPREAD)(images)
    )
    assert transfer.Enlarging(56)(images).shape == (2, 1, 56, 56)


def test_imagenet_s_statistics_are_those_of_fastai():
    means, spreads = transfer.model_meta[resnet18]["stats"]
    assert transfer.GREY == pytest.approx(
        255 * np.mean(means), abs=0.1
    ) and transfer.SPREAD == pytest.approx(255 * np.mean(spreads), abs=0.1)


@pytest.mark.parametrize("size, expected", [(1, 8), (2, 0), (3, 0)])
def test_on_a_map_of_one_pixel_eight_of_nine_weights_are_idle(size, expected):
    assert transfer.idle_weights(nn.Conv2d(2, 5, 3, padding=1), size, size) == 2 * 5 * expected


def test_a_stride_that_leaves_one_place_of_four_pixels_makes_five_of_nine_idle():
    assert transfer.idle_weights(nn.Conv2d(1, 1, 3, stride=2, padding=1), 2, 2) == 5


def test_idle_weights_are_those_without_a_gradient():
    layer = nn.Conv2d(3, 4, 5, padding=2)
    layer(torch.rand(1, 3, 2, 4)).sum().backward()
    assert transfer.idle_weights(layer, 2, 4) == (layer.weight.grad == 0).sum() > 0


def test_the_stages_hold_all_convolutions():
    network = resnet18()
    expected = sum(
        count_parameters(layer) for layer in network.modules() if isinstance(layer, nn.Conv2d)
    )
    assert sum(row["weights"] for row in transfer.stages(network, 28)) == expected


def test_looking_at_the_stages_leaves_no_hook_behind():
    network = resnet18()
    transfer.stages(network, 28)
    assert not any(layer._forward_hooks for layer in network.modules())


# ---- strokes to real characters ----


@pytest.fixture(scope="module")
def digits():
    return transfer.uci_digits()


def test_the_digits_are_upright_and_fit_their_labels(digits):
    for part in ("train", "valid", "test"):
        images, labels = getattr(digits, f"{part}_images"), getattr(digits, f"{part}_labels")
        check_fit(images, labels, "digits")
        assert images.shape == (len(labels), 28, 28) and images.dtype == np.uint8


def test_the_digits_have_emnist_s_border_and_brightness(digits):
    longer = [max(np.ptp(np.argwhere(image > 64), axis=0)) + 1 for image in digits.test_images]
    assert 22 <= np.median(longer) <= 26 and (digits.test_images.max(axis=(1, 2)) == 255).all()


def test_the_parts_begin_with_another_person_s_digits(digits):
    for part in ("train", "valid", "test"):  # each person wrote 0 to 9 in order, again and again
        assert getattr(digits, f"{part}_labels")[:10].tolist() == list(range(10))


def test_all_digits_are_in_one_part_and_each_class_has_fifty_to_train_on(digits):
    assert len(digits.train_labels) + len(digits.valid_labels) + len(digits.test_labels) == 1797
    assert np.bincount(digits.train_labels).min() >= 50


def test_few_are_as_many_of_each_class_as_asked_for(digits):
    assert np.bincount(transfer.few_of(digits, 20, 0).train_labels).tolist() == [20] * 10


def test_a_class_with_fewer_gives_all_it_has(digits):
    assert len(transfer.few_of(digits, 1000, 0).train_labels) == len(digits.train_labels)


def test_another_seed_draws_other_characters(digits):
    first, again, other = (transfer.few_of(digits, 10, seed).train_images for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def model(n_classes: int, seed: int) -> PreparedNetwork:
    torch.manual_seed(seed)
    return PreparedNetwork(make_network("custom", n_classes), Preparation(float(seed), 90.0)).eval()


IMAGES = torch.randint(
    0, 256, (4, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def test_what_is_carried_over_answers_as_before():
    old, new = model(4, seed=1), model(3, seed=2)
    transfer.carry_over(old, list("abcd"), new, list("dab"))
    assert torch.allclose(new(IMAGES), old(IMAGES)[:, [3, 0, 1]], atol=1e-6)


def test_the_preparation_is_carried_over():
    old, new = model(4, seed=1), model(3, seed=2)
    transfer.carry_over(old, list("abcd"), new, list("dab"))
    assert torch.equal(new.preparation(IMAGES), old.preparation(IMAGES))


def test_a_class_that_the_old_network_did_not_know_keeps_its_fresh_weights():
    new = model(2, seed=2)
    before = new.network.classifier[-1].weight.detach().clone()
    transfer.carry_over(model(4, seed=1), list("abcd"), new, ["a", "ä"])
    after = new.network.classifier[-1].weight
    assert torch.equal(after[1], before[1]) and not torch.equal(after[0], before[0])


def test_the_old_network_is_not_changed_by_training_the_new_one(digits):
    old = model(10, seed=1)
    before = {name: value.clone() for name, value in old.state_dict().items()}
    parameters = TrainingParameters(epochs=1, learning_rate=0.01, precision="float32")
    transfer.train_silently(
        digits,
        parameters,
        lambda fresh: transfer.carry_over(old, digits.class_names, fresh, digits.class_names),
    )
    assert same(old.state_dict(), before)


def test_a_silent_training_says_nothing_and_learns(digits, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HANDWRITING_PROGRESS", str(tmp_path / "progress.json"))
    model = transfer.train_silently(
        digits, TrainingParameters(epochs=4, learning_rate=0.01, batch_size=32)
    )
    right = model(torch.from_numpy(digits.test_images)).argmax(dim=1).numpy() == digits.test_labels
    assert right.mean() > 0.8 and capsys.readouterr().out == ""
