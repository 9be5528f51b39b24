import json

import nbformat
import numpy as np
import pytest
import traitlets
from nbformat.v4 import new_code_cell, new_notebook

from lib import running
from lib.data.classes import BYCLASS
from lib.errors import InputError
from lib.files import FINDINGS, METRICS, MODEL, ROOT, write_json
from lib.menu import commands, storing
from lib.models import save_model
from lib.networks import Preparation, PreparedNetwork, make_network
from lib.params import load_profile
from lib.reading import Prediction, Recogniser, drawing
from lib.reading.canvas import SIDE, Canvas
from lib.reading.drawing import SHIPPED
from lib.reading.page import NOT_ON_THE_PAGE, NOTEBOOK, served_copy
from lib.reading.recogniser import NOT_A_CHARACTER

HOSTILE = "<script>alert(1)</script>"
BLANK = np.zeros((28, 28), np.uint8)


class Says:
    """A network that gives the same answer whatever is drawn."""

    coverage = 0.9

    def __init__(self, *alternatives, answer=None):
        self.answer = answer or prediction(*alternatives)

    def predict(self, image):
        return self.answer


def prediction(*alternatives):
    return Prediction(*alternatives[0], list(alternatives), [alternatives[0][0]], BLANK)


def look(network, found=(), **examples):
    """What is said and shown of a drawing by one network."""
    return drawing.look_at(seven(), {"one": network}, list(found), examples)


def train(outputs, network, seed):
    """A run of an untrained network."""
    folder = outputs / f"{network}-seed{seed}"
    model = PreparedNetwork(make_network(network, 62), Preparation())
    save_model(folder / MODEL, model, network, list(BYCLASS))
    write_json(folder / METRICS, {"network": network, "seed": seed})
    return folder


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("HANDWRITING_OUTPUTS", str(tmp_path))
    return tmp_path / "outputs/small"


