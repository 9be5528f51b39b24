import math
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest
import requests
from playwright.sync_api import expect

from lib.files import ROOT

pytestmark = pytest.mark.slow  # most need a browser and a server
LONG = 120_000  # milliseconds that a busy machine may take
CARD = ".hw-card"
ROUND = [
    (0.5 + 0.29 * math.sin(turn / 12 * math.pi), 0.5 - 0.36 * math.cos(turn / 12 * math.pi))
    for turn in range(25)
]
STROKES = {  # points in shares of the canvas
    "1": [[(0.36, 0.3), (0.53, 0.12), (0.53, 0.87)], [(0.35, 0.87), (0.71, 0.87)]],
    "7": [[(0.25, 0.15), (0.75, 0.15), (0.42, 0.88)]],
    "A": [[(0.2, 0.86), (0.5, 0.12), (0.8, 0.86)], [(0.31, 0.6), (0.69, 0.6)]],
    "S": [
        [
            (0.72, 0.24),
            (0.62, 0.15),
            (0.48, 0.12),
            (0.34, 0.18),
            (0.28, 0.3),
            (0.36, 0.42),
            (0.5, 0.49),
            (0.64, 0.57),
            (0.72, 0.69),
            (0.66, 0.82),
            (0.5, 0.88),
            (0.36, 0.86),
            (0.26, 0.77),
        ]
    ],
    "O": [ROUND],
    "l": [[(0.5, 0.1), (0.5, 0.9)]],
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def demo(port, **options):
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "invoke",
        "demo",
        "--port",
        str(port),
        "--profile",
        "small",
    ]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


