// The core and its memory. Whoever drives `clk`, cocotb or plain C++, sees the ports below and no more.
module bench #(
    parameter int DATA_BITS = 64,
    parameter int MEM_WORDS = 1 << 20,
    parameter int EXTERNAL = 0
) (
    input  wire         clk,
    input  wire         rst,
    output wire         done,
    // The core's registers, AXI4-Lite.
    input  wire         ctrl_awvalid,
    output wire         ctrl_awready,
    input  wire [7:0]   ctrl_awaddr,
    input  wire         ctrl_wvalid,
    output wire         ctrl_wready,
    input  wire [31:0]  ctrl_wdata,
    input  wire [3:0]   ctrl_wstrb,
    output wire         ctrl_bvalid,
    input  wire         ctrl_bready,
    output wire [1:0]   ctrl_bresp,
    input  wire         ctrl_arvalid,
    output wire         ctrl_arready,
    input  wire [7:0]   ctrl_araddr,
    output wire         ctrl_rvalid,
    input  wire         ctrl_rready,
    output wire [31:0]  ctrl_rdata,
    output wire [1:0]   ctrl_rresp,
    // The memory's timing, files and counters: see axi_memory.sv.
    input  wire [11:0]  read_latency,
    input  wire [11:0]  write_latency,
    input  wire [7:0]   beat_interval,
    input  wire [7:0]   stall_rate,
    input  wire [7:0]   stall_mask,
    input  wire [31:0]  seed,
    input  wire         load,
    input  wire [31:0]  load_index,
    input  wire         dump,
    input  wire [31:0]  dump_index,
    input  wire [31:0]  dump_first,
    input  wire [31:0]  dump_last,
    output wire [47:0]  ar_count,
    output wire [47:0]  r_count,
    output wire [47:0]  aw_count,
    output wire [47:0]  w_count,
    output wire [47:0]  b_count,
    output wire [47:0]  write_bytes,
    output wire         protocol_error,
    // Cycles from the write that sets CONTROL.start to the last B handshake, as seen from outside.
    output logic [47:0] port_cycles
);
    wire                   awid, awvalid, awready, wlast, wvalid, wready, bid, bvalid, bready;
    wire [31:0]            awaddr;
    wire [7:0]             awlen;
    wire [2:0]             awsize;
    wire [1:0]             awburst, bresp;
    wire [DATA_BITS-1:0]   wdata;
    wire [DATA_BITS/8-1:0] wstrb;
    wire                   arid, arvalid, arready, rid, rlast, rvalid, rready;
    wire [31:0]            araddr;
    wire [7:0]             arlen;
    wire [2:0]             arsize;
    wire [1:0]             arburst, rresp;
    wire [DATA_BITS-1:0]   rdata;

    bitwright_core core (
        .clk,
        .rst,
        .done,
        .ctrl_awvalid,
        .ctrl_awready,
        .ctrl_awaddr,
        .ctrl_wvalid,
        .ctrl_wready,
        .ctrl_wdata,
        .ctrl_wstrb,
        .ctrl_bvalid,
        .ctrl_bready,
        .ctrl_bresp,
        .ctrl_arvalid,
        .ctrl_arready,
        .ctrl_araddr,
        .ctrl_rvalid,
        .ctrl_rready,
        .ctrl_rdata,
        .ctrl_rresp,
        .m_axi_awid(awid),
        .m_axi_awaddr(awaddr),
        .m_axi_awlen(awlen),
        .m_axi_awsize(awsize),
        .m_axi_awburst(awburst),
        .m_axi_awvalid(awvalid),
        .m_axi_awready(awready),
        .m_axi_wdata(wdata),
        .m_axi_wstrb(wstrb),
        .m_axi_wlast(wlast),
        .m_axi_wvalid(wvalid),
        .m_axi_wready(wready),
        .m_axi_bid(bid),
        .m_axi_bresp(bresp),
        .m_axi_bvalid(bvalid),
        .m_axi_bready(bready),
        .m_axi_arid(arid),
        .m_axi_araddr(araddr),
        .m_axi_arlen(arlen),
        .m_axi_arsize(arsize),
        .m_axi_arburst(arburst),
        .m_axi_arvalid(arvalid),
        .m_axi_arready(arready),
        .m_axi_rid(rid),
        .m_axi_rdata(rdata),
        .m_axi_rresp(rresp),
        .m_axi_rlast(rlast),
        .m_axi_rvalid(rvalid),
        .m_axi_rready(rready)
    );

    axi_memory #(
        .DATA_BITS(DATA_BITS),
        .MEM_WORDS(MEM_WORDS),
        .EXTERNAL(EXTERNAL)
    ) memory (
        .*
    );

    // The core counts its own cycles; this count knows only the ports.
    logic [47:0] since_start;
    wire start = ctrl_awvalid && ctrl_awready && ctrl_wvalid && ctrl_wready
        && ctrl_awaddr == 8'h00 && ctrl_wdata[0];
    always_ff @(posedge clk) begin
        if (rst) begin
            since_start <= 0;
            port_cycles <= 0;
        end else begin
            since_start <= start ? 1 : since_start + 1;
            if (bvalid && bready) port_cycles <= since_start;
        end
    end
endmodule