def seven():
    """A drawing of a 7 as the canvas sends it."""
    image = np.full((SIDE, SIDE), 255, np.uint8)
    image[40:58, 70:190] = 0
    for row in range(50, 220):
        image[row, 195 - row // 2 : 215 - row // 2] = 0
    return image


def test_a_canvas_gives_its_bytes_as_an_image():
    image = seven()
    assert np.array_equal(Canvas(drawing=image.tobytes()).image, image) and Canvas().image is None


def test_a_drawing_of_another_size_is_refused():
    with pytest.raises(traitlets.TraitError, match="neither empty nor 256 x 256"):
        Canvas(drawing=b"123")


def test_a_stored_canvas_says_what_to_do_and_no_address():
    data, _ = Canvas()._repr_mimebundle_()
    assert "Run this notebook" in data["text/html"] and data["text/plain"] == "Canvas()"


@pytest.mark.parametrize(
    "name",
    [
        "canvas.js",
        "canvas.css",
        "drawing.html",
        "voila/templates/page/index.html.j2",
        "voila/templates/page/static/page.css",
    ],
)
def test_nothing_of_the_page_names_another_machine(name):
    text = (ROOT / "lib" / "reading" / name).read_text()
    comments = text.startswith("// ") + text.count("\n// ") + text.count("; // ")
    assert text.count("//") == comments


def test_a_drawing_is_answered_and_clearing_takes_the_answer_away(outputs):
    networks, problems = drawing.load_networks("outputs/small")
    canvas = drawing.try_it(networks, "outputs/small")
    canvas.drawing = seven().tobytes()
    assert canvas.said == "Read as the digit 7." and canvas.details.count("<section") == 1
    canvas.drawing = b""
    assert (canvas.said, canvas.details, problems) == ("", drawing.HINT, [])


def test_the_lowest_seed_of_each_network_joins_the_shipped_one(outputs):
    for network, seed in [("custom", 10), ("custom", 2), ("lenet", 3)]:
        train(outputs, network, seed)
    networks, problems = drawing.load_networks("outputs/small", 0.9)
    assert list(networks) == [SHIPPED, "custom", "LeNet"] and problems == []
    lowest = Recogniser.load(outputs / "custom-seed2" / MODEL).model.state_dict()
    joined = networks["custom"].model.state_dict()
    assert all((joined[name] == weights).all() for name, weights in lowest.items())
    assert {recogniser.coverage for recogniser in networks.values()} == {0.9}


def test_a_damaged_network_is_left_out_and_said(outputs):
    train(outputs, "lenet", 0)
    (train(outputs, "custom", 0) / MODEL).write_bytes(b"short")
    networks, problems = drawing.load_networks("outputs/small")
    assert list(networks) == [SHIPPED, "LeNet"]
    assert len(problems) == 1 and problems[0].startswith("custom-seed0 is left out: ")


@pytest.mark.parametrize("damaged", ["null", '{"seed": 0, "netw', "[]", '{"seed": Infinity}', "{}"])
def test_damaged_metrics_keep_no_network_from_answering(outputs, damaged):
    (train(outputs, "custom", 0) / METRICS).write_text(damaged)
    networks, problems = drawing.load_networks("outputs/small")
    canvas = drawing.try_it(networks, "outputs/small")
    canvas.drawing = seven().tobytes()
    assert list(networks) == [SHIPPED, "custom"] and problems == []
    assert canvas.details.count("<section") == 2


def test_confusions_are_those_that_an_analysis_found(outputs):
    assert drawing.found_groups("outputs/small") == []
    write_json(outputs / FINDINGS / "05-confusions.json", {"groups": ["Cc"]})
    assert drawing.found_groups("outputs/small") == ["Cc"]
    write_json(outputs / FINDINGS / "05-confusions.json", [])
    assert drawing.found_groups("outputs/small") == []


@pytest.mark.parametrize(
    "found, said", [(["Il"], "Trained networks were found to"), ([], "These two are a known")]
)
def test_why_a_pair_is_confused_is_said(found, said):
    assert said in look(Says(("I", 0.6), ("l", 0.4)), found)[1]


@pytest.mark.parametrize(
    "answers, pair",
    [
        ([[("1", 0.6), ("l", 0.3)]], ("1", "l")),
        ([[("1", 0.9)], [("l", 0.8)]], ("1", "l")),
        ([[("1", 0.96), ("l", 0.03)]], ()),
        ([[("1", 0.6), ("7", 0.4)]], ()),
        ([[("1", 1.0)]], ()),
    ],
)
def test_a_pair_is_confused_if_both_answers_are_probable_and_known_for_it(answers, pair):
    predictions = {str(i): prediction(*one) for i, one in enumerate(answers)}
    assert drawing.confused_pair(predictions, ["1lI"]) == pair


def test_a_confused_pair_is_shown_with_examples_of_both():
    examples = dict.fromkeys("O0o", np.stack([BLANK] * 3))
    details = look(Says(("O", 0.6), ("0", 0.4)), **examples)[1]
    assert "Is it the capital O or the digit 0?" in details and details.count("Examples of") == 2


@pytest.mark.parametrize(
    "labels, said",
    [
        ("A", "Read as the capital A."),
        ("lll", "All three networks read the small letter l."),
        ("1l1l1", "Three of five networks read the digit 1, two the small letter l."),
        ("1I", "One of two networks reads the digit 1, one the capital I."),
        ("1" * 13, "All 13 networks read the digit 1."),
        ("1" * 13 + "l", "13 of 14 networks read the digit 1, one the small letter l."),
    ],
)
def test_one_sentence_says_how_many_read_what(labels, said):
    predictions = {str(i): prediction((label, 1.0)) for i, label in enumerate(labels)}
    assert drawing.sentence(predictions) == said


def test_what_is_no_character_is_said_with_the_reason():
    none = Prediction(NOT_A_CHARACTER, reason="Too <little> ink.")
    said, details = look(Says(answer=none))
    assert said == "This is not a character."
    assert "Too &lt;little&gt; ink." in details and "<section" not in details


def test_a_name_that_looks_like_a_script_is_only_read():
    network = Says((HOSTILE, 0.6), ("l", 0.4))
    said, details = look(network, [HOSTILE + "l"], **{HOSTILE: BLANK[None]})
    assert "<script" not in details and "&lt;script&gt;" in details and HOSTILE in said


def test_a_large_set_is_cut_and_counted():
    one = Prediction("a", 0.1, [("a", 0.1)], list(BYCLASS), BLANK)
    assert "and 50 more" in look(Says(answer=one))[1]


@pytest.mark.parametrize(
    "share, text",
    [(0.001, "< 1 %"), (0.014, "1 %"), (0.987, "99 %"), (0.999, "> 99 %"), (1.0, "> 99 %")],
)
def test_no_percentage_is_certain(share, text):
    assert drawing.chance(share).replace("\xa0", " ") == text


def test_the_page_has_the_profiles_parameters_and_nothing_for_readers_of_the_notebook(tmp_path):
    cells = nbformat.read(served_copy(tmp_path, {"outputs": "outputs/mine"}), as_version=4).cells
    tagged = [(cell.source, cell.metadata.get("tags", [])) for cell in cells]
    parameters = [source for source, tags in tagged if "parameters" in tags]
    assert parameters == ["outputs = 'outputs/mine'"]
    assert cells and not any(NOT_ON_THE_PAGE in tags for _, tags in tagged)


def test_on_the_page_explanations_come_after_the_canvas(tmp_path):
    sources = [cell.source for cell in nbformat.read(served_copy(tmp_path, {}), as_version=4).cells]
    canvas, explained = (
        next(i for i, source in enumerate(sources) if text in source)
        for text in ("try_it", "What the networks get")
    )
    assert sources[0].startswith("# ") and canvas < explained


def test_the_notebook_to_draw_in_is_no_part_of_a_plan_and_says_so():
    steps = running.plan(load_profile("small"))
    assert steps and not any(NOTEBOOK.stem in step.name for step in steps)
    with pytest.raises(InputError, match="`invoke demo` shows it"):
        running.notebook_named("10")


@pytest.mark.parametrize("port", ["0", "70000", "-1", "http"])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(InputError, match="give a number from 1 to 65535"):
        commands.demo("small", port)


def test_a_widget_is_stored_as_what_it_says_without_a_kernel(tmp_path):
    drawn = new_code_cell("from lib.reading.canvas import Canvas\nCanvas()")
    nbformat.write(new_notebook(cells=[drawn]), tmp_path / "a.ipynb")
    storing.store(tmp_path / "a.ipynb", {})
    stored = json.loads((tmp_path / "a.ipynb").read_text())
    assert "text/html" in stored["cells"][0]["outputs"][0]["data"]
    assert storing.WIDGET not in stored["cells"][0]["outputs"][0]["data"]
    assert "widgets" not in stored["metadata"]
