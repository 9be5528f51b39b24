"""What the trained networks say to a drawing, as text and HTML, stroke by stroke."""

import base64
import io
from collections import Counter
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from PIL import Image

from lib.data.classes import BYCLASS, LOOK_ALIKES, in_one_group
from lib.data.strokes import generate
from lib.errors import InputError
from lib.files import FINDINGS, outputs_folder, read_json
from lib.reading.canvas import Canvas
from lib.reading.models import first_models
from lib.reading.recogniser import NOT_A_CHARACTER, Prediction, Recogniser
from lib.wording import SMALL_NUMBERS, title_of

SHIPPED = "shipped"  # the network that comes with the repository
RIVAL = 0.05  # mean probability from which a second answer counts as one
HINT = "<p class='hw-note'>What the networks think appears here after each stroke.</p>"
IN_WORDS = dict(enumerate(SMALL_NUMBERS))

Networks = dict[str, Recogniser]  # by the names that they are shown with


def load_networks(outputs: str, coverage: float = 0.95) -> tuple[Networks, list[str]]:
    """The shipped network and those of a profile, by name, and a sentence on each that is damaged.

    coverage: of the prediction sets, 0 to 1. Raises InputError as Recogniser.load does.
    """
    networks, problems = {SHIPPED: Recogniser.load(coverage=coverage)}, []
    for name, file in first_models(outputs_folder(outputs)).items():
        try:
            networks[title_of(name)] = Recogniser.load(file, coverage)
        except InputError as error:
            problems.append(f"{file.parent.name} is left out: {error}")
    return networks, problems


def found_groups(outputs: str) -> list[str]:
    """Classes such as "1Il" that 05-confusions found a profile's networks to confuse, if it did."""
    try:
        return read_json(outputs_folder(outputs) / FINDINGS / "05-confusions.json")["groups"]
    except (InputError, KeyError):  # the page works without
        return []


def try_it(networks: Networks, outputs: str, seed: int = 0) -> Canvas:
    """A canvas that shows, after each stroke, what the networks say. seed: of the examples."""
    images, labels = generate(8, seed, "examples")
    examples = {name: images[labels == label] for label, name in enumerate(BYCLASS)}
    groups, canvas = found_groups(outputs), Canvas(details=HINT)

    def update(_) -> None:
        with canvas.hold_sync():
            canvas.said, canvas.details = look_at(canvas.image, networks, groups, examples)

    canvas.observe(update, "drawing")
    return canvas


def look_at(
    image: np.ndarray | None, networks: Networks, found: list[str], examples: dict[str, np.ndarray]
) -> tuple[str, str]:
    """What the networks say to an image: one sentence of text, and HTML. None: nothing is drawn.

    found: as `found_groups` gives them. examples: uint8 (N, 28, 28) of some class names.
    """
    if image is None:
        return "", HINT
    predictions = {name: recogniser.predict(image) for name, recogniser in networks.items()}
    first = next(iter(predictions.values()))
    if first.label == NOT_A_CHARACTER:
        return "This is not a character.", PAGE.render(reason=first.reason)
    pair = confused_pair(predictions, found or LOOK_ALIKES)
    rows = {name: picture(np.hstack(examples[name])) for name in pair if name in examples}
    shown = {"predictions": predictions, "networks": networks, "given": picture(first.image)}
    return sentence(predictions), PAGE.render(**shown, pair=pair, found=found, rows=rows)


def confused_pair(predictions: dict[str, Prediction], groups: list[str]) -> tuple[str, ...]:
    """The two likeliest answers on average, if both are likely and in one group, and else none."""
    means: Counter = Counter()
    for prediction in predictions.values():
        for name, probability in prediction.alternatives:
            means[name] += probability / len(predictions)
    pair = tuple(name for name, mean in means.most_common(2) if mean >= RIVAL)
    return pair if len(pair) == 2 and in_one_group(*pair, groups) else ()


def sentence(predictions: dict[str, Prediction]) -> str:
    """What the networks read, in one sentence: how many of them read what."""
    counts = Counter(prediction.label for prediction in predictions.values()).most_common()
    (first, n), *others = [(with_kind(name), n) for name, n in counts]
    if len(predictions) == 1:
        return f"Read as {first}."
    count, total = IN_WORDS.get(n, n), IN_WORDS.get(len(predictions), len(predictions))
    if not others:
        return f"All {count} networks read {first}."
    rest = "".join(f", {IN_WORDS.get(n, n)} {name}" for name, n in others)
    return f"{str(count).capitalize()} of {total} networks read{'s' * (n == 1)} {first}{rest}."


def kind(name: str) -> str:
    """What a class name does not show by itself; "" for names of several letters."""
    kinds = {"digit": str.isdigit, "capital": str.isupper, "small letter": str.islower}
    return next((kind for kind, fits in kinds.items() if len(name) == 1 and fits(name)), "")


def with_kind(name: str) -> str:
    """A class name in words that tell 1 from l: "the digit 1", "the small letter l"."""
    return f"the {kind(name)} {name}" if kind(name) else name


def chance(share: float) -> str:
    """A share, 0 to 1, as "97 %"; what rounding would make certain stays in doubt."""
    if share < 0.01:
        return "<\xa01\xa0%"
    return ">\xa099\xa0%" if share > 0.99 else f"{100 * share:.0f}\xa0%"


def picture(image: np.ndarray) -> str:
    """An image uint8 (H, W) as the address of a PNG that holds it."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


_environment = Environment(autoescape=True, trim_blocks=True, undefined=StrictUndefined)
_environment.filters |= {"chance": chance, "kind": kind, "with_kind": with_kind}
PAGE = _environment.from_string(Path(__file__).with_name("drawing.html").read_text("utf-8"))
