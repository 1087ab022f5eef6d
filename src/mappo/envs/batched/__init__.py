"""Games batched in torch."""
