"""What is proved of LOAD and STORE: each burst and each beat once, whenever the other side is ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..mapper.isa import COMMAND_BITS, FIELDS, Opcode
from ..mapper.machine import ArraySpec, BufferSpec, BusSpec, CoreTiming, Machine, PostSpec, QueueSpec
from .load import Load
from .proofs import Proof
from .store import Store
from .verilog import component_verilog

__all__ = ["transfer_proofs"]


def transfer_proofs() -> list[Proof]:
    """All of them."""
    return [
        _load(runs=(6,), addresses=(3,), quick=True),
        _load(runs=(1, 5, 10), addresses=(0, 3, 6), quick=False),
        _fill(runs=(1, 4, 9)),
        _store(pack=0, runs=(1, 5, 10), addresses=(0, 3, 6)),
        _store(pack=3, runs=(1, 9, 40), addresses=(7, 0)),
    ]


def _machine(*, packs: bool) -> Machine:
    """As small as a machine can be: a bus of 4 bytes, bursts of at most 2 beats, few of them in flight."""
    return Machine(
        name="proof",
        array=ArraySpec(
            rows=4,
            cols=1,
            act_word_bits=32,
            weight_word_bits=32,
            pes=("int8", "binary") if packs else ("int8",),
        ),
        buffers=BufferSpec(activation_bytes=256, weight_bytes=256, output_bytes=256, param_channels=8),
        post=PostSpec(lanes=1),
        bus=BusSpec(data_bits=32, max_burst=2, read_outstanding=2, write_outstanding=1),
        queues=QueueSpec(row_descriptors=2),
    )


def _command(opcode: Opcode, given: Mapping[str, str]) -> str:
    """Verilog of a command; fields that are not given are 0."""
    fields = FIELDS[opcode]
    parts = [given.get(name, f"{width}'d0") for name, width in reversed(fields)]
    rest = COMMAND_BITS - sum(width for _, width in fields)
    return "{" + ", ".join([f"{rest}'d0", *parts]) + "}"


_WRITES = """
    // Of what is written: the row, the beat of it, and the row's first byte and number of beats.
    reg [1:0] row = 0;
    reg [3:0] written = 0;
    wire [7:0] begins = BEGINS;
    wire [3:0] beats_of_row = total(begins);
    function [3:0] total(input [7:0] first_byte);
        total = (first_byte[1:0] + run + 3) >> 2;
    endfunction
    wire last_beat = written + 4'd1 == beats_of_row;
    always @(posedge clk) begin
        if (command_ready) sent <= 1;
        if (act_en) begin
            written <= last_beat ? 4'd0 : written + 4'd1;
            if (last_beat) row <= row + 1;
        end
    end
    reg right;
    reg signed [8:0] index;
    reg [7:0] expected, at;
    integer i;
    always @* begin
        at = dst + row * dst_row - begins[1:0] + 4 * written;
        right = row < 2 && act_cols && act_addr == at;
        for (i = 0; i < 4; i = i + 1) begin
            index = $signed({5'd0, written}) * 4 + i - $signed({7'd0, begins[1:0]});
            expected = BYTE;
            if (act_mask[i] != (index >= 0 && index < $signed({3'd0, run}))) right = 0;
            if (act_mask[i] && data[8*i+:8] != expected) right = 0;
        end
    end
    wire ended = act_en && row == 1 && last_beat;
    wire sound = (!act_en || right) && !weight_en && !param_en && (post != 0) == ended;
"""
"""Two rows of bytes into an activation bank: each beat once, in order, to its place, with its mask; the
command's token with the last one. `BEGINS` is a row's first byte in memory, `BYTE` that of an index."""

_LOAD_PORTS = """
        .clk(clk), .rst(1'b0), .base(32'd0), .command_valid(!sent), .command_ready(command_ready),
        .present(8'hFF), .post(post), .act_en(act_en), .act_cols(act_cols), .act_addr(act_addr),
        .act_mask(act_mask), .data(data), .weight_en(weight_en), .param_en(param_en),
"""


def _two_rows(**given: str) -> dict[str, str]:
    return {
        "post": "8'd1",
        "cols": "16'd1",
        "dst": "{12'd0, dst}",
        "dst_row": "{12'd0, dst_row}",
        "run": "{14'd0, run}",
        "rows": "12'd2",
        "planes": "12'd1",
        **given,
    }


def _load(*, runs: Sequence[int], addresses: Sequence[int], quick: bool) -> Proof:
    """Two rows from memory: requests are granted and beats come whenever memory likes."""
    steps = 12
    command = _two_rows(
        opcode=f"4'd{int(Opcode.LOAD)}", address="{27'd0, address}", src_row="{18'd0, src_row}"
    )
    writes = _WRITES.replace("BEGINS", "start(row)").replace("BYTE", "begins + index[7:0]")
    top = f"""
module proof(input clk, grant, answer, output ok);
    wire [4:0] address = $anyconst;
    wire [7:0] dst = $anyconst, dst_row = $anyconst;
    wire [5:0] src_row = $anyconst, run = $anyconst;
    reg sent = 0;
    wire command_ready, request, r_ready, act_en, weight_en, param_en, act_cols;
    wire [31:0] ar_address, data;
    wire [1:0] ar_beats;
    wire [7:0] act_addr, post;
    wire [3:0] act_mask;
    function [7:0] start(input [1:0] of_row);
        start = address + of_row * src_row;
    endfunction
    {writes}
    // The memory: beats asked for and given, of which row and how many of it, and what the older and the
    // newer of two bursts in flight lack.
    reg [1:0] asked_row = 0, given_row = 0, older = 0, newer = 0;
    reg [3:0] asked = 0, given = 0;
    wire r_valid = answer && older != 0, r_last = older == 1;
    wire beat = r_valid && r_ready, granted = request && grant;
    wire [7:0] asked_start = start(asked_row), given_start = start(given_row);
    wire [3:0] after_ask = asked + ar_beats, after_beat = given + 1;
    wire asked_all = after_ask == total(asked_start), given_all = after_beat == total(given_start);
    wire [7:0] low = {{given_start[7:2], 2'd0}} + 4 * given;
    wire [7:0] asked_at = {{asked_start[7:2], 2'd0}} + 4 * asked;
    unit dut({_LOAD_PORTS}
        .command_payload({_command(Opcode.LOAD, command)}),
        .ar_request(request), .ar_address(ar_address), .ar_beats(ar_beats), .ar_grant(grant),
        .r_valid(r_valid), .r_last(r_last), .r_ready(r_ready),
        .r_data({{low + 8'd3, low + 8'd2, low + 8'd1, low}})
    );
    always @(posedge clk) begin
        if (granted) begin
            asked <= asked_all ? 4'd0 : after_ask;
            if (asked_all) asked_row <= asked_row + 1;
        end
        if (beat) begin
            given <= given_all ? 4'd0 : after_beat;
            if (given_all) given_row <= given_row + 1;
        end
        if (granted && beat) begin
            if (older != 1) {{newer, older}} <= {{ar_beats, older - 2'd1}};
            else if (newer == 0) older <= ar_beats;
            else {{newer, older}} <= {{ar_beats, newer}};
        end else if (granted) begin
            if (older == 0) older <= ar_beats; else newer <= ar_beats;
        end else if (beat) begin
            if (older == 1) {{newer, older}} <= {{2'd0, newer}}; else older <= older - 2'd1;
        end
    end
    wire addressed = asked_row < 2 && newer == 0 && ar_beats != 0 && ar_address == asked_at
        && after_ask <= total(asked_start) && ar_address[2] + ar_beats <= 2;
    assign ok = (!request || addressed) && sound && beat == act_en;
endmodule
"""
    return Proof(
        name=f"LOAD, {len(runs)} runs at {len(addresses)} offsets",
        claim=f"each burst and beat once, in order, to its bytes, in any {steps} cycles from reset",
        cases=tuple(
            f"-set run {run} -set address {address} -set src_row {run + 3} -set dst 5 -set dst_row 14"
            for run in runs
            for address in addresses
        ),
        verilog=component_verilog(Load(machine=_machine(packs=False)), "unit") + top,
        broken=(".ar_grant(grant)", ".ar_grant(1'b1)"),
        steps=steps,
        reset=True,
        quick=quick,
    )


def _fill(*, runs: Sequence[int]) -> Proof:
    """Two rows of a value, whatever memory offers meanwhile."""
    steps = 12
    command = _two_rows(opcode=f"4'd{int(Opcode.FILL)}", value="{24'd0, value}")
    writes = _WRITES.replace("BEGINS", "8'd0").replace("BYTE", "value")
    top = f"""
module proof(input clk, grant, answer, input [31:0] word, output ok);
    wire [7:0] value = $anyconst, dst = $anyconst, dst_row = $anyconst;
    wire [5:0] run = $anyconst;
    reg sent = 0;
    wire command_ready, request, r_ready, act_en, weight_en, param_en, act_cols;
    wire [31:0] data;
    wire [7:0] act_addr, post;
    wire [3:0] act_mask;
    {writes}
    unit dut({_LOAD_PORTS}
        .command_payload({_command(Opcode.FILL, command)}),
        .ar_request(request), .ar_grant(grant), .r_valid(answer), .r_last(1'b1), .r_ready(r_ready),
        .r_data(word)
    );
    assign ok = !request && sound && !(act_en && answer && r_ready);
endmodule
"""
    return Proof(
        name=f"FILL, {len(runs)} runs",
        claim=f"each beat once, in order, to its bytes, none from memory, in any {steps} cycles from reset",
        cases=tuple(f"-set run {run}" for run in runs),
        verilog=component_verilog(Load(machine=_machine(packs=False)), "unit") + top,
        broken=(".command_valid(!sent)", ".command_valid(1'b1)"),
        steps=steps,
        reset=True,
        quick=True,
    )


def _store(*, pack: int, runs: Sequence[int], addresses: Sequence[int]) -> Proof:
    """A row of a STORE command from any source; AW, W and B are ready whenever they like."""
    steps = 17
    latency = CoreTiming().buffer_read_latency
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
        .clk(clk), .rst(1'b0), .base(32'd0), .command_payload({_command(Opcode.STORE, given)}),
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
        verilog=component_verilog(Store(machine=_machine(packs=pack > 0)), "unit") + top,
        broken=(".axi_wready(wready)", ".axi_wready(1'b1)"),
        steps=steps,
        reset=True,
    )
