"""Makes the model that comes with the repository: trained on generated strokes, with its card."""

from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from fastai.torch_core import TensorImageBW, no_random
from torch import Tensor

from lib.analysis.calibration import calibrate, calibration_error
from lib.analysis.confusions import merged_accuracy
from lib.data import CharacterData, load_data
from lib.data.classes import LOOK_ALIKES, MERGED, fold_case, in_one_group
from lib.files import PRETRAINED, write_json, write_whole
from lib.models import round_weights, save_model, versions
from lib.networks import count_parameters
from lib.params import DataParameters, TrainingParameters
from lib.reading.recogniser import Recogniser
from lib.runs import device_name
from lib.training import make_learner, predict_probabilities
from lib.training.augment import RandomDistortion

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
    """Trains a network, and writes it with its card beside it; returns the card."""
    characters, started = load_data(data), perf_counter()
    learn = make_learner(characters, training)
    learn.loss_func = SharedCrossEntropy(characters.class_names)
    learn.fit_one_cycle(training.epochs, training.learning_rate)
    seconds, model = perf_counter() - started, learn.model.float()
    model.precision = torch.float32  # as it will be used
    round_weights(model)  # as they will be kept
    valid = predict_probabilities(model, harder(characters.valid_images))
    calibration = calibrate(valid, characters.valid_labels)
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
        **measured(Recogniser.load(path), characters),
        "temperature": round(calibration["temperature"], 4),
        "data": data.model_dump(include={"per_class", "test_per_class", "data_seed"}),
        "training": training.model_dump(exclude_defaults=True)
        | {"cases": CASES, "look_alike": LOOK_ALIKE, "most": MOST, "elsewhere": ELSEWHERE},
        "seconds": round(seconds),
        "device_name": device_name(learn.dls.device),
        "checksum": characters.checksum,
        **versions(),
    }
    write_json(path.with_name(CARD), card)
    write_whole(path.with_name("README.md"), as_page(card))
    return card


def harder(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Images uint8 (N, 28, 28) distorted by more than in training, to be as hard as handwriting."""
    with no_random(seed):
        distortion = RandomDistortion(affine=1, warp=1)
        return distortion.encodes(TensorImageBW(torch.from_numpy(np.array(images)))).numpy()


class SharedCrossEntropy:
    """Cross-entropy with a part of each target for what is written alike: an O answers o and 0."""

    def __init__(self, class_names: list[str]):
        shares = torch.tensor([[share(a, b) for b in class_names] for a in class_names])
        shares *= MOST / shares.sum(dim=1, keepdim=True).clamp(min=MOST)  # (n_classes, n_classes)
        targets = shares + ELSEWHERE / len(class_names)
        self.targets = targets + torch.diag(1 - targets.sum(dim=1))

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits, labels = logits.as_subclass(Tensor), labels.as_subclass(Tensor)
        return F.cross_entropy(logits, self.targets.to(logits.device)[labels])


def share(a: str, b: str) -> float:
    """What of the target of class a is for class b: look-alikes as 0 and O, cases as c and C."""
    if a != b and in_one_group(a, b, LOOK_ALIKES):
        return LOOK_ALIKE
    return CASES if a != b and fold_case(a) == fold_case(b) and a.lower() in MERGED else 0.0


def measured(recogniser: Recogniser, characters: CharacterData) -> dict:
    """Accuracies and calibration error on the test characters, 0 to 1."""
    probabilities = recogniser.probabilities(characters.test_images)
    actual, predicted = characters.test_labels, probabilities.argmax(axis=1)
    found = {
        "accuracy": (predicted == actual).mean(),
        "case_folded": merged_accuracy(actual, predicted, characters.class_names, fold_case),
        "top_3": (np.argsort(-probabilities)[:, :3] == actual[:, None]).any(axis=1).mean(),
        "calibration_error": calibration_error(probabilities, actual),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def as_page(card: dict) -> str:
    """The card as Markdown, for people."""
    settings = ", ".join(f"{name} {value}" for name, value in card["training"].items())
    more = card["training"] | {"settings": settings.capitalize(), "minutes": card["seconds"] / 60}
    return PRETRAINED.with_name("README.template.md").read_text("utf-8").format(**card | more)
