// The leaf cells of behavioural.v in LUT6s and carry chains (7 series; UltraScale takes CARRY4 as half a CARRY8).

// Signed 8 × 8 product in one DSP48 with its own registers, which synthesis infers from this.
module bw_multiply8 (
    input  wire               clk,
    input  wire               rst,
    input  wire signed [7:0]  a,
    input  wire signed [7:0]  b,
    output reg  signed [15:0] p
);
    reg signed [7:0] held_a, held_b;
    always @(posedge clk)
        if (rst) begin
            held_a <= 8'sd0;
            held_b <= 8'sd0;
            p <= 16'sd0;
        end else begin
            held_a <= a;
            held_b <= b;
            p <= held_a * held_b;
        end
endmodule

// Two LUT6s: parity and majority of three differences.
module bw_differ3 (
    input  wire [2:0] a,
    input  wire [2:0] b,
    output wire [1:0] s
);
    LUT6 #(.INIT(64'h6996966996696996)) parity (
        .O(s[0]), .I0(a[0]), .I1(a[1]), .I2(a[2]), .I3(b[0]), .I4(b[1]), .I5(b[2])
    );
    LUT6 #(.INIT(64'h172B4D8E71B2D4E8)) majority (
        .O(s[1]), .I0(a[0]), .I1(a[1]), .I2(a[2]), .I3(b[0]), .I4(b[1]), .I5(b[2])
    );
endmodule

// One LUT6 with both outputs.
module bw_trit (
    input  wire [1:0] a,
    input  wire [1:0] b,
    output wire [1:0] x
);
    LUT6_2 #(.INIT(64'h80208020DF7FDF7F)) lane (
        .O6(x[1]), .O5(x[0]), .I0(a[0]), .I1(a[1]), .I2(b[0]), .I3(b[1]), .I4(1'b0), .I5(1'b1)
    );
endmodule

// Two LUT6s and two places of a carry chain. With y = x[0] + … + x[4]: the first place adds y's parity, x[5] and
// x[6]; the second holds y / 2, which is 1 (pass the carry on) or 2 (give a carry).
module bw_count7 (
    input  wire [6:0] x,
    output wire [2:0] s
);
    wire parity, pass, give;
    wire [3:0] sum, carry;
    LUT6 #(.INIT(64'h6996966996696996)) low (
        .O(parity), .I0(x[0]), .I1(x[1]), .I2(x[2]), .I3(x[3]), .I4(x[4]), .I5(x[5])
    );
    LUT6_2 #(.INIT(64'h177E7EE8E8808000)) high (
        .O6(pass), .O5(give), .I0(x[0]), .I1(x[1]), .I2(x[2]), .I3(x[3]), .I4(x[4]), .I5(1'b1)
    );
    CARRY4 chain (
        .CI(1'b0), .CYINIT(x[6]), .S({2'b00, pass, parity}), .DI({2'b00, give, x[5]}), .O(sum), .CO(carry)
    );
    assign s = {carry[1], sum[1:0]};
endmodule

// One LUT a place.
module bw_row #(
    parameter WIDTH = 1
) (
    input  wire [WIDTH-1:0] a,
    input  wire [WIDTH-1:0] b,
    input  wire             carry,
    output wire [WIDTH:0]   s
);
    localparam FOURS = (WIDTH + 3) / 4;
    wire [4*FOURS-1:0] give = a, differ, sum, out;
    assign differ = a ^ b;
    genvar i;
    generate
        for (i = 0; i < FOURS; i = i + 1) begin : four
            if (i == 0)
                CARRY4 chain (
                    .CI(1'b0), .CYINIT(carry), .S(differ[3:0]), .DI(give[3:0]), .O(sum[3:0]), .CO(out[3:0])
                );
            else
                CARRY4 chain (
                    .CI(out[4*i-1]), .CYINIT(1'b0), .S(differ[4*i+:4]), .DI(give[4*i+:4]), .O(sum[4*i+:4]),
                    .CO(out[4*i+:4])
                );
        end
    endgenerate
    assign s = {out[WIDTH-1], sum[WIDTH-1:0]};
endmodule
