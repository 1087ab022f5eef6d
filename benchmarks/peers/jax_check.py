"""Compare `jax_spread.py` with mpe2, step by step in float64: `FOLDER/jax/bin/python benchmarks/peers/jax_check.py`."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import jax_spread as spread
import numpy as np
from jax import Array
from mpe2 import simple_spread_v3

TOLERANCE = 1e-6


@jax.enable_x64(True)
def largest_difference(seed: int, squeeze: float) -> tuple[float, float]:
    """Play an episode of random actions in both.

    Args:
        seed: seed of the episode and of its actions.
        squeeze: factor on all positions at the start; a small factor makes agents collide.

    Returns:
        The largest difference of rewards and observations, and the sum of the agents' penalties for collisions.
    """
    env: Any = simple_spread_v3.parallel_env()
    env.reset(seed=seed)
    world = env.unwrapped.world
    for entity in world.entities:
        entity.state.p_pos = entity.state.p_pos * squeeze
    places = np.stack([entity.state.p_pos for entity in world.entities]).T[..., None]  # (2, agents and landmarks, 1)
    count = spread.AGENTS
    state = spread.State(jnp.asarray(places[:, :count]), jnp.zeros((2, count, 1)), jnp.asarray(places[:, count:]))
    rng = np.random.default_rng(seed)
    largest, penalties = 0.0, 0.0
    for _ in range(spread.HORIZON):
        action = rng.integers(spread.ACTIONS, size=count)
        obs, reward, _, _, _ = env.step(dict(zip(env.agents, action, strict=True)))
        state, rewards = spread.step(state, jnp.asarray(action)[:, None])
        theirs = np.array(list(reward.values()))
        seen = np.stack(list(obs.values())).astype(np.float64)  # mpe2 rounds observations to float32
        largest = max(largest, _difference(rewards[:, 0], theirs), _difference(spread.observe(state)[0], seen))
        penalties += float(theirs.max() * count - theirs.sum())
    return largest, penalties


def _difference(ours: Array, theirs: np.ndarray) -> float:
    return float(np.abs(np.asarray(ours) - theirs).max())


def main() -> int:
    """Compare 20 episodes, half of them crowded; 1 if they differ."""
    cases = [largest_difference(seed, 0.15 if seed % 2 else 1.0) for seed in range(20)]
    largest, penalties = max(case[0] for case in cases), sum(case[1] for case in cases)
    print(f"largest difference {largest:.1e}, {penalties:.0f} in penalties")
    return int(largest > TOLERANCE or penalties == 0)


if __name__ == "__main__":
    sys.exit(main())
