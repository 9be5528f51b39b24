"""The forms that a character can start from: pen strokes of the 62 ByClass characters, as points.

A form comes from the table HAND below or is a glyph of the single-stroke fonts that A. V. Hershey digitised (package
Hershey-Fonts). lib.strokes makes each look written by hand.
"""

import re
from functools import cache

import numpy as np
import torch
from HersheyFonts import HersheyFonts
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from lib.classes import BYCLASS

POINTS = 96  # of a form, spread over its strokes
ALIKE = "cosuvwxz"  # small letters that are also given the forms of their capitals
FONTS = {"futural": BYCLASS, "timesr": "1IJagt", "timesi": BYCLASS[36:]}  # what people write of their glyphs
FONTS["scripts"] = "BCEKLNOPRSUVWXYZ" + BYCLASS[36:]  # its other capitals are too fancy
HAND_SHARE = 0.8  # of a class's characters, the share that comes from HAND

# A line holds a class and its forms; an indented line continues it. A form is written in points and two signs:
#
#   58   a point: two digits, x to the right and y down. 00 is the upper left, 99 the lower right. The scale does not
#        matter: every form is drawn equally large.
#   -    a straight line from the point before to the point behind. Points without it between them are joined by a
#        smooth curve, closed smoothly if it ends where it begins.
#   /    the pen is lifted: another stroke begins. A stroke of one point is a dot.
#
# The first D is 10-19/105083865919: a stem straight down from (1, 0) to (1, 9), then, the pen lifted, a bow curving from
# (1, 0) over (5, 0), (8, 3), (8, 6) and (5, 9) to (1, 9). A form that is given twice is drawn twice as often.
HAND = """
0  502215285977847150  612115284977846130  502215285977847150/7129  703125375968837040
   53301217497885714020  40211518497885724090  703316184968856240
1  50-59  50-59  24-50-59  25-50-59/2989  2433-50-59/3979  60-49
2  12306082744719-99  12306082744719-486998  124072653818275889  1250834519-89  12407274563728-5889
   2250725518293898  1351715519-3798
3  11407244-4486784918  10-80-44-4486784918  114072453444867849-18  12306173453546-67784918
   21507153-3355776828  11-71-34-7769-18  0130714334-3485876919
4  20-15-85/7179  2014265585/7279  60-06-86/6069  69-60-06-86  30-16-86/6359  2015-84/8059
   30-1576/8069  20134472/7049
5  30-24-245385784918/30-80  80-30-24-245385784918  8030236385784918  30-24-245385784918/41-90
   20-24-4473785918/2180  90503466674918  20-23-436678594918/2090
6  7032163969876535-17  6022173859786535-16  80401317395987654526  602215274978765535-17
   5024174978765526  3015284988664537  7033162849886635-27
7  10-80-49  10-80-39/25-75  13-11-80-49  10-804549  121151-80-49  10-80-5449/3575  13206080725449
   1220607164-59  0211-81-39/2565
8  714022447678492826548271  50313354737150/54263859788654  814022447678492826547391
   8150223476-7849275482-70  905022647859385582  704122667859384571
9  81401235648179  81401235648169  81401235648185693928  70301225455571-69  814012345481-79
   807040122454-7269  714012244472-7369
A  19-50-89/2676  19-50-89/2575  192440507489/2575  29-50-69/1777  0919-50-89/3585  8240132859-80-89
   192331617389/2575
B  10-19/1050725414-1464875919  19-10-1050725424-2464875919  20-29/0150735434-3475875909
   20-29/10507254-34-3475874919
C  82603114285988  71401316386989  82-80603114285988  806031142859-88  704116397998
D  10-19/105083865919  19-10-6083865909  20-29/015083865909  10-19-195986835010  10-19/107083877919
E  80-10-19-89/14-64  10-19/10-80/14-74/19-89  8150213454-5424174988  80-20-29-89/24-84
   71301216396988/1464
F  10-19/10-80/14-64  80-10-19/14-64  30-29/01407090/2464  20-19/10-90/1575  80-20-29/1464
G  82603114285988-85-55  82603114275985-55-85-89  613013163868-75/4575-79  6130131638587546/4575
   71301316386976-56-86
H  10-19/80-89/15-85  10-19/80-89/14-84  20-19/90-79/1585
I  50-59  20-80/50-59/19-89  30-70/50-59/29-79  20-80/60-49/09-69  2030-50-59/3070/3979
J  6064674928-16  30-90/6064674928-16  20-80-8067492816  2080/5056483918  8084775938-16
K  10-19/80-15-89  10-19/8015/3489  10-19/806314-146799  20-19/8025/3579
L  10-19-89  1017-19-89  20182959-98  71504337182759-98  10-1859-89
M  19-10-55-90-99  19-10-48-80-89  09-20-55-70-99  10-19/13304249/43607299  0919-20-59-80-99
   10-19/10-55-90/90-99  0920-28-5058-8099
N  19-10-89-80  10-19/10-89/80-89  09-20-79-90  19-11-2030-69-79-8090  10-19-1342617389
   09-20-2448-79-90
O  502215285977847150  612115284977846130  703125375968837040  502104174978958250
   60210417497895825030  40110528498895825130  502114174978856250  60301216388987826150
   53301217497885714020  40211518497885724090
P  10-19/1060826515  19-10-1060826515  20-29/0140817435  10-19/205083746526  20-19/1150826415
   29-20/0040725425
Q  502104174978958250/5699  502114174978856250/5699  502104174978958250/466899
   60301216388987826150/6799  502104174978958250/57687899
R  10-19/1060826515-89  19-10-1060826515-89  20-29/0140817435-35-89  10-19/1050724515-15556899
   19-10-5072541525-3589
S  8150223476784918  815022447678-4918  9060325565582918  90603255675928-18
T  10-90/50-59  0110-90/50-59  1220-8090/5049  10-80/5059  20-90/6049  1373/5049  0290/6049
U  101639698680  101639598580-80-89  1016396975-80-7899  2016386975-90  1120-17395976-80-89
   1014385975-80/8089
V  10-49-80  1049-80  10-49-8090  0010-49-8091  0111-49-8090
W  00-29-52-79-90  00-29-50-79-90  0016394851-5158799590  0010-29-53-79-90  001628394651-576879-9690
X  10-89/80-19  1123-7889/8019  0010-7989/8019  10-89/90-09
Y  10-54/90-54-59  10-54-90/54-59  10-54/90-29  1013355573-80/8078  0010-54/9054-49
Z  10-80-19-89  10-80-19-89/34-75  1110-80-19-8998  10-80-19-89/2575
a  81401428498580-80-89  814014285985-81-8799  714014284975-71-7898  12306072-79/7434163848-77
   8140142859-75-80-88  8140131749-8680-89
b  10-19/154475876918  10-19-1654867918  10-184979866516  20-174968876516  10-19/1464875919
c  814014285988  72-803014286988  8140131749-88
d  80-89/8544163988  8544163987-80-89  8544163987-80-8799  8544163987-70-8999  80-89/7434163978
e  15-83-83603014274988  1664827040142749-88  14-84-84713012163969-88  1675826130142749-78-96
f  8160424759/1474  7150323649/1464  816052583929/3474  8160515749/2474
g  814012356481-80-80875918  8140123564-80-7877593918  814012356480-80785918-3695
   7130123565-70-70785918  7130123454-71-7168491827
h  10-19/16446589  10-19-16446589  10-19-16446588-99  15424021-19-194565-88-99  20-19/26456879
i  53-59/50  53-5869/50  34-54-59/29-89/51  35-54-586988/50  53-59/5060  63-49/70
j  63675928/60  43-63-67592816/61  6368593817/70  63-6858392827/6070  43-73-77593918/70
k  10-19/74-16-79  10-19/7415/4589  10-19/16536416-3789  20-19/84-26-89  10-19/1644655526-89
l  50-59  50-59  376250434869-88  50576979  60-49  267150323849-78  40-485978
m  00-09/03214249/44628299  0213-11-19-13213143-49-53617183-89-99  10-19-14223243-49-44627283-89
   0110-29-23314153-59-53617283-89
n  10-19/13416289  10-19-14416389  10-19-14416388-99  0310-19-194051-58-6999  20-29/13507389
o  60311539788460-91  6031153978846040  60311539788473613191
p  10-19/1150835615  10-19-1150835615  0210-19/1140725516  2129/1150735526
q  80-89/8140134684  8140134684-80-89  8140134684-80-79-97  7130124574-70-788996  80-89/7130134675
r  10-19/143182  10-19-144182  0820-2332-72-727899  0211-29/254283  10-19-1531-7182
   19-20-2332-72-7799
s  08607060867949-27  09-60-6085694918
t  50-5769-88/2383  50-59/2383  4048596887/1373  50-5759-79/2474  60-49/2474
u  1016385985-80-8799  0210-16395985-80-8899  2016386975-90-8899
v  0112-3859807091
w  1005284756-5668799692817091  00-28-52-78-90
x  11-3143562718/915244567898  0111-7999/9009
y  1014355574-80-80775928  10-55/90-29  10-45/80-593918  1014355574-80-7849-174695  1014355574/80-59
   10-55/9049-18
z  11406234-3465683927-85  1230627254-4475784928
"""


