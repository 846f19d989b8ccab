// What every vendor's leaf cells must do.

// Signed 8 × 8 product, operands and product registered.
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

// A carry chain that adds bits of many columns. Position i, by two bits of KINDS:
//   0 adds (a ^ b) + (c ^ d) and the carry of the position before;
//   1 gives out that carry and begins anew with a ^ b;
//   2 adds 1 + a product of ternary values {a, c} and {b, d}, and the carry.
// The first position is of kind 1; its own output is not used.
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
    wire [LENGTH:0] carry;
    assign carry[0] = 1'b0;
    genvar i;
    generate
        for (i = 0; i < LENGTH; i = i + 1) begin : position
            if (KINDS[2*i]) assign {carry[i+1], s[i]} = {a[i] ^ b[i], carry[i]};
            else if (KINDS[2*i+1])
                assign {carry[i+1], s[i]} = (c[i] & d[i] ? (a[i] ^ b[i] ? 2'd0 : 2'd2) : 2'd1) + {1'b0, carry[i]};
            else assign {carry[i+1], s[i]} = {1'b0, a[i] ^ b[i]} + {1'b0, c[i] ^ d[i]} + {1'b0, carry[i]};
        end
    endgenerate
endmodule

// How many of three pairs of bits differ.
module bw_differ3 (
    input  wire [2:0] a,
    input  wire [2:0] b,
    output wire [1:0] s
);
    wire [2:0] x = a ^ b;
    assign s = {1'b0, x[0]} + {1'b0, x[1]} + {1'b0, x[2]};
endmodule

// 1 + a product of two ternary values, as two bits of one weight.
module bw_trit (
    input  wire [1:0] a,
    input  wire [1:0] b,
    output wire [1:0] x
);
    wire nonzero = a[0] & b[0];
    wire signs_differ = a[1] ^ b[1];
    assign x = {nonzero & ~signs_differ, ~nonzero | ~signs_differ};
endmodule

// How many of seven bits are set.
module bw_count7 (
    input  wire [6:0] x,
    output wire [2:0] s
);
    assign s = ({2'd0, x[0]} + {2'd0, x[1]}) + ({2'd0, x[2]} + {2'd0, x[3]})
        + ({2'd0, x[4]} + {2'd0, x[5]}) + {2'd0, x[6]};
endmodule

// a + b + carry.
module bw_row #(
    parameter WIDTH = 1
) (
    input  wire [WIDTH-1:0] a,
    input  wire [WIDTH-1:0] b,
    input  wire             carry,
    output wire [WIDTH:0]   s
);
    assign s = {1'b0, a} + {1'b0, b} + {{WIDTH{1'b0}}, carry};
endmodule

// a + (again ? b : c).
module bw_accumulate #(
    parameter WIDTH = 1
) (
    input  wire [WIDTH-1:0] a,
    input  wire             again,
    input  wire [WIDTH-1:0] b,
    input  wire [WIDTH-1:0] c,
    output wire [WIDTH-1:0] s
);
    assign s = a + (again ? b : c);
endmodule
