"""What is proved of streams: nothing is dropped, nothing comes twice, under any back-pressure within a bound.

Each design is watched by a scoreboard that follows one word of the solver's choice, or knows what each beat
must hold; when the other side is ready is free in every cycle.
"""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import Component, In, Out

from ..mapper.machine import CoreTiming
from .byte_buffer import ByteBuffer
from .proof_transfers import transfer_proofs
from .proofs import Proof
from .row_walk import RowWalk
from .verilog import component_verilog

__all__ = ["stream_proofs"]


def stream_proofs() -> list[Proof]:
    """All of them."""
    return [
        _queue(depth=2, quick=True),
        _queue(depth=5, quick=False),
        _byte_buffer(),
        _row_walk(),
        *transfer_proofs(),
    ]


class _Queue(Component):
    """The FIFO as the core uses it: for jobs, rows, reads and the fetched opcodes."""

    def __init__(self, *, depth: int) -> None:
        self.depth = depth
        writing = {"w_en": In(1), "w_rdy": Out(1), "w_data": In(4)}
        super().__init__({**writing, "r_en": In(1), "r_rdy": Out(1), "r_data": Out(4)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fifo = fifo = SyncFIFO(width=4, depth=self.depth)
        m.d.comb += [
            fifo.w_en.eq(self.w_en),
            fifo.w_data.eq(self.w_data),
            fifo.r_en.eq(self.r_en),
            self.w_rdy.eq(fifo.w_rdy),
            self.r_rdy.eq(fifo.r_rdy),
            self.r_data.eq(fifo.r_data),
        ]
        return m


def _queue(*, depth: int, quick: bool) -> Proof:
    steps = 2 * depth + 6
    top = f"""
module proof(input clk, w_en, r_en, input [3:0] w_data, output ok);
    reg [4:0] given = 0, taken = 0;
    wire [4:0] pick = $anyconst;
    reg [3:0] word = 0;
    wire w_rdy, r_rdy;
    wire [3:0] r_data;
    wire [4:0] held = given - taken;
    unit dut(
        .clk(clk), .rst(1'b0), .w_en(w_en), .w_rdy(w_rdy), .w_data(w_data), .r_en(r_en), .r_rdy(r_rdy),
        .r_data(r_data)
    );
    always @(posedge clk) begin
        if (w_en && w_rdy) begin
            given <= given + 1;
            if (given == pick) word <= w_data;
        end
        if (r_en && r_rdy) taken <= taken + 1;
    end
    assign ok = r_rdy == (held != 0) && w_rdy == (held != {depth})
        && !(r_rdy && taken == pick && r_data != word);
endmodule
"""
    return Proof(
        name=f"queue of {depth}",
        claim=f"words come out once and in order, in any {steps} cycles from reset",
        verilog=component_verilog(_Queue(depth=depth), "unit") + top,
        broken=(".r_en(r_en)", ".r_en(r_en && !(w_en && w_rdy))"),
        steps=steps,
        reset=True,
        quick=quick,
    )


class _Walk(Component):
    """The row walk as LOAD and STORE use it; few rows and planes."""

    def __init__(self) -> None:
        super().__init__(
            {
                **dict.fromkeys(("start", "step"), In(1)),
                **dict.fromkeys(("rows", "planes"), In(3)),
                **dict.fromkeys(("memory", "memory_row", "memory_plane"), In(32)),
                **dict.fromkeys(("buffer", "buffer_row", "buffer_plane"), In(20)),
                "at_memory": Out(32),
                "at_buffer": Out(20),
                "last": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        walk = RowWalk(buffer_bits=20)
        with m.If(self.start):
            walk.load(m, memory=self.memory, buffer=self.buffer, rows=self.rows, planes=self.planes)
        with m.Elif(self.step):
            walk.step(
                m,
                rows=self.rows,
                memory=(self.memory_row, self.memory_plane),
                buffer=(self.buffer_row, self.buffer_plane),
            )
        m.d.comb += [
            self.at_memory.eq(walk.memory),
            self.at_buffer.eq(walk.buffer),
            self.last.eq(walk.last),
        ]
        return m


def _row_walk() -> Proof:
    steps = 9
    top = """
module proof(input clk, go, output ok);
    wire [2:0] rows = $anyconst, planes = $anyconst;
    wire [7:0] memory = $anyconst, memory_row = $anyconst, memory_plane = $anyconst;
    wire [7:0] buffer = $anyconst, buffer_row = $anyconst, buffer_plane = $anyconst;
    reg started = 0;
    reg [2:0] row = 0, plane = 0;
    // Where this row and this plane's first row must lie, once started: sums of strides.
    reg [15:0] row_memory, plane_memory;
    reg [15:0] row_buffer, plane_buffer;
    wire [2:0] next_row = row + 1, next_plane = plane + 1;
    wire ended = next_row == rows, last;
    wire [31:0] at_memory;
    wire [19:0] at_buffer;
    unit dut(
        .clk(clk), .rst(1'b0), .start(!started), .step(go && !last), .rows(rows), .planes(planes),
        .memory({24'd0, memory}), .memory_row({24'd0, memory_row}), .memory_plane({24'd0, memory_plane}),
        .buffer({12'd0, buffer}), .buffer_row({12'd0, buffer_row}), .buffer_plane({12'd0, buffer_plane}),
        .at_memory(at_memory), .at_buffer(at_buffer), .last(last)
    );
    always @(posedge clk) begin
        started <= 1;
        if (!started) begin
            {plane_memory, row_memory} <= {8'd0, memory, 8'd0, memory};
            {plane_buffer, row_buffer} <= {8'd0, buffer, 8'd0, buffer};
        end else if (go && !(ended && next_plane == planes)) begin
            row <= ended ? 3'd0 : next_row;
            if (ended) plane <= next_plane;
            row_memory <= ended ? plane_memory + memory_plane : row_memory + memory_row;
            row_buffer <= ended ? plane_buffer + buffer_plane : row_buffer + buffer_row;
            if (ended) plane_memory <= plane_memory + memory_plane;
            if (ended) plane_buffer <= plane_buffer + buffer_plane;
        end
    end
    assign ok = !started || (at_memory == row_memory && at_buffer == row_buffer
        && last == (ended && next_plane == planes));
endmodule
"""
    return Proof(
        name="row walk",
        claim=f"each row of each plane once, in order, at its place, in any {steps} cycles from reset",
        verilog=component_verilog(_Walk(), "unit") + top,
        cases=tuple(f"-set rows {rows} -set planes {planes}" for rows, planes in ((1, 3), (2, 2), (3, 1))),
        broken=(".step(go && !last)", ".step(!last)"),
        steps=steps,
        reset=True,
        quick=True,
    )


def _byte_buffer() -> Proof:
    """A byte of the solver's choice: what is written to it is what is read."""
    unit = ByteBuffer(size_bytes=16, word_bytes=4, write_bytes=4, read_bytes=4)
    latency = CoreTiming().buffer_read_latency
    steps = latency + 6
    top = f"""
module proof(
    input clk, w_en, input [3:0] w_addr, r_addr, w_mask, input [31:0] w_data, output ok
);
    wire [3:0] pick = $anyconst;
    reg [7:0] value = 0, visible = 0;
    // Of each of the reads in flight, newest in the low bits: whether it has the byte, where, and its value.
    reg [{11 * latency - 1}:0] reads = 0;
    wire hit;
    wire [1:0] place;
    wire [7:0] expected;
    assign {{hit, place, expected}} = reads[{11 * latency - 1}-:11];
    wire [3:0] w_place = pick - w_addr, r_place = pick - r_addr;
    wire [31:0] r_data;
    unit dut(
        .clk(clk), .rst(1'b0), .w_en(w_en), .w_addr(w_addr), .w_data(w_data), .w_mask(w_mask),
        .r_addr(r_addr), .r_data(r_data)
    );
    always @(posedge clk) begin
        if (w_en && w_place < 4 && w_mask[w_place[1:0]]) value <= w_data[8*w_place[1:0]+:8];
        visible <= value;
        reads <= {{reads, r_place < 4, r_place[1:0], visible}};
    end
    assign ok = !hit || r_data[8*place+:8] == expected;
endmodule
"""
    return Proof(
        name="byte buffer",
        claim=f"a byte written anywhere is the byte read anywhere, in any {steps} cycles from reset",
        verilog=component_verilog(unit, "unit") + top,
        broken=(".w_mask(w_mask)", ".w_mask(4'b1111)"),
        steps=steps,
        reset=True,
        quick=True,
    )
