"""Model files: weights, preparation and calibration of one network, as safetensors."""

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, safe_open, save_file

from lib.errors import InputError
from lib.files import write_whole
from lib.networks import NETWORKS, Preparation, PreparedNetwork, make_network

UNCALIBRATED = {"temperature": 1.0, "likelihoods": []}  # as they are, and sets of every class
STEPS = ".steps"  # ends the name of what an array of 8-bit whole numbers is multiplied by


def versions() -> dict:
    """Versions of what a result depends on."""
    python = platform.python_version()
    return {"torch": torch.__version__, "fastai": version("fastai"), "python": python}


def round_weights(model: PreparedNetwork, bits: int = 16) -> None:
    """Rounds kernels and matrices as they are kept, in place: to half precision, or to 8 bits."""
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.copy_(weights.half() if bits == 16 else in_floats(*in_steps(weights)))


def in_steps(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (n_out, ...) as int8, and the size of a step for each output, float32 (n_out,).

    A step has few digits: what was once rounded to steps gives the same ones again, to the bit.
    """
    steps = weights.flatten(1).abs().amax(dim=1).clamp(min=1e-30) / 127
    steps = steps.bfloat16().float()
    whole = (weights.movedim(0, -1) / steps).round().to(torch.int8)
    return whole.movedim(-1, 0).contiguous(), steps


def in_floats(whole: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """What `in_steps` has rounded, float32."""
    return (whole.movedim(0, -1) * steps).movedim(-1, 0)


def kept(weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Kernels or a matrix as they are kept: int8 and steps if they are so rounded, else halves."""
    whole, steps = in_steps(weights)
    return (whole, steps) if torch.equal(in_floats(whole, steps), weights) else (weights.half(),)


def save_model(
    path: Path,
    model: PreparedNetwork,
    network: str,
    class_names: list[str],
    calibration: dict | None = None,
) -> None:
    """Writes a model: no code is run when it is loaded. calibration: as `calibrate` gives it.

    Kernels and matrices are kept as `round_weights` leaves them: call it before measuring.
    """
    about = {"network": network, "class_names": class_names}
    about |= {"calibration": calibration or UNCALIBRATED, "versions": versions()}
    weights = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    for name, value in model.named_parameters():
        if value.dim() > 1:
            weights |= zip((name, name + STEPS), kept(weights[name]))
    # one entry: safetensors writes several in random order, and the same weights would differ
    metadata = {"model": json.dumps(about, ensure_ascii=False)}
    write_whole(path, lambda part: save_file(weights, part, metadata))


def load_model(path: Path) -> tuple[PreparedNetwork, list[str]]:
    """A model in float32, ready to predict, and its class names; InputError if it is none."""
    about = read_about(path)
    name, class_names = about["network"], about["class_names"]
    n_classes = len(class_names)
    with _refused(path):
        with safe_open(path, "pt") as file:
            held = {key: file.get_slice(key).get_shape() for key in file.keys()}
        steps = {key: held.pop(key) for key in [*held] if key.endswith(STEPS)}
        stray = [key for key in steps if steps[key] != held.get(key.removesuffix(STEPS), [])[:1]]
        fits = any(shape[:1] == [n_classes] for shape in held.values())  # else no memory is taken
        model = (
            PreparedNetwork(make_network(name, n_classes), Preparation()).eval() if fits else None
        )
        own = {key: list(one.shape) for key, one in model.state_dict().items()} if fits else {}
        if not fits or held != own or stray:
            expected = f"the network '{name}' for {n_classes} classes"
            raise ValueError(f"its weights are not those of {expected}")
        model.load_state_dict(read_weights(path))
        white_and_black = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1)
        with torch.no_grad():
            logits = model(white_and_black.expand(2, 28, 28))
        if not torch.isfinite(logits).all():
            raise ValueError("its answers are not numbers")
    return model, class_names


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """The arrays of a safetensors file by their names; those kept as int8 and steps in floats."""
    weights = load_file(path)
    for name in [name for name in weights if name.endswith(STEPS)]:
        own = name.removesuffix(STEPS)
        weights[own] = in_floats(weights[own], weights.pop(name))
    return weights


def read_calibration(path: Path) -> dict:
    """A model file's calibration, as `calibrate` gave it; InputError if it is no model."""
    return read_about(path)["calibration"]


def read_about(path: Path) -> dict:
    """A model file's network, class_names, calibration and versions; InputError if it is none."""
    with _refused(path):
        if not Path(path).is_file():
            raise ValueError("there is no such file")
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("model", "null"))
        if not isinstance(about, dict):
            raise ValueError("it does not say which network it holds")
        _check_names(about.get("network"), about.get("class_names"))
        _check_calibration(about.get("calibration"))
    return about


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong with a model file into the one sentence of an InputError."""
    try:
        yield
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        problem = f"is not a model of this project or is damaged ({reason})"
        raise InputError(f"{path} {problem}; give another one, or train it again.") from None


def _check_names(network: object, class_names: object) -> None:
    if not isinstance(network, str) or network not in NETWORKS:
        raise ValueError(f"its network is none of {', '.join(NETWORKS)}")
    if not isinstance(class_names, list) or not class_names or not all(map(_is_text, class_names)):
        raise ValueError("its class names are not a list of texts")
    if len(set(class_names)) < len(class_names):
        raise ValueError("two of its classes have the same name")


def _check_calibration(calibration: object) -> None:
    if not isinstance(calibration, dict):
        raise ValueError("it holds no calibration")
    temperature, likelihoods = calibration.get("temperature"), calibration.get("likelihoods")
    numbers = (int, float)  # no truth values
    if type(temperature) not in numbers or not 0.01 <= temperature <= 100:
        raise ValueError("its temperature is not a number from 0.01 to 100")
    limit = calibration.get("refuse_above", 1)
    if type(limit) not in numbers or not 0 <= limit <= 1:
        raise ValueError("its limit for refusing is not a number from 0 to 1")
    if not isinstance(likelihoods, list) or not all(
        type(value) in numbers and 0 <= value <= 1 for value in likelihoods
    ):
        raise ValueError("its likelihoods are not a list of numbers from 0 to 1")
    if likelihoods != sorted(likelihoods):
        raise ValueError("its likelihoods are not sorted")


def _is_text(value: object) -> bool:
    # JSON may hold halves of letters, which cannot be printed
    return isinstance(value, str) and value.encode(errors="ignore").decode() == value
