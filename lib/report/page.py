"""The page itself: its parts, gathered as far as their files are there, and put into the template."""

from collections.abc import Callable

from lib.report import answer, found, results
from lib.report.explorer import Sprite, explorer_data
from lib.report.notebooks import Page
from lib.report.reading import Material
from lib.report.writing import counted, fill, listed, name_of, the

ABSENT = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
)  # what reading a file of another shape raises
PARTS: dict[str, tuple[Callable, str]] = {  # each with what it is called where it is missing
    "accuracies": (results.accuracies, "accuracies"),
    "table": (results.table, "the table"),
    "paired": (found.paired, "the comparison image by image"),
    "learning": (results.learning, "learning curves"),
    "schedules": (found.schedules, "schedules"),
    "budget": (found.budget, "causes of errors"),
    "groups": (found.found_groups, "groups of look-alikes"),
    "missed": (found.missed_by_all, "images that all miss"),
    "calibration": (found.calibration, "calibration"),
    "coverage": (found.coverage, "coverage of prediction sets"),
    "gap": (found.gap, "the mean image"),
    "original": (found.original, "the original's numbers"),
    "transfer": (found.transfer, "few real characters"),
    "imagenet": (found.imagenet, "a start from ImageNet"),
    "trials": (found.trials, "trials of improvements"),
    "ensemble": (found.ensemble, "the ensemble"),
    "conditions": (results.conditions, "conditions"),
}
WITH_IMAGES: dict[str, tuple[Callable, str]] = {
    "misread": (answer.misread, "misread images"),
    "sets": (found.sets, "prediction sets"),
    "suspicious": (found.suspicious, "doubtful labels"),
    "explorer": (explorer_data, "the confusion explorer"),
}


def render(material: Material, pages: list[Page]) -> str:
    """The whole page as HTML; `pages` are those of its notebooks."""
    sprite = Sprite(material.data.test_images)
    parts = {name: part_or_none(make, material) for name, (make, _) in PARTS.items()}
    parts |= {name: part_or_none(make, material, sprite) for name, (make, _) in WITH_IMAGES.items()}
    missing = [called for name, (_, called) in (PARTS | WITH_IMAGES).items() if not parts[name]]
    return fill(
        "report.html",
        **parts,
        missing=listed(missing) if missing else "",
        sentences=sentences(material),
        about=about(material),
        sprite={"png": sprite.png(), "columns": sprite.columns},
        pages=by_title(pages),
    )


def by_title(pages: list[Page]) -> dict[str, list[Page]]:
    """The pages under their titles: notebooks that were run several times have one title for all."""
    found: dict[str, list[Page]] = {}
    for page in pages:
        found.setdefault(page.title, []).append(page)
    return found


def part_or_none(make: Callable, *arguments):
    """What `make` returns, or None where a file, a key or a value that it needs is not there."""
    try:
        return make(*arguments)
    except ABSENT:
        return None


def sentences(material: Material) -> list[str]:
    """The answer: three sentences, each of what was measured."""
    return [
        answer.best_accuracy(material),
        part_or_none(answer.confusions, material) or answer.in_training(material),
        part_or_none(answer.collapse, material) or answer.no_gap(material),
    ]


def about(material: Material) -> dict:
    """What the introduction says of the experiment, in words and numbers."""
    first = material.runs[0]
    return {
        "profile": material.profile,
        "best": the(material.best),
        "names": {name: name_of(name) for name in material.networks},
        "networks": counted(len(material.networks), "network"),
        "listed": listed([name_of(name) for name in material.networks]),
        "dataset": first["dataset"],
        "classes": first["n_classes"],
        "n_train": f"{first['n_train']:,}",
        "n_test": f"{first['n_test']:,}",
        "seeds": len({run["seed"] for run in material.runs}),
    }
