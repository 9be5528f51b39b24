"""Many short trainings of one network that differ in one thing each: what a schedule or an improvement is worth."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from lib.data import CharacterData
from lib.params import TrainingParameters
from lib.training.callbacks import PlainProgress
from lib.training.checkpoint import ResumableLearner
from lib.training.evaluate import history, measure, predict_parts
from lib.training.learner import fit, make_learner

RESULTS = ["variant", "seed", "valid_accuracy", "test_accuracy", "seconds", "history"]


def part_of(data: CharacterData, images: int, seed: int = 0) -> CharacterData:
    """The same data with a random part of at most `images` training images; validation and test stay whole."""
    return with_rows(
        data, np.sort(np.random.default_rng(seed).permutation(len(data.train_labels))[:images])
    )


def with_rows(data: CharacterData, chosen: np.ndarray) -> CharacterData:
    """The same data with the `chosen` rows (n,) of the training images alone."""
    return replace(
        data,
        train_images=data.train_images[chosen],
        train_labels=data.train_labels[chosen],
        parameters=None,
    )


def run_trials(
    data: CharacterData, base: TrainingParameters, variants: dict[str, dict], seeds: Iterable[int]
) -> pd.DataFrame:
    """Trains every variant with every seed, and says so: a row each.

    variants: for each name the parameters in which it differs from `base`, whose learning_rate must be set. Accuracies
    are 0 to 1, seconds those of the training, `history` the table of its epochs.
    """
    rows = []
    for name, changes in variants.items():
        for seed in seeds:
            rows.append(
                (
                    name,
                    seed,
                    *one_trial(
                        data, TrainingParameters(**base.model_dump() | changes | {"seed": seed})
                    ),
                )
            )
        done = pd.DataFrame(rows, columns=RESULTS).query("variant == @name")
        print(
            f"{name}: validation {done['valid_accuracy'].mean():.1%}, {done['seconds'].sum():.0f} s",
            flush=True,
        )
    return pd.DataFrame(rows, columns=RESULTS)


def one_trial(
    data: CharacterData, parameters: TrainingParameters
) -> tuple[float, float, float, pd.DataFrame]:
    """One training: accuracy on validation and on test (0 to 1), its seconds, and the table of its epochs."""
    learner, seconds = train_quietly(data, parameters)
    accuracies = [
        measure(probabilities, actual)["accuracy"]
        for actual, probabilities in predict_parts(learner.model, data, parameters.views).values()
    ]
    return *accuracies, seconds, history(learner)


def train_quietly(
    data: CharacterData, parameters: TrainingParameters
) -> tuple[ResumableLearner, float]:
    """A learner trained at the parameters' learning_rate, without a line per epoch, and the seconds that took."""
    learner = make_learner(data, parameters)
    learner.remove_cb(PlainProgress)
    with learner.no_bar(), learner.no_logging():
        return learner, fit(learner, parameters, parameters.learning_rate)
