"""The pieces of a minibatch."""

from dataclasses import fields

import pytest
import torch

from mappo.algorithms.minibatch import Batch
from mappo.backend.matmul import IMAGES


@pytest.mark.parametrize(("rows", "count"), [(2503, 3), (25_600, 4), (16_000, 3), (5, 3), (7, 20)])
def test_pieces_are_all_there_and_can_be_convolved(rows: int, count: int):
    numbers = torch.arange(rows * 1.0)
    absent = {field.name: None for field in fields(Batch)}
    rows_of = ("log_prob", "obs", "adv", "weight", "value_weight")
    whole = Batch(**(absent | dict.fromkeys(rows_of, numbers)))  # pyright: ignore
    pieces = whole.pieces(count, 0)
    assert torch.equal(torch.cat([piece.obs for piece in pieces]), whole.obs)
    assert len(pieces) <= count
    sizes = [len(piece.adv) for piece in pieces]
    assert all(size % IMAGES == 0 for size in sizes[:-1]) or max(sizes) < IMAGES
