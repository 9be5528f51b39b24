"""The model that comes with the repository: trained on generated strokes alone, calibrated, measured, and written with its card."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from fastai.torch_core import TensorImageBW, no_random
from torch import Tensor

from lib.analysis.calibration import calibrate, calibration_error, with_temperature
from lib.data import CharacterData, load_data
from lib.data.classes import LOOK_ALIKES, MERGED, fold_case
from lib.files import PRETRAINED, write_json
from lib.networks import count_parameters
from lib.params import DataParameters, TrainingParameters
from lib.report.writing import write_whole
from lib.runs import device_name, save_model, versions
from lib.training.augment import RandomDistortion
from lib.training.evaluate import predict_probabilities
from lib.training.learner import fit, make_learner

DATA = DataParameters(per_class=4000, test_per_class=100, valid_fraction=0.025)
TRAINING = TrainingParameters(
    network="custom", epochs=10, batch_size=256, learning_rate=0.006, augment=0.7, warp=0.5
)
CASES = 0.1  # of the target, for the other case of a letter that has one form
LOOK_ALIKE = 0.25  # of it, for each look-alike
MOST = 0.5  # of it, for all of these together
ELSEWHERE = 0.03  # of the target, spread over all classes: label smoothing
CARD = "card.json"


def pretrain(
    path: Path = PRETRAINED, data: DataParameters = DATA, training: TrainingParameters = TRAINING
) -> dict:
    """Trains a network on generated characters and writes it, with its card beside it; returns the card."""
    characters = load_data(data)
    learner = make_learner(characters, training)
    learner.loss_func = SharedCrossEntropy(characters.class_names)
    seconds = fit(learner, training, training.learning_rate)
    model = learner.model.float()
    model.precision = torch.float32  # as it will be used
    calibration = calibrate(
        predict_probabilities(model, harder(characters.valid_images)), characters.valid_labels
    )
    save_model(path, model, training.network, characters.class_names, calibration)
    card = {
        "network": training.network,
        "parameters": count_parameters(model),
        "classes": len(characters.class_names),
        "trained_on": "generated strokes alone (lib/data/strokes.py)",
        "command": "uv run invoke pretrain",
        "n_train": len(characters.train_labels),
        "n_valid": len(characters.valid_labels),
        "n_test": len(characters.test_labels),
        **measured(
            predict_probabilities(model, characters.test_images),
            characters,
            calibration["temperature"],
        ),
        "temperature": round(calibration["temperature"], 4),
        "data": data.model_dump(include={"per_class", "test_per_class", "data_seed"}),
        "training": training.model_dump(exclude_defaults=True)
        | {"cases": CASES, "look_alike": LOOK_ALIKE, "most": MOST, "elsewhere": ELSEWHERE},
        "seconds": round(seconds),
        "device_name": device_name(learner.dls.device),
        "checksum": characters.checksum,
        **versions(),
    }
    write_json(path.with_name(CARD), card)
    write_whole(path.with_name("README.md"), as_page(card))
    return card


def harder(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Images uint8 (N, 28, 28) distorted by more than in training: handwriting is further from the generator than its own characters."""
    with no_random(seed):
        return (
            RandomDistortion(affine=1, warp=1)
            .encodes(TensorImageBW(torch.from_numpy(np.array(images))))
            .numpy()
        )


class SharedCrossEntropy:
    """Cross-entropy with a part of each target given to the classes that are written alike, and a little to all.

    A character that could be an O, an o or a 0 then has all three among its likeliest answers, and nothing else above them.
    """

    def __init__(self, class_names: list[str]):
        shares = torch.tensor(
            [[share(a, b) for b in class_names] for a in class_names]
        )  # (n_classes, n_classes)
        shares = shares * (MOST / shares.sum(dim=1, keepdim=True).clamp(min=MOST))
        targets = shares + ELSEWHERE / len(class_names)
        self.targets = targets + torch.diag(1 - targets.sum(dim=1))

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits, labels = logits.as_subclass(Tensor), labels.as_subclass(Tensor)
        return F.cross_entropy(logits, self.targets.to(logits.device)[labels])


def share(a: str, b: str) -> float:
    """What of the target of class a is for class b, which many people write alike: look-alikes such as 0 and O, cases such as c and C."""
    if a == b:
        return 0.0
    if any(a in group and b in group for group in LOOK_ALIKES):
        return LOOK_ALIKE
    return CASES if fold_case(a) == fold_case(b) and a.lower() in MERGED else 0.0


def measured(probabilities: np.ndarray, characters: CharacterData, temperature: float) -> dict:
    """Accuracies on the test characters, 0 to 1, and the calibration error after scaling, rounded to four digits."""
    actual, predicted = characters.test_labels, probabilities.argmax(axis=1)
    folded = np.array([fold_case(name) for name in characters.class_names])
    top3 = np.argsort(-probabilities, axis=1)[:, :3]
    found = {
        "accuracy": (predicted == actual).mean(),
        "case_folded": (folded[predicted] == folded[actual]).mean(),
        "top_3": (top3 == actual[:, None]).any(axis=1).mean(),
        "calibration_error": calibration_error(
            with_temperature(probabilities, temperature), actual
        ),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def as_page(card: dict) -> str:
    """The card as Markdown, for people."""
    settings = ", ".join(f"{name} {value}" for name, value in card["training"].items()).capitalize()
    return f"""# The model that comes with the repository

`model.safetensors`: the network `{card["network"]}` ({card["parameters"]:,} parameters) for the {card["classes"]} classes 0-9, A-Z, a-z, with its
preparation, its temperature and its validation likelihoods. It was trained on {card["trained_on"]} and has never seen handwriting.

| {card["n_test"]:,} generated characters, none of them trained on | |
|---|---|
| accuracy, {card["classes"]} classes | {card["accuracy"]:.1%} |
| case folded | {card["case_folded"]:.1%} |
| right one among the first three | {card["top_3"]:.1%} |
| expected calibration error, at temperature {card["temperature"]:.2f} | {card["calibration_error"]:.1%} |

Made by `{card["command"]}` in {card["seconds"] / 60:.0f} minutes of training on {card["n_train"]:,} characters; {card["n_valid"]:,} more calibrate it.
{settings}.
Device: {card["device_name"]}; torch {card["torch"]}, fastai {card["fastai"]}. `card.json` holds the same for programs; a test measures the accuracy again.

Of a target, {LOOK_ALIKE} is for each look-alike (0, O and o) and {CASES} for the other case of a letter that has one form (c and C), {MOST} in
all at most, so that such answers stand together.
How well it reads handwriting is told in the repository's README. Its confidence and its prediction sets are calibrated on
generated characters that were distorted, which are harder than plain ones: of those above it is right more often than it says.
"""