@cache
def all_forms() -> tuple[np.ndarray, torch.Tensor, torch.Tensor, torch.Tensor]:
    """All forms of all classes, F in number, in the order of lib.classes.BYCLASS.

    Returns chances (F,) float64, cumulative: those of class c rise from c to c + 1; points (F, 96, 2) float32, x to the
    right and y down, the longer side from -1 to 1; the same with corners rounded by a hurried hand; and the number of
    each point's stroke, (F, 96) int64 from 0. Cached: do not change them. Raises ValueError where HAND is malformed.
    Source of the glyphs: the Hershey-Fonts package
    """
    hand, glyphs = hand_forms(), {font: HersheyFonts(load_default_font=font).all_glyphs for font in FONTS}
    forms, chances = [], []
    for label, name in enumerate(BYCLASS):
        written = hand[name]
        drawn = [glyphs[font][name].strokes for font, names in FONTS.items() if name in names]
        forms += map(_sampled, written + [[np.array([*stroke], float) for stroke in strokes] for strokes in drawn])
        share = [HAND_SHARE / len(written)] * len(written) + [(1 - HAND_SHARE) / len(drawn)] * len(drawn)
        chances.append(label + np.cumsum(share))
    return np.concatenate(chances), *(torch.from_numpy(np.stack(part)) for part in zip(*forms, strict=True))


