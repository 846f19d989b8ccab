"""Compressors: a trained float graph in, an integer network with encoded weights out, by passes of a recipe."""
