"""An environment of your own, from nothing to a trained team: `python examples/custom_env.py`.

From the command line the same: `cd examples`, then `mappo check custom_env:Corridor` and
`mappo train custom_env:Corridor`.
"""

import numpy as np
from gymnasium import spaces

import mappo
from mappo.config import Config, EnvConfig, PPOConfig, RunConfig


class Corridor:
    """Two agents on a line of 9 cells want to meet. Each observes its place and the way to the other agent."""

    possible_agents = ("left", "right")

    def __init__(self, horizon: int = 12) -> None:
        self.horizon, self.agents = horizon, []

    def observation_space(self, agent: str) -> spaces.Box:
        return spaces.Box(-1, 1, (2,), np.float32)

    def action_space(self, agent: str) -> spaces.Discrete:
        return spaces.Discrete(3)  # left, stay, right

    def reset(self, seed: int | None = None, options: object = None):
        self.rng = np.random.default_rng(seed)
        self.agents, self.clock = list(self.possible_agents), 0
        self.place = dict(zip(self.agents, self.rng.permutation(9)[:2].tolist(), strict=True))
        return self.observe(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, int]):
        self.clock += 1
        for agent, action in actions.items():
            self.place[agent] = min(max(self.place[agent] + action - 1, 0), 8)
        met = self.place["left"] == self.place["right"]
        late = self.clock == self.horizon and not met  # a time limit is a truncation: what was reached still counts
        every, obs = list(actions), self.observe()
        self.agents = [] if met or late else self.agents
        reward = dict.fromkeys(every, 1.0 if met else -0.1)
        return obs, reward, dict.fromkeys(every, met), dict.fromkeys(every, late), {a: {} for a in every}

    def observe(self) -> dict[str, np.ndarray]:
        a, b = self.place["left"], self.place["right"]
        return {"left": np.array([a - 4, b - a], np.float32) / 8, "right": np.array([b - 4, a - b], np.float32) / 8}


if __name__ == "__main__":
    config = Config(
        env=EnvConfig(num_envs=32),
        ppo=PPOConfig(rollout_length=24, epochs=5, minibatches=4, gamma=0.9, actor_lr=2e-3, critic_lr=2e-3),
        run=RunConfig(total_steps=60_000, eval_interval=20_000, eval_episodes=64),
    )
    run = mappo.train(Corridor, config)
    print(run.evaluate(env=Corridor)["return_sum"])
