"""What is proved of streams: nothing is dropped, nothing comes twice, under any back-pressure within a bound.

Each design is watched by a scoreboard that follows one word of the solver's choice, or knows what each beat
must hold; when the other side is ready is free in every cycle.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import Component, In, Out

from ..mapper.isa import FIELDS, Opcode
from ..mapper.machine import ArraySpec, BufferSpec, BusSpec, CoreTiming, Machine, PostSpec
from .byte_buffer import ByteBuffer
from .proofs import Proof
from .store import Store
from .verilog import component_verilog

__all__ = ["stream_proofs"]


def stream_proofs() -> list[Proof]:
    """All of them."""
    return [
        _queue(depth=2, quick=True),
        _queue(depth=5, quick=False),
        _byte_buffer(),
        _store(pack=0, runs=(1, 6), addresses=(3,), quick=True),
        _store(pack=0, runs=(2, 5, 10), addresses=(0, 3, 6), quick=False),
        _store(pack=3, runs=(1, 9, 40), addresses=(0, 7), quick=False),
    ]


class _Queue(Component):
    """The FIFO as the core uses it: for commands, jobs, rows and the fetched program."""

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


def _store(*, pack: int, runs: Sequence[int], addresses: Sequence[int], quick: bool) -> Proof:
    """A row of a STORE command from any source; AW, W and B are ready whenever they like."""
    steps = 17
    latency = CoreTiming().buffer_read_latency
    machine = Machine(
        name="proof",
        array=ArraySpec(
            rows=4,
            cols=1,
            act_word_bits=32,
            weight_word_bits=32,
            pes=("int8", "binary") if pack else ("int8",),
        ),
        buffers=BufferSpec(activation_bytes=256, weight_bytes=256, output_bytes=256, param_channels=8),
        post=PostSpec(lanes=1),
        bus=BusSpec(data_bits=32, max_burst=2, write_outstanding=1),
    )
    given = {
        "opcode": f"4'd{int(Opcode.STORE)}",
        "post": "8'd1",
        "pack": f"2'd{pack}",
        "src": "{12'd0, src}",
        "address": "{27'd0, address}",
        "run": "{14'd0, run}",
        "rows": "12'd1",
        "planes": "12'd1",
    }
    fields = FIELDS[Opcode.STORE]
    command = ", ".join(given.get(name, f"{width}'d0") for name, width in reversed(fields))
    size = sum(width for _, width in fields)
    values = 1 << pack
    bits = 8 // values
    byte = "index + src"
    if pack:
        # 1 bit a value, the inverted sign; the row's last byte is filled up with zeros.
        parts = (
            f"{{index * {values} + {n} < run && !sign(index * {values} + {n} + src)}}" for n in range(values)
        )
        byte = "{" + ", ".join(reversed(list(parts))) + "}"
    top = f"""
module proof(input clk, awready, wready, answer, output ok);
    wire [7:0] src = $anyconst;
    wire [4:0] address = $anyconst;
    wire [5:0] run = $anyconst;
    reg sent = 0, posted = 0;
    reg [3:0] beats = 0, announced = 0, bursts = 0, ended = 0, answered = 0;
    wire command_ready, awvalid, wvalid, wlast;
    wire [7:0] read_addr, post;
    wire [31:0] awaddr, wdata;
    wire [7:0] awlen;
    wire [3:0] wstrb;
    reg [{8 * latency - 9}:0] at = 0;
    wire [7:0] last = at[{8 * latency - 9}-:8];
    reg [31:0] read_data = 0;
    wire bvalid = answer && ended != answered;
    wire [5:0] row_bytes = (run * {bits} + 7) >> 3;
    wire [6:0] total = (address[1:0] + row_bytes + 3) >> 2;
    unit dut(
        .clk(clk), .rst(1'b0), .base(32'd0), .command_payload({{{256 - size}'d0, {command}}}),
        .command_valid(!sent), .command_ready(command_ready), .present(8'hFF), .post(post),
        .read_addr(read_addr), .read_data(read_data),
        .axi_awvalid(awvalid), .axi_awready(awready), .axi_awaddr(awaddr), .axi_awlen(awlen),
        .axi_wvalid(wvalid), .axi_wready(wready), .axi_wdata(wdata), .axi_wstrb(wstrb), .axi_wlast(wlast),
        .axi_bvalid(bvalid)
    );
    always @(posedge clk) begin
        if (command_ready) sent <= 1;
        if (post != 0) posted <= 1;
        at <= {{at, read_addr}};
        read_data <= {{last + 8'd3, last + 8'd2, last + 8'd1, last}};
        if (awvalid && awready) begin announced <= announced + awlen + 1; bursts <= bursts + 1; end
        if (wvalid && wready) begin beats <= beats + 1; if (wlast) ended <= ended + 1; end
        if (bvalid) answered <= answered + 1;
    end
    function sign(input [7:0] place);
        sign = place[7];
    endfunction
    reg right;
    reg signed [8:0] index;
    reg [7:0] expected;
    integer i;
    always @* begin
        right = beats < announced && beats < total && wlast == (beats + 1 == announced);
        for (i = 0; i < 4; i = i + 1) begin
            index = 4 * beats + i - address[1:0];
            expected = {byte};
            if (wstrb[i] != (index >= 0 && index < row_bytes)) right = 0;
            if (wstrb[i] && wdata[8*i+:8] != expected) right = 0;
        end
    end
    wire addressed = awaddr == {{27'd0, address[4:2], 2'd0}} + 4 * announced && announced + awlen < total;
    assign ok = ((!wvalid || right) && (!awvalid || addressed)
        && (post == 0 || (beats == total && answered == bursts && !posted)));
endmodule
"""
    return Proof(
        name=f"STORE, {bits} bits a value, {len(runs)} runs at {len(addresses)} offsets",
        claim=f"each beat once, in order, with its bytes and strobes, in any {steps} cycles from reset",
        cases=tuple(f"-set run {run} -set address {address}" for run in runs for address in addresses),
        verilog=component_verilog(Store(machine=machine), "unit") + top,
        broken=(".axi_wready(wready)", ".axi_wready(1'b1)"),
        steps=steps,
        reset=True,
        quick=quick,
    )
