"""Kernels of sepnet: arrays in, arrays out, no class of the floors above."""
