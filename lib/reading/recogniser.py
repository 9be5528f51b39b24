"""What character an image shows, and how sure that is: any image in, an honest answer out. Needs torch, and not fastai."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from lib.analysis.calibration import threshold
from lib.data.cleanup import NotACharacter, Picture, convert_all
from lib.errors import InputError
from lib.files import PRETRAINED
from lib.runs import load_model, read_calibration

NOT_A_CHARACTER = "not a character"
BATCH = 1024  # images that a network sees at once


@dataclass(frozen=True)
class Prediction:
    """What one image shows.

    label: a class name, or NOT_A_CHARACTER. confidence: calibrated probability of that label, 0 to 1. alternatives:
    all class names with their probabilities, the likeliest first. set: the class names that together hold the right one with the
    coverage asked for, the likeliest first. image: uint8 (28, 28), what the network was given. reason: why it is no character.
    """

    label: str
    confidence: float = 0.0
    alternatives: list[tuple[str, float]] = field(default_factory=list)
    set: list[str] = field(default_factory=list)
    image: np.ndarray | None = field(default=None, repr=False)
    reason: str = ""


class Recogniser:
    """A trained network that answers for images of any kind, one character each: Recogniser.load().predict("letter.jpg")."""

    def __init__(
        self,
        model: torch.nn.Module,
        class_names: list[str],
        calibration: dict,
        coverage: float = 0.95,
    ):
        if not 0 < coverage < 1:
            raise InputError(
                f"A coverage of {coverage:g} is not between 0 and 1; the usual ones are 0.9, 0.95 and 0.99."
            )
        self.model, self.class_names = model.eval(), class_names
        self.coverage, self.temperature = coverage, calibration["temperature"]
        self.threshold = threshold(calibration["likelihoods"], coverage)

    @classmethod
    def load(cls, path: str | Path | None = None, coverage: float = 0.95) -> "Recogniser":
        """The model in a file, or the one that comes with the repository; InputError if it is none of ours."""
        path = Path(path or PRETRAINED)
        model, class_names = load_model(path)
        return cls(model, class_names, read_calibration(path), coverage)

    def predict(self, image: Picture) -> Prediction:
        """What an image shows: a file, a PIL image, or an array (H, W), (H, W, 3) or (H, W, 4) of uint8, or of 0 to 1.

        Raises InputError if it is not an image or cannot be read.
        """
        answer = self.predict_all([image])[0]
        if isinstance(answer, InputError):
            raise answer
        return answer

    def predict_all(self, images: Iterable[Picture]) -> list[Prediction | InputError]:
        """The same for many at once, which is faster; what cannot be read comes back as the InputError that says why."""
        found = convert_all(images)
        usable = [index for index, image in enumerate(found) if isinstance(image, np.ndarray)]
        answers = [
            error
            if not isinstance(error, NotACharacter)
            else Prediction(NOT_A_CHARACTER, reason=str(error))
            for error in found
        ]
        if usable:
            stack = np.stack([found[index] for index in usable])
            for index, image, row in zip(usable, stack, self.probabilities(stack), strict=True):
                answers[index] = self.answer(image, row)
        return answers

    @torch.no_grad()
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float32 (N, n_classes), of prepared images: uint8 (N, 28, 28), upright, ink bright on 0."""
        batches = torch.from_numpy(np.ascontiguousarray(images)).split(BATCH)
        return torch.cat(
            [(self.model(batch) / self.temperature).softmax(dim=1) for batch in batches]
        ).numpy()

    def answer(self, image: np.ndarray, probabilities: np.ndarray) -> Prediction:
        """The answer for a prepared image uint8 (28, 28) with the calibrated probabilities (n_classes,)."""
        order = np.argsort(-probabilities, kind="stable")
        ranked = [(self.class_names[label], float(probabilities[label])) for label in order]
        chosen = [name for name, probability in ranked if probability >= self.threshold]
        return Prediction(*ranked[0], ranked, chosen or [ranked[0][0]], image)
