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


@pytest.mark.parametrize(("shape", "axis"), [((12, 3), 0), ((4, 12, 3), 1)], ids=["rows", "chunks"])
@pytest.mark.parametrize("team_rows", [True, False])
def test_each_minibatch_knows_the_weight_of_its_rows_in_all_processes(
    shape: tuple[int, ...], axis: int, team_rows: bool
):
    weight = torch.rand(shape, dtype=torch.float64)
    value_weight = torch.rand(shape[:-1] if team_rows else shape, dtype=torch.float64)
    absent = {field.name: None for field in fields(Batch)}
    rows_of = {"log_prob": weight, "obs": weight, "weight": weight, "value_weight": value_weight}
    whole = Batch(**(absent | rows_of))  # pyright: ignore
    messages: list[torch.Tensor] = []

    def sum_across(sums: torch.Tensor) -> torch.Tensor:
        messages.append(sums)
        return sums + 100.0  # of other processes

    for order, count in ((torch.randperm(12), 3), (None, 1)):
        for batch in whole.minibatches(order, count, axis, sum_across):
            own = torch.stack([batch.weight.sum(), batch.value_weight.sum()])
            assert batch.weight.numel() == weight.numel() / count
            torch.testing.assert_close(batch.total_weight(), own + 100.0)
    assert [x.shape for x in messages] == [(3, 2), (1, 2)]
