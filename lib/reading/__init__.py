"""Any image to a character: Recogniser.load().predict("letter.jpg") gives a Prediction.

Behind it: which model file is meant, the model that comes with the repository and how it is made,
export as ONNX, and the canvas and the page to draw on.
"""

from lib.reading.models import find_model
from lib.reading.recogniser import Prediction, Recogniser

__all__ = ["Prediction", "Recogniser", "find_model"]
