"""Environments batched in torch: all E episodes advance by tensor operations, on CPU or GPU."""
