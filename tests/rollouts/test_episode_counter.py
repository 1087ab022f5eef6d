"""Episodes are counted as a plain book would, whether or not their ends are known before."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st

from mappo.core.spec import ActionHeads
from mappo.envs.batched.tensor_game import spec_of
from mappo.rollouts.episode_counter import EpisodeCounter

ENVS = 3
SPEC = spec_of([1, 1], [ActionHeads((2,))] * 2)


@pytest.mark.parametrize("static_shapes", [False, True])
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.sampled_from([0.0, 0.1, 0.6]), st.integers(0, 1000))
def test_episodes_are_counted_as_a_plain_book_would(
    static_shapes: bool, lengths: list[int], share: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    counter = EpisodeCounter(SPEC, torch.zeros(ENVS, 2), static_shapes)
    book = [[0.0, 0] for _ in range(ENVS)]
    latest: list[list[float]] = [[0.0, 0.0] for _ in range(ENVS)]
    for length in lengths:
        reward = torch.randint(-9, 9, (length, ENVS, 2), generator=generator).float()
        ended = torch.rand(length, ENVS, generator=generator) < share
        expected = [[0.0, 0.0, 0.0] for _ in range(ENVS)]
        for t in range(length):
            for e in range(ENVS):
                book[e][0] += float(reward[t, e].sum())
                book[e][1] += 1
                if ended[t, e]:
                    expected[e] = [x + y for x, y in zip(expected[e], (1, *book[e]), strict=True)]
                    latest[e] = [book[e][0], 1.0]
                    book[e] = [0.0, 0]
        rollout: Any = SimpleNamespace(reward=reward, ended=ended)
        assert counter.count(rollout).tolist() == expected
        assert counter.latest.tolist() == latest
        assert counter.running_return.sum(-1).tolist() == [x for x, _ in book]
        assert counter.running_length.tolist() == [x for _, x in book]
