"""Fast computation of tensors: matrix products, CUDA graphs."""
