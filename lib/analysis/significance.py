"""How sure a measured accuracy is: from the number of images, over seeds, and for two networks on the same images."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats


def interval_of_share(share: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of a true share (0 to 1) of which `share` was seen in n images.

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    return tuple(
        map(float, stats.binomtest(round(share * n), n).proportion_ci(confidence, method="wilson"))
    )


def over_seeds(values, confidence: float = 0.95) -> dict:
    """`n`, `mean`, `std` (of the sample) and Student's interval of the mean, `low` to `high`; the last three are None for one value."""
    values = np.asarray(values, dtype=float)
    summary = {
        "n": len(values),
        "mean": float(values.mean()),
        "std": None,
        "low": None,
        "high": None,
    }
    if len(values) == 1:
        return summary
    error = stats.sem(values)
    low, high = (
        stats.t.interval(confidence, len(values) - 1, values.mean(), error)
        if error
        else (values.mean(),) * 2
    )
    return summary | {"std": float(values.std(ddof=1)), "low": float(low), "high": float(high)}


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> dict:
    """The exact test of two networks on the same images; both bool (N,), True where that network is right.

    Only images that one of them gets wrong count. `only_first` and `only_second` are how many one alone gets right, and
    `p` is how probable a split at least as uneven is if the two are equally good.
    Source: McNemar (1947), "Note on the sampling error of the difference between correlated proportions or percentages".
    """
    only_first, only_second = (
        int((first_right & ~second_right).sum()),
        int((~first_right & second_right).sum()),
    )
    differ = only_first + only_second
    return {
        "only_first": only_first,
        "only_second": only_second,
        "p": float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0,
    }


def paired_comparisons(right: dict[str, list[np.ndarray]], level: float = 0.05) -> pd.DataFrame:
    """Every two networks on the same images, seed by seed: first, second, seeds, only_first, only_second, p, verdict.

    right: for each network an array bool (N,) per seed. Counts are of all seeds together, `p` is the largest of a seed. A
    difference counts as shown if the same one is ahead in every seed with p below `level` divided by the number of pairs
    (Bonferroni).
    """
    rows, pairs = [], list(combinations(right, 2))
    for first, second in pairs:
        tests = [mcnemar(a, b) for a, b in zip(right[first], right[second])]
        ahead = {np.sign(test["only_first"] - test["only_second"]) for test in tests}
        largest = max(test["p"] for test in tests)
        shown = len(ahead) == 1 and largest < level / len(pairs)
        verdict = (
            f"{first if ahead == {1} else second} is better" if shown else "no difference shown"
        )
        counts = {key: sum(test[key] for test in tests) for key in ("only_first", "only_second")}
        rows.append(
            {
                "first": first,
                "second": second,
                "seeds": len(tests),
                **counts,
                "p": largest,
                "verdict": verdict,
            }
        )
    return pd.DataFrame(
        rows, columns=["first", "second", "seeds", "only_first", "only_second", "p", "verdict"]
    )
