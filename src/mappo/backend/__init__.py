"""Computation of tensors: matrix products and CUDA graphs."""
