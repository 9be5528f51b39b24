"""The weights that a training begins with, where they are not fresh ones."""

from pickle import UnpicklingError

import torch

from lib.errors import InputError
from lib.files import MODEL, outputs_folder
from lib.models import load_model, read_weights
from lib.networks import PreparedNetwork, ResNet18


def load_start(model: PreparedNetwork, start: str, class_names: list[str]) -> None:
    """Gives a fresh model the weights that `start` names; nothing happens where it is empty.

    start: the model file of another run, from which preparation and weights are taken, and of the
    last layer the rows of the classes that both know; or, for ResNet-18, "imagenet" (torchvision's
    weights, downloaded once) or a file that holds them. Raises InputError for anything else.
    """
    if not start:
        return
    if isinstance(model.network, ResNet18):
        load_imagenet(model.network, start)
        return
    path = outputs_folder(start)
    old, known = load_model(path / MODEL if path.is_dir() else path)
    given, own = old.state_dict(), model.state_dict()
    last = f"network.classifier.{len(model.network.classifier) - 1}."
    shapes, own_shapes = (
        {name: value.shape[name.startswith(last) :] for name, value in state.items()}
        for state in (given, own)
    )
    if shapes != own_shapes:
        raise InputError(f"start {start} holds another network than the one that is to be trained.")
    shared = [name for name in class_names if name in known]
    rows, old_rows = ([names.index(name) for name in shared] for names in (class_names, known))
    for name, value in given.items():  # written into the model's own memory
        if name.startswith(last):
            own[name][rows] = value[old_rows].to(own[name])
        else:
            own[name].copy_(value)


def load_imagenet(network: ResNet18, start: str) -> None:
    """ImageNet's weights into all layers but the first, summed over the colours, and the last."""
    try:
        weights = imagenet_weights(start)
        weights["conv1.weight"] = weights["conv1.weight"].sum(dim=1, keepdim=True)  # grey in all
        kept = {name: value for name, value in weights.items() if not name.startswith("fc.")}
        network.body.load_state_dict(network.body.state_dict() | kept)
    except Exception as error:  # a file that holds something else can raise anything
        problem = (str(error).strip().splitlines() or ["it is damaged"])[0].rstrip(":. ")
        if isinstance(error, UnpicklingError):  # torch's own words advise to run what is in it
            problem = "it is no file of tensors alone"
        raise InputError(
            f"start {start} does not give the weights of torchvision's ResNet-18 ({problem}); give "
            "the path of a good copy, or leave the study out."
        ) from None


def imagenet_weights(start: str) -> dict[str, torch.Tensor]:
    """A state_dict from a .pth or .safetensors file, or torchvision's; no code is run."""
    if start == "imagenet":
        from torchvision.models import ResNet18_Weights  # seconds, and few runs need it

        return ResNet18_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True)
    if start.endswith(".safetensors"):
        return read_weights(start)
    return torch.load(start, map_location="cpu", weights_only=True)
