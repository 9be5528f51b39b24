"""How the page says numbers and names, and how it is written: whole or not at all."""

import math
import os
from contextlib import suppress
from pathlib import Path

from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
NAMES = {"lenet": "LeNet", "resnet": "ResNet"}  # the others are called what they are
SMALL_NUMBERS = [
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]


def fill(template: str, **values) -> str:
    """A template of this package with its values; text is escaped, and a value that the template does not get is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.policies["json.dumps_kwargs"] = {
        "separators": (",", ":")
    }  # in the order given, and small
    return environment.get_template(template).render(values)


def write_whole(path: Path, text: str) -> Path:
    """Writes the file, making its folder, so that a reader never sees half of it; OSError leaves what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise
    return path


def known(value) -> bool:
    """Whether there is a number: neither None nor NaN, as tables write what they do not have."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def percent(share: float | None, digits: int = 1) -> str:
    """0.864 to "86.4 %", and nothing for no number."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%" if known(share) else ""


def points(share: float, digits: int = 1) -> str:
    """A difference of shares, 0.012, as "+1.2"."""
    text = f"{100 * share:+.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else text[1:]


def with_spread(row: dict, digits: int = 1) -> str:
    """Mean and standard deviation: "86.4 ± 0.3 %", or the mean alone where there is one seed."""
    if not known(row.get("std")):
        return percent(row["mean"], digits)
    return f"{100 * row['mean']:.{digits}f}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{100 * row['std']:.{digits}f}\N{NO-BREAK SPACE}%"


def accuracy_digits(shares: list[float]) -> int:
    """Decimals of a percentage that tell such accuracies apart: two where all are above 98 %."""
    return 2 if min(shares) > 0.98 else 1


def name_of(network: str) -> str:
    """What a network is called in a text."""
    return NAMES.get(network, network)


def the(network: str) -> str:
    """What a network is called within a sentence: "the ResNet", "the custom network"."""
    return f"the {NAMES[network]}" if network in NAMES else f"the {network} network"


def counted(n: int, noun: str) -> str:
    """ "three networks", "one seed", "400 images"."""
    number = SMALL_NUMBERS[n] if n < len(SMALL_NUMBERS) else f"{n:,}"
    return f"{number} {noun}{'' if n == 1 else 's'}"


def listed(words: list[str], last: str = "and") -> str:
    """["a", "b", "c"] to "a, b and c"."""
    comma, end = (
        (Markup(", "), Markup(f" {last} "))
        if any(isinstance(word, Markup) for word in words)
        else (", ", f" {last} ")
    )
    return end.join([comma.join(words[:-1]), words[-1]] if len(words) > 1 else words)


def duration(seconds: float) -> str:
    """Seconds as "21 s", "4 min" or "2.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f}\N{NO-BREAK SPACE}s"
    return (
        f"{seconds / 60:.0f}\N{NO-BREAK SPACE}min"
        if seconds < 6000
        else f"{seconds / 3600:.1f}\N{NO-BREAK SPACE}h"
    )
