"""How codes lie in memory: dense, bitmap, relative index, CSC, canonical Huffman; each with its decoder."""
