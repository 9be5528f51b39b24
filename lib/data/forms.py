"""The forms that a character can start from: pen strokes of the 62 ByClass characters, as points.

A form comes from the table in forms.txt or is a glyph of the single-stroke fonts that A. V. Hershey
digitised (package Hershey-Fonts).
"""

import re
from functools import cache
from pathlib import Path

import numpy as np
import torch
from HersheyFonts import HersheyFonts
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from lib.data.classes import BYCLASS

POINTS = 96  # of a form, spread over its strokes
ALIKE = "cosvwxz"  # small letters that are also given the forms of their capitals
FONTS = {  # what people write of their glyphs
    "futural": BYCLASS,
    "timesr": "1IJagt",
    "timesi": BYCLASS[36:],
    "scripts": "BCEKLNPRUVWXYZ" + BYCLASS[36:],  # its other capitals are too fancy
}
HAND_SHARE = 0.88  # of a class's characters, the share that comes from HAND

# A line of the table holds a class and its forms; an indented line continues it. A form that is
# given twice is drawn twice as often. It is written in points and two signs:
#
#   58   a point: two digits, x to the right and y down, in any scale.
#   -    a straight line from the point before to the point behind. Points without it between them
#        are joined by a smooth curve, closed smoothly if it ends where it begins.
#   /    the pen is lifted: another stroke begins. A stroke of one point is a dot.
#
# The first D is 10-19/105083865919: a stem straight down from (1, 0) to (1, 9), then, the pen
# lifted, a bow from (1, 0) over (5, 0), (8, 3), (8, 6) and (5, 9) to (1, 9).
HAND = Path(__file__).with_name("forms.txt").read_text(encoding="utf-8")


@cache
def all_forms() -> tuple[np.ndarray, torch.Tensor, torch.Tensor, torch.Tensor]:
    """All forms of all classes, F in number, in the order of lib.data.classes.BYCLASS; read-only.

    Returns chances (F,) float64, cumulative: those of class c rise from c to c + 1; points
    (F, 96, 2) float64, x to the right and y down, the longer side from -1 to 1; the same with
    corners rounded by a hurried hand; and the number of each point's stroke, (F, 96) int64 from 0.
    """
    hand = hand_forms()
    glyphs = {font: HersheyFonts(load_default_font=font).all_glyphs for font in FONTS}
    forms, chances = [], []
    for label, name in enumerate(BYCLASS):
        drawn = [glyphs[font][name].strokes for font, names in FONTS.items() if name in names]
        drawn = [[np.array([*stroke], float) for stroke in strokes] for strokes in drawn]
        forms += map(sampled_strokes, hand[name] + drawn)
        share = [HAND_SHARE / len(hand[name])] * len(hand[name])
        share += [(1 - HAND_SHARE) / len(drawn)] * len(drawn)
        chances.append(label + np.cumsum(share))
    parts = [torch.from_numpy(np.stack(part)) for part in zip(*forms, strict=True)]
    return np.concatenate(chances), *parts


def hand_forms() -> dict[str, list[list[np.ndarray]]]:
    """Of each class its forms in HAND, lists of strokes (N, 2) float64 in the table's units."""
    lines = [line.split() for line in re.split(r"\n(?=\S)", HAND.strip())]
    forms = {name: [read_form(form) for form in written] for name, *written in lines}
    return forms | {name: forms[name] + forms[name.upper()] for name in ALIKE}


def read_form(form: str) -> list[np.ndarray]:
    """The strokes, each (N, 2), of a form in the table's notation."""
    strokes = [stroke.split("-") for stroke in form.split("/")]
    return [np.concatenate([_curve(piece) for piece in pieces]) for pieces in strokes]


def _curve(digits: str) -> np.ndarray:
    """(M, 2) points of a smooth curve through those given, closed if it ends where it begins."""
    points = np.array([*digits], float).reshape(-1, 2)
    if len(points) < 3:
        return points
    ends = "periodic" if (points[0] == points[-1]).all() else "natural"
    at = np.concatenate([[0], np.hypot(*np.diff(points, axis=0).T).cumsum()])
    return CubicSpline(at, points, bc_type=ends)(np.linspace(0, at[-1], 10 * len(points)))


def _spread(stroke: np.ndarray, count: int) -> np.ndarray:
    """(count, 2) points at equal distances along a stroke."""
    along = np.concatenate([[0], np.hypot(*np.diff(stroke, axis=0).T).cumsum()])
    at = np.linspace(0, along[-1], count)
    return np.stack([np.interp(at, along, stroke[:, axis]) for axis in (0, 1)], axis=1)


def sampled_strokes(strokes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(96, 2) points from -1 to 1, (96, 2) with rounded corners, (96,) number of the stroke."""
    lengths = np.array([np.hypot(*np.diff(stroke, axis=0).T).sum() for stroke in strokes])
    # Rounded, since counts and the longest stroke must not depend on a last bit.
    lengths = (lengths / lengths.sum()).round(9)
    counts = 4 + np.int64((POINTS - 4 * len(strokes)) * lengths + 1e-6)
    counts[lengths.argmax()] += POINTS - counts.sum()
    sharp = [_spread(stroke, count) for stroke, count in zip(strokes, counts, strict=True)]
    smooth = [gaussian_filter1d(stroke, 3, 0, mode="nearest") for stroke in sharp]
    points = np.stack([np.concatenate(sharp), np.concatenate(smooth)])
    centre, reach = (points[0].max(0) + points[0].min(0)) / 2, np.ptp(points[0], axis=0).max() / 2
    return *((points - centre) / reach), np.repeat(np.arange(len(strokes)), counts)
