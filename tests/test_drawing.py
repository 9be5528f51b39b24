import json
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import traitlets
from nbformat.v4 import new_code_cell, new_notebook, new_output

from lib import runs
from lib.data.classes import BYCLASS, LOOK_ALIKES
from lib.errors import InputError
from lib.files import FINDINGS, METRICS, MODEL, ROOT, write_json
from lib.menu import commands
from lib.networks import Preparation, PreparedNetwork, make_network
from lib.params import load_profile
from lib.reading import drawing as tryout
from lib.reading.canvas import SIDE, Canvas
from lib.reading.drawing import SHIPPED, Look
from lib.reading.page import NOT_ON_THE_PAGE, served_copy
from lib.reading.recogniser import NOT_A_CHARACTER, Prediction
from lib.running import plan as pipeline

HOSTILE = "<script>alert(1)</script>"


def prediction(*alternatives, image=np.zeros((28, 28), np.uint8)):
    return Prediction(*alternatives[0], list(alternatives), [alternatives[0][0]], image)


def look_with(*predictions, groups=LOOK_ALIKES, found=False, **examples):
    """A look in which each network gives one of these answers, whatever is drawn."""
    networks = {
        f"network {i}": SimpleNamespace(coverage=0.9, predict=lambda _, one=one: one)
        for i, one in enumerate(predictions)
    }
    return Look(networks, list(groups), found, examples)


def train(outputs, network, seed, dataset="strokes"):
    """A run of an untrained network."""
    folder = outputs / f"{network}-one_cycle-seed{seed}"
    runs.save_model(
        folder / MODEL,
        PreparedNetwork(make_network(network, 62), Preparation()),
        network,
        list(BYCLASS),
    )
    write_json(folder / METRICS, {"network": network, "seed": seed, "dataset": dataset})
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
        "tryout.html",
        "voila/templates/page/index.html.j2",
        "voila/templates/page/static/page.css",
    ],
)
def test_nothing_of_the_page_names_another_machine(name):
    assert "//" not in (ROOT / "lib" / "reading" / name).read_text().replace("\n// ", "\n").replace(
        "; // ", ";"
    ).removeprefix("// ")


def test_a_drawing_is_answered_and_clearing_takes_the_answer_away(outputs):
    networks, problems = tryout.load_networks("outputs/small")
    canvas = tryout.try_it(networks, "outputs/small")
    canvas.drawing = seven().tobytes()
    assert (
        problems == []
        and canvas.said == "Read as the digit 7."
        and canvas.details.count("<section") == 1
    )
    canvas.drawing = b""
    assert (canvas.said, canvas.details) == ("", tryout.HINT)


def test_the_lowest_seed_of_each_network_joins_the_shipped_one(outputs):
    for network, seed in [("custom", 10), ("custom", 2), ("lenet", 3)]:
        train(outputs, network, seed)
    networks, problems = tryout.load_networks("outputs/small", 0.9)
    assert list(networks) == [SHIPPED, "LeNet", "custom"] and problems == []
    assert tryout._first_seeds(outputs)["custom"].name == "custom-one_cycle-seed2"
    assert {recogniser.coverage for recogniser in networks.values()} == {0.9}
    assert "LeNet** and **custom" in tryout.who_answers(networks, problems, "outputs/small")


def test_without_trained_networks_it_says_how_to_get_some(outputs):
    networks, problems = tryout.load_networks("outputs/small")
    assert list(networks) == [
        SHIPPED
    ] and "`uv run invoke run-all --profile small` adds more" in tryout.who_answers(
        networks, problems, "outputs/small"
    )


def test_a_damaged_network_is_left_out_and_said(outputs):
    (train(outputs, "custom", 0) / MODEL).write_bytes(b"short")
    networks, problems = tryout.load_networks("outputs/small")
    assert list(networks) == [SHIPPED] and problems[0].startswith(
        "custom-one_cycle-seed0 is left out: "
    )


def test_known_confusions_are_those_that_an_analysis_found(outputs):
    assert tryout.known_confusions("outputs/small") == (list(LOOK_ALIKES), False)
    write_json(outputs / FINDINGS / "05-confusions.json", {"found_groups": ["Cc"]})
    assert tryout.known_confusions("outputs/small") == (["Cc"], True)
    write_json(outputs / FINDINGS / "05-confusions.json", [])
    assert tryout.known_confusions("outputs/small") == (list(LOOK_ALIKES), False)


