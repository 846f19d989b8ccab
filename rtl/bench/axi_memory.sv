// A memory behind an AXI4 port whose every handshake comes in a cycle that a formula foretells.
//
// docs/architecture.md, "Memory", states the rules; sim has them again and tests hold the two equal.
// One build serves all timings: latencies, stall rate and seed are input ports, stable from reset on.
// `rst` clears queues and counters, not the contents. A rising `load` reads image_<load_index>.hex,
// a rising `dump` writes dump_<dump_index>.hex, both in the working directory, a word a line.
//
// With EXTERNAL the beats of a burst and the responses come when port_memory.cpp says so instead of after
// `read_latency` and `write_latency`; stalls must be off. It is asked at the address handshake of a read and
// at the last data of a write, in this order within a cycle.
//
// Served: INCR bursts as wide as the bus, unaligned first addresses included. Whatever AXI4 forbids,
// and what is not served, is printed and raises `protocol_error` until the next reset.
module axi_memory #(
    parameter int DATA_BITS = 64,
    parameter int MEM_WORDS = 1 << 20,
    parameter int EXTERNAL = 0,
    localparam int STROBES = DATA_BITS / 8,
    localparam int SHIFT = $clog2(STROBES)
) (
    input  wire                  clk,
    input  wire                  rst,
    // Timing.
    input  wire [11:0]           read_latency,
    input  wire [11:0]           write_latency,
    input  wire [7:0]            beat_interval,
    input  wire [7:0]            stall_rate,
    input  wire [7:0]            stall_mask,
    input  wire [31:0]           seed,
    // Files.
    input  wire                  load,
    input  wire [31:0]           load_index,
    input  wire                  dump,
    input  wire [31:0]           dump_index,
    input  wire [31:0]           dump_first,
    input  wire [31:0]           dump_last,
    // Counters since reset: handshakes of each channel, strobed bytes.
    output logic [47:0]          ar_count,
    output logic [47:0]          r_count,
    output logic [47:0]          aw_count,
    output logic [47:0]          w_count,
    output logic [47:0]          b_count,
    output logic [47:0]          write_bytes,
    output logic                 protocol_error,
    // The port.
    input  wire                  awid,
    input  wire [31:0]           awaddr,
    input  wire [7:0]            awlen,
    input  wire [2:0]            awsize,
    input  wire [1:0]            awburst,
    input  wire                  awvalid,
    output wire                  awready,
    input  wire [DATA_BITS-1:0]  wdata,
    input  wire [STROBES-1:0]    wstrb,
    input  wire                  wlast,
    input  wire                  wvalid,
    output wire                  wready,
    output wire                  bid,
    output wire [1:0]            bresp,
    output wire                  bvalid,
    input  wire                  bready,
    input  wire                  arid,
    input  wire [31:0]           araddr,
    input  wire [7:0]            arlen,
    input  wire [2:0]            arsize,
    input  wire [1:0]            arburst,
    input  wire                  arvalid,
    output wire                  arready,
    output wire                  rid,
    output wire [DATA_BITS-1:0]  rdata,
    output wire [1:0]            rresp,
    output wire                  rlast,
    output wire                  rvalid,
    input  wire                  rready
);
    localparam int QUEUE = 256;  // bursts in flight; more than any core asks for
    localparam logic [1:0] INCR = 2'b01;
    localparam logic [1:0] AR = 0, R = 1, AW = 2, W = 3;

    typedef logic [47:0] cycle_t;
    typedef logic [7:0] slot_t;  // wraps in a queue
    typedef logic [8:0] stall_t;  // 1 + mask at most

    typedef struct packed {
        logic        id;
        logic [31:0] address;
        logic [7:0]  len;
    } burst_t;

    // Cycles that handshake `index` of `channel` is held back; 32-bit arithmetic throughout.
    function automatic stall_t stall(input logic [1:0] channel, input logic [31:0] index);
        logic [31:0] x;
        x = seed ^ (index * 32'h9E3779B1) ^ (32'(channel) * 32'h85EBCA6B);
        x = x ^ (x >> 16);
        x = x * 32'h7FEB352D;
        x = x ^ (x >> 15);
        x = x * 32'h846CA68B;
        x = x ^ (x >> 16);
        return x[7:0] < stall_rate ? 9'd1 + 9'(x[15:8] & stall_mask) : 9'd0;
    endfunction

    // As `stall`, for R and W beats after the first, which also keep the beat interval.
    function automatic cycle_t later_beat(input logic [1:0] channel, input logic [31:0] index);
        return 48'(stall(channel, index)) + 48'(beat_interval) - 48'd1;
    endfunction

    logic [DATA_BITS-1:0] mem[MEM_WORDS];
    cycle_t now;

    // ---- answers from outside --------------------------------------------------------------------
    cycle_t beat_ready[EXTERNAL != 0 ? 65536 : 1];  // of R beats, by their number
    cycle_t write_ready[QUEUE];  // of responses, by their place in the queue
    logic [15:0] beats_asked;

    if (EXTERNAL != 0) begin : gen_external
        import "DPI-C" function void port_memory_read(
            input int unsigned which, input longint unsigned cycle, input int unsigned address,
            input int unsigned beats
        );
        import "DPI-C" function longint unsigned port_memory_beat(input int unsigned index);
        import "DPI-C" function longint unsigned port_memory_write(
            input int unsigned which, input longint unsigned cycle, input int unsigned address,
            input int unsigned beats
        );
        always_ff @(posedge clk) begin
            if (rst) beats_asked <= 0;
            else begin
                if (arvalid && arready) begin
                    port_memory_read(load_index, 64'(now), araddr, 32'(arlen) + 1);
                    for (int k = 0; k < 256; k++)
                        if (k <= 32'(arlen)) beat_ready[beats_asked + 16'(k)] <= 48'(port_memory_beat(k));
                    beats_asked <= beats_asked + 16'(arlen) + 1;
                end
                if (wvalid && wready && w_final)
                    write_ready[response_tail] <= 48'(port_memory_write(
                        load_index, 64'(now), write_burst.address, 32'(write_burst.len) + 1));
            end
        end
    end

    // ---- reads -----------------------------------------------------------------------------------
    burst_t read_queue[QUEUE];
    cycle_t read_ready[QUEUE];  // first cycle in which the burst's first beat may be presented
    slot_t read_head, read_tail;
    stall_t ar_wait, ar_stall;
    cycle_t r_free;  // the cycle after the last R handshake
    cycle_t r_delay;
    logic [7:0] r_beat;

    wire read_open = read_head != read_tail;
    wire burst_t read_burst = read_queue[read_head];
    wire cycle_t r_ready = EXTERNAL != 0 ? beat_ready[r_count[15:0]] : read_ready[read_head];
    wire cycle_t r_from = (EXTERNAL != 0 || r_beat == 0) && r_ready > r_free ? r_ready : r_free;

    assign arready = ar_wait >= ar_stall;
    assign rvalid = read_open && now >= r_from + r_delay;
    assign rid = read_burst.id;
    assign rdata = rvalid ? mem[word(read_burst.address, r_beat)] : '0;
    assign rresp = 2'b00;
    assign rlast = r_beat == read_burst.len;

    always_ff @(posedge clk) begin
        if (rst) begin
            ar_wait <= 0;
            ar_stall <= stall(AR, 0);
            ar_count <= 0;
            r_free <= 0;
            r_delay <= 48'(stall(R, 0));
            r_count <= 0;
            r_beat <= 0;
            read_head <= 0;
            read_tail <= 0;
        end else begin
            if (arvalid && arready) begin
                ar_wait <= 0;
                ar_stall <= stall(AR, 32'(ar_count) + 1);
                ar_count <= ar_count + 1;
                read_queue[read_tail] <= '{id: arid, address: araddr, len: arlen};
                read_ready[read_tail] <= now + 48'(read_latency);
                read_tail <= read_tail + 1;
            end else if (arvalid) begin
                ar_wait <= ar_wait + 1;
            end
            if (rvalid && rready) begin
                r_free <= now + 1;
                r_delay <= later_beat(R, 32'(r_count) + 1);
                r_count <= r_count + 1;
                r_beat <= rlast ? 0 : r_beat + 1;
                if (rlast) read_head <= read_head + 1;
            end
        end
    end

    // ---- writes ----------------------------------------------------------------------------------
    burst_t write_queue[QUEUE];
    slot_t write_head, write_tail;
    stall_t aw_wait, aw_stall;
    cycle_t w_wait, w_delay;
    logic [7:0] w_beat;
    logic response_id[QUEUE];
    cycle_t response_ready[QUEUE];
    slot_t response_head, response_tail;
    cycle_t b_free;  // the cycle after the last B handshake

    wire write_open = write_head != write_tail;
    wire burst_t write_burst = write_queue[write_head];
    wire w_final = w_beat == write_burst.len;

    assign awready = aw_wait >= aw_stall;
    assign wready = write_open && w_wait >= w_delay;  // data that outruns its address waits for it
    wire cycle_t b_ready = EXTERNAL != 0 ? write_ready[response_head] : response_ready[response_head];
    assign bvalid = response_head != response_tail && now >= b_ready && now >= b_free;
    assign bid = response_id[response_head];
    assign bresp = 2'b00;

    logic [DATA_BITS-1:0] w_mask;
    always_comb
        for (int b = 0; b < STROBES; b++) w_mask[8*b+:8] = {8{wstrb[b]}};

    always_ff @(posedge clk) begin
        if (rst) begin
            aw_wait <= 0;
            aw_stall <= stall(AW, 0);
            aw_count <= 0;
            w_wait <= 0;
            w_delay <= 48'(stall(W, 0));
            w_count <= 0;
            w_beat <= 0;
            b_free <= 0;
            b_count <= 0;
            write_bytes <= 0;
            write_head <= 0;
            write_tail <= 0;
            response_head <= 0;
            response_tail <= 0;
        end else begin
            if (awvalid && awready) begin
                aw_wait <= 0;
                aw_stall <= stall(AW, 32'(aw_count) + 1);
                aw_count <= aw_count + 1;
                write_queue[write_tail] <= '{id: awid, address: awaddr, len: awlen};
                write_tail <= write_tail + 1;
            end else if (awvalid) begin
                aw_wait <= aw_wait + 1;
            end
            if (wvalid && wready) begin
                w_wait <= 0;
                w_delay <= later_beat(W, 32'(w_count) + 1);
                w_count <= w_count + 1;
                w_beat <= w_final ? 0 : w_beat + 1;
                write_bytes <= write_bytes + 48'($countones(wstrb));
                if (w_final) begin
                    write_head <= write_head + 1;
                    response_id[response_tail] <= write_burst.id;
                    response_ready[response_tail] <= now + 48'(write_latency);
                    response_tail <= response_tail + 1;
                end
            end else if (wvalid && write_open) begin
                w_wait <= w_wait + 1;
            end
            if (bvalid && bready) begin
                b_free <= now + 1;
                b_count <= b_count + 1;
                response_head <= response_head + 1;
            end
        end
    end

    // ---- contents --------------------------------------------------------------------------------
    localparam int INDEX = $clog2(MEM_WORDS);

    function automatic logic [INDEX-1:0] word(input logic [31:0] address, input logic [7:0] beat);
        return INDEX'((address >> SHIFT) + 32'(beat));
    endfunction

    logic load_before, dump_before;
    always @(posedge clk) begin
        now <= rst ? 0 : now + 1;
        load_before <= load;
        dump_before <= dump;
        if (load && !load_before) $readmemh($sformatf("image_%0d.hex", load_index), mem);
        if (dump && !dump_before)
            $writememh($sformatf("dump_%0d.hex", dump_index), mem, dump_first, dump_last);
        if (!rst && wvalid && wready)
            mem[word(write_burst.address, w_beat)] <=
                (mem[word(write_burst.address, w_beat)] & ~w_mask) | (wdata & w_mask);
    end

    // ---- rules of AXI4 ---------------------------------------------------------------------------
    wire [45:0] ar_payload = {arid, araddr, arlen, arsize, arburst};
    wire [45:0] aw_payload = {awid, awaddr, awlen, awsize, awburst};
    logic ar_held, aw_held, w_held;  // the cycle before had valid without ready
    logic [45:0] ar_before, aw_before;
    logic [DATA_BITS+STROBES:0] w_before;

    task automatic fault(input string what);
        $display("axi_memory: cycle %0d: %s", now, what);
        protocol_error <= 1;
    endtask

    task automatic check_burst(
        input string channel, input logic [31:0] address, input logic [7:0] len,
        input logic [2:0] size, input logic [1:0] kind
    );
        logic [31:0] last;
        last = (address & ~32'(STROBES - 1)) + 32'(len) * 32'(STROBES);
        if (size != 3'(SHIFT))
            fault($sformatf("%s: size %0d is not the bus width's %0d", channel, size, SHIFT));
        if (kind != INCR) fault($sformatf("%s: burst type %0d is not INCR", channel, kind));
        if (address[31:12] != last[31:12])
            fault($sformatf("%s: %0d beats from 0x%08x cross a 4 KiB boundary",
                channel, 32'(len) + 1, address));
        if ((last >> SHIFT) >= 32'(MEM_WORDS))
            fault($sformatf("%s: 0x%08x lies beyond the memory's %0d words",
                channel, last, MEM_WORDS));
    endtask

    always_ff @(posedge clk) begin
        if (rst) begin
            ar_held <= 0;
            aw_held <= 0;
            w_held <= 0;
            protocol_error <= 0;
        end else begin
            ar_held <= arvalid && !arready;
            aw_held <= awvalid && !awready;
            w_held <= wvalid && !wready;
            ar_before <= ar_payload;
            aw_before <= aw_payload;
            w_before <= {wlast, wstrb, wdata};

            if (ar_held && !arvalid) fault("AR: valid fell before ready");
            else if (ar_held && ar_before != ar_payload) fault("AR: payload changed while waiting");
            if (aw_held && !awvalid) fault("AW: valid fell before ready");
            else if (aw_held && aw_before != aw_payload) fault("AW: payload changed while waiting");
            if (w_held && !wvalid) fault("W: valid fell before ready");
            else if (w_held && w_before != {wlast, wstrb, wdata})
                fault("W: payload changed while waiting");

            if (arvalid && arready) begin
                check_burst("AR", araddr, arlen, arsize, arburst);
                if (slot_t'(read_tail + 8'd1) == read_head) fault("AR: too many bursts in flight");
            end
            if (awvalid && awready) begin
                check_burst("AW", awaddr, awlen, awsize, awburst);
                if (slot_t'(write_tail + 8'd1) == write_head
                    || slot_t'(write_tail + 8'd1) == response_head)
                    fault("AW: too many bursts in flight");
            end
            if (wvalid && wready) begin
                if (wlast && !w_final) fault("W: last comes too early");
                if (!wlast && w_final) fault("W: last is missing");
                if (w_beat == 0
                    && (wstrb & ~({STROBES{1'b1}} << write_burst.address[SHIFT-1:0])) != 0)
                    fault("W: strobes below the burst's first byte");
            end
        end
    end
endmodule
