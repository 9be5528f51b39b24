"""How an image becomes one of EMNIST's: the one place for this, whatever the characters' source.

Source: Cohen, Afshar, Tapson, van Schaik (2017), section II, https://arxiv.org/abs/1702.05373
"""

import torch

SIZE = 28  # pixels a side of an EMNIST image
BORDER = 2  # of them, empty on each side
BLUR = 1 / 128  # NIST's frames are 128 pixels wide and are blurred with sigma 1
EDGE = 0.1  # share of an image's darkest ink that still counts as ink when it is cropped


def to_emnist(ink: torch.Tensor) -> torch.Tensor:
    """EMNIST's conversion of many images at once: blur, crop, centre, frame, resample.

    ink: (B, H, W) float, 0 paper to 1 ink, upright. Returns (B, 28, 28) uint8, ink bright on 0: its
    longer side fills 24 pixels, the other is centred, the brightest pixel is 255 (0 without ink).
    """
    ink = ink.double()
    height, width = ink.shape[1:]
    top, bottom = _extent(ink.amax(2))
    left, right = _extent(ink.amax(1))
    step = torch.maximum(bottom - top, right - left) / (SIZE - 2 * BORDER)  # old pixels per new one
    sigma = BLUR * max(height, width)
    rows = _resampling(height, (top + bottom) / 2, step) @ _blur_matrix(height, sigma)  # (B, 28, H)
    columns = _resampling(width, (left + right) / 2, step) @ _blur_matrix(width, sigma)
    small = (rows @ ink @ columns.mT).clamp(min=0)  # (B, 28, 28)
    small *= 255 / small.amax((1, 2), keepdim=True).clamp(min=1e-6)
    return small.round().to(torch.uint8)


def _blur_matrix(size: int, sigma: float) -> torch.Tensor:
    """(size, size) float64 whose product with a column of pixels is the column, blurred."""
    at = torch.arange(size, dtype=torch.float64)
    weights = torch.exp(-(((at[:, None] - at) / max(sigma, 1e-3)) ** 2) / 2)
    return weights / weights.sum(1, keepdim=True)


def _extent(profile: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the ink of (B, N) begins and ends: (B,) and (B,) floats, edges of pixels, 0 to N."""
    inked = (profile > EDGE * profile.amax(1, keepdim=True)).byte()
    return inked.argmax(1).double(), profile.shape[1] - inked.flip(1).argmax(1).double()


def _resampling(size: int, centre: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """(B, 28, size) float64: bicubic weights (a = -0.5), widened where it shrinks (no aliasing)."""
    new = (torch.arange(SIZE) + 0.5 - SIZE / 2) * step[:, None] + centre[:, None]  # (B, 28)
    old = torch.arange(size, dtype=torch.float64) + 0.5
    distance = (new[:, :, None] - old).abs_().div_(step.clamp(min=1)[:, None, None])
    far, near = (2 - distance).clamp_(min=0), (1 - distance).clamp_(min=0)
    weights = (far - 1).mul_(far).mul_(far).div_(2).add_((1 - 2 * near).mul_(near).mul_(near))
    return weights.div_(weights.sum(2, keepdim=True).clamp(min=1))  # beyond the frame is paper