@pytest.mark.parametrize(
    "answers, pair",
    [
        ([[("1", 0.6), ("l", 0.3)]], ("1", "l")),
        ([[("1", 0.9)], [("l", 0.8)]], ("1", "l")),
        ([[("1", 0.96), ("l", 0.03)]], None),
        ([[("1", 0.6), ("7", 0.4)]], None),
        ([[("1", 1.0)]], None),
    ],
)
def test_a_pair_is_confused_if_both_answers_are_probable_and_known_for_it(answers, pair):
    predictions = {str(i): prediction(*one) for i, one in enumerate(answers)}
    assert tryout.confused_pair(predictions, ["1lI"]) == pair


def test_a_confused_pair_is_shown_with_examples_of_both():
    images = np.zeros((3, 28, 28), np.uint8)
    _, details = tryout.look_at(
        seven(),
        look_with(prediction(("O", 0.6), ("0", 0.4)), **{"O": images, "0": images, "o": images}),
    )
    assert "Is it the capital O or the digit 0?" in details and details.count("Examples of") == 2


@pytest.mark.parametrize(
    "labels, said",
    [
        ("A", "Read as the capital A."),
        ("lll", "All three networks read the small letter l."),
        ("1l1l1", "Three of five networks read the digit 1, two the small letter l."),
        ("1l", "One of two networks reads the digit 1, one the small letter l."),
    ],
)
def test_one_sentence_says_how_many_read_what(labels, said):
    assert (
        tryout.sentence({str(i): prediction((label, 1.0)) for i, label in enumerate(labels)})
        == said
    )


def test_what_is_no_character_is_said_with_the_reason():
    said, details = tryout.look_at(
        seven(), look_with(Prediction(NOT_A_CHARACTER, reason="Too <little> ink."))
    )
    assert (
        said == "This is not a character."
        and "Too &lt;little&gt; ink." in details
        and "<section" not in details
    )


def test_a_name_that_looks_like_a_script_is_only_read():
    said, details = tryout.look_at(
        seven(),
        look_with(
            prediction((HOSTILE, 0.6), ("l", 0.4)),
            groups=[HOSTILE + "l"],
            **{HOSTILE: np.zeros((1, 28, 28), np.uint8)},
        ),
    )
    assert "<script" not in details and "&lt;script&gt;" in details and HOSTILE in said


def test_a_large_set_is_cut_and_counted():
    one = Prediction("a", 0.1, [("a", 0.1)], list(BYCLASS), np.zeros((28, 28), np.uint8))
    assert f"and {62 - tryout.LARGEST_SET} more" in tryout.look_at(seven(), look_with(one))[1]


@pytest.mark.parametrize(
    "share, text",
    [(0.001, "< 1 %"), (0.014, "1 %"), (0.987, "99 %"), (0.999, "> 99 %"), (1.0, "> 99 %")],
)
def test_no_percentage_is_certain(share, text):
    assert tryout.percent(share).replace("\xa0", " ") == text


def test_the_page_has_the_profiles_parameters_and_nothing_for_readers_of_the_notebook(tmp_path):
    cells = nbformat.read(served_copy(tmp_path, {"outputs": "outputs/mine"}), as_version=4).cells
    assert [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])] == [
        "outputs = 'outputs/mine'"
    ]
    assert cells and not any(NOT_ON_THE_PAGE in cell.metadata.get("tags", []) for cell in cells)


def test_on_the_page_explanations_come_after_the_canvas(tmp_path):
    sources = [cell.source for cell in nbformat.read(served_copy(tmp_path, {}), as_version=4).cells]
    canvas, explained = (
        next(i for i, source in enumerate(sources) if text in source)
        for text in ("try_it", "What the networks get")
    )
    assert sources[0].startswith("# ") and canvas < explained


def test_the_notebook_to_draw_in_is_no_part_of_a_plan_and_says_so():
    assert pipeline.INTERACTIVE not in {
        step.name for step in pipeline.plan(load_profile("small"), "outputs/small")
    }
    with pytest.raises(InputError, match="`invoke demo` shows it"):
        pipeline.notebook_named("09")


@pytest.mark.parametrize("port", ["0", "70000", "-1", "http"])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(InputError, match="give a number from 1 to 65535"):
        commands.demo("small", port)


def test_a_widget_is_stored_as_what_it_says_without_a_kernel(tmp_path):
    output = new_output(
        "display_data", {commands.WIDGET: {"model_id": "1"}, "text/html": "Run it."}
    )
    nbformat.write(
        new_notebook(cells=[new_code_cell("Canvas()", outputs=[output])], metadata={"widgets": {}}),
        tmp_path / "a.ipynb",
    )
    commands.store(tmp_path / "a.ipynb", tmp_path / "b.ipynb")
    stored = json.loads((tmp_path / "b.ipynb").read_text())
    assert (
        list(stored["cells"][0]["outputs"][0]["data"]) == ["text/html"]
        and "widgets" not in stored["metadata"]
    )
