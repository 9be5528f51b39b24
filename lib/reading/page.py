"""The page to draw on: one file that holds canvas, networks and examples, and needs no server."""

import base64
import io
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from PIL import Image

from lib.data.classes import BYCLASS, LOOK_ALIKES
from lib.data.strokes import generate
from lib.errors import InputError
from lib.files import FINDINGS, read_json, write_whole
from lib.reading.canvas import HERE, SCRIPT, STYLE
from lib.reading.layers import described
from lib.reading.models import DEFAULT, SHIPPED, first_models
from lib.reading.recogniser import Recogniser
from lib.wording import title_of

MOST = 1_300_000  # bytes that a page's networks may take, so that it stays below 1.5 million

Networks = dict[str, Recogniser]  # by the names that they are shown with


def load_networks(home: Path, coverage: float = 0.95) -> tuple[Networks, list[str]]:
    """The shipped networks and those of a profile, by name, and a sentence on each that is damaged.

    home: the profile's folder. coverage: of the prediction sets, 0 to 1. Raises InputError as
    Recogniser.load does.
    """
    networks, problems = {DEFAULT: Recogniser.load(coverage=coverage)}, []
    for name, file in first_models(home).items():
        try:
            networks[title_of(name)] = Recogniser.load(file, coverage)
        except InputError as error:
            problems.append(f"{file.parent.name} is left out: {error}")
    for name in SHIPPED.keys() - {DEFAULT}:
        networks[name] = Recogniser.load(SHIPPED[name], coverage)
    return networks, problems


def found_groups(home: Path) -> list[str]:
    """Classes such as "1Il" that 05-confusions found a profile's networks to confuse, if it did."""
    try:
        return read_json(home / FINDINGS / "05-confusions.json")["groups"]
    except (InputError, KeyError):  # the page works without
        return []


def page_data(networks: Networks, home: Path, most: int = MOST) -> dict:
    """What canvas.js is given: networks, groups that are confused, generated examples of classes.

    most: bytes that the networks may take, 0 for any number. The largest that do not fit, and those
    with a layer that reader.js does not know, are named in "without".
    """
    held, size = {}, 0
    for name, one in networks.items():
        about = {"name": name, "classes": one.class_names, "coverage": one.coverage}
        about |= {"temperature": one.temperature, "threshold": one.threshold}
        about |= {"refusals": one.refusals, "refuseAbove": one.refuse_above, "byMass": one.by_mass}
        with suppress(InputError):
            held[name] = about | described(one.model)
    for name in sorted(held, key=lambda name: (name != DEFAULT, len(held[name]["packed"]))):
        size += len(held[name]["packed"])
        if most and size > most:
            del held[name]
    found, (images, labels) = found_groups(home), generate(8, 0, "examples")
    rows = (Image.fromarray(np.hstack(images[labels == i])) for i in range(len(BYCLASS)))
    examples = dict(zip(BYCLASS, map(picture, rows)))
    about = {"groups": found or list(LOOK_ALIKES), "found": bool(found), "examples": examples}
    without = [name for name in networks if name not in held]
    return {"networks": list(held.values()), "without": without, **about}


def write_page(path: Path, data: dict) -> None:
    """Writes the page; data as `page_data` gives it."""
    environment = Environment(autoescape=True, trim_blocks=True, undefined=StrictUndefined)
    page = environment.from_string((HERE / "page.html").read_text("utf-8"))
    write_whole(path, page.render(part=part(data), without=data["without"]))


def part(data: dict) -> str:
    """The canvas as a part of a page: element, style and script, with all data inside."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    call = 'mount(document.getElementById("draw"), JSON.parse(document.getElementById("drawn-data")'
    return (
        f'<style>\n{STYLE}</style>\n<div id="draw"></div>\n'
        f'<script type="application/json" id="drawn-data">{text}</script>\n'
        f"<script>\n(() => {{\n{SCRIPT}\n{call}.textContent));\n}})();\n</script>\n"
    )


def picture(image: Image.Image, **options) -> str:
    """An image as the address of a PNG that holds it; options: Pillow's for a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, **options)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
