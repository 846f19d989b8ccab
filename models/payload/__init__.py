"""Weights as the very bits that lie in memory, with exact decoders: `bitwright.models.payload`."""
