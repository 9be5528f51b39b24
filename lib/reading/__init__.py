"""Any image to a character: Recogniser.load().predict("letter.jpg") gives a Prediction.

Behind it: the models, export as ONNX, the canvas and page to draw on.
"""

from lib.reading.models import find_model
from lib.reading.recogniser import Prediction, Recogniser

__all__ = ["Prediction", "Recogniser", "find_model"]