@contextmanager
def served(outputs):
    """A process of `invoke demo` on results in this folder, and the address that it says."""
    process = demo(free_port(), env=os.environ | {"HANDWRITING_OUTPUTS": str(outputs)})
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"http://\S+", line):
                break
        assert found, "".join(lines)
        yield process, found[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(tmp_path_factory.mktemp("nothing-trained")) as found:
        yield found


@pytest.fixture(scope="module")
def visit(browser, server):
    """Opens the page once per kind of screen; `requests` gathers all that it asks for."""
    tabs = {}

    def open_page(width=1200, **options):
        if width not in tabs:
            tab = tabs[width] = browser.new_context(
                viewport={"width": width, "height": 800}, **options
            ).new_page()
            tab.requests = []
            tab.on("request", lambda request: tab.requests.append(request.url))
            tab.on("websocket", lambda opened: tab.requests.append(opened.url))
            tab.goto(server[1], timeout=LONG)
            tab.wait_for_selector(".hw-canvas", timeout=LONG)
        return tabs[width]

    yield open_page
    for tab in tabs.values():
        tab.context.close()


@pytest.fixture
def tab(visit):
    """The page on a desktop, with nothing drawn."""
    page = visit()
    clear(page)
    return page


def phone(visit):
    page = visit(375, has_touch=True, is_mobile=True, device_scale_factor=2)
    clear(page)
    return page


def clear(tab):
    tab.get_by_role("button", name="Clear").click()
    expect(tab.locator(CARD)).to_have_count(0, timeout=LONG)


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
    expect(tab.locator(".hw-glyph").first).to_have_text(re.compile(f"^[{answers}]$"), timeout=LONG)


@pytest.mark.parametrize(
    "drawn, right", [("1", "1"), ("7", "7"), ("A", "A"), ("S", "Ss"), ("O", "Oo0")]
)
def test_what_is_drawn_with_the_mouse_is_read(tab, drawn, right):
    draw(tab, STROKES[drawn])
    expect_answer(tab, right)


def test_clearing_takes_the_answer_away(tab):
    draw(tab, STROKES["7"])
    expect(tab.locator(CARD)).to_have_count(1, timeout=LONG)
    clear(tab)
    expect(tab.locator(".hw-said")).to_be_empty()
    expect(tab.locator(".hw-hint")).to_be_visible()


def test_undo_takes_the_last_stroke_back(tab):
    draw(tab, STROKES["7"])
    expect_answer(tab, "7")
    before = tab.get_attribute(".hw-given img", "src")
    draw(tab, [[(0.3, 0.5), (0.7, 0.5)], [(0.3, 0.6), (0.7, 0.7)]])
    expect(tab.locator(".hw-given img")).not_to_have_attribute("src", before, timeout=LONG)
    tab.get_by_role("button", name="Undo").click()
    tab.locator(".hw-canvas").press("Backspace")
    expect(tab.locator(".hw-given img")).to_have_attribute("src", before, timeout=LONG)


def test_the_image_shown_is_28_pixels_wide(tab):
    draw(tab, STROKES["7"])
    expect(tab.locator(".hw-given img")).to_be_visible(timeout=LONG)
    assert tab.eval_on_selector(
        ".hw-given img", "(one) => [one.naturalWidth, one.naturalHeight]"
    ) == [28, 28]


def test_a_bare_stroke_shows_the_confused_pair_with_examples_of_both(tab):
    draw(tab, STROKES["l"])
    expect(tab.locator(".hw-row img")).to_have_count(2, timeout=LONG)
    assert set("".join(tab.locator(".hw-row b").all_inner_texts())) < set("1lIi")
    assert all(
        tab.locator(".hw-row img").nth(row).evaluate("(one) => one.naturalWidth") > 28
        for row in (0, 1)
    )


def test_canvas_and_buttons_are_reached_with_the_keyboard_and_named(tab):
    tab.locator(".hw-canvas").focus()
    names, focused = [], "document.activeElement"
    for _ in range(3):
        names.append(tab.evaluate(f"{focused}.getAttribute('aria-label') || {focused}.textContent"))
        tab.keyboard.press("Tab")
    assert names[0].startswith("Drawing area") and names[1:] == ["Undo", "Clear"]


def test_the_page_shows_no_code(tab):
    assert "load_networks" not in tab.content() and "What the networks get" in tab.content()


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


def test_nothing_is_wider_than_a_phone(visit):
    tab = phone(visit)
    draw(tab, STROKES["l"])
    expect(tab.locator(".hw-row img")).to_have_count(2, timeout=LONG)
    assert tab.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [375, 375]
    assert all(
        box["x"] >= 0 and box["x"] + box["width"] <= 375
        for one in tab.locator(".hw-drawing *").all()
        if (box := one.bounding_box())
    )


def test_nothing_is_asked_of_another_machine(visit, server):
    here = server[1].partition("/?")[0].removeprefix("http")
    requested = [
        url
        for tab in (visit(), phone(visit))
        for url in tab.requests
        if not url.startswith(("data:", "blob:"))
    ]
    assert len(requested) > 20 and any(url.startswith("ws") for url in requested)
    assert [url for url in requested if not url.startswith((f"http{here}/", f"ws{here}/"))] == []


def test_the_server_and_its_kernels_listen_on_the_loopback_address_alone(visit, server):
    visit()
    processes = [
        psutil.Process(server[0].pid),
        *psutil.Process(server[0].pid).children(recursive=True),
    ]
    listening = [
        each.laddr
        for process in processes
        for each in process.net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    ]
    assert (
        len(processes) > 1
        and len(listening) > 1
        and {address.ip for address in listening} == {"127.0.0.1"}
    )


def test_without_the_token_there_is_no_page(server):
    address = server[1].partition("?")[0]
    assert "/login" in requests.get(address, allow_redirects=False).headers["Location"]
    assert requests.get(f"{address}?token=guessed").url.startswith(f"{address}login")


def test_a_page_of_another_name_is_refused(server):
    assert requests.get(server[1], headers={"Host": "elsewhere.example"}).status_code == 403


@pytest.mark.parametrize("path", ["voila/files/10-try-it.ipynb", "10-try-it.ipynb"])
def test_no_file_is_served_but_the_pages_own(server, path):
    address, _, token = server[1].partition("?")
    assert requests.get(f"{address}{path}?{token}").status_code >= 400


def test_a_port_in_use_is_said_in_one_sentence(server):
    second = demo(server[1].split(":")[2].partition("/")[0])
    said, _ = second.communicate(timeout=120)
    assert second.returncode == 2 and re.fullmatch(
        r"Port \d+ cannot be used \(.*\); give another one with --port, from 1024 to 65535\.\n",
        said,
    )


def test_ctrl_c_ends_it_with_one_sentence_and_leaves_no_kernel(tmp_path):
    with served(tmp_path) as (process, address):
        requests.get(address, timeout=120)  # which starts a kernel
        kernels = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
        assert process.wait(60) == 130 and said == "The page is no longer served.\n"
    assert kernels and psutil.wait_procs(kernels, timeout=60)[1] == []
