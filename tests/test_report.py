import json
import re
from dataclasses import replace

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib import files
from lib.data import load_data
from lib.errors import InputError
from lib.params import load_profile
from lib.report import charts, explorer, notebooks, page, reading, write_report

SMALL = ["per_class=10", "test_per_class=2"]
HOSTILE = "<script>document.title='broken'</script>"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
FOUND = {
    "04-compare": {
        "baselines": [
            {"network": "commonest class", "parameters": 0, "test_accuracy": 0.016},
            {"network": "logistic regression", "parameters": 9, "test_accuracy": 0.5},
        ],
        "paired": [
            {
                "first": "lenet",
                "second": "custom",
                "only_first": 10,
                "only_second": 30,
                "p": 1e-9,
                "verdict": "custom is better",
            }
        ],
        "schedules": [
            {"schedule": "constant", "n": 1, "mean": 0.7, "std": None, "gain": 0.0},
            {"schedule": "one_cycle", "n": 1, "mean": 0.8, "std": None, "gain": 0.1},
        ],
    },
    "05-confusions": {
        "best": "custom",
        "found_groups": ["0Oo", "1Il"],
        "missed_by_all": {"networks": 2, "found": 20, "expected": 4.2},
        "budget": {"custom": {"errors": 12, "images": 124, "parts": {"case only": 4, "rest": 8}}},
        "calibration": {"custom": {"temperature": 1.3, "ece_before": 0.05, "ece_after": 0.01}},
        "conformal": [{"coverage": 0.9, "measured": 0.91, "mean_size": 1.2}],
        "sets": [{"index": 3, "actual": "1", "set": ["1", "l"]}],
        "suspicious": [{"index": 5, "label": HOSTILE, "answer": "3", "probability": 0.9}],
    },
    "06-why-the-gap": {
        "skew": [{"network": "lenet", "seed": 0, "as_trained": 0.77, "as_tested": 0.13}],
        "original": [{"network": "lenet", "train": 0.7, "validation": 0.8, "test": 0.6}],
    },
    "07-transfer-learning": {
        "target": "some letters",
        "imagenet": [{"variant": "all layers", "accuracy": 0.4}],
        "curves": [
            {"per_class": size, "start": start, "n": 1, "mean": size / 100, "std": None}
            for size in (5, 20)
            for start in ("strokes", "scratch")
        ],
    },
    "08-better": {
        "trials": [{"variant": "augment", "n": 2, "mean": 0.8, "std": 0.01, "gain": 0.02}],
        "ensemble": {"mean": 0.9, "best_single": 0.8},
    },
}


def write_run(outputs, network, seed, labels):
    """A run that reads nine of ten images; the others it takes for the class before, small letters for their capitals."""
    metrics = dict(
        network=network,
        schedule="one_cycle",
        seed=seed,
        parameters=9,
        seconds=3.5,
        n_classes=62,
        n_train=558,
        n_valid=62,
        n_test=len(labels),
        note="",
        dataset="generated strokes",
        split="byclass",
        checksum="0",
        learning_rate=0.01,
        epochs=2,
        torch="2",
        fastai="2",
        python="3",
        device_name="a machine",
        train_accuracy=0.9,
        valid_accuracy=0.8 + (network == "custom") / 100 + seed / 1000,
        test_accuracy=0.9 - (network == "custom") / 100 - seed / 1000,
    )
    folder = outputs / files.run_name(network, "one_cycle", seed)
    files.write_json(folder / files.METRICS, metrics)
    (folder / files.HISTORY).write_text(
        "epoch,train_loss,valid_loss,valid_accuracy,learning_rate\n1,3.0,2.0,0.5,0.1\n2,2.0,1.0,0.8,0.0\n"
    )
    probabilities = np.full((len(labels), 62), 0.001, np.float32)
    answers = np.where(
        np.arange(len(labels)) % 10, labels, np.where(labels < 36, (labels - 1) % 62, labels - 26)
    )
    probabilities[np.arange(len(labels)), answers] = np.linspace(0.5, 0.9, len(labels))
    np.savez(folder / files.PREDICTIONS, test_actual=labels, test_probabilities=probabilities)
    return metrics


