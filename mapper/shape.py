"""A core layer's loops, and where its channels lie in the tensors that it reads and writes."""

from __future__ import annotations

from dataclasses import dataclass

from .isa import PostMode
from .pe import PeKind
from .steps import WeightBlocks

__all__ = ["Chunk", "LayerShape", "Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer's channels lie in a tensor in memory, which may hold more channels than these."""

    offset: int
    """Bytes from the tensor's start to the first pixel's first channel."""
    pitch: int
    """Bytes from a pixel to the next."""
    step: int = 1
    """Channels from one to the next; above 1 in results of 8 bits only."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of the reduction: filter rows fy0 … fy0 + fy − 1, and so on."""

    fy0: int
    fy: int
    fx0: int
    fx: int
    c0: int
    c: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShape:
    """The loops of one core layer, a linear layer being a convolution of one pixel.

    A residual add has the rows of its operands in turn: rows 2·y and 2·y + 1 are row y of the first and of
    the second, and a window of the two pixels is what POST adds.
    """

    name: str
    K: int
    C: int
    H: int
    W: int
    FY: int = 1
    FX: int = 1
    OY: int = 1
    """Convolution rows computed: a multiple of `pool_y`."""
    OX: int = 1
    stride_y: int = 1
    stride_x: int = 1
    dilation_y: int = 1
    dilation_x: int = 1
    pad_top: int = 0
    pad_left: int = 0
    pool_y: int = 1
    pool_x: int = 1
    pool_step_y: int = 0
    """Input rows from a pool window's first operand to the next window's; 0: windows side by side."""
    pool_step_x: int = 0
    pe: PeKind = PeKind.INT8
    mode: PostMode = PostMode.REQUANTIZE
    levels: int = 0
    """Of the threshold tree."""
    ones: bool = False
    """Whether all weights are 1, so that every group of channels takes the same few."""
    alike: bool = False
    """Whether all channels have the same parameters too, with `ones` only."""
    planes: int = 1
    """Weight planes whose rescaled sums make a result, in mode PLANES; each has K rows of weights."""
    blocks: WeightBlocks | None = None
    """Where the weights are not all zero, if the rest is to be left out."""
    out_bits: int = 8
    """Of a result in memory."""
    sources: tuple[Place, ...] = ()
    """One, or the two operands of an add; dense tensors of their own by default."""
    result: Place | None = None
    """A dense tensor of its own by default."""

    @property
    def macs(self) -> int:
        """Useful multiply-accumulates; weights that are 1 for an operation's sake count nothing."""
        if self.ones:
            return 0
        return self.planes * self.K * self.reduced * self.FY * self.FX * self.OY * self.OX

    @property
    def summed(self) -> int:
        """Lane sets of the array's rows that one result sums: its planes, filled up to a power of two."""
        return 1 << (self.planes - 1).bit_length()

    @property
    def reduced(self) -> int:
        """Input channels that one output channel sums over."""
        return 1 if self.pe.lane_wise else self.C

    @property
    def whole(self) -> Chunk:
        """The whole reduction as one chunk."""
        return Chunk(0, self.FY, 0, self.FX, 0, self.C)

    # -- pixels in memory ----------------------------------------------------------------------

    def act_bytes(self, channels: int) -> int:
        """Bytes of a pixel's `channels` activations."""
        return -(-channels * self.pe.act_bits // 8)

    def out_bytes(self, channels: int) -> int:
        """Bytes of a pixel's `channels` results in memory."""
        return -(-channels * self.out_bits // 8)

    @property
    def places(self) -> tuple[Place, ...]:
        """`sources`, the default spelt out."""
        return self.sources or (Place(0, self.act_bytes(self.C)),)

    @property
    def target(self) -> Place:
        """`result`, the default spelt out."""
        return self.result or Place(0, self.out_bytes(self.K))

    @property
    def act_align(self) -> int:
        """Channels that fill whole bytes of activations."""
        return 8 // self.pe.act_bits

    @property
    def out_align(self) -> int:
        """Channels that fill whole bytes of results."""
        return 8 // self.out_bits

    # -- pool windows --------------------------------------------------------------------------

    @property
    def overlaps(self) -> bool:
        """Whether the operands of pool windows overlap or leave gaps: then a tile is one window."""
        return bool(self.pool_step_y)

    @property
    def window_step_y(self) -> int:
        """Input rows from a pool window's first operand to the next window's."""
        return self.pool_step_y or self.pool_y * self.stride_y

    @property
    def window_step_x(self) -> int:
        """Input columns from a pool window's first operand to the next window's."""
        return self.pool_step_x or self.pool_x * self.stride_x

    def reach_y(self, height: int, taps: int) -> int:
        """Input rows from the first to one past the last that `height` rows of outputs take."""
        return (
            (height // self.pool_y - 1) * self.window_step_y
            + (self.pool_y - 1) * self.stride_y
            + (taps - 1) * self.dilation_y
            + 1
        )

    def reach_x(self, width: int, taps: int) -> int:
        """Input columns from the first to one past the last that `width` outputs take."""
        return (
            (width // self.pool_x - 1) * self.window_step_x
            + (self.pool_x - 1) * self.stride_x
            + (taps - 1) * self.dilation_x
            + 1
        )

    # -- parameters ----------------------------------------------------------------------------

    @property
    def param_set(self) -> int:
        """Parameter lines from a lane set's first to the next lane set's; 0: all share the same."""
        if self.alike:
            return 0
        return (4**self.levels - 1) // 3 if self.mode is PostMode.THRESHOLDS else 1

    def param_lines(self, groups: int, row_groups: int) -> int:
        """Parameter lines of `groups` groups of channels, each read in `row_groups` lane sets."""
        if self.alike:
            return 2 if self.mode is PostMode.ADD else 1
        return groups * row_groups * self.param_set
