"""Transfer: ImageNet's ResNet-18 as fastai adapts it, and what generated strokes have taught, carried over to few real characters."""

import hashlib
import pickle
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import requests
import torch
import torch.nn.functional as F
from fastai.callback.core import Callback, CancelValidException
from fastai.callback.progress import ProgressCallback
from fastai.imports import noop
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.optimizer import OptimWrapper
from fastai.torch_core import default_device, set_seed
from fastai.vision.learner import create_body, model_meta, vision_learner
from safetensors import SafetensorError
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, resnet18

from lib.data import CharacterData
from lib.data.classes import DIGITS
from lib.data.emnist_format import to_emnist
from lib.errors import InputError
from lib.networks import Preparation, PreparedNetwork
from lib.params import TrainingParameters, existing_path
from lib.training.batches import make_loaders
from lib.training.callbacks import PlainProgress, ReportProgress
from lib.training.checkpoint import load_whole, replace_file
from lib.training.learner import choose_precision, keep_freed_memory, make_learner, run_schedule
from lib.training.trials import with_rows

URL = ResNet18_Weights.IMAGENET1K_V1.url
NAME = URL.rsplit("/", 1)[
    1
]  # resnet18-f37072fd.pth: it ends in the beginning of the file's SHA-256
PATIENCE = 5, 10, 120  # seconds until a host must answer, without a byte, and for the whole file
GREY, SPREAD = 255 * 0.449, 255 * 0.226  # ImageNet's mean and deviation, averaged over the colours
EXPECTED = (
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
    SafetensorError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


# ---- ImageNet's weights ----


def find_imagenet(local: str = "") -> tuple[dict[str, Tensor] | None, str]:
    """ResNet-18's weights, from a `local` file, torch's own cache or the hub, and a sentence that says from where; or None, and why.

    Only a local file that cannot be used is an error (InputError): without a connection there are no weights, and that is all.
    """
    if local:
        return read_weights(local), f"ImageNet's weights are those of {Path(local).name}."
    kept = Path(torch.hub.get_dir(), "checkpoints", NAME)
    shown = str(kept).replace(str(Path.home()), "~")
    try:
        if not is_official(kept.read_bytes() if kept.exists() else b""):
            replace_file(kept, memoryview(download()))
        return read_weights(kept), f"ImageNet's weights are the official ones, kept in {shown}."
    except (OSError, InputError) as error:  # those of requests are OSErrors
        return None, (
            f"There are no ImageNet weights here, so their rows are left out: {URL} could not be had ({reason(error)}); "
            f"put the file there as {shown}, or name one with imagenet_weights."
        )


def download() -> bytes:
    """The official file; a requests exception or InputError if it does not come whole, unchanged and in time."""
    connect, silence, in_all = PATIENCE
    content, ends = bytearray(), time.monotonic() + in_all
    with requests.get(URL, stream=True, timeout=(connect, silence)) as answer:
        answer.raise_for_status()
        for block in answer.iter_content(2**14):
            content += block
            if time.monotonic() > ends:
                raise InputError(f"it took longer than {in_all} seconds")
    if not is_official(content):
        raise InputError("what came is another file, by its SHA-256")
    return bytes(content)


def is_official(content: bytes) -> bool:
    """Whether the bytes are those of the official file."""
    return hashlib.sha256(content).hexdigest().startswith(Path(NAME).stem.split("-")[1])


def reason(error: Exception) -> str:
    """Why a download failed, in a few words."""
    if isinstance(error, InputError):
        return str(error)
    if getattr(error, "response", None) is not None:
        return f"the host answered {error.response.status_code}"
    return getattr(error, "strerror", None) or type(error).__name__


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """A state_dict of torchvision's ResNet-18 from a .pth or .safetensors file, without running code; InputError if it is none."""
    try:
        path = existing_path("imagenet_weights", str(path))
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:  # older files of torch are no zip archives
            weights = (
                load_whole(path)
                if zipfile.is_zipfile(path)
                else torch.load(path, map_location="cpu", weights_only=True)
            )
        resnet18().load_state_dict(weights)
    except EXPECTED as error:
        problem = (str(error).strip().splitlines() or ["it is damaged"])[0].rstrip(":. ")
        if isinstance(
            error, pickle.UnpicklingError
        ):  # torch's own words advise to run what is in it
            problem = "it is no file of tensors alone"
        raise InputError(
            f"{path} does not hold the weights of torchvision's ResNet-18 ({problem}); "
            "set imagenet_weights to a good copy, or to nothing."
        ) from None
    return weights


# ---- ResNet-18 on characters ----


class Enlarging(Preparation):
    """ImageNet's preparation of grey images: uint8 (B, 28, 28) to float32 (B, 1, size, size), bilinear.

    The pretrained layers expect ImageNet's mean and deviation; those from scratch get the same, so that nothing else differs.
    """

    def __init__(self, size: int):
        super().__init__(GREY, SPREAD)
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        return F.interpolate(
            super().forward(images), size=(self.size, self.size), mode="bilinear"
        )  # 28 to 28 changes nothing


def imagenet_body(weights: dict[str, Tensor]) -> nn.Module:
    """ResNet-18 as fastai cuts it for its own head. The first kernels are summed over the colours: the same as grey in all three."""
    network = resnet18()
    network.load_state_dict(weights)
    return create_body(network, n_in=1, pretrained=True, cut=model_meta[resnet18]["cut"])


def split_model(model: PreparedNetwork) -> list:
    """The parameters in fastai's three groups, the last of which is the head: what freezing leaves free."""
    return model_meta[resnet18]["split"](model.network)


def resnet_learner(
    data: CharacterData,
    size: int,
    seed: int,
    weights: dict[str, Tensor] | None = None,
    batch_size: int = 32,
) -> Learner:
    """fastai's vision_learner with a ResNet-18 on images enlarged to `size`; silent, and validated only when asked to."""
    keep_freed_memory()
    set_seed(seed, reproducible=True)
    device = default_device()
    loaders = make_loaders(data, TrainingParameters(batch_size=batch_size), device)
    learner = vision_learner(
        loaders,
        resnet18,
        n_in=1,
        n_out=len(data.class_names),
        pretrained=False,  # no download: see below
        loss_func=CrossEntropyLossFlat(),
        splitter=split_model,
        opt_func=partial(OptimWrapper, opt=torch.optim.AdamW, fused=True),
    )  # fastai's own takes a fifth of each step
    if weights is not None:
        learner.model[0] = imagenet_body(weights)
    precision = choose_precision("auto", device)
    precision = (
        torch.float32 if precision == torch.float16 else precision
    )  # float16 would need its gradients scaled
    learner.model = PreparedNetwork(learner.model, Enlarging(size), precision).to(device)
    return silent(learner)


class OnlyTrain(Callback):
    """Leaves the validation after each epoch out: a short training is measured once, at its end."""

    def before_validate(self):
        raise CancelValidException


def silent(learner: Learner) -> Learner:
    """The learner without a word, a bar or a validation per epoch."""
    learner.remove_cbs(
        [
            callback
            for callback in learner.cbs
            if isinstance(callback, (ProgressCallback, PlainProgress, ReportProgress))
        ]
    )
    learner.logger = noop
    learner.add_cb(OnlyTrain())
    return learner


def stages(network: nn.Module, size: int) -> list[dict]:
    """One row per convolution stage of a ResNet: `stage`, `pixels` a side of what it puts out, `weights`, and how many are `idle`.

    Idle weights of a convolution meet nothing but the padding round the map, wherever the kernel lies: they cannot matter, or learn.
    """
    rows, hooks = {}, []
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):

            def note(layer, inputs, output, stage=name.split(".")[0]):
                row = rows.setdefault(stage, {"stage": stage, "pixels": 0, "weights": 0, "idle": 0})
                row["pixels"] = output.shape[-1]
                row["weights"] += layer.weight.numel()
                row["idle"] += idle_weights(layer, *inputs[0].shape[2:])

            hooks.append(layer.register_forward_hook(note))
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return list(rows.values())


