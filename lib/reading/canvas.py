"""A square to draw one character in, for notebooks: mouse, pen or finger."""

from pathlib import Path

import anywidget
import numpy as np
import traitlets

HERE = Path(__file__).parent
SIDE = 256  # pixels a side of a drawing
FALLBACK = "<p><em>Run this notebook to draw here.</em></p>"  # shown where no kernel runs


class Canvas(anywidget.AnyWidget):
    """A canvas, and beside it what is made of the drawing; it asks for nothing outside the page.

    drawing: SIDE * SIDE bytes, row by row, 0 ink to 255 paper, or b""; sent after each stroke.
    said: a sentence. details: HTML, shown as it is, so escape it before. TraitError: another size.
    """

    _esm, _css = HERE / "canvas.js", HERE / "canvas.css"

    side = traitlets.Int(SIDE, read_only=True).tag(sync=True)
    drawing = traitlets.Bytes().tag(
        sync=True, echo_update=False, from_json=lambda value, _: bytes(value)
    )
    said = traitlets.Unicode().tag(sync=True)
    details = traitlets.Unicode().tag(sync=True)

    @traitlets.validate("drawing")
    def _check_size(self, proposal) -> bytes:
        if (n := len(proposal["value"])) in (0, SIDE * SIDE):
            return proposal["value"]
        raise traitlets.TraitError(f"A drawing of {n} bytes is neither empty nor {SIDE} x {SIDE}.")

    @property
    def image(self) -> np.ndarray | None:
        """The drawing, uint8 (SIDE, SIDE), 0 ink to 255 paper; None when nothing is drawn."""
        return np.frombuffer(self.drawing, np.uint8).reshape(SIDE, SIDE) if self.drawing else None

    def __repr__(self) -> str:
        return "Canvas()"

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        data, about = super()._repr_mimebundle_(**kwargs)
        return data | {"text/html": FALLBACK}, about
