"""Pure functions of tensors: returns, losses, weighted means, distributions. Imports torch alone."""
