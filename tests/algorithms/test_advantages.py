"""The metrics of the values, against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from mappo.algorithms.advantages import value_metrics


@given(st.integers(0, 2**32 - 1))
def test_mean_value_and_explained_variance_equal_numpy(seed: int):
    rng = np.random.default_rng(seed)
    value, returns = rng.normal(3.0, 2.0, (2, 4, 5))
    weight = rng.random((4, 5)) * (rng.random((4, 5)) < 0.7) + 0.01
    tensors = [torch.from_numpy(x) for x in (value, returns - value, returns, weight)]
    found = value_metrics(*tensors, lambda sums: sums)

    def variance(x: np.ndarray) -> float:
        return float(np.average((x - np.average(x, weights=weight)) ** 2, weights=weight))

    expected = {
        "value": np.average(value, weights=weight),
        "explained_variance": 1 - variance(returns - value) / variance(returns),
    }
    assert {name: x.item() for name, x in found.items()} == {
        name: pytest.approx(x, rel=1e-9, abs=1e-9) for name, x in expected.items()
    }


def test_values_equal_to_the_returns_explain_all_and_constant_values_nothing():
    returns = torch.randn(4, 5, dtype=torch.float64)
    weight = torch.ones_like(returns)
    for value, explained in ((returns, 1.0), (torch.full_like(returns, 7.0), 0.0)):
        found = value_metrics(value, returns - value, returns, weight, lambda sums: sums)
        assert found["explained_variance"].item() == pytest.approx(explained)
