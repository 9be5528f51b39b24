"""The networks of the experiment, and the one place that prepares images for a network.

To add a network, write one class that takes `n_classes` and maps (B, 1, 28, 28) to (B, n_classes),
and name it in NETWORKS; a line in a params file then trains it.

The original of 2019 pools after a ReLU. These apply the ReLU after the pool: both orders give the
same values and gradients, and this one takes a quarter of the work.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.errors import InputError


class Dropout(nn.Module):
    """torch's Dropout with a mask drawn 15 bits at a time: torch's own takes a third of a step."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.device.type != "cpu":
            return F.dropout(x, self.p, self.training)
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_()  # four draws each
        layout = torch.empty_like(x, device="meta").stride()  # as x lies in memory, without gaps
        drawn = bits.view(torch.int16).as_strided(x.shape, layout).bitwise_and(0x7FFF)
        return x * (drawn >= round(self.p * 0x8000)).to(x.dtype).mul_(1 / (1 - self.p))


class Flatten(nn.Module):
    """(B, C, H, W) to (B, H * W * C), as it lies in memory, so that nothing is copied."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class LeNet(nn.Module):
    """Two unpadded 3x3 convolutions and a wide dense layer; 1,206,590 parameters at 62 classes."""

    def __init__(self, n_classes: int):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3),
            nn.ReLU(),  # (B, 32, 26, 26)
            nn.Conv2d(32, 64, 3),  # (B, 64, 24, 24)
            nn.MaxPool2d(2),
            nn.ReLU(),  # (B, 64, 12, 12)
            Dropout(0.5),
        )
        self.classifier = nn.Sequential(
            Flatten(),  # (B, 9216)
            nn.Linear(9216, 128),
            nn.ReLU(),
            Dropout(0.5),  # (B, 128)
            nn.Linear(128, n_classes),  # (B, n_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class CustomCNN(nn.Module):
    """Three unpadded 3x3 convolutions and batch norm; 197,438 parameters at 62 classes."""

    def __init__(self, n_classes: int, width: int = 1, hidden: int = 128):
        super().__init__()
        w = width
        self.features = nn.Sequential(
            nn.Conv2d(1, 32 * w, 3),
            nn.ReLU(),
            nn.BatchNorm2d(32 * w),
            nn.MaxPool2d(2),  # (B, 32 w, 13, 13)
            nn.Conv2d(32 * w, 64 * w, 3),
            nn.ReLU(),
            nn.BatchNorm2d(64 * w),  # (B, 64 w, 11, 11)
            nn.Conv2d(64 * w, 64 * w, 3),
            nn.MaxPool2d(2),
            nn.ReLU(),  # (B, 64 w, 4, 4)
        )
        self.classifier = nn.Sequential(
            Flatten(),
            nn.BatchNorm1d(1024 * w),  # (B, 1024 w)
            nn.Linear(1024 * w, hidden),
            nn.ReLU(),
            nn.BatchNorm1d(hidden),
            Dropout(0.2),  # (B, hidden)
            nn.Linear(hidden, n_classes),  # (B, n_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class Block(nn.Module):
    """A pre-activated bottleneck (1x1, 3x3, 1x1) and a 1x1 shortcut, added; no ReLU follows."""

    def __init__(self, n_in: int, width: int, n_out: int, stride: int):
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(n_in),
            nn.ReLU(),
            nn.Conv2d(n_in, width, 1, stride),  # (B, width, H / stride, W / stride)
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.Conv2d(width, n_out, 1),
            nn.BatchNorm2d(n_out),  # (B, n_out, H / stride, W / stride)
        )
        self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride), nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.shortcut(x)


class ResNet(nn.Module):
    """Two residual blocks and a global average pool; 956,478 parameters at 62 classes."""

    def __init__(self, n_classes: int):
        super().__init__()
        self.features = nn.Sequential(
            nn.ZeroPad2d(2),  # (B, 1, 32, 32)
            nn.Conv2d(1, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.MaxPool2d(2),
            nn.ReLU(),  # (B, 64, 16, 16)
            Block(64, 64, 128, stride=1),
            nn.ReLU(),  # (B, 128, 16, 16)
            Block(128, 256, 512, stride=2),  # (B, 512, 8, 8)
            nn.MaxPool2d(2),
            nn.ReLU(),
            Dropout(0.2),  # (B, 512, 4, 4)
        )
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            Flatten(),  # (B, 512)
            nn.Linear(512, 128),
            nn.ReLU(),
            Dropout(0.2),  # (B, 128)
            nn.Linear(128, n_classes),  # (B, n_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class ResNet18(nn.Module):
    """torchvision's ResNet-18 on grey images enlarged to `size`; 11.2 million parameters."""

    def __init__(self, n_classes: int, size: int = 28):
        from torchvision.models import resnet18  # seconds, and few runs need it

        super().__init__()
        self.size, self.body = size, resnet18(num_classes=n_classes)
        self.body.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.size != x.shape[-1]:
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear")
        return self.body(x)  # (B, n_classes)


