"""What the page says first: the question, the answer in three sentences, and the images that go with them. Nothing is known in advance."""

from statistics import mean

import numpy as np
from markupsafe import Markup

from lib.data.classes import fold_look_alikes
from lib.report.explorer import Sprite, count_answers
from lib.report.reading import Material, spread
from lib.report.writing import accuracy_digits, counted, listed, percent, the, with_spread

MISREAD = 8  # images at the top of the page


def best_accuracy(material: Material) -> str:
    """First sentence: the best network, its test accuracy, and what costs nothing beside it."""
    runs = material.main_runs(material.best)
    row = spread([run["test_accuracy"] for run in runs])
    how = (
        f"mean and standard deviation over {counted(row['n'], 'seed')}"
        if row["n"] > 1
        else "one seed"
    )
    who = the(material.best)
    who = (
        f"Of {counted(len(material.networks), 'network')}, {who} reads best:"
        if len(material.networks) > 1
        else f"{who[0].upper()}{who[1:]} reads"
    )
    return f"{who} {with_spread(row, accuracy_digits([row['mean']]))} of {runs[0]['n_test']:,} test images ({how}), where {_beside(material)}."


def _beside(material: Material) -> str:
    rows = [
        (row["network"], percent(row["test_accuracy"]))
        for row in material.finding("04", "baselines", [])
    ]
    said = [
        f"always naming the {name} gets {value}"
        if name.startswith("commonest")
        else f"a {name} {value}"
        for name, value in rows
    ]
    return (
        listed(said)
        if said
        else f"guessing would get {percent(1 / len(material.data.class_names))}"
    )


def most_confused(material: Material, n: int) -> list[tuple[int, int]]:
    """The n most frequent (actual, predicted) labels among the best network's mistakes."""
    counts = count_answers(
        material.data.test_labels,
        material.answers[material.best].argmax(axis=1),
        len(material.data.class_names),
    )
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:n]
    return [divmod(int(cell), len(counts)) for cell in order if counts.flat[cell]]


def share_of_look_alikes(material: Material) -> tuple[int, float]:
    """How many images the best network's first run misreads, and the share of these in which only case or look-alikes differ."""
    merged = np.array([fold_look_alikes(name) for name in material.data.class_names])
    actual, predicted = material.data.test_labels, material.answers[material.best].argmax(axis=1)
    wrong = actual != predicted
    return int(wrong.sum()), float(
        (merged[actual[wrong]] == merged[predicted[wrong]]).mean()
    ) if wrong.any() else 0.0


def confusions(material: Material) -> Markup:
    """Second sentence: what is confused most, and how much of the error no reader of single characters could avoid."""
    names, (errors, share) = material.data.class_names, share_of_look_alikes(material)
    pair = Markup('<b class="class">{}</b> for <b class="class">{}</b>')
    pairs = [
        pair.format(names[actual], names[predicted])
        for actual, predicted in most_confused(material, 3)
    ]
    text = Markup("It most often takes {}").format(listed(pairs))
    if share:
        return text + (
            f"; {percent(share, 0)} of its {errors:,} errors differ from the label in case alone or are between look-alikes, "
            "which a single character cannot settle."
        )
    return text + f", and misreads {counted(errors, 'image')} in all."


def in_training(material: Material) -> str:
    """The second sentence where there are no predictions: what the best network makes of images it has learned from."""
    train = mean(run["train_accuracy"] for run in material.main_runs(material.best))
    return f"Of the images that it learned from it reads {percent(train)}."


def collapse(material: Material) -> str:
    """Third sentence: what happens when the test images are prepared otherwise than the training images, as the original did."""
    rows = material.finding("06", "skew")
    by_network = {
        row["network"]: [one for one in rows if one["network"] == row["network"]] for row in rows
    }
    worst = max(
        by_network,
        key=lambda name: mean(row["as_trained"] - row["as_tested"] for row in by_network[name]),
    )
    own = by_network[worst]
    before, after = (
        percent(mean(row[way] for row in own), 0) for way in ("as_trained", "as_tested")
    )
    return (
        f"And the riddle of the original experiment has an answer: subtract the mean image in training but forget it in testing, "
        f"as its code did, and {the(worst)} falls from {before} to {after}."
    )


def no_gap(material: Material) -> str:
    """The third sentence where the collapse was not measured: validation beside test."""
    runs = material.main_runs(material.best)
    valid, test = (mean(run[f"{part}_accuracy"] for run in runs) for part in ("valid", "test"))
    digits = accuracy_digits([valid, test])
    return (
        f"On validation it reads {percent(valid, digits)}: with one preparation for all images, the gap "
        f"to test is {100 * abs(valid - test):.{digits}f} points."
    )


def misread(material: Material, sprite: Sprite) -> list[dict]:
    """One image each of the most frequent confusions, the surest mistake: `place`, `actual` and `predicted`."""
    answers, names, shown = material.answers[material.best], material.data.class_names, []
    predicted = answers.argmax(axis=1)
    for label, answer in most_confused(material, MISREAD):
        images = np.flatnonzero((material.data.test_labels == label) & (predicted == answer))
        surest = images[answers[images, answer].argmax()]
        shown.append(
            {"place": sprite.place(surest), "actual": names[label], "predicted": names[answer]}
        )
    return shown