def hand_forms(table: str = HAND) -> dict[str, list[list[np.ndarray]]]:
    """Of each class its forms in a table written like HAND; the letters in ALIKE have those of their capitals too.

    A form is a list of strokes, each (N, 2) float64 in the table's units. Raises ValueError if the lines are not one for
    each of the 62 classes in order, and, naming it, for a form that breaks the notation or goes from a point to itself.
    """
    lines = [line.split() for line in re.split(r"\n(?=\S)", table.strip())]
    names = [name for name, *_ in lines]
    if names != [*BYCLASS]:
        raise ValueError(f"The table of forms has lines for {' '.join(names)}; it needs {' '.join(BYCLASS)}.")
    forms = {name: [_strokes(form) for form in written] for name, *written in lines}
    return forms | {name: forms[name] + forms[name.upper()] for name in ALIKE}


def _strokes(form: str) -> list[np.ndarray]:
    """The strokes, each (N, 2), of a form in the table's notation."""
    strokes = [stroke.split("-") for stroke in form.split("/")]
    if not all(re.fullmatch(r"((\d\d)(?!\2))+", piece, re.ASCII) for stroke in strokes for piece in stroke):
        raise ValueError(f"The form '{form}' needs pairs of digits, none twice in a row, with single '-' or '/' between.")
    return [np.concatenate([_curve(np.array([*piece], float).reshape(-1, 2)) for piece in stroke]) for stroke in strokes]


def _curve(points: np.ndarray) -> np.ndarray:
    """(M, 2) points of a smooth curve through (N, 2); closed if it ends where it begins."""
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


def _sampled(strokes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(96, 2) points in a box of -1 to 1, (96, 2) with corners rounded by a hurried hand, (96,) number of the stroke."""
    lengths = np.array([np.hypot(*np.diff(stroke, axis=0).T).sum() for stroke in strokes])
    counts = 4 + np.int64((POINTS - 4 * len(strokes)) * lengths / lengths.sum())
    counts[lengths.argmax()] += POINTS - counts.sum()
    sharp = [_spread(stroke, count) for stroke, count in zip(strokes, counts, strict=True)]
    points = np.stack([np.concatenate(sharp), np.concatenate([gaussian_filter1d(s, 3, 0, mode="nearest") for s in sharp])])
    centre, reach = (points[0].max(0) + points[0].min(0)) / 2, np.ptp(points[0], axis=0).max() / 2
    return *np.float32((points - centre) / reach), np.repeat(np.arange(len(strokes)), counts)