def write_notebook(path, title):
    """An executed notebook with a figure, wide code, a wide table and links to what a page does not have."""
    outputs = [
        new_output("display_data", {"image/png": PIXEL}),
        new_output(
            "display_data", {"text/html": f"<table><tr>{'<td>wide</td>' * 99}</tr></table>"}
        ),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    prose = new_markdown_cell(
        f"# {title}\n\nLook at the *dot*, see [another](02-other.ipynb) and [below](#End).\n\n## End"
    )
    nbformat.write(
        new_notebook(cells=[prose, new_code_cell("plot()  # wide" * 20, outputs=outputs)]), path
    )


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The folder of a profile with two networks, two seeds, all findings, two notebooks and its report."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("report")
        patch.setenv("HANDWRITING_OUTPUTS", str(root))
        patch.setenv("HANDWRITING_DATA", str(root / "data"))
        folder = root / "outputs/small"
        labels = load_data(load_profile("small", SMALL)).test_labels
        files.write_json(
            folder / files.RESULTS,
            [
                write_run(folder, network, seed, labels)
                for network in ("lenet", "custom")
                for seed in (0, 1)
            ],
        )
        for name, found in FOUND.items():
            files.write_json(folder / files.FINDINGS / f"{name}.json", found)
        write_notebook(folder / "notebooks/01-explore-data.ipynb", "What is in the data?")
        write_notebook(folder / "notebooks/02-other.ipynb", f"Another {HOSTILE}")
        write_report("small", SMALL)
        yield folder


@pytest.fixture
def material(outputs):
    return reading.read_material("small", load_profile("small", SMALL), outputs)


@pytest.fixture
def opened(browser, outputs):
    """Opens a file of the report; `problems` gathers what the console complains of and every request that is not for a file."""
    contexts = []

    def open_page(path="index.html", **options):
        contexts.append(browser.new_context(**options))
        tab = contexts[-1].new_page()
        tab.problems = []
        tab.on("console", lambda message: tab.problems.append(message.text))
        tab.on("pageerror", lambda error: tab.problems.append(str(error)))
        tab.on("requestfailed", lambda request: tab.problems.append(request.url[:80]))
        tab.on(
            "request",
            lambda request: (
                request.url.startswith(("file:", "data:")) or tab.problems.append(request.url)
            ),
        )
        tab.goto((outputs / "report" / path).as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()


def pictures(tab):
    """The crops of the sprite that the explorer shows."""
    return tab.eval_on_selector_all(
        "#pictures .glyph",
        "all => all.map((one) => one.getAttribute('aria-label') + one.getAttribute('style'))",
    )


@pytest.mark.parametrize(
    "path", ["index.html", "notebooks/01-explore-data.html", "notebooks/02-other.html"]
)
def test_the_console_stays_silent_and_nothing_is_asked_of_the_network(opened, path):
    assert opened(path).problems == []


@pytest.mark.parametrize("path", ["index.html", "notebooks/01-explore-data.html"])
def test_every_link_leads_somewhere(opened, outputs, path):
    tab = opened(path)
    links = tab.eval_on_selector_all("a[href]", "all => all.map((one) => one.getAttribute('href'))")
    elsewhere = {link.partition("#")[0] for link in links if not link.startswith("#")}
    assert elsewhere and all(
        (outputs / "report" / path).parent.joinpath(link).is_file() for link in elsewhere
    )
    assert all(
        tab.locator(f"[id='{link[1:]}']").count() == 1 for link in links if link.startswith("#")
    )


def test_every_picture_has_pixels(opened):
    measure = """async () => { const url = getComputedStyle(document.querySelector('.glyph')).backgroundImage.slice(5, -2), image = new Image();
                 image.src = url; await image.decode(); return image.naturalWidth; }"""
    assert opened().evaluate(measure) % explorer.SIDE == 0
    assert opened("notebooks/01-explore-data.html").eval_on_selector_all(
        "img", "all => all.map((one) => one.naturalWidth)"
    ) == [1]


def test_choosing_classes_changes_the_pictures(opened):
    tab = opened()
    before = pictures(tab)
    tab.select_option("#actual", label="Z")
    tab.select_option("#predicted", "35")
    assert (
        before
        and pictures(tab)
        and pictures(tab) != before
        and "images of Z were read right" in tab.inner_text("#told")
    )


def test_choosing_another_network_is_told(opened):
    tab = opened()
    assert tab.eval_on_selector_all(
        "#network option", "all => all.map((one) => one.textContent)"
    ) == ["custom", "LeNet"]
    tab.select_option("#network", "lenet")
    assert tab.input_value("#network") == "lenet" and pictures(tab)


def test_a_frequent_pair_is_chosen_with_one_press(opened):
    tab = opened()
    tab.locator("#pairs button").nth(1).press("Enter")
    pressed = tab.locator("#pairs button[aria-pressed=true]")
    assert pressed.get_attribute("aria-label") == tab.locator("#pairs button").nth(1).get_attribute(
        "aria-label"
    )
    assert pictures(tab)[0].startswith(pressed.inner_text()[0])


def test_arrow_keys_move_the_choice_on_the_map(opened):
    tab = opened()
    tab.select_option("#actual", "5")
    tab.press("#matrix", "ArrowDown")
    assert tab.input_value("#actual") == "6"


def test_a_tap_on_the_map_chooses_the_confusion_below_the_finger(opened):
    tab = opened(has_touch=True, viewport={"width": 390, "height": 800})
    box = tab.locator("#matrix").bounding_box()
    tab.locator("#matrix").tap(position={"x": box["width"] / 2, "y": box["height"] / 2})
    assert int(tab.input_value("#predicted")) == int(tab.input_value("#actual")) - 1


@pytest.mark.parametrize("path", ["index.html", "notebooks/01-explore-data.html"])
def test_nothing_is_wider_than_a_phone(opened, path):
    tab = opened(path, viewport={"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("path", ["index.html", "notebooks/01-explore-data.html"])
def test_dark_mode_turns_paper_and_ink_round(opened, path):
    def brightness(scheme, what):
        color = opened(path, color_scheme=scheme).evaluate(
            f"getComputedStyle(document.body).{what}"
        )
        return sum(map(int, re.findall(r"\d+", color)[:3]))

    assert (
        brightness("light", "backgroundColor") > 600 > 200 > brightness("dark", "backgroundColor")
    )
    assert brightness("light", "color") < 200 < 600 < brightness("dark", "color")


def test_every_figure_has_a_text_alternative(opened):
    said = opened().eval_on_selector_all(
        "[role=img], img, canvas", "all => all.map((one) => one.getAttribute('aria-label'))"
    )
    assert said and all(said)


def test_a_notebooks_figure_is_described_by_the_prose_above_it(opened):
    said = opened("notebooks/01-explore-data.html").eval_on_selector_all(
        "img", "all => all.map((one) => one.alt)"
    )
    assert said == ["Figure. Look at the dot, see another and below."]


def test_headings_skip_no_level(opened):
    levels = opened().eval_on_selector_all(
        "h1, h2, h3, h4, h5, h6", "all => all.map((one) => Number(one.tagName[1]))"
    )
    assert (
        levels[0] == 1
        and levels.count(1) == 1
        and all(b <= a + 1 for a, b in zip(levels, levels[1:]))
    )


def test_names_that_look_like_scripts_are_only_read(opened, outputs, material):
    names = [HOSTILE, *material.data.class_names[1:]]
    text = page.render(replace(material, data=replace(material.data, class_names=names)), [])
    (outputs / "report/hostile.html").write_text(text)
    tab = opened("hostile.html")
    assert (
        tab.title() != "broken"
        and tab.locator("#actual option").first.text_content() == HOSTILE
        and tab.problems == []
    )


def test_the_page_is_small_and_no_half_of_it_is_left(outputs):
    assert (outputs / "report/index.html").stat().st_size < 2e6 and not list(
        outputs.rglob("*.part")
    )


def test_with_all_findings_no_part_is_missing(outputs):
    assert "Left out" not in (outputs / "report/index.html").read_text()


@pytest.mark.parametrize(
    "name, called",
    [
        ("04-compare", "schedules"),
        ("05-confusions", "causes of errors"),
        ("06-why-the-gap", "the mean image"),
        ("07-transfer-learning", "few real characters"),
        ("08-better", "trials of improvements"),
    ],
)
def test_a_missing_finding_is_left_out_and_said(material, name, called):
    text = page.render(
        replace(
            material,
            findings={key: found for key, found in material.findings.items() if key != name},
        ),
        [],
    )
    assert called in text[text.index("Left out") :]


@pytest.mark.parametrize(
    "wrong", [[], {"budget": None, "sets": [{"index": 10**6, "actual": "0", "set": []}]}]
)
def test_a_finding_of_another_shape_is_left_out(material, wrong):
    text = page.render(replace(material, findings={"05-confusions": wrong}), [])
    assert "prediction sets" in text[text.index("Left out") :]


def test_the_answer_has_three_sentences_of_measured_numbers(material):
    first, second, third = page.sentences(material)
    assert (
        "custom network reads best: 88.9\xa0±\xa00.1\xa0% of 124 test images" in first
        and "1.6\xa0%" in first
    )
    assert "of its 13 errors" in second and "the LeNet falls from 77\xa0% to 13\xa0%" in third


def test_without_findings_and_predictions_there_is_still_a_page(material):
    text = page.render(replace(material, findings={}, answers={}), [])
    assert (
        "How well they read" in text
        and "the confusion explorer" in text[text.index("Left out") :]
        and 'id="matrix"' not in text
    )


def test_without_findings_and_predictions_the_answer_still_has_three_sentences(material):
    first, second, third = page.sentences(replace(material, findings={}, answers={}))
    assert "guessing would get 1.6\xa0%" in first and "90.0\xa0%" in second and "points" in third


def test_the_best_network_is_chosen_on_validation(material):
    assert (
        replace(material, findings={}).best == "custom"
        and material.runs[0]["test_accuracy"] > 0.889
    )


def test_predictions_for_other_test_images_are_not_shown(outputs):
    other = load_profile("small", ["per_class=10", "test_per_class=3"])
    assert reading.read_material("small", other, outputs).answers == {}


def test_a_profile_without_results_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("HANDWRITING_OUTPUTS", str(tmp_path))
    with pytest.raises(InputError, match="run `invoke run-all --profile small` first"):
        write_report("small")


def test_counts_hold_every_test_image_and_cells_a_few(material, monkeypatch):
    monkeypatch.setattr(explorer, "PER_CELL", 1)
    shown = explorer.explorer_data(material, explorer.Sprite(material.data.test_images))[
        "networks"
    ]["custom"]
    assert sum(shown["counts"].values()) == 124 and {
        len(flat) for flat in shown["images"].values()
    } == {2}


def test_the_picture_takes_no_more_images_than_are_allowed(material, monkeypatch):
    monkeypatch.setattr(explorer, "MOST_IMAGES", 50)
    sprite = explorer.Sprite(material.data.test_images)
    shown = explorer.explorer_data(material, sprite)["networks"]["custom"]["images"]
    assert len(sprite.places) == 50 and {
        place for flat in shown.values() for place in flat[::2]
    } == set(range(50))


def test_a_place_in_the_picture_holds_its_image(material):
    from base64 import b64decode
    from io import BytesIO

    from PIL import Image

    sprite = explorer.Sprite(material.data.test_images)
    place = [sprite.place(index) for index in (7, 3, 90, 3, 41, 5)][2]
    ink = np.array(Image.open(BytesIO(b64decode(sprite.png()))).convert("RGBA"))[..., 3]
    row, column = divmod(place, sprite.columns)
    crop = ink[28 * row : 28 * (row + 1), 28 * column : 28 * (column + 1)].astype(int)
    assert abs(crop - material.data.test_images[90].astype(int)).max() <= 9


def test_pages_that_are_fresh_are_kept_and_old_ones_go(tmp_path):
    write_notebook(tmp_path / "a.ipynb", "A")
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/gone.html").touch()
    times = []
    for _ in range(2):
        with notebooks.pages_of(tmp_path, tmp_path / "pages") as pages:
            assert [one.title for one in pages] == ["A"]
        times.append((tmp_path / "pages/a.html").stat().st_mtime_ns)
    assert times[0] == times[1] and [path.name for path in (tmp_path / "pages").iterdir()] == [
        "a.html"
    ]


def test_many_notebooks_are_written_by_other_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "MANY", 1)
    write_notebook(tmp_path / "a.ipynb", "A")
    with notebooks.pages_of(tmp_path, tmp_path / "pages"):
        pass
    assert "<h1" in (tmp_path / "pages/a.html").read_text()


def test_a_damaged_notebook_is_named(tmp_path):
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": 1})[:-3])
    with pytest.raises(InputError, match="a.ipynb is damaged"):
        with notebooks.pages_of(tmp_path, tmp_path / "pages"):
            pass


@pytest.mark.parametrize(
    "values", [[0.856], [0.69, 0.86], [0.993, 0.9968], [-0.011, 0, 0.027], [0, 0], [0.4, 3.14]]
)
def test_a_scale_holds_its_values_between_round_ticks(values):
    scale = charts.round_scale(values)
    assert all(0 <= scale.at(value) <= 100 for value in values) and 2 <= len(scale.ticks) <= 8
