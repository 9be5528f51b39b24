import base64
import io
import json
import os
import re
from urllib.parse import unquote

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from lib.errors import InputError
from lib.report import explorer, readme, stale_pages
from lib.report.pages import write_page

HOSTILE = "<script>document.title='broken'</script>"
NAMES = [*"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", HOSTILE]
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5Er"
    "kJggg=="
)
LABELS = np.tile(np.arange(len(NAMES)), 10)
IMAGES = np.random.default_rng(0).integers(0, 256, (len(LABELS), 28, 28), np.uint8)


def probabilities(labels=LABELS):
    """Of a reader who takes every tenth image for the class before, with rising certainty."""
    answers = np.where(np.arange(len(labels)) % 10, labels, (labels - 1) % len(NAMES))
    found = np.full((len(labels), len(NAMES)), 0.001, np.float32)
    found[np.arange(len(labels)), answers] = np.linspace(0.5, 0.9, len(labels))
    return found


def explored(images=IMAGES, **answers):
    return explorer.explorer_html(NAMES, answers or {"custom": (LABELS, probabilities())}, images)


def explorer_data(html):
    return json.loads(re.search(r'id="explorer-data">(.*?)</script>', html)[1])


def shown(kind, content, tags=()):
    cell = new_code_cell(
        "plot()  # wide" * 20, outputs=[new_output("display_data", {kind: content})]
    )
    cell.metadata["tags"] = list(tags)
    return cell


