// Signed 8 × 8 product, operands and product registered, in one MULT18X18D with its own registers.
// The primitive itself is trusted (Yosys has no model of it); behavioural.v is its twin.
module bw_multiply8 (
    input  wire               clk,
    input  wire               rst,
    input  wire signed [7:0]  a,
    input  wire signed [7:0]  b,
    output wire signed [15:0] p
);
    wire [35:0] product;
    wire [17:0] wide_a = {{10{a[7]}}, a};
    wire [17:0] wide_b = {{10{b[7]}}, b};

    (* keep *)
    MULT18X18D #(
        .REG_INPUTA_CLK("CLK0"), .REG_INPUTA_CE("CE0"), .REG_INPUTA_RST("RST0"),
        .REG_INPUTB_CLK("CLK0"), .REG_INPUTB_CE("CE0"), .REG_INPUTB_RST("RST0"),
        .REG_INPUTC_CLK("NONE"),
        .REG_PIPELINE_CLK("NONE"),
        .REG_OUTPUT_CLK("CLK0"), .REG_OUTPUT_CE("CE0"), .REG_OUTPUT_RST("RST0"),
        .CLK0_DIV("ENABLED"), .CLK1_DIV("DISABLED"), .CLK2_DIV("DISABLED"), .CLK3_DIV("DISABLED"),
        .SOURCEB_MODE("B_SHIFT"), .GSR("DISABLED"), .RESETMODE("SYNC"), .MULT_BYPASS("DISABLED")
    ) multiplier (
        .A0(wide_a[0]), .A1(wide_a[1]), .A2(wide_a[2]), .A3(wide_a[3]), .A4(wide_a[4]), .A5(wide_a[5]),
        .A6(wide_a[6]), .A7(wide_a[7]), .A8(wide_a[8]), .A9(wide_a[9]), .A10(wide_a[10]), .A11(wide_a[11]),
        .A12(wide_a[12]), .A13(wide_a[13]), .A14(wide_a[14]), .A15(wide_a[15]), .A16(wide_a[16]), .A17(wide_a[17]),
        .B0(wide_b[0]), .B1(wide_b[1]), .B2(wide_b[2]), .B3(wide_b[3]), .B4(wide_b[4]), .B5(wide_b[5]),
        .B6(wide_b[6]), .B7(wide_b[7]), .B8(wide_b[8]), .B9(wide_b[9]), .B10(wide_b[10]), .B11(wide_b[11]),
        .B12(wide_b[12]), .B13(wide_b[13]), .B14(wide_b[14]), .B15(wide_b[15]), .B16(wide_b[16]), .B17(wide_b[17]),
        .SIGNEDA(1'b1), .SIGNEDB(1'b1), .SOURCEA(1'b0), .SOURCEB(1'b0),
        .CLK0(clk), .CLK1(1'b0), .CLK2(1'b0), .CLK3(1'b0),
        .CE0(1'b1), .CE1(1'b1), .CE2(1'b1), .CE3(1'b1),
        .RST0(rst), .RST1(1'b0), .RST2(1'b0), .RST3(1'b0),
        .P0(product[0]), .P1(product[1]), .P2(product[2]), .P3(product[3]), .P4(product[4]), .P5(product[5]),
        .P6(product[6]), .P7(product[7]), .P8(product[8]), .P9(product[9]), .P10(product[10]), .P11(product[11]),
        .P12(product[12]), .P13(product[13]), .P14(product[14]), .P15(product[15]), .P16(product[16]), .P17(product[17]),
        .P18(product[18]), .P19(product[19]), .P20(product[20]), .P21(product[21]), .P22(product[22]), .P23(product[23]),
        .P24(product[24]), .P25(product[25]), .P26(product[26]), .P27(product[27]), .P28(product[28]), .P29(product[29]),
        .P30(product[30]), .P31(product[31]), .P32(product[32]), .P33(product[33]), .P34(product[34]), .P35(product[35])
    );
    assign p = product[15:0];
endmodule

// The chain of behavioural.v in CCU2Cs, one LUT4 a position. A CCU2C gives lut ^ carry and hands on
// lut ? carry : (its LUT with c = d = 0). So a position that begins anew has d = 1, where its LUT is 0; and a
// ternary one relies on the code 2'b10 not occurring: with c = d = 0 both values are 0.
module bw_chain #(
    parameter LENGTH = 2,
    parameter [2*LENGTH-1:0] KINDS = 0
) (
    input  wire [LENGTH-1:0] a,
    input  wire [LENGTH-1:0] b,
    input  wire [LENGTH-1:0] c,
    input  wire [LENGTH-1:0] d,
    output wire [LENGTH-1:0] s
);
    localparam PAIRS = (LENGTH + 1) / 2;
    wire [2*PAIRS-1:0] wide_a = a, wide_b = b, wide_c = c, wide_d = d, wide_s;
    wire [PAIRS:1] carry;
    assign s = wide_s[LENGTH-1:0];
    genvar i;
    generate
        for (i = 0; i < PAIRS; i = i + 1) begin : pair
            localparam [1:0] LOW = KINDS >> (4 * i);
            localparam [1:0] HIGH = 2 * i + 1 < LENGTH ? KINDS >> (4 * i + 2) : 2'd1;
            // A carry in from a constant would cost a cell of its own.
            if (i == 0)
                CCU2C #(
                    .INIT0(LOW[0] ? 16'h0006 : LOW[1] ? 16'h0FF9 : 16'h6996),
                    .INIT1(HIGH[0] ? 16'h0006 : HIGH[1] ? 16'h0FF9 : 16'h6996),
                    .INJECT1_0("NO"), .INJECT1_1("NO")
                ) first (
                    .COUT(carry[i+1]),
                    .A0(wide_a[2*i]), .B0(wide_b[2*i]), .C0(wide_c[2*i]), .D0(LOW[0] ? 1'b1 : wide_d[2*i]), .S0(wide_s[2*i]),
                    .A1(wide_a[2*i+1]), .B1(wide_b[2*i+1]), .C1(wide_c[2*i+1]), .D1(HIGH[0] ? 1'b1 : wide_d[2*i+1]),
                    .S1(wide_s[2*i+1])
                );
            else
                CCU2C #(
                    .INIT0(LOW[0] ? 16'h0006 : LOW[1] ? 16'h0FF9 : 16'h6996),
                    .INIT1(HIGH[0] ? 16'h0006 : HIGH[1] ? 16'h0FF9 : 16'h6996),
                    .INJECT1_0("NO"), .INJECT1_1("NO")
                ) cell_of_two (
                    .CIN(carry[i]), .COUT(carry[i+1]),
                    .A0(wide_a[2*i]), .B0(wide_b[2*i]), .C0(wide_c[2*i]), .D0(LOW[0] ? 1'b1 : wide_d[2*i]), .S0(wide_s[2*i]),
                    .A1(wide_a[2*i+1]), .B1(wide_b[2*i+1]), .C1(wide_c[2*i+1]), .D1(HIGH[0] ? 1'b1 : wide_d[2*i+1]),
                    .S1(wide_s[2*i+1])
                );
        end
    endgenerate
endmodule

// a + (again ? b : c) in CCU2Cs, one LUT4 a position, the first for no carry in. The LUT with c = d = 0 is a,
// which is what a position that hands on no carry generates.
module bw_accumulate #(
    parameter WIDTH = 1
) (
    input  wire [WIDTH-1:0] a,
    input  wire             again,
    input  wire [WIDTH-1:0] b,
    input  wire [WIDTH-1:0] c,
    output wire [WIDTH-1:0] s
);
    localparam PAIRS = WIDTH / 2 + 1;
    wire [2*PAIRS-1:0] wide_a = {a, 1'b0}, wide_b = {b, 1'b0}, wide_c = {c, 1'b0}, wide_s;
    wire [PAIRS:1] carry;
    assign s = wide_s[WIDTH:1];
    genvar i;
    generate
        for (i = 0; i < PAIRS; i = i + 1) begin : pair
            if (i == 0)
                CCU2C #(.INIT0(16'h0000), .INIT1(16'h596A), .INJECT1_0("NO"), .INJECT1_1("NO")) first (
                    .COUT(carry[1]), .A0(1'b0), .B0(1'b0), .C0(1'b0), .D0(1'b0), .S0(wide_s[0]),
                    .A1(wide_a[1]), .B1(again), .C1(wide_b[1]), .D1(wide_c[1]), .S1(wide_s[1])
                );
            else
                CCU2C #(.INIT0(16'h596A), .INIT1(16'h596A), .INJECT1_0("NO"), .INJECT1_1("NO")) cell_of_two (
                    .CIN(carry[i]), .COUT(carry[i+1]),
                    .A0(wide_a[2*i]), .B0(again), .C0(wide_b[2*i]), .D0(wide_c[2*i]), .S0(wide_s[2*i]),
                    .A1(wide_a[2*i+1]), .B1(again), .C1(wide_b[2*i+1]), .D1(wide_c[2*i+1]), .S1(wide_s[2*i+1])
                );
        end
    endgenerate
endmodule
