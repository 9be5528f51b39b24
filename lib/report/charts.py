"""Charts as SVG that bends to the width of the page: positions are percentages, text keeps its size, ink is the page's own.

Every function returns markup for a template. Colours of networks are those of lib.plots.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor, log10

from markupsafe import Markup

COLUMNS = 100  # a plot is 100 wide and 100 high, whatever its pixels


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` on a line of 100, with round `ticks` in between."""

    low: float
    high: float
    ticks: list[float]
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The place of a value, 0 to 100."""
        low, high, value = (
            log10(x) if self.logarithmic else x for x in (self.low, self.high, value)
        )
        return round(COLUMNS * (value - low) / (high - low), 3)


def round_scale(
    values: list[float], least: float | None = None, most: float | None = None, steps: int = 4
) -> Scale:
    """A scale that holds the values, in about `steps` round steps; it ends at `least` and `most` where it would go beyond."""
    low, high = min(values), max(values)
    rough = max((high - low) / steps, 1e-4, abs(high) * 1e-3)
    unit = 10 ** floor(log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    ticks = [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]
    ticks = [
        tick
        for tick in ticks
        if (least is None or tick >= least) and (most is None or tick <= most)
    ]
    start, end = first * step, max(last, first + 1) * step
    return Scale(
        start if least is None else max(start, least),
        end if most is None else min(end, most),
        ticks,
    )


def bar(
    scale: Scale, start: float, end: float, color: str, title: str = "", thickness: int = 14
) -> Markup:
    """A horizontal bar between two values."""
    left, right = sorted((scale.at(start), scale.at(end)))
    return Markup(
        '<rect x="{}%" y="50%" width="{}%" height="{}" transform="translate(0 -{})" fill="{}">{}</rect>'
    ).format(left, round(right - left, 3), thickness, thickness / 2, color, _title(title))


def line(scale: Scale, start: float, end: float, color: str, width: float = 2) -> Markup:
    """A thin horizontal line between two values."""
    return Markup(
        '<line x1="{}%" x2="{}%" y1="50%" y2="50%" stroke="{}" stroke-width="{}"/>'
    ).format(scale.at(start), scale.at(end), color, width)


def dot(
    scale: Scale, value: float, color: str, title: str = "", radius: float = 5, hollow: bool = False
) -> Markup:
    """A dot at a value."""
    paint = (
        Markup('class="hollow" stroke="{}"').format(color)
        if hollow
        else Markup('fill="{}"').format(color)
    )
    return Markup('<circle cx="{}%" cy="50%" r="{}" {}>{}</circle>').format(
        scale.at(value), radius, paint, _title(title)
    )


def _title(text: str) -> Markup:
    return Markup("<title>{}</title>").format(text) if text else Markup()


def track(scale: Scale, marks: list[Markup], zero: bool = False) -> Markup:
    """One row of a table of marks; the row's text says what they show, so that a reader of text misses nothing."""
    grid = [
        Markup('<line class="grid" x1="{0}%" x2="{0}%" y1="0" y2="100%"/>').format(scale.at(value))
        for value in scale.ticks
    ]
    if zero:
        grid.append(
            Markup('<line class="zero" x1="{0}%" x2="{0}%" y1="0" y2="100%"/>').format(scale.at(0))
        )
    return Markup('<svg class="track" aria-hidden="true">{}</svg>').format(
        Markup().join([*grid, *marks])
    )


def axis(scale: Scale, shown: Callable[[float], str]) -> Markup:
    """The numbers below a table of tracks."""
    labels = [
        Markup('<text x="{}%" y="14" text-anchor="middle">{}</text>').format(
            scale.at(value), shown(value)
        )
        for value in scale.ticks
    ]
    return Markup('<svg class="axis" aria-hidden="true">{}</svg>').format(Markup().join(labels))


@dataclass(frozen=True)
class Row:
    """One line of a chart that is a table: its name, its marks, its number, a smaller one below, and what is said but not shown."""

    name: str
    track: Markup
    value: str
    small: str = ""
    said: str = ""


@dataclass(frozen=True)
class Curve:
    """Points (x, y) joined by a line; `spread` is half the height of a bar at each point, or None."""

    points: list[tuple[float, float]]
    color: str
    title: str = ""
    dashed: bool = False
    spread: list[float | None] | None = None


def curves(
    lines: list[Curve], x: Scale, y: Scale, x_shown: Callable, y_shown: Callable, label: str
) -> Markup:
    """A plot of lines with its axes; `label` says in words what is seen."""
    rows = [
        Markup(
            '<line class="grid" x1="0" x2="100%" y1="{0}%" y2="{0}%"/><text class="y" x="-8" y="{0}%" dy="4">{1}</text>'
        ).format(COLUMNS - y.at(value), y_shown(value))
        for value in y.ticks
    ]
    columns = [
        Markup('<text class="x" x="{}%" y="100%" dy="20">{}</text>').format(
            x.at(value), x_shown(value)
        )
        for value in x.ticks
    ]
    return Markup('<div class="plot"><svg role="img" aria-label="{}">{}{}{}</svg></div>').format(
        label,
        Markup().join(rows),
        Markup().join(columns),
        Markup().join(_curve(one, x, y) for one in lines),
    )


def _curve(curve: Curve, x: Scale, y: Scale) -> Markup:
    places = [(x.at(a), COLUMNS - y.at(b)) for a, b in curve.points]
    path = Markup(
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none"><polyline points="{}" stroke="{}" {}/></svg>'
    ).format(
        " ".join(f"{a},{b}" for a, b in places),
        curve.color,
        Markup('class="dashed"') if curve.dashed else "",
    )
    spreads = curve.spread or [None] * len(places)
    bars = [
        Markup(
            '<line x1="{0}%" x2="{0}%" y1="{1}%" y2="{2}%" stroke="{3}" stroke-width="1.5"/>'
        ).format(a, COLUMNS - y.at(value - half), COLUMNS - y.at(value + half), curve.color)
        for (a, _), (_, value), half in zip(places, curve.points, spreads)
        if half
    ]
    dots = (
        []
        if len(places) > 12 or curve.dashed
        else [
            Markup('<circle cx="{}%" cy="{}%" r="3.5" fill="{}">{}</circle>').format(
                a, b, curve.color, _title(curve.title)
            )
            for a, b in places
        ]
    )
    return path + Markup().join([*bars, *dots])


def legend(entries: list[tuple[str, str]]) -> Markup:
    """A line that says which colour is what: (colour, text)."""
    swatches = (
        Markup(
            '<span class="key"><svg aria-hidden="true"><circle cx="6" cy="6" r="5" fill="{}"/></svg>{}</span>'
        ).format(color, text)
        for color, text in entries
    )
    return Markup('<p class="legend">{}</p>').format(Markup(" ").join(swatches))
