"""Pure functions of tensors: returns, losses, distributions. Imports torch alone."""
