"""A trained network as layers and numbers that a page can compute with: see reader.js."""

import base64
import operator

import torch
from torch import fx, nn

from lib.errors import InputError
from lib.models import kept
from lib.networks import Dropout, Flatten, PreparedNetwork


class Tracer(fx.Tracer):
    """torch's, with our own layers as wholes."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, (Dropout, Flatten)) or super().is_leaf_module(module, name)


class Numbers:
    """Arrays one after the other; `keep` returns where one lies: its kind, first byte and size."""

    def __init__(self):
        self.bytes = b""

    def keep(self, values: torch.Tensor, kind: str = "float") -> tuple[str, int, int]:
        array = values.detach().numpy().astype({"float": "<f4", "half": "<f2", "byte": "i1"}[kind])
        place = kind, len(self.bytes), array.size
        self.bytes += array.tobytes() + bytes(-array.nbytes % 4)
        return place


def described(model: PreparedNetwork) -> dict:
    """Layers, mean, std and packed numbers; kernels and matrices as files keep them.

    Raises InputError for a network with a layer that reader.js does not know.
    """
    numbers, network, places, layers = Numbers(), model.network.eval(), {}, []
    try:
        nodes = list(Tracer().trace(network).nodes)[:-1]  # the last is the output
    except fx.proxy.TraceError:
        raise InputError("The page cannot compute what depends on an image's size.") from None
    for node in nodes:
        came = [places[one] for one in node.all_input_nodes]
        module = network.get_submodule(node.target) if node.op == "call_module" else None
        if node.op == "placeholder" or isinstance(module, (nn.Identity, Dropout, nn.Dropout)):
            places[node] = came[0] if came else 0
            continue
        layers.append({"from": came} | _layer(node, module, numbers))
        places[node] = len(layers)
    preparation = model.preparation
    about = {"mean": numbers.keep(preparation.mean), "std": float(preparation.std)}
    return about | {"layers": layers, "packed": base64.b64encode(numbers.bytes).decode()}


def _layer(node: fx.Node, module: nn.Module | None, numbers: Numbers) -> dict:
    match module:
        case nn.Conv2d(groups=1, dilation=(1, 1), padding_mode="zeros") if is_square(module):
            size, stride, pad = module.kernel_size[0], module.stride[0], module.padding[0]
            about = {"op": "conv", "out": module.out_channels, "size": size}
            return _weights(module, numbers) | about | {"stride": stride, "pad": pad}
        case nn.Linear():
            return _weights(module, numbers) | {"op": "linear", "out": module.out_features}
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            scale = module.weight / (module.running_var + module.eps).sqrt()
            shift = module.bias - module.running_mean * scale
            return {"op": "affine", "scale": numbers.keep(scale), "shift": numbers.keep(shift)}
        case nn.MaxPool2d(kernel_size=int(size)) if str(module) == str(nn.MaxPool2d(size)):
            return {"op": "pool", "size": size}
        case nn.ZeroPad2d(padding=(pad, *others)) if others == [pad] * 3:
            return {"op": "pad", "pad": pad}
        case nn.AdaptiveAvgPool2d(output_size=1):
            return {"op": "mean"}
        case nn.ReLU():
            return {"op": "relu"}
        case Flatten():
            return {"op": "flatten"}
    if node.target in (operator.add, torch.add) and len(node.all_input_nodes) == 2:
        return {"op": "add"}
    raise InputError(f"The page cannot compute a layer {module or node.target}.")


def is_square(module: nn.Conv2d) -> bool:
    """Whether height and width are treated alike."""
    ways = module.kernel_size, module.stride, module.padding
    return all(len({*way}) == 1 for way in ways)


def _weights(module: nn.Module, numbers: Numbers) -> dict:
    bias = {} if module.bias is None else {"bias": numbers.keep(module.bias)}
    match kept(module.weight.detach()):
        case whole, steps:
            return {"weight": numbers.keep(whole, "byte"), "steps": numbers.keep(steps)} | bias
        case (halves,):
            return {"weight": numbers.keep(halves, "half")} | bias