def write_notebook(path, *cells, title="A title"):
    prose = (
        "Look at the *dot*, see [another](02-other.ipynb), [gone](77-gone.ipynb) and [below](#End)."
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    first = new_markdown_cell(f"# {title}\n\n{prose}\n\n## End")
    nbformat.write(new_notebook(cells=[first, *cells]), path)
    return path


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """A folder with a report and two chapters, and their pages."""
    folder = tmp_path_factory.mktemp("report")
    both = {"lenet": (LABELS, probabilities(LABELS[::-1])), "custom": (LABELS, probabilities())}
    wide = f"<style>p {{}}</style><table><tr>{'<td>wide</td>' * 99}</tr></table>{HOSTILE}"
    cells = [shown("image/png", PIXEL), shown("text/html", wide, ["nbval-ignore-output"])]
    write_notebook(folder / "notebooks/01-explore.ipynb", *cells, title="What is in the data?")
    write_notebook(folder / "notebooks/02-other.ipynb", *cells, title=f"Other {HOSTILE}")
    table = f"| a | b | c |\n|---|---|---|\n| {' | '.join(['wide' * 40] * 3)} |"
    cells += [shown("text/markdown", table), shown("text/html", explored(**both), ["explorer"])]
    write_notebook(folder / "notebooks/11-report.ipynb", *cells, title="The report")
    for source in stale_pages(folder):
        write_page(folder, source)
    return folder


def text_of(outputs, page):
    return (outputs / "report" / page).read_text(encoding="utf-8")


def test_the_report_is_the_first_page_and_is_written_last(outputs, tmp_path):
    for name in ("11-report", "02-other", "12-later"):
        write_notebook(tmp_path / f"notebooks/{name}.ipynb")
    assert [path.stem for path in stale_pages(tmp_path)] == ["02-other", "12-later", "11-report"]
    assert (outputs / "report/index.html").exists()


def test_only_a_page_older_than_its_notebook_is_stale(tmp_path):
    source = write_notebook(tmp_path / "notebooks/01-explore.ipynb")
    page = write_page(tmp_path, source)
    assert stale_pages(tmp_path) == []
    os.utime(source, (page.stat().st_mtime + 9,) * 2)
    assert stale_pages(tmp_path) == [source]
    write_page(tmp_path, source)  # as after a clock was set back by nine seconds
    assert stale_pages(tmp_path) == []


def test_a_damaged_notebook_is_named(tmp_path):
    source = write_notebook(tmp_path / "notebooks/01-explore.ipynb")
    source.write_text(source.read_text()[:-9])
    with pytest.raises(InputError, match="01-explore.ipynb is damaged"):
        write_page(tmp_path, source)


def test_the_report_shows_no_code_and_a_chapter_folds_it(outputs):
    assert "plot" not in text_of(outputs, "index.html")
    chapter = text_of(outputs, "notebooks/01-explore.html")
    assert "plot" in chapter and chapter.count("<summary>Code</summary>") == 2


def test_no_mark_of_a_test_is_seen_on_a_page(outputs):
    chapter = re.sub(r'class="[^"]*"', "", text_of(outputs, "notebooks/01-explore.html"))
    assert "nbval" not in chapter.lower()


def test_what_a_notebook_shows_is_sanitised(outputs):
    for page in ("index.html", "notebooks/01-explore.html", "notebooks/02-other.html"):
        assert "<script>document" not in text_of(outputs, page)


def test_a_link_to_a_notebook_leads_to_its_page_and_one_to_nowhere_is_text(outputs):
    chapter, report = text_of(outputs, "notebooks/01-explore.html"), text_of(outputs, "index.html")
    assert '<a href="02-other.html">another</a>, gone' in chapter
    assert '<a href="notebooks/02-other.html">another</a>, gone' in report


def test_a_figure_is_described_by_the_prose_above_it(outputs):
    alt = 'alt="Figure. Look at the dot, see another, gone and below."'
    assert alt in text_of(outputs, "index.html") and alt in text_of(
        outputs, "notebooks/01-explore.html"
    )


def test_no_half_of_a_page_is_left(outputs):
    assert not list(outputs.rglob("*.part*"))


def test_counts_hold_every_test_image_and_cells_a_few():
    network = explorer_data(explored())["networks"][0]
    assert sum(network["counts"].values()) == len(LABELS)
    assert max(map(len, network["images"].values())) == 2 * explorer.PER_CELL


def test_the_surest_answers_are_shown_first():
    for flat in explorer_data(explored())["networks"][0]["images"].values():
        assert flat[1::2] == sorted(flat[1::2], reverse=True)


def test_without_images_there_are_counts_and_no_picture():
    data = explorer_data(explored(images=None))
    assert data["networks"][0]["counts"] and not data["networks"][0]["images"]
    assert data["sprite"] == ""


def test_the_picture_takes_no_more_images_than_are_allowed():
    many = np.arange(40 * 3000) % 40
    answers = np.eye(40, dtype=np.float32)[np.random.default_rng(0).integers(0, 40, len(many))]
    images = np.zeros((len(many), 28, 28), np.uint8)
    html = explorer.explorer_html(list("x" * 40), {"custom": (many, answers)}, images)
    found = explorer_data(html)["networks"][0]["images"].values()
    places = {place for flat in found for place in flat[::2]}
    assert places == set(range(explorer.MOST_IMAGES))


def test_a_place_in_the_picture_holds_its_image():
    png = base64.b64decode(explorer.sprite(IMAGES[:5], columns=3).partition(",")[2])
    ink = np.array(Image.open(io.BytesIO(png)).convert("RGBA"))[..., 3].astype(int)
    assert ink.shape == (56, 84)
    assert abs(ink[28:, 28:56] - IMAGES[4].astype(int)).max() <= 9


def test_a_perfect_network_has_an_explorer():
    right = np.eye(len(NAMES), dtype=np.float32)[LABELS]
    assert explorer_data(explored(custom=(LABELS, right)))["networks"][0]["name"] == "custom"


def tagged(tmp_path, **tables):
    cells = [shown("text/markdown", text, [f"readme-{name}"]) for name, text in tables.items()]
    cells.append(shown("image/png", PIXEL, ["readme-overview"]))
    return write_notebook(tmp_path / "11-report.ipynb", *cells)


def test_the_readme_gets_the_tables_and_the_picture_of_the_reports(tmp_path):
    head = "| question | measured |\n| --- | --- |\n"
    findings = f"{head}| a | 1 |\n| b | 2 |"
    notebook, text = tagged(tmp_path, findings=findings), tmp_path / "README.md"
    emnist = tagged(tmp_path / "emnist", results="| 3 |", findings=f"{head}| a | 4 |")
    places = "x <!-- results -->\n{}<!-- end --> y\n<!-- findings -->\n{}<!-- end -->\n"
    places += "<!-- more -->\n{}<!-- end -->\n"
    after = places.format("| 3 |\n", f"{head}| a | 4 |\n", f"{head}| b | 2 |\n")
    assert readme.with_tables(places.format("old\n", "", ""), notebook, emnist) == after
    text.write_text("nothing to fill in")
    readme.write_readme(notebook, text, tmp_path / "overview.png")
    assert (tmp_path / "overview.png").read_bytes() == base64.b64decode(PIXEL)


def test_a_report_without_a_table_is_named(tmp_path):
    with pytest.raises(InputError, match="no output tagged readme-findings"):
        readme.with_tables("<!-- findings -->\n<!-- end -->", tagged(tmp_path, results="| 1 |"))


@pytest.fixture
def opened(browser, outputs):
    """Opens a page; `problems`: what the console says, and each request that is not for a file."""
    contexts = []

    def open_page(path="index.html", **options):
        contexts.append(browser.new_context(**options))
        tab = contexts[-1].new_page()
        tab.problems = []
        tab.on("console", lambda message: tab.problems.append(message.text))
        tab.on("pageerror", lambda error: tab.problems.append(str(error)))
        tab.on("requestfailed", lambda request: tab.problems.append(request.url[:80]))
        tab.on(
            "request", lambda request: elsewhere(request.url) and tab.problems.append(request.url)
        )
        tab.goto((outputs / "report" / path).as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()


def elsewhere(url):
    return not url.startswith(("file:", "data:"))


def pictures(tab):
    """The crops of the picture that the explorer shows."""
    script = "all => all.map((one) => one.getAttribute('aria-label') + one.getAttribute('style'))"
    return tab.eval_on_selector_all("#pictures .glyph", script)


def attributes(tab, selector, name):
    script = f"all => all.map((one) => one.getAttribute('{name}'))"
    return tab.eval_on_selector_all(selector, script)


PHONE = {"viewport": {"width": 375, "height": 800}, "has_touch": True, "is_mobile": True}
each_page = pytest.mark.parametrize(
    "path", ["index.html", "notebooks/01-explore.html", "notebooks/02-other.html"]
)


@pytest.mark.slow
@each_page
def test_the_console_stays_silent_and_nothing_is_asked_of_the_network(opened, path):
    tab = opened(path)
    assert tab.problems == [] and tab.title() != "broken"


@pytest.mark.slow
@each_page
def test_every_link_leads_somewhere(opened, outputs, path):
    tab = opened(path)
    links = attributes(tab, "a[href]", "href")
    files = {link.partition("#")[0] for link in links if not link.startswith("#")}
    assert files and all(
        (outputs / "report" / path).parent.joinpath(file).is_file() for file in files
    )
    ids = attributes(tab, "[id]", "id")
    assert {ids.count(unquote(link[1:])) for link in links if link.startswith("#")} <= {1}


@pytest.mark.slow
@each_page
def test_nothing_is_wider_than_a_phone(opened, path):
    assert opened(path, **PHONE).evaluate("document.documentElement.scrollWidth") == 375


@pytest.mark.slow
def test_a_table_that_is_cut_off_on_a_phone_scrolls_and_says_so(opened):
    script = """all => all.map((one) => [one.scrollWidth > one.clientWidth, one.tabIndex,
                getComputedStyle(one).backgroundImage.includes('gradient')])"""
    found = opened(**PHONE).eval_on_selector_all(".scroll", script)
    assert found and all(one == [True, 0, True] for one in found)


@pytest.mark.slow
@each_page
def test_dark_mode_turns_paper_and_ink_round(opened, path):
    def brightness(scheme, what):
        tab = opened(path, color_scheme=scheme)
        color = tab.evaluate(f"getComputedStyle(document.body).{what}")
        return sum(map(int, re.findall(r"\d+", color)[:3]))

    assert brightness("light", "backgroundColor") > 600 > 200
    assert brightness("dark", "backgroundColor") < 200
    assert brightness("light", "color") < 200 < 600 < brightness("dark", "color")


@pytest.mark.slow
def test_every_figure_has_a_text_alternative(opened):
    tab = opened()
    assert all(attributes(tab, "img", "alt"))
    assert all(attributes(tab, "[role=img], [role=application]", "aria-label"))


@pytest.mark.slow
def test_headings_skip_no_level(opened):
    script = "all => all.map((one) => Number(one.tagName[1]))"
    levels = opened().eval_on_selector_all("h1, h2, h3, h4", script)
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:]))


