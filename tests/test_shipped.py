"""The networks that come with the repository: their cards, their size, their making."""

import json

import numpy as np
import pytest

from lib.data import load_data
from lib.data.classes import BYCLASS
from lib.errors import InputError
from lib.files import PRETRAINED, read_json
from lib.menu import storing
from lib.reading import Recogniser
from lib.reading.models import SHIPPED
from lib.wording import percent

MEASURED = {  # a line of the README: what of measured.json it shows
    "EMNIST, 62 classes, mean recall": ("EMNIST", "mean recall"),
    "the same, with EMNIST's frequencies as a prior": ("EMNIST", "with its frequencies"),
    "its digits, likeliest of ten": ("EMNIST", "digits"),
    "its letters, case folded, likeliest of 26": ("EMNIST", "letters"),
    "photographs, 62 classes": ("photographs", "62-way"),
    "photographs, case folded": ("photographs", "case folded"),
    "photographs, right one among the first three": ("photographs", "top 3"),
    "MNIST, likeliest of ten": ("NIST", "MNIST"),
    "capitals, likeliest of 26": ("NIST", "capitals"),
    "calibration error, EMNIST with the prior": ("EMNIST", "calibration error"),
    "calibration error, photographs": ("photographs", "calibration error"),
    "95 % sets that hold the right one, EMNIST": ("EMNIST", "in the set"),
    "95 % sets that hold the right one, photographs": ("photographs", "in the set"),
    "classes in a set, EMNIST": ("EMNIST", "size of a set"),
    "classes in a set, photographs": ("photographs", "size of a set"),
    "characters refused, EMNIST": ("EMNIST", "refused"),
    "characters refused, photographs": ("photographs", "refused"),
    "zigzags refused": ("zigzags", "refused"),
    "loops refused": ("scribbles", "refused"),
    "stars and wheels refused": ("shapes", "refused"),
    "letters of other scripts refused": ("scripts", "refused"),
    "pieces of photographs refused": ("pieces_of_photographs", "refused"),
    "AUROC, zigzags": ("zigzags", "AUROC"),
    "AUROC, loops": ("scribbles", "AUROC"),
    "AUROC, stars and wheels": ("shapes", "AUROC"),
    "AUROC, letters of other scripts": ("scripts", "AUROC"),
    "AUROC, pieces of photographs": ("pieces_of_photographs", "AUROC"),
    "pairs beside each other called several": ("pairs beside", "several"),
    "pairs above each other called several": ("pairs above", "several"),
    "pairs beside each other refused": ("pairs beside", "refused"),
    "pairs above each other refused": ("pairs above", "refused"),
    "of 30 zigzags, those with a letter above 70 %": ("thirty zigzags", "over 70 %"),
}


def shown(key, value):
    if key == "over 70 %":
        return f"{value:.0f}"
    if key == "AUROC":
        return f"{value:.3f}"
    return f"{value:.1f}" if key == "size of a set" else percent(value)


def test_the_readme_says_what_was_measured():
    """How well they read is measured by tests/real, which writes measured.json."""
    measured = read_json(PRETRAINED / "measured.json")
    lines = ["| | `handwriting` | `strokes` |\n|---|---|---|\n"]
    for line, (part, key) in MEASURED.items():
        cells = (shown(key, measured[name][part][key]) for name in ("handwriting", "strokes"))
        lines.append(f"| {line} | {' | '.join(cells)} |\n")
    assert "".join(lines) in (PRETRAINED / "README.md").read_text(), "".join(lines)


def card_of(name):
    return json.loads((PRETRAINED / f"{name}.json").read_text())


@pytest.mark.parametrize("name", SHIPPED)
def test_a_network_gives_the_accuracy_on_its_card(name, data):
    card, data = card_of(name), load_data(per_class=10, test_per_class=100)
    right = Recogniser.load(SHIPPED[name]).probabilities(data.test_images).argmax(axis=1)
    found = (right == data.test_labels).mean()
    assert card["accuracy"] == pytest.approx(found, abs=0.002) and card["n_test"] == 6200


@pytest.mark.parametrize("name", SHIPPED)
def test_a_card_says_what_was_asked_for(name):
    card, asked = card_of(name), storing.READERS[name]
    assert {key: card[key] for key in asked} == asked
    assert (card["n_emnist"] > 0) == (name == "handwriting")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_network_is_small_knows_all_characters_and_two_refusals(name):
    made = Recogniser.load(SHIPPED[name])
    assert SHIPPED[name].stat().st_size < 1_000_000
    assert made.class_names == list(BYCLASS) and len(made.refusals) == 2
    assert 0 < made.refuse_above < 1 and made.by_mass


def test_the_cards_for_people_say_what_those_for_programs_do():
    page = (PRETRAINED / "README.md").read_text()
    cards = [card_of(name) for name in ("handwriting", "strokes")]
    for line, said in {
        "generated characters (lib/data/strokes.py) to train on": "{n_generated:,}",
        "images of what is no character": "{n_nonsense:,}",
        "accuracy on 6,200 generated characters": "{accuracy:.1%}",
    }.items():
        cells = " | ".join(said.format(**card).replace("%", " %") for card in cards)
        assert f"| {line} | {cells} |" in page


@pytest.mark.slow  # a minute, and nbval runs this notebook in any case
def test_a_small_network_is_made_by_its_notebook(monkeypatch, tmp_path, capsys):
    tiny = {"per_class": 20, "valid_fraction": 0.1, "n_nonsense": 200, "epochs": 1}
    monkeypatch.setitem(storing.READERS, "strokes", tiny)
    storing.pretrain("strokes", "", tmp_path)
    card = json.loads((tmp_path / "strokes.json").read_text())
    assert card["per_class"] == 20 and card["n_nonsense"] == 200
    made = Recogniser.load(tmp_path / "strokes.safetensors")
    assert made.temperature == pytest.approx(card["temperature"], abs=1e-3)
    assert made.look(np.zeros((3, 28, 28), np.uint8))[1].shape == (3, 2)
    assert "strokes: written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("network", "archive", "said"),
    [("letters", "", "choose strokes or handwriting"), ("handwriting", "no.zip", "no.zip is not")],
)
def test_what_cannot_be_made_is_said_at_once(network, archive, said, tmp_path):
    with pytest.raises(InputError, match=said):
        storing.pretrain(network, archive, tmp_path)
