"""Commands before their place in memory is known, and copies in pieces that a command's fields hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .isa import Command, Opcode, Token
from .program import Region
from .window import Copy

__all__ = ["RUN", "Draft", "split_copy", "strides"]

_COUNT = (1 << 12) - 1
"""What the fields `rows` and `planes` hold."""
RUN = (1 << 20) - 8
"""What the field `run` holds, so that a run of packed values ends at a whole byte."""
_ROW_STEP = (1 << 24) - 1


@dataclass(slots=True)
class Draft:
    """A command whose memory address still counts from its region's start."""

    opcode: Opcode
    layer: int
    fields: dict[str, int]
    region: int | None = None

    def place(self, regions: list[Region]) -> Command:
        """The command with its final address."""
        fields = dict(self.fields)
        if self.region is not None:
            fields["address"] += regions[self.region].address
        return Command(self.opcode, {name: value for name, value in fields.items() if value})

    def wait(self, token: Token) -> None:
        """Nothing; the command waits for `token` too."""
        self.fields["wait"] = self.fields.get("wait", 0) | 1 << token

    def post(self, token: Token, field: str = "post") -> None:
        """Nothing; the command posts `token` too."""
        self.fields[field] = self.fields.get(field, 0) | 1 << token


def split_copy(copy: Copy, row_step: str, bits: int = 8) -> Iterator[Copy]:
    """The same copy in pieces that the fields hold.

    Args:
        copy: from memory, or to it.
        row_step: names the stride in memory, `src` or `dst`.
        bits: of a value in memory; the run counts values, a byte each in the buffer.
    """
    step = copy.src_row if row_step == "src" else copy.dst_row
    if step > _ROW_STEP and copy.planes == 1:  # the plane's stride is wider
        copy = Copy(
            copy.src, 0, copy.src_row, copy.dst, 0, copy.dst_row, copy.run, 1, copy.rows
        )  # fmt: skip
    for plane in range(0, copy.planes, _COUNT):
        for row in range(0, copy.rows, _COUNT):
            for start in range(0, copy.run, RUN):
                yield Copy(
                    copy.src + plane * copy.src_plane + row * copy.src_row + start,
                    copy.src_row,
                    copy.src_plane,
                    copy.dst + plane * copy.dst_plane + row * copy.dst_row + start * bits // 8,
                    copy.dst_row,
                    copy.dst_plane,
                    min(RUN, copy.run - start),
                    min(_COUNT, copy.rows - row),
                    min(_COUNT, copy.planes - plane),
                )


def strides(copy: Copy) -> dict[str, int]:
    """The strides and counts of a copy as command fields; strides that nothing uses are 0."""
    many_rows, many_planes = copy.rows > 1, copy.planes > 1
    return {
        "src_row": copy.src_row * many_rows,
        "src_plane": copy.src_plane * many_planes,
        "dst_row": copy.dst_row * many_rows,
        "dst_plane": copy.dst_plane * many_planes,
        "run": copy.run,
        "rows": copy.rows,
        "planes": copy.planes,
    }
