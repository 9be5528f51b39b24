"""What character an image shows, and how sure that is. Needs torch, and not fastai."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from lib.analysis.calibration import threshold
from lib.data.cleanup import REFUSALS, NotACharacter, convert_all
from lib.data.pictures import Picture
from lib.errors import InputError
from lib.models import load_model, read_calibration
from lib.reading.models import DEFAULT, SHIPPED

NOT_A_CHARACTER = "not a character"
BATCH = 1024  # images that a network sees at once


@dataclass(frozen=True)
class Prediction:
    """What one image shows.

    label: a class name, or NOT_A_CHARACTER. confidence: its calibrated probability, 0 to 1.
    alternatives: all class names with their probabilities, the likeliest first, also where the
    network refuses. set: the class names that together hold the right one with the coverage asked
    for (as calibrated, without a prior), the likeliest first.
    image: uint8 (28, 28), what the network was given. reason: why it is no character.
    """

    label: str
    confidence: float = 0.0
    alternatives: list[tuple[str, float]] = field(default_factory=list)
    set: list[str] = field(default_factory=list)
    image: np.ndarray | None = field(default=None, repr=False)
    reason: str = ""


class Recogniser:
    """A trained network that answers for images of one character.

    coverage: of its prediction sets, 0 to 1. prior: {class: how frequent, in any unit}, 0 for
    the others; without one all are alike. The last outputs of a network may be REFUSALS: what is
    no character.
    """

    def __init__(self, model, class_names: list[str], calibration: dict, coverage=0.95, prior=None):
        if not 0 < coverage < 1:
            raise InputError(f"A coverage of {coverage:g} is not between 0 and 1; try 0.95.")
        self.model, self.coverage = model.eval(), coverage
        self.class_names = [name for name in class_names if name not in REFUSALS]
        self.refusals = [REFUSALS[name] for name in class_names if name in REFUSALS]
        if class_names[: len(self.class_names)] != self.class_names:
            raise InputError(f"The model's classes {', '.join(REFUSALS)} must be its last ones.")
        self.temperature, self.by_mass = calibration["temperature"], "refuse_above" in calibration
        self.threshold = threshold(calibration["likelihoods"], coverage)
        self.refuse_above = calibration.get("refuse_above", 1)
        self.log_prior = torch.zeros(len(self.class_names))
        if prior is not None:
            self.log_prior = torch.tensor([prior.get(name, 0.0) for name in self.class_names]).log()
        if unknown := [name for name in prior or {} if name not in self.class_names]:
            raise InputError(f"The network does not know '{unknown[0]}': leave it out of --among.")
        if not self.log_prior.isfinite().any():
            raise InputError("--among allows no character: give at least one a frequency above 0.")

    @classmethod
    def load(cls, path: str | Path | None = None, coverage=0.95, prior=None) -> "Recogniser":
        """The model in a file, or the default one; InputError if it is none of this project's."""
        path = Path(path or SHIPPED[DEFAULT])
        return cls(*load_model(path), read_calibration(path), coverage, prior)

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
        rows = zip(*self.look(np.stack(usable)), strict=True) if usable else iter([])
        answers = [
            self.answer(one, *next(rows)) if isinstance(one, np.ndarray) else one for one in found
        ]
        return [
            Prediction(NOT_A_CHARACTER, reason=str(one)) if isinstance(one, NotACharacter) else one
            for one in answers
        ]

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Calibrated, float32 (N, n_classes), of uint8 (N, 28, 28), upright, ink bright on 0."""
        return self.look(images)[0]

    @torch.no_grad()
    def look(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities as above, and those of each of its refusals, float32 (N, 0 or 2)."""
        batches = torch.from_numpy(np.array(images)).split(BATCH)  # stored ones are not writable
        logits, n = torch.cat([self.model(batch) for batch in batches]), len(self.class_names)
        shares = (logits[:, :n] / self.temperature + self.log_prior).softmax(dim=1)
        return shares.numpy(), logits.softmax(dim=1)[:, n:].numpy()

    def answer(self, image: np.ndarray, shares: np.ndarray, refusals: np.ndarray) -> Prediction:
        """The answer for a prepared image uint8 (28, 28) and what `look` gives for it."""
        order = np.argsort(-shares, kind="stable")
        order = order[np.isfinite(self.log_prior.numpy()[order])]
        ranked = [(self.class_names[label], float(shares[label])) for label in order]
        if refusals.sum() > self.refuse_above:
            reason = self.refusals[refusals.argmax()]
            return Prediction(NOT_A_CHARACTER, 0.0, ranked, [], image, reason)
        scores = set_scores(shares[order]) if self.by_mass else shares[order]
        chosen = [name for (name, _), score in zip(ranked, scores) if score >= self.threshold]
        return Prediction(*ranked[0], ranked, chosen or [ranked[0][0]], image)


def set_scores(ranked: np.ndarray) -> np.ndarray:
    """1 less the mass of what is likelier, (..., n), of probabilities in falling order (..., n).

    Sets by them grow until they hold enough mass, so they are large where a network is unsure.
    Source: Romano, Sesia and Candes (2020), https://arxiv.org/abs/2006.02544, less their random
    last class.
    """
    return np.maximum(1 - (np.cumsum(ranked, axis=-1) - ranked), 0)
