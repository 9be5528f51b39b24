"""How sure a measured accuracy is, and whether one network is shown to be better than another."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

COLUMNS = "first second seeds images only_first only_second difference low high p".split()
LEVEL = 0.05  # a difference counts as shown if its p, corrected, lies below


def interval_of_share(share: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of a true share (0 to 1) of which `share` was seen in n images.

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    bounds = stats.binomtest(round(share * n), n).proportion_ci(confidence, method="wilson")
    return float(bounds.low), float(bounds.high)


def over_seeds(values, confidence: float = 0.95) -> dict:
    """n, mean, std (of the sample), and Student's interval low to high; None where n is 1."""
    values = np.asarray(values, dtype=float)
    n, mean = len(values), float(values.mean())
    if n == 1:
        return {"n": n, "mean": mean, "std": None, "low": None, "high": None}
    std = float(values.std(ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * std / n**0.5
    return {"n": n, "mean": mean, "std": std, "low": mean - half, "high": mean + half}


def ratio_of_sums(some: np.ndarray, whole: np.ndarray) -> dict:
    """sum(some) / sum(whole), (N,) each: mean, low and high; None where the second may be zero.

    The bounds (95 %) come from 1,000 samples of the N, drawn with replacement (Efron, 1979).
    """
    rows = np.random.default_rng(0).integers(0, len(whole), (1000, len(whole)))
    sums = whole[rows].sum(axis=1)
    if sums.min() <= 0:
        return dict.fromkeys(["mean", "low", "high"])
    low, high = np.quantile(some[rows].sum(axis=1) / sums, [0.025, 0.975])
    return {"mean": some.sum() / whole.sum(), "low": low, "high": high}


def paired_difference(first: np.ndarray, second: np.ndarray, confidence: float = 0.95) -> dict:
    """How far the first network is ahead of the second: difference of accuracy, low, high, p.

    first, second: bool (seeds, N), True where a network reads the image; row by row the same seed.
    Seeds and test images are both samples, as readers and cases are in a multi-reader multi-case
    analysis. With a single seed, p is about these two trained networks, not about training them.
    `only_first` and `only_second`: images that one alone reads, mean over the seeds.
    Sources: Dorfman, Berbaum and Metz (1992), "Receiver operating characteristic rating analysis";
    Hillis (2007), https://doi.org/10.1002/sim.2532 (degrees of freedom); Bonett and Price (2012),
    https://doi.org/10.3102/1076998611411915 (one more image for each side, for small samples).
    """
    lead = first.astype(float) - second  # (seeds, N)
    padded = np.pad(lead, ((0, 0), (0, 2)))
    padded[:, -2:] = 1, -1
    seeds, images = padded.shape
    mean, by_image, by_seed = padded.mean(), padded.mean(axis=0), padded.mean(axis=1)
    of_images = seeds * by_image.var(ddof=1)  # mean squares, as in an analysis of variance
    spread, freedom = of_images, images - 1
    if seeds > 1:
        rest = padded - by_image - by_seed[:, None] + mean
        of_rest = (rest**2).sum() / ((seeds - 1) * (images - 1))
        of_seeds = images * by_seed.var(ddof=1)
        spread = of_seeds + max(of_images - of_rest, 0) or of_images
        # two seeds may agree by chance: of_rest is the least that Hillis's formula is given here
        unsure = spread / max(of_seeds, of_rest, 1e-12)
        freedom = min((seeds - 1) * max(unsure, 1) ** 2, images - 1)
    error = (spread / (seeds * images)) ** 0.5
    half = stats.t.ppf((1 + confidence) / 2, freedom) * error
    return {
        "only_first": float((lead > 0).sum(axis=1).mean()),
        "only_second": float((lead < 0).sum(axis=1).mean()),
        "difference": float(lead.mean()),
        "low": float(mean - half),
        "high": float(mean + half),
        "p": float(2 * stats.t.sf(abs(mean) / error, freedom)),
    }


def holm(probabilities) -> np.ndarray:
    """The probabilities p (N,), corrected for their number: each made larger, 1 at most.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    probabilities = np.asarray(probabilities, dtype=float)
    order = np.argsort(probabilities)
    steps = probabilities[order] * np.arange(len(order), 0, -1)
    return np.minimum(np.maximum.accumulate(steps), 1)[np.argsort(order)]


def compare_pairs(right: dict[str, dict], pairs: list[tuple] | None = None) -> pd.DataFrame:
    """A row for each pair: first, second, seeds, images, what paired_difference finds, verdict.

    right: for each network, or way of training, {seed: bool (N,), True where it reads the image};
    a pair is compared on the seeds that both have, and left out if there are none. pairs: all if
    not given. `p` is corrected for their number (Holm). `better` names who is, if p < 0.05 and
    there are two seeds or more, and is "" otherwise; `verdict` says it with its rule.
    """
    rows = []
    for first, second in pairs if pairs is not None else combinations(right, 2):
        seeds = sorted(set(right[first]) & set(right[second]))
        if seeds:
            answers = [np.stack([right[name][seed] for seed in seeds]) for name in (first, second)]
            shape = dict(zip(("seeds", "images"), answers[0].shape))
            rows.append({"first": first, "second": second, **shape, **paired_difference(*answers)})
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["p"] = holm(table["p"])
    said = [_verdict(row, len(table)) for row in table.to_dict("records")]
    table[["better", "verdict"]] = pd.DataFrame(said, columns=["better", "verdict"], dtype=object)
    return table


def _verdict(row: dict, pairs: int) -> tuple[str, str]:
    ahead, other = (row["first"], row["second"])[:: 1 if row["difference"] >= 0 else -1]
    p = "p < 0.0001" if row["p"] < 0.0001 else f"p = {row['p']:.2g}"
    rule = f"({p}{f', corrected for {pairs} comparisons' if pairs > 1 else ''}; limit {LEVEL})"
    if row["p"] >= LEVEL:
        return "", f"no difference shown between {row['first']} and {row['second']} {rule}"
    if row["seeds"] == 1:
        return "", f"{ahead} is ahead of {other}, but one seed is not enough to tell {rule}"
    return ahead, f"{ahead} is better than {other} {rule}"
