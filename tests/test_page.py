import json

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook

from lib import running
from lib.data.classes import BYCLASS
from lib.errors import InputError
from lib.files import FINDINGS, METRICS, MODEL, ROOT, write_json
from lib.menu import commands, storing
from lib.models import save_model
from lib.networks import Preparation, PreparedNetwork, make_network
from lib.params import load_profile
from lib.reading import Recogniser, layers, page
from lib.reading.canvas import Canvas


def train(home, network, seed):
    """A run of an untrained network."""
    folder = home / f"{network}-seed{seed}"
    model = PreparedNetwork(make_network(network, 62), Preparation())
    save_model(folder / MODEL, model, network, list(BYCLASS))
    write_json(folder / METRICS, {"network": network, "seed": seed})
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HANDWRITING_OUTPUTS", str(tmp_path))
    return tmp_path / "outputs/small"


def test_a_stored_canvas_says_what_to_do_and_no_address():
    data, _ = Canvas({"networks": []})._repr_mimebundle_()
    assert "Run this notebook" in data["text/html"] and data["text/plain"] == "Canvas()"


@pytest.mark.parametrize("name", ["reader.js", "canvas.js", "canvas.css", "page.html"])
def test_nothing_of_the_page_names_another_machine(name):
    text = (ROOT / "lib" / "reading" / name).read_text()
    comments = text.startswith("// ") + text.count("\n// ") + text.count(" // ")
    assert text.count("//") == comments


def test_the_lowest_seed_of_each_network_joins_the_shipped_ones(home):
    for network, seed in [("custom", 10), ("custom", 2), ("lenet", 3)]:
        train(home, network, seed)
    networks, problems = page.load_networks(home, 0.9)
    assert list(networks) == ["handwriting", "custom", "LeNet", "strokes"] and problems == []
    lowest = Recogniser.load(home / "custom-seed2" / MODEL).model.state_dict()
    joined = networks["custom"].model.state_dict()
    assert all((joined[name] == weights).all() for name, weights in lowest.items())
    assert {recogniser.coverage for recogniser in networks.values()} == {0.9}


def test_a_damaged_network_is_left_out_and_said(home):
    train(home, "lenet", 0)
    (train(home, "custom", 0) / MODEL).write_bytes(b"short")
    networks, problems = page.load_networks(home)
    assert list(networks) == ["handwriting", "LeNet", "strokes"]
    assert len(problems) == 1 and problems[0].startswith("custom-seed0 is left out: ")


@pytest.mark.parametrize("damaged", ["null", '{"seed": 0, "netw', "[]", '{"seed": Infinity}', "{}"])
def test_damaged_metrics_keep_no_network_from_answering(home, damaged):
    (train(home, "custom", 0) / METRICS).write_text(damaged)
    networks, problems = page.load_networks(home)
    assert list(networks) == ["handwriting", "custom", "strokes"] and problems == []


def test_confusions_are_those_that_an_analysis_found(home):
    assert page.found_groups(home) == []
    write_json(home / FINDINGS / "05-confusions.json", {"groups": ["Cc"]})
    assert page.found_groups(home) == ["Cc"]
    write_json(home / FINDINGS / "05-confusions.json", [])
    assert page.found_groups(home) == []


def test_the_largest_networks_are_left_out_of_a_small_page(home):
    train(home, "lenet", 0)
    train(home, "custom", 0)
    data = page.page_data(page.load_networks(home)[0], home)
    assert [one["name"] for one in data["networks"]] == ["handwriting", "custom"]
    assert data["without"] == ["LeNet", "strokes"]
    every = page.page_data(page.load_networks(home)[0], home, most=0)
    assert len(every["networks"]) == 4 and every["without"] == []


def test_the_page_is_one_file_below_one_and_a_half_megabytes(home, capsys):
    train(home, "custom", 0)
    train(home, "lenet", 0)
    commands.page("small", every=False)
    assert (home / "draw.html").stat().st_size < 1_500_000
    said = capsys.readouterr().out
    assert (
        str(home / "draw.html") in said
        and "left out, to keep the page small: LeNet, strokes" in said
    )


def test_what_a_class_is_called_cannot_end_the_script():
    name = "</script><script>alert(1)</script>"
    assert page.part({"networks": [], "groups": [name]}).count("</script>") == 2


def test_a_network_that_depends_on_its_images_size_is_refused():
    model = PreparedNetwork(make_network("resnet18", 62), Preparation())
    with pytest.raises(InputError, match="cannot compute"):
        layers.described(model)


class Doubled(torch.nn.Module):
    def forward(self, x):
        return torch.tanh(x)


@pytest.mark.parametrize(
    "layer",
    [
        Doubled(),
        torch.nn.Conv2d(1, 2, (3, 5)),
        torch.nn.Conv2d(1, 2, 3, dilation=2),
        torch.nn.Conv2d(2, 2, 3, groups=2),
        torch.nn.Conv2d(1, 2, 3, padding="same"),
        torch.nn.MaxPool2d(3, 2),
        torch.nn.MaxPool2d((2, 3)),
        torch.nn.ZeroPad2d((1, 2, 1, 2)),
    ],
    ids=str,
)
def test_a_network_with_a_layer_that_the_page_does_not_know_is_refused(layer):
    with pytest.raises(InputError, match="cannot compute a layer"):
        layers.described(PreparedNetwork(torch.nn.Sequential(layer), Preparation()))


def test_numbers_are_packed_where_they_are_said_to_lie():
    numbers = layers.Numbers()
    numbers.keep(torch.ones(3), "half")
    kind, at, n = numbers.keep(torch.tensor([1.5, -2.25]))
    assert at % 4 == 0 and kind == "float"
    assert np.frombuffer(numbers.bytes, "<f4", n, at).tolist() == [1.5, -2.25]


def test_the_notebook_to_draw_in_is_no_part_of_a_plan_and_says_so():
    steps = running.plan(load_profile("small"))
    assert steps and not any("10-try-it" in step.name for step in steps)
    with pytest.raises(InputError, match="`invoke demo` shows it"):
        running.notebook_named("10")


def test_a_widget_is_stored_as_what_it_says_without_a_kernel(tmp_path):
    drawn = new_code_cell("from lib.reading.canvas import Canvas\nCanvas({'networks': []})")
    nbformat.write(new_notebook(cells=[drawn]), tmp_path / "a.ipynb")
    storing.store(tmp_path / "a.ipynb", {})
    stored = json.loads((tmp_path / "a.ipynb").read_text())
    assert "text/html" in stored["cells"][0]["outputs"][0]["data"]
    assert storing.WIDGET not in stored["cells"][0]["outputs"][0]["data"]
    assert "widgets" not in stored["metadata"]
