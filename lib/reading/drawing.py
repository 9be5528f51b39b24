"""What the trained networks say to a drawing, as text and HTML, stroke by stroke."""

import base64
import io
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from lib.analysis.confusions import in_one_group
from lib.data.classes import LOOK_ALIKES
from lib.errors import InputError
from lib.files import FINDINGS, METRICS, MODEL, complete_runs, outputs_folder, read_json
from lib.plots import color_of
from lib.reading.canvas import Canvas
from lib.reading.recogniser import NOT_A_CHARACTER, Prediction, Recogniser
from lib.report.writing import SMALL_NUMBERS, listed, name_of

SHIPPED = "shipped"  # the network that comes with the repository
ALTERNATIVES = 4  # shown of each network
LARGEST_SET = 12  # names of a prediction set that are shown
RIVAL = 0.05  # mean probability from which a second answer counts as one
EXAMPLES = 8  # images of each class of a confused pair
HINT = "<p class='hw-note'>What the networks think appears here after each stroke.</p>"


@dataclass(frozen=True)
class Look:
    """What is needed to look at a drawing.

    networks: by the names that they are shown with. groups: known confusions, such as "1lI", and `found`: whether an analysis
    found them. examples: uint8 (N, 28, 28) for each class name that there are examples of.
    """

    networks: dict[str, Recogniser]
    groups: list[str]
    found: bool
    examples: dict[str, np.ndarray]


def load_networks(outputs: str, coverage: float = 0.95) -> tuple[dict[str, Recogniser], list[str]]:
    """The shipped network and the first seed of each one trained in a profile's folder, and a sentence on each that cannot be used.

    coverage: of the prediction sets, 0 to 1. Raises InputError for another coverage, or if the shipped network cannot be used.
    """
    networks, problems = {SHIPPED: Recogniser.load(coverage=coverage)}, []
    for name, folder in _first_seeds(outputs_folder(outputs)).items():
        try:
            networks[name] = Recogniser.load(folder / MODEL, coverage)
        except InputError as error:
            problems.append(f"{folder.name} is left out: {error}")
    return networks, problems


def _first_seeds(outputs: Path) -> dict[str, Path]:
    """The folder of each network's run with the lowest seed."""
    runs = [(read_json(folder / METRICS), folder) for folder in complete_runs(outputs)]
    folders: dict[str, Path] = {}
    for metrics, folder in sorted(runs, key=lambda run: run[0]["seed"]):
        folders.setdefault(name_of(metrics["network"]), folder)
    return dict(sorted(folders.items()))


def who_answers(networks: dict[str, Recogniser], problems: list[str], outputs: str) -> str:
    """Which networks answer and how to get more, as Markdown."""
    trained = [f"**{name}**" for name in networks if name != SHIPPED]
    if trained:
        lines = [f"Here answer **{SHIPPED}** and, from `{outputs}`, {listed(trained)}."]
    else:
        command = f"uv run invoke run-all --profile {Path(outputs).name}"
        lines = [
            f"Here answers **{SHIPPED}** alone, since none in `{outputs}` can: `{command}` adds more."
        ]
    return "\n\n".join([*lines, *problems])


def known_confusions(outputs: str) -> tuple[list[str], bool]:
    """Groups of classes taken for each other, such as "1Il", and whether 05-confusions found them in this profile's runs."""
    try:
        found = read_json(outputs_folder(outputs) / FINDINGS / "05-confusions.json")["found_groups"]
    except (InputError, KeyError, TypeError):
        return list(LOOK_ALIKES), False
    return found, True


def generated_examples(seed: int = 0, each: int = EXAMPLES) -> dict[str, np.ndarray]:
    """Generated images, uint8 (each, 28, 28), of every ByClass class."""
    from lib.data.classes import BYCLASS
    from lib.data.strokes import generate

    images, labels = generate(each, seed, "examples")
    return {name: images[labels == label] for label, name in enumerate(BYCLASS)}


