"""A square to draw one character in, for notebooks: mouse, pen, finger or a photograph."""

import json
from pathlib import Path

import anywidget
import traitlets

HERE = Path(__file__).parent
FALLBACK = "<p><em>Run this notebook to draw here.</em></p>"  # shown where no kernel runs
RENDER = "export default { render: ({ model, el }) => mount(el, JSON.parse(model.get('data'))) };"
SCRIPT = "\n".join((HERE / name).read_text("utf-8") for name in ("reader.js", "canvas.js"))
STYLE = (HERE / "canvas.css").read_text("utf-8")


class Canvas(anywidget.AnyWidget):
    """A canvas, and beside it what the networks say to the drawing; the browser computes it all.

    data: JSON, as `lib.reading.page.page_data` gives it.
    """

    _esm, _css = f"{SCRIPT}\n{RENDER}", STYLE

    data = traitlets.Unicode().tag(sync=True)

    def __init__(self, data: dict):
        super().__init__(data=json.dumps(data))

    def __repr__(self) -> str:
        return "Canvas()"

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        data, about = super()._repr_mimebundle_(**kwargs)
        return data | {"text/html": FALLBACK}, about