@pytest.mark.slow
def test_every_picture_has_pixels(opened):
    measure = """async () => { const image = new Image();
        image.src = getComputedStyle(document.querySelector('.glyph')).backgroundImage.slice(5, -2);
        await image.decode(); return image.naturalWidth; }"""
    tab = opened()
    assert tab.evaluate(measure) % 28 == 0
    assert tab.eval_on_selector_all("img", "all => all.map((one) => one.naturalWidth)") == [1]


@pytest.mark.slow
def test_choosing_classes_changes_the_pictures(opened):
    tab = opened()
    tab.select_option("#network", label="custom")
    before = pictures(tab)
    tab.select_option("#actual", label="Z")
    tab.select_option("#predicted", "35")
    assert before and pictures(tab) and pictures(tab) != before
    assert "images of Z were read right" in tab.inner_text("#told")


@pytest.mark.slow
def test_choosing_another_network_shows_its_answers(opened):
    tab = opened()
    assert tab.locator("#network option").all_text_contents() == ["LeNet", "custom"]
    before = tab.inner_text("#map")
    tab.select_option("#network", label="custom")
    assert pictures(tab) and before == tab.inner_text("#map")


@pytest.mark.slow
def test_a_frequent_pair_is_chosen_with_one_press(opened):
    tab = opened()
    wanted = tab.locator("#pairs button").nth(1).get_attribute("aria-label")
    tab.locator("#pairs button").nth(1).press("Enter")
    assert attributes(tab, "#pairs button[aria-pressed=true]", "aria-label") == [wanted]


