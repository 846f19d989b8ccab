// Signed 8 × 8 product, operands and product registered: what every vendor's bw_multiply8 must do.
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
