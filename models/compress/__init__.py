"""Compressors: from a trained float graph to an integer network with encoded weights, by passes."""
