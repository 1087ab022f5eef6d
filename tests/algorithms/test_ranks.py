"""Law 8: several processes compute what one process computes over the union of their environments."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

import rank_cases
from mappo.backend.ranks import ALONE
from paths import TESTS
from processes import results, start
from rank_cases import CASES, FAST, UPDATES


@pytest.fixture(autouse=True)
def default_dtype():
    yield
    torch.set_default_dtype(torch.float32)


def compare(folder: Path, names: list[str], size: int, dtype: torch.dtype, tolerance: float) -> None:
    program = str(TESTS / "support" / "rank_cases.py")
    processes = start([program, str(folder), str(dtype).removeprefix("torch."), *names], size)
    for code, out, err in results(processes):
        assert code == 0, out + err
    for name in names:
        expected = rank_cases.train(name, list(range(size)), size, ALONE, dtype)
        first = load_file(folder / f"{name}-0")
        assert len(first) == len(expected) > 30 * UPDATES
        assert any(key.endswith("exp_avg_sq") for key in first)
        for key, x in expected.items():
            assert_close(first[key], x, rtol=tolerance, atol=tolerance, equal_nan=True, msg=f"{name} {key}")
        for rank in range(1, size):
            other = load_file(folder / f"{name}-{rank}")
            for key, x in first.items():  # the same bits in all processes
                assert torch.equal(other[key].nan_to_num(), x.nan_to_num()), (name, key)


def test_two_processes_compute_what_one_computes(tmp_path: Path):
    compare(tmp_path, FAST, 2, torch.float64, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_all_cases(tmp_path: Path, size: int, dtype: torch.dtype, tolerance: float):
    compare(tmp_path, list(CASES), size, dtype, tolerance)