def try_it(networks: dict[str, Recogniser], outputs: str, seed: int = 0) -> Canvas:
    """A canvas that shows, after each stroke, what the networks say. seed: of the generated examples."""
    look, canvas = (
        Look(networks, *known_confusions(outputs), generated_examples(seed)),
        Canvas(details=HINT),
    )

    def update(_) -> None:
        with canvas.hold_sync():
            canvas.said, canvas.details = look_at(canvas.image, look)

    canvas.observe(update, "drawing")
    return canvas


def look_at(image: np.ndarray | None, look: Look) -> tuple[str, str]:
    """What the networks say to an image: one sentence of text, and HTML. None: nothing is drawn yet."""
    if image is None:
        return "", HINT
    predictions = {name: recogniser.predict(image) for name, recogniser in look.networks.items()}
    first = next(iter(predictions.values()))
    if first.label == NOT_A_CHARACTER:
        return "This is not a character.", _page().render(reason=first.reason)
    pair = confused_pair(predictions, look.groups)
    examples = [
        (name, picture(np.hstack(look.examples[name])))
        for name in pair or ()
        if name in look.examples
    ]
    because = (
        "Trained networks were found to take these two for each other (05-confusions)."
        if look.found
        else "These two are a known confusion: seen alone, many cannot be told apart."
    )
    answers = [
        {
            "name": name,
            "color": color_of(name.lower()),
            "prediction": prediction,
            "coverage": look.networks[name].coverage,
        }
        for name, prediction in predictions.items()
    ]
    shown = {
        "answers": answers,
        "n": ALTERNATIVES,
        "most": LARGEST_SET,
        "pair": pair,
        "because": because,
        "examples": examples,
    }
    return sentence(predictions), _page().render(given=picture(first.image), **shown)


def confused_pair(predictions: dict[str, Prediction], groups: list[str]) -> tuple[str, str] | None:
    """The two answers that the networks together hold most probable, if both are probable and in one of the groups."""
    together: Counter = Counter()
    for prediction in predictions.values():
        for name, probability in prediction.alternatives:
            together[name] += probability / len(predictions)
    (first, _), *rest = together.most_common(2)
    second, probability = rest[0] if rest else ("", 0)
    return (first, second) if probability >= RIVAL and in_one_group(first, second, groups) else None


def sentence(predictions: dict[str, Prediction]) -> str:
    """What the networks read, in one sentence: how many of them read what."""
    (first, count), *others = Counter(
        prediction.label for prediction in predictions.values()
    ).most_common()
    if len(predictions) == 1:
        return f"Read as {described(first)}."
    if not others:
        return f"All {SMALL_NUMBERS[count]} networks read {described(first)}."
    rest = "".join(f", {SMALL_NUMBERS[n]} {described(name)}" for name, n in others)
    return f"{SMALL_NUMBERS[count].capitalize()} of {SMALL_NUMBERS[len(predictions)]} networks read{'s' * (count == 1)} {described(first)}{rest}."


def kind(name: str) -> str:
    """What a class name does not show by itself: "digit", "capital" or "small letter"; "" for names of several letters."""
    if len(name) != 1:
        return ""
    return (
        "digit"
        if name.isdigit()
        else "capital"
        if name.isupper()
        else "small letter"
        if name.islower()
        else ""
    )


def described(name: str) -> str:
    """A class name in words that tell 1 from l and 0 from O: "the digit 1", "the small letter l"."""
    return f"the {kind(name)} {name}" if kind(name) else name


def percent(share: float) -> str:
    """A share, 0 to 1, as "97 %"; what rounding would make certain stays in doubt."""
    if share < 0.01:
        return "<\xa01\xa0%"
    return ">\xa099\xa0%" if share > 0.99 else f"{100 * share:.0f}\xa0%"


def picture(image: np.ndarray) -> str:
    """An image uint8 (H, W) as the address of a PNG that holds it."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@cache
def _page():
    from jinja2 import Environment, StrictUndefined  # takes a moment to import

    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {"percent": percent, "kind": kind, "described": described}
    return environment.from_string(
        Path(__file__).with_name("drawing.html").read_text(encoding="utf-8")
    )
