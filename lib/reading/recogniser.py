"""What character an image shows, and how sure that is. Needs torch, and not fastai."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from lib.analysis.calibration import threshold
from lib.data.cleanup import NotACharacter, Picture, convert_all
from lib.errors import InputError
from lib.files import PRETRAINED
from lib.models import load_model, read_calibration

NOT_A_CHARACTER = "not a character"
BATCH = 1024  # images that a network sees at once


@dataclass(frozen=True)
class Prediction:
    """What one image shows.

    label: a class name, or NOT_A_CHARACTER. confidence: its calibrated probability, 0 to 1.
    alternatives: all class names with their probabilities, the likeliest first. set: the class
    names that together hold the right one with the coverage asked for, the likeliest first.
    image: uint8 (28, 28), what the network was given. reason: why it is no character.
    """

    label: str
    confidence: float = 0.0
    alternatives: list[tuple[str, float]] = field(default_factory=list)
    set: list[str] = field(default_factory=list)
    image: np.ndarray | None = field(default=None, repr=False)
    reason: str = ""


class Recogniser:
    """A trained network that answers for images of one character; coverage: of its sets, 0 to 1."""

    def __init__(self, model, class_names: list[str], calibration: dict, coverage: float = 0.95):
        if not 0 < coverage < 1:
            raise InputError(f"A coverage of {coverage:g} is not between 0 and 1; try 0.95.")
        self.model, self.class_names = model.eval(), class_names
        self.coverage, self.temperature = coverage, calibration["temperature"]
        self.threshold = threshold(calibration["likelihoods"], coverage)

    @classmethod
    def load(cls, path: str | Path | None = None, coverage: float = 0.95) -> "Recogniser":
        """The model in a file, or the shipped one; InputError if it is none of this project's."""
        path = Path(path or PRETRAINED)
        return cls(*load_model(path), read_calibration(path), coverage)

    def predict(self, image: Picture) -> Prediction:
        """What an image shows, as lib.data.cleanup.steps takes it; InputError if it is none."""
        answer = self.predict_all([image])[0]
        if isinstance(answer, InputError):
            raise answer
        return answer

    def predict_all(self, images: Iterable[Picture]) -> list[Prediction | InputError]:
        """The same for many at once, which is faster; an InputError where one cannot be read."""
        found = convert_all(images)
        usable = [image for image in found if isinstance(image, np.ndarray)]
        rows = iter(self.probabilities(np.stack(usable)) if usable else [])
        answers = [
            self.answer(one, next(rows)) if isinstance(one, np.ndarray) else one for one in found
        ]
        return [
            Prediction(NOT_A_CHARACTER, reason=str(one)) if isinstance(one, NotACharacter) else one
            for one in answers
        ]

    @torch.no_grad()
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Calibrated, float32 (N, n_classes), of uint8 (N, 28, 28), upright, ink bright on 0."""
        batches = torch.from_numpy(np.array(images)).split(BATCH)  # stored ones are not writable
        logits = torch.cat([self.model(batch) for batch in batches])
        return (logits / self.temperature).softmax(dim=1).numpy()

    def answer(self, image: np.ndarray, probabilities: np.ndarray) -> Prediction:
        """The answer for a prepared image uint8 (28, 28) and its probabilities (n_classes,)."""
        order = np.argsort(-probabilities, kind="stable")
        ranked = [(self.class_names[label], float(probabilities[label])) for label in order]
        chosen = [name for name, probability in ranked if probability >= self.threshold]
        return Prediction(*ranked[0], ranked, chosen or [ranked[0][0]], image)
