"""A square to draw one character in, for notebooks: mouse, pen or finger."""

from pathlib import Path

import anywidget
import numpy as np
import traitlets

HERE = Path(__file__).parent
SIDE = 256  # pixels a side of a drawing
FALLBACK = "<p><em>Run this notebook to draw here.</em></p>"  # where no kernel runs, such as on a page that shows a stored notebook


class Canvas(anywidget.AnyWidget):
    """A canvas, and beside it what is made of the drawing; it asks for nothing outside the page.

    drawing: SIDE * SIDE bytes, row by row, 0 ink to 255 paper, sent after each stroke, or b"" when nothing is drawn.
    said: one sentence of text. details: HTML, shown as it is: whoever writes it escapes what is not his own.
    Raises TraitError for a drawing of another size.
    """

    _esm = HERE / "canvas.js"
    _css = HERE / "canvas.css"

    side = traitlets.Int(SIDE, read_only=True).tag(sync=True)
    drawing = traitlets.Bytes().tag(
        sync=True, echo_update=False, from_json=lambda value, _: bytes(value)
    )
    said = traitlets.Unicode().tag(sync=True)
    details = traitlets.Unicode().tag(sync=True)

    @traitlets.validate("drawing")
    def _check_size(self, proposal) -> bytes:
        if len(proposal["value"]) not in (0, SIDE * SIDE):
            raise traitlets.TraitError(
                f"A drawing of {len(proposal['value'])} bytes is neither empty nor {SIDE} x {SIDE} pixels."
            )
        return proposal["value"]

    @property
    def image(self) -> np.ndarray | None:
        """The drawing, uint8 (SIDE, SIDE), 0 ink to 255 paper; None when nothing is drawn."""
        return np.frombuffer(self.drawing, np.uint8).reshape(SIDE, SIDE) if self.drawing else None

    def __repr__(self) -> str:
        return "Canvas()"

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        data, about = super()._repr_mimebundle_(**kwargs)
        return data | {"text/html": FALLBACK}, about
