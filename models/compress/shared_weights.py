"""Training of a codebook's values: weights that share a value move together."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from .weight_codes import CodebookCode, ProductCode

__all__ = ["SharedVectors", "SharedWeights", "read_codebook"]


class SharedWeights(nn.Module):
    """Weights looked up in a table that is trained; entry 0 stays 0 where it stands for pruned weights.

    The gradient of an entry is the sum of the gradients of the weights that share it, which is what
    differentiating the look-up gives. Indices are fixed.
    Source: Han et al. 2016, Deep Compression, equation 3.
    """

    indices: Tensor
    free: Tensor

    def __init__(self, code: CodebookCode, *, pruned: bool) -> None:
        super().__init__()
        table = torch.from_numpy(code.centroids.astype(np.float32))
        free = torch.ones_like(table)
        free[0] = 0.0 if pruned else 1.0
        self.register_buffer("indices", torch.from_numpy(code.indices.astype(np.int64)))
        self.register_buffer("free", free)
        self.centroids = nn.Parameter(table * free)

    def forward(self, weight: Tensor) -> Tensor:
        """The shared weights; `weight` itself takes no part."""
        return (self.centroids * self.free)[self.indices]


class SharedVectors(nn.Module):
    """Weights made up of the sub-vectors of product codebooks, which are trained; indices are fixed."""

    indices: Tensor

    def __init__(self, code: ProductCode) -> None:
        super().__init__()
        self._shape = code.shape
        self.register_buffer("indices", torch.from_numpy(code.indices.astype(np.int64)))
        self.centroids = nn.Parameter(torch.from_numpy(code.centroids.astype(np.float32)))

    def forward(self, weight: Tensor) -> Tensor:
        """The weights; `weight` itself takes no part."""
        stages, segments, rows = self.indices.shape
        length = self.centroids.shape[3]
        place = self.indices[..., None].expand(stages, segments, rows, length)
        parts = self.centroids.gather(2, place).sum(0)
        matrix = parts.transpose(0, 1).reshape(rows, segments * length)
        return matrix[:, : math.prod(self._shape[1:])].reshape(self._shape)

    def code(self) -> ProductCode:
        """The codebooks as they are trained by now."""
        table = self.centroids.detach().numpy().copy()
        return ProductCode(indices=self.indices.numpy().copy(), centroids=table, shape=self._shape)


def read_codebook(shared: SharedWeights) -> CodebookCode:
    """The codebook as it is trained by now."""
    table = (shared.centroids * shared.free).detach().numpy()
    return CodebookCode(indices=shared.indices.numpy().copy(), centroids=table.copy())
