"""Any trained network as one ONNX file that takes stored images as they are: preparation, network and calibration in it.

Written by torch's exporter and checked with onnxruntime; both need the extra `export`. The file's metadata hold, as texts:

    network        its name in lib.networks
    class_names    JSON: the class of each column of the probabilities
    temperature    by which the logits are divided before the softmax; it is applied in the file
    input          what `images` must be
    output         what `probabilities` are
"""

import json
import os
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lib.errors import InputError
from lib.files import PRETRAINED, check_writable
from lib.networks import PreparedNetwork
from lib.reading.recogniser import Recogniser
from lib.runs import read_about

LIBRARIES = ("onnx", "onnxruntime", "onnxscript")
INPUT = "images: uint8 (N, 28, 28), one upright character each, bright ink on 0, as lib.data.emnist_format converts them"
OUTPUT = "probabilities: float32 (N, n_classes), calibrated, each row sums to 1"
N_CHECKED = 1000  # images
TOLERANCE = 1e-4  # of a probability


class WithProbabilities(nn.Module):
    """A model's preparation and network in float32, and their calibrated probabilities.

    Without the memory layout and the precision of PreparedNetwork: what they gain in torch would be ballast in the file.
    """

    def __init__(self, model: PreparedNetwork, temperature: float):
        super().__init__()
        self.preparation, self.network, self.temperature = (
            deepcopy(model.preparation),
            deepcopy(model.network),
            temperature,
        )
        self.float().to(memory_format=torch.contiguous_format).eval()

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(self.preparation(images))  # (B, n_classes)
        return (logits / self.temperature).softmax(dim=1)  # (B, n_classes)


def check_libraries() -> None:
    """InputError, with what to install, unless what an export needs is there; it is looked for, not imported."""
    missing = [
        name for name in LIBRARIES if not (find_spec(name) and find_spec(name).origin)
    ]  # a folder of that name is no library
    if missing:
        raise InputError(
            f"invoke export needs {' and '.join(missing)}, not installed so far: "
            "run `uv sync --extra export` or `pip install -e '.[export]'`."
        )


def default_output(path: Path) -> Path:
    """Beside a model file, as model.onnx; for the model that comes with the repository, <network>.onnx in the current folder."""
    return (
        Path(f"{read_about(path)['network']}.onnx")
        if path.resolve() == PRETRAINED
        else path.with_suffix(".onnx")
    )


def export_model(path: Path, output: Path) -> float:
    """Writes a model file as ONNX, and returns by how much its probabilities differ from torch's at most.

    Input `images` uint8 (N, 28, 28), output `probabilities` float32 (N, n_classes), for any N. The file is written as a whole, and
    only after N_CHECKED generated images got the same labels from it, with probabilities within TOLERANCE; otherwise, and if the
    model or the place for the file cannot be used, InputError is raised and an older file stays as it was. Call `check_libraries`
    first.
    """
    if output.suffix != ".onnx" or output.is_dir():
        raise InputError(f"--output {output}: give the path of a file that ends in .onnx.")
    recogniser = Recogniser.load(path)
    check_writable(output.parent)
    part = output.with_name(f"{output.name}.{os.getpid()}.part")
    try:
        write(part, recogniser, read_about(path)["network"])
        difference = compare(part, recogniser)
        os.replace(part, output)
    finally:
        part.unlink(missing_ok=True)
    return difference


def write(file: Path, recogniser: Recogniser, network: str) -> None:
    """Writes the ONNX file of a recogniser whose network has this name."""
    traced = torch.zeros(
        2, 28, 28, dtype=torch.uint8
    )  # not 1, which the exporter would take for a constant
    program = torch.onnx.export(
        WithProbabilities(recogniser.model, recogniser.temperature),
        (traced,),
        dynamic_shapes=({0: torch.export.Dim("N")},),
        input_names=["images"],
        output_names=["probabilities"],
        verbose=False,
    )
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # they tell in which files of this machine the node was made
    program.model.metadata_props.update(
        {
            "network": network,
            "class_names": json.dumps(recogniser.class_names, ensure_ascii=False),
            "temperature": repr(recogniser.temperature),
            "input": INPUT,
            "output": OUTPUT,
        }
    )
    program.save(file, external_data=False)


def compare(file: Path, recogniser: Recogniser) -> float:
    """The largest difference between a file's probabilities and torch's; InputError if it is too large, or a label differs."""
    from onnxruntime import InferenceSession

    from lib.data.strokes import generate

    images = generate(per_class=1 + N_CHECKED // 62, part="export")[0][:N_CHECKED]
    expected = recogniser.probabilities(images)
    (found,) = InferenceSession(file, providers=["CPUExecutionProvider"]).run(
        ["probabilities"], {"images": images}
    )
    difference = float(np.abs(found - expected).max())
    others = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    if others or not difference <= TOLERANCE:
        raise InputError(
            f"The exported network does not answer as torch does ({others} other labels of {N_CHECKED:,}, probabilities up to "
            f"{difference:.2g} apart), so it is not kept; use the model file itself."
        )
    return difference