def idle_weights(layer: nn.Conv2d, height: int, width: int) -> int:
    """How many weights of a convolution are never multiplied with a pixel of a map of this size."""
    kernel = torch.zeros(1, 1, *layer.kernel_size, requires_grad=True)
    with torch.enable_grad():
        F.conv2d(
            torch.ones(1, 1, height, width), kernel, stride=layer.stride, padding=layer.padding
        ).sum().backward()
    return int((kernel.grad == 0).sum()) * layer.weight[:, :, 0, 0].numel()


# ---- strokes to real characters ----


def uci_digits() -> CharacterData:
    """Real handwriting that scikit-learn brings along: 1,797 digits of 13 people at 8 x 8 pixels, converted as EMNIST's.

    What one person wrote stands together in the file: train (646), valid (130) and test (1,021) are by different people.
    Source: Alpaydin and Kaynak (1998), https://doi.org/10.24432/C50P49
    """
    found = load_digits()
    images, labels = (
        to_emnist(torch.from_numpy(found.images).float() / 16).numpy(),
        found.target.astype(np.int64),
    )
    parts = [
        array
        for rows in (slice(646), slice(646, 776), slice(776, None))
        for array in (images[rows], labels[rows])
    ]
    return CharacterData(
        *parts, class_names=list(DIGITS), dataset="UCI digits (scikit-learn)", split="", checksum=""
    )


def few_of(data: CharacterData, per_class: int, seed: int) -> CharacterData:
    """The data with a random `per_class` training images of each class, or as many as there are."""
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(data.train_labels == label) for label in range(len(data.class_names))]
    return with_rows(
        data, np.sort(np.concatenate([rng.permutation(some)[:per_class] for some in rows]))
    )


def carry_over(
    pretrained: PreparedNetwork, known: list[str], model: PreparedNetwork, names: list[str]
) -> None:
    """Gives a model of the classes `names` the preparation and the weights of one that knows the classes `known`.

    Of the last layer it takes the rows of the classes that both have; the rows of new classes stay as they are.
    """
    model.preparation.load_state_dict(pretrained.preparation.state_dict())
    shared = [name for name in names if name in known]
    rows, old_rows = ([table.index(name) for name in shared] for table in (names, known))
    last, own = f"classifier.{len(model.network.classifier) - 1}.", model.network.state_dict()
    for (
        name,
        value,
    ) in pretrained.network.state_dict().items():  # written into the network's own memory
        if name.startswith(last):
            own[name][rows] = value[old_rows].to(own[name])
        else:
            own[name].copy_(value)


def train_silently(
    data: CharacterData,
    parameters: TrainingParameters,
    start: Callable[[PreparedNetwork], None] = noop,
) -> PreparedNetwork:
    """A model trained at the parameters' learning_rate without a word or a validation; `start` may change its fresh weights."""
    learner = silent(make_learner(data, parameters))
    start(learner.model)
    run_schedule(learner, parameters, parameters.learning_rate)
    return learner.model
