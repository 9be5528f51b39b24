"""Numbers and names in words: for the chapters, the report, the README and the commands."""

import math
from collections.abc import Sequence

TITLES = {
    "lenet": "LeNet",
    "resnet": "ResNet",
    "resnet18": "ResNet-18",
    "resnet18-56": "ResNet-18 at 56 pixels",
    "lenet-with-norm": "LeNet with batch norm",
    "resnet-without-norm": "ResNet without batch norm",
    "resnet-without-pool": "ResNet without average pool",
    "resnet-without-padding": "ResNet without padding",
}
SMALL_NUMBERS = "no one two three four five six seven eight nine ten eleven twelve".split()


def title_of(network: str) -> str:
    """What a network is called in tables and figures; one of your own, by its own name."""
    return TITLES.get(network, network)


def the(network: str) -> str:
    """What a network is called within a sentence: "the ResNet", "the custom network"."""
    title = title_of(network)
    return f"the {title}" if title != network else f"the {network} network"


def opening(words: str) -> str:
    """The words as a sentence begins: "The LeNet"; str.capitalize would write "The lenet"."""
    return words[:1].upper() + words[1:]


def known(value: float | None) -> bool:
    """Whether there is a number: neither None nor NaN, as tables write what they do not have."""
    return value is not None and not math.isnan(value)


def percent(share: float | None, digits: int = 1) -> str:
    """0.8131 as "81.3 %", and "" where there is no number."""
    return f"{100 * share:.{digits}f} %" if known(share) else ""


def points(difference: float | None) -> str:
    """A difference of shares in percentage points: 0.012 as "+1.2", no difference as "0.0"."""
    if not known(difference):
        return ""
    text = f"{100 * difference:+.1f}"
    return text if float(text) else text[1:]


def with_spread(mean: float, std: float | None) -> str:
    """Mean and standard deviation, "81.3 ± 0.2 %", or the mean alone where there is one seed."""
    return f"{100 * mean:.1f} ± {100 * std:.1f} %" if known(std) else percent(mean)


def counted(n: int, noun: str) -> str:
    """ "three networks", "one seed", "1,240 images"."""
    number = SMALL_NUMBERS[n] if n < len(SMALL_NUMBERS) else f"{n:,}"
    return f"{number} {noun}{'' if n == 1 else 's'}"


def listed(words: Sequence[str]) -> str:
    """["a", "b", "c"] as "a, b and c"."""
    *before, end = map(str, words) if words else [""]
    return f"{', '.join(before)} and {end}" if before else end


def duration(seconds: float) -> str:
    """Seconds as "21 s", "4 min" or "2.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def markdown_table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table as Markdown."""
    rows = [columns, ["---"] * len(columns), *lines]
    cells = [" | ".join(cell.replace("|", "&#124;") for cell in row) for row in rows]
    return "".join(f"| {row} |\n" for row in cells)
