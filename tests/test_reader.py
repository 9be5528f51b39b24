"""The page to draw on, in Chromium: it must answer as Python does."""

import base64
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import expect

from lib.data.classes import BYCLASS
from lib.data.strokes import generate
from lib.files import ROOT
from lib.models import round_weights
from lib.networks import Preparation, PreparedNetwork, make_network
from lib.reading import Recogniser, canvas, layers, page
from lib.reading.recogniser import NOT_A_CHARACTER

pytestmark = pytest.mark.slow  # a browser
CARD, UNSURE = ".hw-card", {"temperature": 1, "likelihoods": []}
SAMPLES = sorted((ROOT / "tests" / "samples").glob("*.png"))
ROUND = [
    (0.5 + 0.29 * math.sin(turn / 12 * math.pi), 0.5 - 0.36 * math.cos(turn / 12 * math.pi))
    for turn in range(25)
]
CURVE = """72,24 62,15 48,12 34,18 28,30 36,42 50,49 64,57 72,69 66,82 50,88 36,86 26,77"""
STROKES = {  # points in shares of the canvas
    "1": [[(0.36, 0.3), (0.53, 0.12), (0.53, 0.87)], [(0.35, 0.87), (0.71, 0.87)]],
    "7": [[(0.25, 0.15), (0.75, 0.15), (0.42, 0.88)]],
    "A": [[(0.2, 0.86), (0.5, 0.12), (0.8, 0.86)], [(0.31, 0.6), (0.69, 0.6)]],
    "S": [[tuple(int(n) / 100 for n in point.split(",")) for point in CURVE.split()]],
    "O": [ROUND],
    "l": [[(0.5, 0.1), (0.5, 0.9)]],
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The page with the networks that come with the repository."""
    home = tmp_path_factory.mktemp("nothing-trained")
    page.write_page(home / "draw.html", page.page_data(page.load_networks(home)[0], home))
    return home / "draw.html"


@pytest.fixture(scope="module")
def visit(browser, file):
    """Opens the page once per kind of screen; `requests` gathers all that it asks for."""
    tabs = {}

    def open_page(width=1200, **options):
        if width not in tabs:
            tab = tabs[width] = browser.new_context(
                viewport={"width": width, "height": 800}, **options
            ).new_page()
            tab.requests = []
            tab.on("request", lambda request: tab.requests.append(request.url))
            tab.goto(file.as_uri())
        tabs[width].get_by_role("button", name="Clear").click()
        return tabs[width]

    yield open_page
    for tab in tabs.values():
        tab.context.close()


@pytest.fixture
def tab(visit):
    """The page on a desktop, with nothing drawn."""
    return visit()


def phone(visit):
    return visit(375, has_touch=True, is_mobile=True, device_scale_factor=2)


@pytest.fixture(scope="module")
def script(browser):
    """An empty page that has the functions of reader.js and canvas.js."""
    tab = browser.new_page()
    tab.add_script_tag(content=canvas.SCRIPT)
    yield tab
    tab.close()


def places(tab, stroke):
    """The points of a stroke in pixels of the window."""
    tab.locator(".hw-canvas").scroll_into_view_if_needed()
    box = tab.locator(".hw-canvas").bounding_box()
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]


def draw(tab, strokes):
    for stroke in strokes:
        first, *rest = places(tab, stroke)
        tab.mouse.move(*first)
        tab.mouse.down()
        for place in rest:
            tab.mouse.move(*place, steps=5)
        tab.mouse.up()


def expect_answer(tab, answers):
    expect(tab.locator(".hw-glyph").first).to_have_text(re.compile(f"^[{answers}]$"))


# as Python


def pictures(n=200):
    """Generated characters as on photographs: uneven grey paper, of many sizes; RGBA each."""
    rng = np.random.default_rng(0)
    images, _ = generate(per_class=4, seed=1, part="examples")
    for image in images[rng.permutation(len(images))[:n]]:
        ink = np.pad(image / 255, rng.integers(1, 12))
        size = rng.integers(24, 160, 2)
        ink = np.array(Image.fromarray(np.uint8(255 * ink)).resize(size)) / 255
        light = np.linspace(*rng.uniform(0.5, 1, 2), ink.shape[1])
        noisy = light * (1 - rng.uniform(0.5, 1) * ink) + rng.normal(0, 0.01, ink.shape)
        yield np.uint8(255 * np.clip(noisy, 0, 1))


def packed(grey):
    """A picture as text: playwright takes seconds for a list of so many numbers."""
    height, width = grey.shape
    return {"bytes": base64.b64encode(grey).decode(), "width": width, "height": height}


READ = """([about, pictures]) => {
  const network = makeNetwork(about);
  return pictures.map(({ bytes, width, height }) => {
    const data = new Uint8ClampedArray(4 * width * height).fill(255);
    [...atob(bytes)].forEach((one, i) => data.fill(one.charCodeAt(0), 4 * i, 4 * i + 3));
    try {
      const image = converted(inGrey({ data, width, height }));
      return { image: image.join(), ...answerOf(network, image) };
    } catch (problem) {
      if (!(problem instanceof NoCharacter)) throw problem;
      return { reason: problem.message };
    }
  });
}"""


def test_200_pictures_are_read_as_python_reads_them(script, file):
    recogniser, given = Recogniser.load(), list(pictures())
    about = page.page_data({"handwriting": recogniser}, file.parent)["networks"][0]
    found = script.evaluate(READ, [about, [packed(grey) for grey in given]])
    expected = recogniser.predict_all(given)
    assert len(found) == 200 and sum(one.label == NOT_A_CHARACTER for one in expected) < 100
    for one, answer in zip(found, expected):
        mass = 0 if answer.image is None else recogniser.look(answer.image[None])[1].sum()
        if abs(mass - recogniser.refuse_above) > 1e-3:  # else a last bit decides
            assert (one.get("reason") or one["refused"]) == answer.reason
        if not answer.reason:
            image = np.array(one["image"].split(","), int)
            assert np.abs(answer.image.ravel() - image).max() <= 1
            assert one["label"] == answer.label and one["set"] == answer.set
            ours, theirs = dict(answer.alternatives), dict(one["ranked"])
            assert max(abs(ours[name] - theirs[name]) for name in BYCLASS) < 1e-3


def test_a_large_photograph_is_reduced_as_python_reduces_it(script, file):
    grey = np.kron(next(pictures()), np.ones((16, 16), np.uint8))
    assert max(grey.shape) > 768
    recogniser = Recogniser.load()
    about = page.page_data({"handwriting": recogniser}, file.parent)["networks"][0]
    (found,) = script.evaluate(READ, [about, [packed(grey)]])
    assert found["label"] == recogniser.predict(grey).label


@pytest.mark.parametrize(
    "name",
    ["custom", "lenet", "resnet", "lenet-with-norm", "wide", "wide-128"]
    + [f"resnet-without-{part}" for part in ("norm", "pool", "padding")],
)
def test_every_network_answers_as_torch_does(name, script):
    torch.manual_seed(0)
    model = PreparedNetwork(make_network(name, 7), Preparation(30.0, 90.0))
    for layer in model.modules():  # as after training: statistics and rounded kernels
        if isinstance(layer, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            layer.running_mean.uniform_(-0.2, 0.2), layer.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(layer.weight, 0.5, 2)
            torch.nn.init.uniform_(layer.bias, -0.5, 0.5)
    round_weights(model, bits=8 if name == "wide-128" else 16)
    images = generate(per_class=1, seed=0)[0][:4]
    expected = Recogniser(model, list("abcdefg"), UNSURE).probabilities(images)
    about = layers.described(model) | {"temperature": 1, "classes": list("abcdefg")}
    ask = "([about, images]) => images.map((image) => makeNetwork(about).look(image)[0])"
    found = script.evaluate(ask, [about, images.reshape(4, -1).tolist()])
    assert np.ptp(expected) > 0.01 and np.abs(found - expected).max() < 1e-4


ANSWER = """([refusals, byMass, threshold]) => {
  const classes = [..."abcd"], look = () => [[0.1, 0.66, 0.13, 0.11], refusals];
  const about = { refusals: ["several", "other"], refuseAbove: 0.5, byMass, threshold };
  return answerOf({ classes, look, ...about }, []);
}"""


@pytest.mark.parametrize(
    ("refusals", "said"),
    [([0.2, 0.2], ""), ([0.4, 0.2], "several"), ([0.2, 0.4], "other"), ([], "")],
)
def test_an_image_is_refused_for_the_likelier_reason(refusals, said, script):
    found = script.evaluate(ANSWER, [refusals, True, 0.5])
    assert found["refused"] == said and found["label"] == "b"


@pytest.mark.parametrize(
    ("by_mass", "threshold", "expected"),
    [
        (True, 0.3, "bc"),
        (True, 0.2, "bcd"),
        (True, 0.05, "bcda"),
        (False, 0.12, "bc"),
        (False, 0.9, "b"),
    ],
)
def test_a_set_is_what_is_likely_or_what_holds_enough_mass(by_mass, threshold, expected, script):
    assert script.evaluate(ANSWER, [[], by_mass, threshold])["set"] == [*expected]


# words


def says(*alternatives):
    return {"label": alternatives[0][0], "ranked": alternatives}


@pytest.mark.parametrize(
    "labels, said",
    [
        ("A", "Read as the capital A."),
        ("77", "Both networks read the digit 7."),
        ("lll", "All three networks read the small letter l."),
        ("1l1l1", "Three of five networks read the digit 1, two the small letter l."),
        ("1I", "One of two networks reads the digit 1, one the capital I."),
        ("1" * 13, "All 13 networks read the digit 1."),
    ],
)
def test_one_sentence_says_how_many_read_what(labels, said, script):
    assert script.evaluate("sentence", [says((label, 1)) for label in labels]) == said


@pytest.mark.parametrize(
    "answers, pair",
    [
        ([[("1", 0.6), ("l", 0.3)]], ["1", "l"]),
        ([[("1", 0.9)], [("l", 0.8)]], ["1", "l"]),
        ([[("1", 0.96), ("l", 0.03)]], []),
        ([[("1", 0.6), ("7", 0.4)]], []),
        ([[("1", 1.0)]], []),
    ],
)
def test_a_pair_is_confused_if_both_answers_are_probable_and_known_for_it(answers, pair, script):
    ask = "(answers) => confusedPair(answers, ['1lI'])"
    assert script.evaluate(ask, [says(*one) for one in answers]) == pair


@pytest.mark.parametrize(
    "share, text",
    [(0.001, "< 1 %"), (0.014, "1 %"), (0.987, "99 %"), (0.999, "> 99 %"), (1.0, "> 99 %")],
)
def test_no_percentage_is_certain(share, text, script):
    assert script.evaluate("chance", share).replace("\xa0", " ") == text


def test_a_name_that_looks_like_a_script_is_only_read(script):
    hostile = "<img src=x onerror=alert(1)>"
    ask = """(name) => {
      const network = { name, classes: [name], coverage: 0.9 };
      const data = { groups: [], examples: {} }, shown = document.createElement("div");
      const answer = { label: name, ranked: [[name, 1]], set: Array(15).fill(name) };
      showAnswers(shown, new Uint8Array(784), [network], [answer], data);
      return [shown.textContent, shown.querySelectorAll("img").length];
    }"""
    text, images = script.evaluate(ask, hostile)
    assert hostile in text and images == 1 and "and 3 more" in text


# the page


@pytest.mark.parametrize(
    "drawn, right", [("1", "1"), ("7", "7"), ("A", "A"), ("S", "Ss"), ("O", "Oo0")]
)
def test_what_is_drawn_with_the_mouse_is_read(tab, drawn, right):
    draw(tab, STROKES[drawn])
    expect_answer(tab, right)


def test_clearing_takes_the_answer_away(tab):
    draw(tab, STROKES["7"])
    expect(tab.locator(CARD)).to_have_count(2)
    tab.get_by_role("button", name="Clear").click()
    expect(tab.locator(CARD)).to_have_count(0)
    expect(tab.locator(".hw-said")).to_be_empty()
    expect(tab.locator(".hw-hint")).to_be_visible()


def test_undo_takes_the_last_stroke_back(tab):
    draw(tab, STROKES["7"])
    expect_answer(tab, "7")
    before = tab.get_attribute(".hw-given img", "src")
    draw(tab, [[(0.3, 0.5), (0.7, 0.5)], [(0.3, 0.6), (0.7, 0.7)]])
    expect(tab.locator(".hw-given img")).not_to_have_attribute("src", before)
    tab.get_by_role("button", name="Undo").click()
    tab.locator(".hw-canvas").press("Backspace")
    expect(tab.locator(".hw-given img")).to_have_attribute("src", before)


def test_the_image_shown_is_28_pixels_wide(tab):
    draw(tab, STROKES["7"])
    size = "(one) => [one.naturalWidth, one.naturalHeight]"
    assert tab.eval_on_selector(".hw-given img", size) == [28, 28]


def test_a_bare_stroke_shows_the_confused_pair_with_examples_of_both(tab):
    draw(tab, STROKES["l"])
    expect(tab.locator(".hw-row img")).to_have_count(2)
    assert set("".join(tab.locator(".hw-row b").all_inner_texts())) < set("1lIi")
    wide = "(all) => all.map((one) => one.naturalWidth)"
    assert tab.eval_on_selector_all(".hw-row img", wide) == [8 * 28, 8 * 28]


def test_several_characters_are_said_to_be_none(tab):
    draw(tab, [[(x, 0.2), (x, 0.8)] for x in (0.1, 0.5, 0.9)])
    expect(tab.locator(".hw-said")).to_have_text("This is not a character.")
    expect(tab.locator(".hw-details")).to_contain_text("more than one character")
    expect(tab.locator(CARD)).to_have_count(0)


def test_a_scribble_is_refused(tab):
    random = np.random.default_rng(3)
    draw(tab, [[tuple(point) for point in 0.1 + 0.8 * random.random((14, 2))]])
    expect(tab.locator(".hw-said")).to_have_text("This is not a character.")
    expect(tab.locator(f"{CARD}[data-network=handwriting] .hw-glyph")).to_have_count(0)
    expect(tab.locator(f"{CARD}[data-network=handwriting]")).to_contain_text("show none")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_a_photograph_is_read_as_python_reads_it(sample, tab):
    tab.set_input_files("input[type=file]", sample)
    expect(tab.locator(".hw-glyph").first).to_have_text(Recogniser.load().predict(sample).label)


def test_a_file_that_is_no_image_is_said_to_be_none(tab, tmp_path):
    (tmp_path / "text.png").write_text("text")
    tab.set_input_files("input[type=file]", tmp_path / "text.png")
    expect(tab.locator(".hw-said")).to_contain_text("cannot be read as an image")


def test_canvas_and_buttons_are_reached_with_the_keyboard_and_named(tab):
    tab.locator(".hw-canvas").focus()
    names, focused = [], "document.activeElement"
    for _ in range(4):
        names.append(tab.evaluate(f"{focused}.getAttribute('aria-label') || {focused}.textContent"))
        tab.keyboard.press("Tab")
    assert names[0].startswith("Drawing area") and names[1:] == ["Undo", "Clear", "Photo …"]


def test_a_finger_draws_on_a_phone_and_the_page_stays_where_it_is(visit):
    tab = phone(visit)
    finger = tab.context.new_cdp_session(tab)
    points = places(tab, STROKES["7"][0])
    before = tab.evaluate("scrollY")
    steps = [
        (a[0] + (b[0] - a[0]) * part / 6, a[1] + (b[1] - a[1]) * part / 6)
        for a, b in zip(points, points[1:])
        for part in range(7)
    ]
    for kind, (x, y) in [("touchStart", points[0]), *(("touchMove", step) for step in steps)]:
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect_answer(tab, "7")
    assert tab.evaluate("scrollY") == before


def test_canvas_and_answer_are_on_a_phones_first_screen(visit):
    tab = phone(visit)
    tab.evaluate("scrollTo(0, 0)")
    draw(tab, STROKES["7"])
    box = tab.locator(".hw-said").bounding_box()
    assert tab.evaluate("scrollY") == 0 and box["y"] + box["height"] < 800


def test_nothing_is_wider_than_a_phone(visit):
    tab = phone(visit)
    draw(tab, STROKES["l"])
    expect(tab.locator(".hw-row img")).to_have_count(2)
    assert tab.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [375, 375]
    assert all(
        box["x"] >= 0 and box["x"] + box["width"] <= 375
        for one in tab.locator(".hw-drawing *").all()
        if (box := one.bounding_box())
    )


def test_the_page_asks_for_nothing_and_may_not(visit, file):
    asked = [url for tab in (visit(), phone(visit)) for url in tab.requests]
    assert {url for url in asked if not url.startswith(("data:", "blob:"))} == {file.as_uri()}
    assert "default-src 'none'" in file.read_text()
