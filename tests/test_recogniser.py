"""Any image in, an honest answer out: drawings, photographs and what is neither."""

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from make_samples import NAMES, SAMPLES
from nonsense import NONSENSE, pairs
from PIL import Image, ImageDraw, ImageFont

from lib.analysis.calibration import threshold
from lib.data.classes import BYCLASS
from lib.data.cleanup import REFUSALS
from lib.data.strokes import generate
from lib.errors import InputError
from lib.files import ROOT
from lib.menu import answers
from lib.reading import Recogniser
from lib.reading.models import SHIPPED
from lib.reading.recogniser import NOT_A_CHARACTER, set_scores


@pytest.fixture(scope="module")
def recogniser():
    return Recogniser.load()


def page_of_text():
    page = Image.new("L", (600, 400), 250)
    for line in range(12):
        ImageDraw.Draw(page).text(
            (20, 20 + 30 * line),
            "the quick brown fox jumps over the lazy dog",
            fill=20,
            font=ImageFont.load_default(22),
        )
    return page


def word(text):
    page = Image.new("L", (300, 120), 250)
    ImageDraw.Draw(page).text((30, 20), text, fill=20, font=ImageFont.load_default(70))
    return page


@pytest.mark.parametrize("name", NAMES)
def test_the_five_samples_are_recognised(recogniser, name):
    answer = recogniser.predict(SAMPLES / f"{name}.png")
    assert answer.label == name and answer.confidence > 0.7


def test_alternatives_are_all_classes_ranked(recogniser):
    answer = recogniser.predict(SAMPLES / "8.png")
    names, chances = zip(*answer.alternatives, strict=True)
    assert sorted(names) == sorted(BYCLASS) and names[0] == "8"
    assert list(chances) == sorted(chances, reverse=True) and sum(chances) == pytest.approx(
        1, abs=1e-4
    )


def test_the_confidence_is_the_first_alternative_s(recogniser):
    answer = recogniser.predict(SAMPLES / "e.png")
    assert (answer.label, answer.confidence) == answer.alternatives[0]


def test_what_the_network_saw_comes_with_the_answer(recogniser):
    image = recogniser.predict(SAMPLES / "U.png").image
    assert image.shape == (28, 28) and image.dtype == np.uint8 and image.max() == 255


def test_many_images_get_the_answers_they_get_alone(recogniser):
    files = [SAMPLES / f"{name}.png" for name in NAMES]
    alone = [recogniser.predict(file) for file in files]
    for together, single in zip(recogniser.predict_all(files), alone, strict=True):
        assert together.label == single.label and together.confidence == pytest.approx(
            single.confidence, abs=1e-5
        )