def lenet_with_norm(n_classes: int) -> LeNet:
    """LeNet with batch norm after each convolution."""
    network = LeNet(n_classes)
    network.features.insert(1, nn.BatchNorm2d(32))
    network.features.insert(4, nn.BatchNorm2d(64))
    return network


def resnet_without(part: str, n_classes: int) -> ResNet:
    """The ResNet without a `part`: "norm" (batch norm), "pool" (the average) or "padding"."""
    network = ResNet(n_classes)
    if part == "pool":  # the dense layer sees each of the 4 x 4 places
        network.classifier[0], network.classifier[2] = nn.Identity(), nn.Linear(512 * 4 * 4, 128)
    for name, layer in list(network.named_modules()):
        if part == "norm" and isinstance(layer, nn.BatchNorm2d):
            network.set_submodule(name, nn.Identity())
        if part == "padding" and isinstance(layer, (nn.Conv2d, nn.ZeroPad2d)):
            layer.padding = (0,) * len(layer.padding)
        if part == "padding" and isinstance(layer, Block):
            layer.shortcut.append(nn.ZeroPad2d(-1))  # cuts it to fit
    return network


NETWORKS = {
    "lenet": LeNet,
    "custom": CustomCNN,
    "resnet": ResNet,
    "lenet-with-norm": lenet_with_norm,
    "resnet-without-norm": partial(resnet_without, "norm"),
    "resnet-without-pool": partial(resnet_without, "pool"),
    "resnet-without-padding": partial(resnet_without, "padding"),
    "wide": partial(CustomCNN, width=2, hidden=256),  # 767,550 parameters
    "wide-128": partial(CustomCNN, width=2),  # 497,086
    "resnet18": ResNet18,
    "resnet18-56": partial(ResNet18, size=56),
}


class Preparation(nn.Module):
    """The only step from stored images to a network: uint8 (B, 28, 28) to float32 (B, 1, 28, 28).

    Subtracts the image `mean` (28, 28), or one number, and divides by `std`, both from 0 to 255.
    Stored with the weights: training and prediction cannot differ (those of the original did).
    """

    def __init__(self, mean: Tensor | float = 0.0, std: float = 255.0):
        super().__init__()
        mean = torch.as_tensor(mean, dtype=torch.float32).expand(28, 28).clone()
        self.register_buffer("mean", mean)
        self.register_buffer("std", torch.tensor(float(std)))

    def forward(self, images: Tensor) -> Tensor:
        return ((images.float() - self.mean) / self.std).unsqueeze(1)


class PreparedNetwork(nn.Module):
    """Stored images to logits: preparation, then a network that computes in `precision`.

    Takes uint8 (B, 28, 28), upright, ink bright; gives float32 logits (B, n_classes).
    """

    def __init__(self, network: nn.Module, preparation: Preparation, precision=torch.float32):
        super().__init__()
        self.preparation, self.network, self.precision = preparation, network, precision
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        # fastai's own kind of tensor would slow down every layer
        x = self.preparation(images.as_subclass(Tensor))  # (B, 1, 28, 28)
        with torch.autocast(x.device.type, self.precision, enabled=self.precision != torch.float32):
            return self.network(x.contiguous(memory_format=torch.channels_last)).float()


def make_network(name: str, n_classes: int) -> nn.Module:
    """A network with fresh weights, from torch's random state; InputError for an unknown name."""
    if name not in NETWORKS:
        names = ", ".join(NETWORKS)
        raise InputError(f"There is no network '{name}' in lib/networks.py; choose from {names}.")
    return NETWORKS[name](n_classes)


def count_parameters(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