@pytest.mark.slow
def test_arrow_keys_move_the_choice_on_the_map(opened):
    tab = opened()
    tab.select_option("#actual", "5")
    tab.press("#map", "ArrowDown")
    assert tab.input_value("#actual") == "6"


@pytest.mark.slow
def test_every_class_labels_a_row_and_a_column_of_the_map(opened):
    tab = opened()
    assert tab.locator("#map thead th").all_text_contents()[1:] == NAMES
    assert tab.locator("#map tbody th").all_text_contents() == NAMES
    assert "%" in tab.inner_text("#key")


@pytest.mark.slow
def test_a_finger_hits_a_cell_of_the_map(opened):
    tab = opened(**PHONE)
    cell = tab.locator("#map tbody tr").nth(4).locator("td").nth(3)
    cell.scroll_into_view_if_needed()
    box = cell.bounding_box()
    assert box["width"] >= 24 and box["height"] >= 24
    cell.tap()
    assert [tab.input_value("#actual"), tab.input_value("#predicted")] == ["4", "3"]


@pytest.mark.slow
def test_a_map_that_scrolls_says_so(opened):
    assert opened(**PHONE).is_visible(".more") and not opened().is_visible(".more")


@pytest.mark.slow
def test_names_that_look_like_scripts_are_only_read(opened):
    tab = opened()
    assert tab.locator("#actual option").last.text_content() == HOSTILE
    assert tab.title() != "broken" and tab.problems == []