def variants(sample):
    grey = np.asarray(sample)
    colour = np.dstack([grey, grey // 2 + 60, grey // 3 + 100])
    yield "inverted", Image.fromarray(255 - grey)
    yield "colour", Image.fromarray(colour)
    yield (
        "transparent",
        Image.fromarray(
            np.dstack([np.zeros((*grey.shape, 3), np.uint8), np.uint8((grey < 150) * 255)])
        ),
    )
    yield (
        "far off centre",
        Image.fromarray(np.pad(grey, ((0, 150), (90, 0)), constant_values=int(np.median(grey)))),
    )
    yield "24 pixels", sample.resize((24, 24), Image.Resampling.LANCZOS)
    yield "3,000 pixels", sample.resize((3000, 3000), Image.Resampling.BICUBIC)
    yield "sixteen bits", Image.fromarray(grey.astype(np.uint16) * 257)
    yield "floats", grey / 255
    yield "palette", sample.convert("P")
    yield "CMYK", Image.fromarray(colour).convert("CMYK")


@pytest.mark.parametrize("kind", [kind for kind, _ in variants(Image.new("L", (120, 120)))])
@pytest.mark.parametrize("name", NAMES)
def test_a_character_stays_what_it_is_in_any_kind_of_image(recogniser, name, kind):
    sample = Image.open(SAMPLES / f"{name}.png")
    assert recogniser.predict(dict(variants(sample))[kind]).label == name


def test_an_image_of_10_000_pixels_is_read(recogniser, tmp_path):
    Image.open(SAMPLES / "3.png").resize((10_000, 10_000)).save(tmp_path / "3.png")
    assert recogniser.predict(tmp_path / "3.png").label == "3"


def test_a_drawing_may_have_several_strokes(recogniser):
    page = Image.new("L", (200, 200), 255)
    pen = ImageDraw.Draw(page)
    for line in [(60, 180, 100, 20), (100, 20, 140, 180), (75, 120, 125, 120)]:
        pen.line(line, fill=0, width=12)
    assert recogniser.predict(page).label == "A"


@pytest.mark.parametrize(
    "image", [Image.new("L", (80, 80), shade) for shade in (0, 255)] + [Image.new("RGBA", (80, 80))]
)
def test_a_blank_page_is_not_a_character(recogniser, image):
    answer = recogniser.predict(image)
    assert (
        answer.label == NOT_A_CHARACTER
        and "no ink" in answer.reason
        and answer.set == []
        and answer.confidence == 0
    )


@pytest.mark.parametrize(
    "page", [page_of_text(), word("Hello"), word("Cat"), word("12"), word("ab")]
)
def test_a_text_is_not_a_character(recogniser, page):
    answer = recogniser.predict(page)
    assert answer.label == NOT_A_CHARACTER and "more than one character" in answer.reason


@pytest.mark.parametrize("size", [(1, 1), (9, 4), (10_001, 20)])
def test_an_image_too_small_or_too_large_is_refused(recogniser, size):
    with pytest.raises(InputError, match=f"{size[0]:,} x {size[1]:,} pixels"):
        recogniser.predict(Image.new("L", size))


def bomb(side=50_000):
    """A PNG of a few bytes that says it has side x side pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
        + struct.pack(">I", 10)
        + b"IDAT"
        + bytes(14)
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty or of no known kind"),
        (b"not an image", "empty or of no known kind"),
        (bomb(), "10,000"),
        ((SAMPLES / "3.png").read_bytes()[:600], "damaged or cut short"),
    ],
)
def test_a_file_that_is_no_image_is_named(recogniser, tmp_path, content, said):
    (tmp_path / "odd.png").write_bytes(content)
    with pytest.raises(InputError, match=said):
        recogniser.predict(tmp_path / "odd.png")


def test_a_higher_coverage_gives_larger_sets():
    files = [SAMPLES / f"{name}.png" for name in NAMES]
    sizes = [
        sum(len(answer.set) for answer in Recogniser.load(coverage=coverage).predict_all(files))
        for coverage in (0.8, 0.999)
    ]
    assert sizes[0] < sizes[1]


def test_the_threshold_of_a_set_is_the_one_of_split_conformal_prediction():
    likelihoods = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert [threshold(likelihoods, coverage) for coverage in (0.9, 0.8, 0.5, 0.95)] == [
        0.1,
        0.2,
        0.5,
        0,
    ]


@pytest.mark.parametrize("coverage", [0, 1, -0.5])
def test_an_impossible_coverage_is_refused(coverage):
    with pytest.raises(InputError, match="not between 0 and 1"):
        Recogniser.load(coverage=coverage)


@pytest.fixture(scope="module", params=["handwriting", "strokes"])
def shipped(request):
    return Recogniser.load(SHIPPED[request.param])


@pytest.mark.parametrize("kind", [*NONSENSE])
def test_what_is_no_character_is_refused(shipped, kind):
    found = shipped.predict_all(NONSENSE[kind](100))
    refused = np.mean([one.label == NOT_A_CHARACTER for one in found])
    assert refused >= {"zigzags": 0.75, "scripts": 0.05}.get(kind, 0.95)
    assert sum(one.confidence > 0.7 for one in found) <= {"scripts": 50, "zigzags": 8}.get(kind, 4)


@pytest.mark.parametrize("above", [False, True])
def test_two_characters_that_touch_are_refused_as_several(shipped, above):
    images = generate(2, 3, "pairs")[0]
    found = shipped.predict_all(pairs(images, 100, 0, above))
    assert np.mean([one.reason == REFUSALS["(several)"] for one in found]) >= 0.6


def test_characters_are_seldom_refused(shipped):
    found = shipped.predict_all(255 - np.pad(image, 6) for image in generate(4, 3, "single")[0])
    assert np.mean([one.label == NOT_A_CHARACTER for one in found]) <= 0.04


def test_a_prior_changes_confidence_and_sets():
    plain, among = (
        Recogniser.load(prior=prior) for prior in (None, dict.fromkeys("0123456789", 1))
    )
    images = generate(1)[0]
    one, two = plain.probabilities(images), among.probabilities(images)
    assert (two[:, 10:] == 0).all() and np.allclose(two.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(two[:, :10], one[:, :10] / one[:, :10].sum(axis=1, keepdims=True), atol=1e-5)
    answer = among.answer(images[0], two[0], np.zeros(2))
    assert answer.label in "0123456789" and set(answer.set) <= set("0123456789")
    with pytest.raises(InputError, match="allows no character"):
        Recogniser.load(prior={"O": 0})
    rare = Recogniser.load(prior={"O": 1, "0": 1e-4}).probabilities(images)
    assert (rare[:, 24] > rare[:, 0]).sum() > 55


def test_a_set_grows_until_it_holds_enough():
    scores = set_scores(np.array([0.66, 0.13, 0.1, 0.06, 0.05]))
    assert scores == pytest.approx([1, 0.34, 0.21, 0.11, 0.05])


@pytest.mark.parametrize(
    ("text", "classes"),
    [("0-9", "0123456789"), ("digits", "0123456789"), ("A-Cx", "ABCx"), ("-", "-"), ("", "")],
)
def test_what_may_be_there_is_said_in_ranges_or_words(text, classes):
    assert answers.read_prior(text) == dict.fromkeys(classes, 1)


def test_frequencies_come_from_a_file(tmp_path):
    (tmp_path / "mine.json").write_text('{"a": 8.2, "b": 0}')
    assert answers.read_prior(str(tmp_path / "mine.json")) == {"a": 8.2, "b": 0}


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"a": -1}', '{"a": true}', '{"a": NaN}', "{}", "[" * 9999]
)
def test_odd_frequencies_are_refused(tmp_path, content):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(InputError, match="frequency for each character"):
        answers.read_prior(str(tmp_path / "mine.json"))


def test_a_missing_file_is_told_before_torch_is_imported():
    code = "import sys; from lib.menu import answers\n"
    code += "try: answers.predict(['no.png'], '', '', '', '0.9', '', True)\n"
    code += "except SystemExit: print(sorted({'torch', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "no.png is not there" in done.stdout and done.stdout.endswith("[]\n")


def predict(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "invoke", "predict", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_the_command_answers_every_file_it_can_and_says_which_it_cannot(tmp_path):
    (tmp_path / "no.png").write_text("text")
    Image.new("L", (50, 50), 255).save(tmp_path / "blank.png")
    done = predict(
        SAMPLES / "3.png", tmp_path / "no.png", tmp_path / "blank.png", SAMPLES / "e.png", "--json"
    )
    first, unread, blank, last = json.loads(done.stdout)
    assert done.returncode == 1 and done.stderr == ""
    assert list(first) == ["file", "label", "confidence", "alternatives", "set"] and (
        first["label"],
        last["label"],
    ) == ("3", "e")
    others = [one["label"] for one in first["alternatives"]]
    assert len(others) == 5 and "3" not in others
    assert list(unread) == ["file", "error"] and "cannot be read as an image" in unread["error"]
    assert blank["label"] == NOT_A_CHARACTER and "no ink" in blank["reason"] and blank["set"] == []


def test_names_of_files_that_do_not_print_lose_no_answer(tmp_path, capsys):
    odd = [str(tmp_path / name) for name in ("red\x1b[31m.png", os.fsdecode(b"bad\xff.png"))]
    for name in odd:
        shutil.copy(SAMPLES / "3.png", name)
    answers.predict(odd, "", "", "", "0.95", "", True)
    assert [entry["file"] for entry in json.loads(capsys.readouterr().out.encode())] == odd
    answers.predict(odd, "", "", "", "0.95", "", False)
    shown = capsys.readouterr().out
    assert r"red\x1b[31m.png" in shown and r"bad\udcff.png" in shown and "\x1b" not in shown


def test_the_command_prints_a_table():
    done = predict(SAMPLES / "8.png", "--coverage", "0.99")
    header, row = done.stdout.splitlines()
    assert (
        done.returncode == 0
        and header.split() == ["file", "label", "confidence", "alternatives", "set"]
        and row.split()[1] == "8"
    )


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--coverage", "2"], "--coverage 2: give a number between 0 and 1"),
        (["--model", "nowhere"], "no model file nowhere"),
        (["--network", "lenett"], "no trained network 'lenett'"),
        (["--profile", "emnist"], "--profile emnist says whose trained network: name one"),
        (["--among", "9-0"], "--among 9-0: write ranges such as 0-9"),
        (["--among", "0-9é"], "does not know 'é': leave it out"),
        (["--among", "digit"], "--among digit: write ranges"),
        (["--among", "no.json"], "--among no.json: give a JSON file"),
    ],
)
def test_a_mistaken_option_is_told_in_one_sentence(menu, option, said):
    status, printed, complaint = menu("predict", SAMPLES / "8.png", *option)
    assert status == 2 and printed == ""
    assert said in complaint and len(complaint.strip().splitlines()) == 1
