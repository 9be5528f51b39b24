"""Random changes to whole training batches, on their device; nothing else ever sees them."""

import math

import torch
import torch.nn.functional as F
from fastai.vision.core import TensorImageBW
from fasttransform import Transform


class RandomDistortion(Transform):
    """Turns, scales, slants, shifts and smoothly bends each image. uint8 (B, 28, 28) in and out.

    `affine` 1 means standard deviations of 5 degrees, 6 %, 0.08 and 1 pixel. `warp` is that, in
    pixels, of a displacement drawn at 5 x 5 points and interpolated between them, after Simard,
    Steinkraus and Platt (2003), "Best practices for convolutional neural networks applied to visual
    document analysis".
    """

    split_idx = 0

    def __init__(self, affine: float = 1.0, warp: float = 0.0):
        super().__init__()
        self.affine, self.warp = affine, warp

    def encodes(self, images: TensorImageBW):
        x = images.as_subclass(torch.Tensor).unsqueeze(1).float()  # (B, 1, 28, 28)
        drawn = torch.randn(6, len(x), device=x.device) * self.affine
        turn, slant, scale_x, scale_y, shift_x, shift_y = drawn
        turn, slant, wide, high = turn * math.radians(5), slant * 0.08, 1.06**scale_x, 1.06**scale_y
        cos, sin = turn.cos(), turn.sin()
        to_x = [wide * cos, high * (slant * cos - sin), shift_x / 14]  # half an image is 1
        to_y = [wide * sin, high * (slant * sin + cos), shift_y / 14]
        maps = torch.stack([*to_x, *to_y], dim=1).view(-1, 2, 3)
        grid = F.affine_grid(maps, x.shape, align_corners=False)  # (B, 28, 28, 2)
        if self.warp:
            points = torch.randn(len(x), 2, 5, 5, device=x.device) * self.warp / 14
            bent = F.interpolate(points, x.shape[2:], mode="bilinear", align_corners=True)
            grid = grid + bent.permute(0, 2, 3, 1)
        moved = F.grid_sample(x, grid, align_corners=False)
        return TensorImageBW(moved.squeeze(1).round_().to(torch.uint8))


class RandomErasing(Transform):
    """Blanks a rectangle, 4 to 12 pixels a side, in a share of the images. uint8 (B, 28, 28).

    Source: Zhong et al. (2017), https://arxiv.org/abs/1708.04896, with paper in place of noise.
    """

    split_idx, order = 0, 1  # after the distortion

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def encodes(self, images: TensorImageBW):
        x = images.as_subclass(torch.Tensor)
        rows, columns = (self.inside(len(x), side, x.device) for side in x.shape[1:])
        chosen = torch.rand(len(x), 1, 1, device=x.device) < self.share
        return TensorImageBW(x * ~(chosen & rows.unsqueeze(2) & columns.unsqueeze(1)))

    def inside(self, n: int, side: int, device: torch.device) -> torch.Tensor:
        """n random stretches of an axis, bool (n, side)."""
        length = torch.randint(4, 13, (n, 1), device=device)
        start = (torch.rand(n, 1, device=device) * (side - length + 1)).floor()
        place = torch.arange(side, device=device)
        return (place >= start) & (place < start + length)
