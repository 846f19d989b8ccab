"""Training of a codebook's values: weights that share a value move together."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .weight_codes import CodebookCode

__all__ = ["SharedWeights", "centroid_gradients", "read_codebook", "share_weights"]


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


def share_weights(
    module: nn.Module, code: CodebookCode, *, name: str = "weight", pruned: bool = False
) -> SharedWeights:
    """The table that `module` has from now on for its weights; its values are what trains.

    Args:
        pruned: whether index 0 stands for pruned weights.

    Raises:
        ValueError: indices of another shape than the weights.
    """
    own = getattr(module, name)
    if tuple(own.shape) != code.indices.shape:
        raise ValueError(f"indices must have the weights' shape {tuple(own.shape)}, not {code.indices.shape}")
    shared = SharedWeights(code, pruned=pruned)
    parametrize.register_parametrization(module, name, shared)
    module.parametrizations[name].original.requires_grad_(False)  # type: ignore[index,union-attr]
    return shared


def read_codebook(shared: SharedWeights) -> CodebookCode:
    """The codebook as it is trained by now."""
    table = (shared.centroids * shared.free).detach().numpy()
    return CodebookCode(indices=shared.indices.numpy().copy(), centroids=table.copy())


def centroid_gradients(gradients: Tensor, indices: Tensor, count: int) -> Tensor:
    """The gradient of each of `count` centroids: the sum of those of its members, shape (count,)."""
    return torch.zeros(count, dtype=gradients.dtype).index_add(0, indices.ravel(), gradients.ravel())
