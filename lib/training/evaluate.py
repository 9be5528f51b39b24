"""What a trained network is worth: its predictions, accuracies and losses, with the conditions they were measured under."""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from fastai.learner import Learner

from lib.data import CharacterData
from lib.networks import count_parameters
from lib.params import TrainingParameters
from lib.runs import device_name, versions

MEASURED_ON = 5_000  # at most so many training images are used to measure the accuracy on train
SHIFTS = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]


def history(learner: Learner) -> pd.DataFrame:
    """One row per epoch: epoch (from 1), train_loss and valid_loss (nats), valid_accuracy (0 to 1), learning_rate at its end."""
    recorder = learner.recorder
    table = pd.DataFrame(recorder.values, columns=["train_loss", "valid_loss", "valid_accuracy"])
    table.insert(0, "epoch", np.arange(1, len(table) + 1))
    steps = len(learner.dls.train)
    rates = recorder.hps["lr"]
    return table.assign(
        learning_rate=[float(rates[min(epoch * steps, len(rates)) - 1]) for epoch in table["epoch"]]
    )


def predict_probabilities(model: torch.nn.Module, images: np.ndarray, views: int = 1) -> np.ndarray:
    """Class probabilities float32 (N, n_classes) of uint8 (N, 28, 28), computed as in training but without dropout.

    `views` 5 or 9 averages them over the image and its copies shifted by a pixel, along the axes or diagonally as well.
    """
    device = next(model.parameters()).device
    batches = (
        torch.tensor(images[i : i + 1024], device=device) for i in range(0, len(images), 1024)
    )
    model.eval()
    with torch.no_grad():
        return np.concatenate(
            [
                torch.stack(
                    [F.softmax(model(shifted(xb, *shift)), dim=1) for shift in SHIFTS[:views]]
                )
                .mean(dim=0)
                .cpu()
                .numpy()
                for xb in batches
            ]
        )


def shifted(images: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Images (B, H, W) moved by at most a pixel, with paper where nothing was."""
    padded, (height, width) = F.pad(images, (1, 1, 1, 1)), images.shape[1:]
    return padded[:, 1 - down : 1 - down + height, 1 - right : 1 - right + width]


def measure(probabilities: np.ndarray, labels: np.ndarray) -> dict:
    """Accuracy (0 to 1) and mean cross-entropy (nats) of probabilities (N, n_classes) against labels (N,)."""
    likelihood = probabilities[np.arange(len(labels)), labels]
    return {
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        "loss": float(-np.log(np.maximum(likelihood, 1e-12)).mean()),
    }


def predict_parts(model: torch.nn.Module, data: CharacterData, views: int = 1) -> dict[str, tuple]:
    """For "valid" and for "test": the actual labels (N,) and the class probabilities (N, n_classes) of that part, in its order."""
    return {
        "valid": (data.valid_labels, predict_probabilities(model, data.valid_images, views)),
        "test": (data.test_labels, predict_probabilities(model, data.test_images, views)),
    }


def measure_run(
    learner: Learner,
    data: CharacterData,
    parameters: TrainingParameters,
    learning_rate: float,
    seconds: float,
    predictions: dict[str, tuple],
) -> dict:
    """Every number of a run with its conditions, ready for metrics.json. Accuracies 0 to 1, losses in nats, time in seconds.

    predictions: as `predict_parts` gives them.
    """
    step = max(1, -(-len(data.train_labels) // MEASURED_ON))
    measured = {
        "train": measure(
            predict_probabilities(learner.model, data.train_images[::step], parameters.views),
            data.train_labels[::step],
        ),
        **{
            part: measure(probabilities, actual)
            for part, (actual, probabilities) in predictions.items()
        },
    }
    device = learner.dls.device
    division = (
        data.parameters.model_dump(include={"cap", "valid_fraction", "data_seed"})
        if data.parameters
        else {}
    )
    return {
        **parameters.model_dump(),
        "learning_rate": float(learning_rate),
        "epochs_run": len(learner.recorder.values),
        "precision": str(learner.model.precision).removeprefix("torch."),
        "parameters": count_parameters(learner.model),
        **{
            f"{part}_{name}": values[name]
            for name in ("accuracy", "loss")
            for part, values in measured.items()
        },
        "optimiser": "Adam with decoupled weight decay, as fastai has it",
        "seconds": round(seconds, 2),
        "device": device.type,
        "device_name": device_name(device),
        "dataset": data.dataset,
        "split": data.split,
        "note": data.note,
        "checksum": data.checksum,
        **division,
        "n_classes": len(data.class_names),
        "n_train": len(data.train_labels),
        "n_train_measured": len(data.train_labels[::step]),
        "n_valid": len(data.valid_labels),
        "n_test": len(data.test_labels),
        **versions(),
    }
