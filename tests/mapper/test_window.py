import random

import numpy as np
import pytest
from bitwright.mapper.mapping import ColumnMode, LoopOrder, Mapping
from bitwright.mapper.shape import Chunk, LayerShape, Place
from bitwright.mapper.window import Axis, Copy, Fill, Window, axis_window, bank_step

ZERO_POINT = 99


def write_bank(window: Window, tensor: np.ndarray) -> np.ndarray:
    """The bank as FILLs and LOADs leave it; bytes that neither writes stay at 255."""
    bank = np.full(window.size, 255, np.uint8)
    for fill in window.fills():
        for row in range(fill.rows):
            start = fill.dst + row * fill.dst_row
            bank[start : start + fill.run] = ZERO_POINT
    for copy in window.copies():
        for plane in range(copy.planes):
            for row in range(copy.rows):
                src = copy.src + plane * copy.src_plane + row * copy.src_row
                dst = copy.dst + plane * copy.dst_plane + row * copy.dst_row
                bank[dst : dst + copy.run] = tensor[src : src + copy.run]
    return bank


def test_padding_merges_a_rows_right_end_with_the_next_rows_left_start():
    # A 3×3 convolution with padding 1 on 4×4 pixels of 2 channels: 6×6 pixels held, 12 bytes a row.
    axis = axis_window(first=-1, needed=6, nominal=6, step=1, size=4)
    window = Window(y=axis, x=axis, skip=0, size_x=2, width=4, places=(Place(0, 2),))
    assert axis == Axis(0, 1, 1, 4, 1)
    assert window.copies() == [Copy(0, 8, 0, 14, 12, 0, 8, 4, 1)]
    assert window.fills() == [Fill(0, 0, 14, 1), Fill(22, 12, 4, 3), Fill(58, 0, 14, 1)]


def test_whole_rows_are_one_run():
    rows, columns = Axis(2, 1, 0, 3, 0), Axis(0, 1, 0, 5, 0)
    window = Window(y=rows, x=columns, skip=0, size_x=3, width=5, places=(Place(0, 3),))
    assert window.copies() == [Copy(30, 0, 0, 0, 0, 0, 45, 1, 1)]
    assert window.fills() == []


@pytest.mark.parametrize(
    ("stride", "dilation", "taps", "step"), [(2, 1, 1, 2), (2, 2, 3, 2), (3, 1, 3, 1), (4, 6, 2, 2)]
)
def test_positions_that_no_output_needs_are_not_held(stride, dilation, taps, step):
    needed = {o * stride + t * dilation for o in range(9) for t in range(taps)}
    assert all(position % step == 0 for position in needed)
    assert bank_step(stride, dilation, taps) == step
    shape = LayerShape(name="a", K=1, C=1, H=99, W=99, FX=taps, OX=9, stride_x=stride, dilation_x=dilation)
    assert shape.reach_x(9, taps) == max(needed) + 1


def test_the_operands_of_an_add_lie_row_by_row_in_turn():
    # Two pictures of 3 × 2 pixels, 1 channel of 3 at byte 1 in the first, 1 of 2 in the second.
    rows, columns = Axis(2, 1, 0, 4, 0), Axis(0, 1, 0, 2, 0)
    window = Window(y=rows, x=columns, skip=0, size_x=1, width=2, places=(Place(1, 3), Place(0, 2)))
    # Rows 1 and 2 of each; in the bank a row is 2 bytes, an operand's rows are 4 apart.
    assert window.copies() == [
        Copy(1 + 6, 3, 6, 0, 1, 4, 1, 2, 2),
        Copy(0 + 4, 2, 4, 2, 1, 4, 1, 2, 2),
    ]


@pytest.mark.parametrize(("kernel", "step"), [(3, 1), (3, 2), (2, 3)])
def test_pool_windows_reach_as_far_as_their_steps_say(kernel, step):
    shape = LayerShape(
        name="pool", K=1, C=1, H=30, W=30, OY=4 * kernel, OX=kernel, pool_y=kernel, pool_x=kernel,
        pool_step_y=step, pool_step_x=step,
    )  # fmt: skip
    rows = {window * step + row for window in range(4) for row in range(kernel)}
    assert shape.reach_y(4 * kernel, 1) == max(rows) + 1
    assert shape.window_step_y == step


@pytest.mark.parametrize("seed", range(60))
def test_the_bank_holds_what_a_padded_tensor_has_under_the_windows(seed):
    rng = random.Random(seed)
    fy, fx = rng.randint(1, 4), rng.randint(1, 4)
    shape = LayerShape(
        name="layer", K=1, C=rng.randint(1, 5), H=rng.randint(6, 12), W=rng.randint(6, 12),
        FY=fy, FX=fx, OY=rng.randint(1, 6), OX=rng.randint(1, 6),
        stride_y=rng.randint(1, 3), stride_x=rng.randint(1, 3),
        dilation_y=rng.randint(1, 2), dilation_x=rng.randint(1, 2),
        pad_top=rng.randint(0, 3), pad_left=rng.randint(0, 3),
    )  # fmt: skip
    c0 = rng.randrange(shape.C)
    chunk = Chunk(rng.randrange(fy), 1, 0, fx, c0, rng.randint(1, shape.C - c0))
    mapping = Mapping(
        shape=shape, rows=1, columns=2, column_rows=rng.randint(1, 3), tile_x=rng.randint(1, 4),
        groups=1, acc_y=1, acc_x=1, order=LoopOrder.WEIGHTS, mode=rng.choice(list(ColumnMode)),
        skip_x=rng.random() < 0.5, chunks=(chunk,), act_chunked=True,
    )  # fmt: skip
    image = np.random.default_rng(seed).integers(0, 90, (shape.H, shape.W, shape.C), np.uint8)
    far = 40
    padded = np.pad(image, ((far, far), (far, far), (0, 0)), constant_values=ZERO_POINT)
    step_y, step_x = mapping.steps_held(chunk)
    for tile in mapping.tiles:
        for mask, window in mapping.windows(tile, chunk):
            bank = write_bank(window, image.ravel())
            assert 255 not in bank
            bank = bank.reshape(window.y.count, window.x.count, chunk.c)
            first_row = tile.y0
            if mapping.mode is ColumnMode.SPLIT:
                first_row += (mask.bit_length() - 1) * mapping.column_rows
            rows = min(tile.height, tile.y0 + tile.height - first_row)
            if mapping.mode is ColumnMode.SPLIT:
                rows = min(rows, mapping.column_rows)
            for y in range(rows):
                for x in range(tile.width):
                    for tap in range(fx):
                        iy = (first_row + y) * shape.stride_y - shape.pad_top
                        iy += chunk.fy0 * shape.dilation_y
                        ix = (tile.x0 + x) * shape.stride_x - shape.pad_left + tap * shape.dilation_x
                        expected = padded[far + iy, far + ix, c0 : c0 + chunk.c]
                        by = y * shape.stride_y // step_y
                        bx = (x * shape.stride_x + tap * shape.dilation_x) // step_x
                        assert np.array_equal(bank[by, bx], expected), (seed, tile, y, x, tap)
