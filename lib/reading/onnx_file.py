"""Any trained network as one ONNX file that takes stored images as they are.

Preparation, network and calibration are in it, and as texts in its metadata: `network`, its name;
`class_names`, JSON; `temperature`, already applied; `input`, as it must be; `output`, as it is. A
network that refuses has a second output `refusals` and the text `refuse_above`.
"""

import json
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lib.data.strokes import generate
from lib.errors import InputError
from lib.files import write_whole
from lib.models import read_about
from lib.networks import PreparedNetwork
from lib.reading.models import SHIPPED
from lib.reading.recogniser import Recogniser

LIBRARIES = ("onnx", "onnxruntime", "onnxscript")
INPUT = "images: uint8 (N, 28, 28), one upright character each, bright ink on 0, as EMNIST's"
OUTPUT = "probabilities: float32 (N, n_classes), calibrated, each row sums to 1"
N_CHECKED = 1000  # images
TOLERANCE = 1e-4  # of a probability


class WithProbabilities(nn.Module):
    """A recogniser's network less its memory layout and precision, and its probabilities."""

    def __init__(self, recogniser: Recogniser):
        super().__init__()
        model: PreparedNetwork = recogniser.model
        self.preparation, self.network = deepcopy(model.preparation), deepcopy(model.network)
        self.temperature, self.refuses = recogniser.temperature, bool(recogniser.refusals)
        self.n_classes = len(recogniser.class_names)
        self.float().to(memory_format=torch.contiguous_format).eval()

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(self.preparation(images))  # (B, n_classes and refusals)
        shares = (logits[:, : self.n_classes] / self.temperature).softmax(dim=1)
        return (shares, logits.softmax(dim=1)[:, self.n_classes :]) if self.refuses else shares


def check_libraries() -> None:
    """InputError, with what to install, unless all libraries are there (a folder has no origin)."""
    missing = [name for name in LIBRARIES if not (find_spec(name) and find_spec(name).origin)]
    if missing:
        raise InputError(
            f"invoke export needs {' and '.join(missing)}, not installed so far: "
            "run `uv sync --extra export` or `pip install -e '.[export]'`."
        )


def default_output(path: Path) -> Path:
    """Beside a model file, as model.onnx; for a shipped one, <its name>.onnx in this folder."""
    return (
        Path(f"{path.stem}.onnx")
        if path.resolve() in SHIPPED.values()
        else path.with_suffix(".onnx")
    )


def export_model(path: Path, output: Path) -> float:
    """Writes a model file as ONNX; returns what `compare` gives. Call `check_libraries` first.

    Raises InputError, with an older file left as it was, for a bad model, place, or comparison.
    """
    if output.suffix != ".onnx" or output.is_dir():
        raise InputError(f"--output {output}: give the path of a file that ends in .onnx.")
    recogniser = Recogniser.load(path)
    content = as_onnx(recogniser, read_about(path)["network"])
    difference = compare(content, recogniser)
    write_whole(output, content)
    return difference


def as_onnx(recogniser: Recogniser, network: str) -> bytes:
    """The ONNX file of a recogniser whose network has this name."""
    model = WithProbabilities(recogniser)
    traced = torch.zeros(2, 28, 28, dtype=torch.uint8)  # one image would be taken for a constant
    outputs = ["probabilities"] + ["refusals"] * model.refuses
    names = {"input_names": ["images"], "output_names": outputs}
    shapes = ({0: torch.export.Dim("N")},)
    program = torch.onnx.export(model, (traced,), dynamic_shapes=shapes, verbose=False, **names)
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # they tell in which files of this machine the node was made
    classes = json.dumps(recogniser.class_names, ensure_ascii=False)
    about = {"network": network, "class_names": classes, "temperature": repr(model.temperature)}
    about |= {"refuse_above": repr(recogniser.refuse_above)} if model.refuses else {}
    program.model.metadata_props.update(about | {"input": INPUT, "output": OUTPUT})
    return program.model_proto.SerializeToString()


def compare(content: bytes, recogniser: Recogniser) -> float:
    """How far a file and torch are apart at most; InputError if too far, or for another label."""
    from onnxruntime import InferenceSession  # may be missing

    images = generate(per_class=1 + N_CHECKED // 62, part="export")[0][:N_CHECKED]
    expected = recogniser.probabilities(images)
    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"images": images})
    difference = float(np.abs(found - expected).max())
    others = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    if others or not difference <= TOLERANCE:
        raise InputError(
            f"The exported network does not answer as torch does ({others} other labels of "
            f"{N_CHECKED:,}, probabilities up to {difference:.2g} apart), so it is not kept; "
            "use the model file itself."
        )
    return difference
