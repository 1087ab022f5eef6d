"""How tensors are computed: matrix products, CUDA graphs."""
