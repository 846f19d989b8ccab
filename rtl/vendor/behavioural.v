// Signed 8 × 8 product, registered once: what every vendor's bw_multiply8 must do.
module bw_multiply8 (
    input  wire               clk,
    input  wire               rst,
    input  wire signed [7:0]  a,
    input  wire signed [7:0]  b,
    output reg  signed [15:0] p
);
    always @(posedge clk)
        if (rst) p <= 16'sd0;
        else p <= a * b;
endmodule
