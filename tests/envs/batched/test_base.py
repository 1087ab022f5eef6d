"""The state of every environment that is batched in torch: where it lies, and what of it is saved."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mappo import envs
from mappo.envs.registry import NATIVE, NATIVE_FAMILIES
from mappo.policies.random_policy import RandomPolicy

NAMES = [*NATIVE, *(f"{key}/{family.examples[1]}" for key, family in NATIVE_FAMILIES.items())]


def tensors(holder: Any) -> dict[str, Tensor]:
    """All tensors of an environment by name, also those in dicts."""
    found: dict[str, Tensor] = {}
    for name, x in holder.items():
        if isinstance(x, Tensor):
            found[name] = x
        elif isinstance(x, dict):
            found |= {f"{name}.{key}": value for key, value in tensors(x).items()}
    return found


def play(env: Any, steps: int) -> None:
    policy = RandomPolicy(env.spec, 0, env.device)
    step = env.current_step()
    for _ in range(steps):
        step = env.step(policy(step.obs, mask=step.mask)[0])


@pytest.mark.parametrize("name", NAMES)
def test_nothing_moves_in_memory_so_that_a_cuda_graph_can_be_replayed(name: str):
    env: Any = envs.make(name, 6)
    before = tensors(vars(env))
    addresses = {key: x.data_ptr() for key, x in before.items()}
    env.reset(0)
    play(env, 70)  # over an end at least
    env.reset()
    env.load_state_dict(env.state_dict())
    play(env, 3)
    after = tensors(vars(env))
    assert {key: x.data_ptr() for key, x in after.items()} == addresses
    assert all(after[key] is x for key, x in before.items())


@pytest.mark.parametrize("name", NAMES)
def test_what_was_saved_stays_as_it_was(name: str):
    env: Any = envs.make(name, 6)
    env.set_num_seeds(2)
    env.reset(0)
    saved = [env.seed_env(seed).state_dict() for seed in range(2)]
    copies = [{key: x.clone() for key, x in state.items()} for state in saved]
    play(env, 30)
    for state, copy in zip(saved, copies, strict=True):
        assert all(torch.equal(x, copy[key]) for key, x in state.items())


@pytest.mark.parametrize("name", NAMES)
def test_actions_of_a_wrong_shape_are_refused(name: str):
    env: Any = envs.make(name, 2)
    agents = env.spec.num_agents
    size = env.spec.action_size
    for shape in ((2, agents), (3, agents, size), (2, agents + 1, size), (2, agents, size + 1)):
        with pytest.raises(ValueError, match=rf"{env.name}: actions must be \(2, {agents}, {size}\), got \("):
            env.step(torch.zeros(shape, dtype=env.spec.action_dtype))
