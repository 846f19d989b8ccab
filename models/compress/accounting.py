"""Sizes and operations of compressed layers by formula, as the papers count them; bits unless said otherwise.

Functions take what a paper states and return what it claims, so that real payloads can be held to them.
"""

from __future__ import annotations

__all__ = [
    "FLOAT_BITS",
    "binary_weight_bits",
    "deep_compression_bits",
    "local_binary_saving",
    "two_scale_bits",
    "xnor_speedup",
]

FLOAT_BITS = 32
"""Of an uncompressed weight, a scale, or a codebook's value."""


def deep_compression_bits(
    *,
    entries: float,
    code_bits: float,
    gap_bits: float,
    values: int,
) -> float:
    """A code and a gap for each entry, fillers included, and 32 bits for each of a codebook's values.

    Of Huffman codes the bits are averages, and their tables aren't counted.

    Source: Han et al. 2016, Deep Compression, section 3 and tables 2 to 5.
    """
    return entries * (code_bits + gap_bits) + FLOAT_BITS * values


def xnor_speedup(channels: int, filter_size: int, outputs: int, *, operations: int = 64) -> float:
    """By how much a binary convolution takes fewer operations than a float one, for each output channel.

    c·Nw·Ni multiply-adds become as many binary ones, of which `operations` run at once, and Ni real products.

    Args:
        channels: of the input, c.
        filter_size: positions of a kernel, Nw.
        outputs: positions of the output, Ni; it cancels out.
        operations: binary operations that take the time of one real product.

    Source: Rastegari et al. 2016, XNOR-Net, section 3.2: S = 64·c·Nw·Ni / (c·Nw·Ni + 64·Ni).
    """
    products = channels * filter_size * outputs
    return operations * products / (products + operations * outputs)


def binary_weight_bits(filters: int, weights: int) -> int:
    """A bit for each of `weights` weights in all, and a float32 scale for each filter.

    Source: Rastegari et al. 2016, section 3.1 (Binary-Weight-Networks).
    """
    return weights + FLOAT_BITS * filters


def two_scale_bits(weights: int) -> int:
    """Two bits for each weight, and the layer's two float32 scales.

    Source: Zhu et al. 2017, Trained Ternary Quantization, section 3.
    """
    return 2 * weights + 2 * FLOAT_BITS


def local_binary_saving(channels: int, kernel: int, filters: int, *, intermediate: int) -> float:
    """Learnt weights of a k×k convolution over those of a local binary one, whose k×k filters are fixed.

    Of the latter only the 1×1 convolution over `intermediate` maps is learnt: as many maps as input channels
    save k².

    Source: Juefei-Xu et al. 2017, Local Binary Convolutional Neural Networks, section 3.
    """
    return channels * kernel * kernel * filters / (intermediate * filters)
