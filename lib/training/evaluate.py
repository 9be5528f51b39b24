"""What a trained network is worth: predictions, accuracies and losses, with their conditions."""

from copy import deepcopy

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from fastai.learner import Learner

from lib.data import CharacterData
from lib.files import shown_path
from lib.models import versions
from lib.networks import PreparedNetwork, count_parameters
from lib.params import TrainingParameters
from lib.runs import device_name

SMALLEST = 6e-8  # probability that half precision can hold
MEASURED_ON = 5_000  # at most so many training images are used to measure the accuracy on train
SHIFTS = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]


def history(learner: Learner) -> pd.DataFrame:
    """One row per epoch: losses (nats), valid_accuracy (0 to 1), the learning rate at its end.

    Both losses are measured after the epoch, without dropout and augmentation.
    """
    recorder, steps = learner.recorder, len(learner.dls.train)
    columns = ["running_loss", "valid_loss", "valid_accuracy", "train_loss"]
    table = pd.DataFrame(recorder.values, columns=columns)
    table["epoch"] = np.arange(1, len(table) + 1)
    table["learning_rate"] = np.array(recorder.hps["lr"], dtype=float)[steps - 1 :: steps]
    return table[["epoch", "train_loss", "valid_loss", "valid_accuracy", "learning_rate"]]


def predict_probabilities(model: torch.nn.Module, images: np.ndarray, views: int = 1) -> np.ndarray:
    """Class probabilities float32 (N, n_classes) of uint8 (N, 28, 28), without dropout.

    `views` averages them over the image and its copies shifted by a pixel: 5, along the axes; 9,
    diagonally as well.
    """
    device, found = next(model.parameters()).device, []
    model.eval()
    with torch.no_grad():
        for start in range(0, len(images), 1024):
            xb = torch.tensor(images[start : start + 1024], device=device)
            seen = [model(shifted(xb, *shift)).softmax(dim=1) for shift in SHIFTS[:views]]
            found.append(torch.stack(seen).mean(dim=0).cpu().numpy())
    return np.concatenate(found)


def without_mean(model: PreparedNetwork) -> PreparedNetwork:
    """The same network, given images from which no mean is subtracted: so the original tested."""
    changed = deepcopy(model)
    changed.preparation.mean.zero_()
    return changed


def shifted(images: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Images (B, H, W) moved by so many pixels, with paper where nothing was."""
    return F.pad(images, (right, -right, down, -down))


def measure(probabilities: np.ndarray, labels: np.ndarray) -> dict:
    """Accuracy (0 to 1) and mean cross-entropy (nats) of probabilities (N, n_classes)."""
    likelihood = probabilities[np.arange(len(labels)), labels]
    return {
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        "loss": float(-np.log(np.maximum(likelihood, SMALLEST)).mean()),
    }


def predict_parts(model: torch.nn.Module, data: CharacterData, views: int = 1) -> dict[str, tuple]:
    """For "valid" and "test": labels (N,) and probabilities (N, n_classes), in the part's order.

    The probabilities are rounded to half precision, in which they are kept: what is measured now is
    what every chapter reads later.
    """
    predictions = {}
    for part in ("valid", "test"):
        images, labels = (getattr(data, f"{part}_{kind}") for kind in ("images", "labels"))
        exact = predict_probabilities(model, images, views)
        predictions[part] = labels, exact.astype(np.float16).astype(np.float32)
    return predictions


def measure_run(
    learner: Learner,
    data: CharacterData,
    parameters: TrainingParameters,
    learning_rate: float,
    seconds: float,
    predictions: dict[str, tuple],
) -> dict:
    """Every number of a run with its conditions, ready for metrics.json.

    Accuracies 0 to 1, losses in nats, time in seconds. predictions: as `predict_parts` gives them.
    """
    device, model, views = learner.dls.device, learner.model, parameters.views
    step, stride = (-(-len(part) // MEASURED_ON) for part in (data.train_labels, data.test_labels))
    seen, labels = data.train_images[::step], data.train_labels[::step]
    measured = {"train": measure(predict_probabilities(model, seen, views), labels)}
    measured |= {part: measure(table, actual) for part, (actual, table) in predictions.items()}
    blind = predict_probabilities(without_mean(model), data.test_images[::stride], views)
    return {
        **data.parameters.model_dump(exclude={"archive", "folder"}),
        **parameters.model_dump(),
        "start": shown_path(parameters.start) if parameters.start else "",
        "learning_rate": float(learning_rate),
        "epochs_run": len(learner.recorder.values),
        "precision": str(model.precision).removeprefix("torch."),
        "parameters": count_parameters(model),
        **{f"{part}_accuracy": found["accuracy"] for part, found in measured.items()},
        **{f"{part}_loss": found["loss"] for part, found in measured.items()},
        "accuracy_without_mean": measure(blind, data.test_labels[::stride])["accuracy"],
        "seconds": round(seconds, 2),
        "device": device.type,
        "device_name": device_name(device),
        **{name: getattr(data, name) for name in ("dataset", "split", "note", "checksum")},
        "n_classes": len(data.class_names),
        "n_train": len(data.train_labels),
        "n_train_measured": len(labels),
        **{f"n_{part}": len(actual) for part, (actual, _) in predictions.items()},
        **versions(),
    }
