"""PufferLib's PPO (`PuffeRL` of pufferlib-core) on mappo's batched spread, for `run.py`.

Actor and critic read an agent's own observation. The dashboard is off. Needs mappo's sources for the environment.
"""

import json
import sys
import tempfile
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from protocol import Turns
from pufferlib.pufferl import PuffeRL
from torch import Tensor, nn

from mappo.envs.batched.spread import Spread

AGENTS = 3


class Games:
    """The environments in the words of PufferLib: one row for each agent, all rows in one batch."""

    def __init__(self, envs: int) -> None:
        self.spread = Spread(envs, AGENTS)
        self.num_agents = self.agents_per_batch = envs * AGENTS
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (6 * AGENTS,), np.float32)
        self.single_action_space = spaces.Discrete(5)
        self.action_space = spaces.MultiDiscrete([5] * self.num_agents)
        self.driver_env = self
        self.rows = np.arange(self.num_agents)
        self.mask = np.ones(self.num_agents, bool)
        self.total = 0.0

    def async_reset(self, seed: int) -> None:
        """Begin the episodes."""
        self.step = self.spread.reset(seed)

    def recv(self) -> tuple[Any, ...]:
        """Return the present step of all rows; an end by the time limit is a truncation."""
        step = self.step
        self.total += float(step.reward.sum())
        obs, reward = step.obs.flatten(0, 1), step.reward.flatten().float()
        terminal = torch.zeros(self.num_agents)
        truncated = step.ended.repeat_interleave(AGENTS).numpy()
        return obs, reward, terminal, truncated, None, (), self.rows, self.mask

    def send(self, action: np.ndarray) -> None:
        """Step all environments."""
        self.step = self.spread.step(torch.as_tensor(action).view(-1, AGENTS, 1))


class Policy(nn.Module):
    """Actor and critic, two networks of the same hidden layers."""

    def __init__(self, hidden: list[int]) -> None:
        super().__init__()
        self.actor, self.critic = self._network(hidden, 5, 0.01), self._network(hidden, 1, 1.0)

    def _network(self, hidden: list[int], outputs: int, gain: float) -> nn.Sequential:
        layers: list[nn.Module] = []
        size = 6 * AGENTS
        for width in hidden:
            layers += [nn.Linear(size, width), nn.ReLU()]
            size = width
        head = nn.Linear(size, outputs)
        nn.init.orthogonal_(head.weight, gain)
        return nn.Sequential(*layers, head)

    def forward(self, obs: Tensor, state: Any = None) -> tuple[Tensor, Tensor]:
        """Return logits and values."""
        return self.actor(obs), self.critic(obs)

    forward_eval = forward


def trainer_config(config: dict[str, Any], seed: int, folder: str) -> dict[str, Any]:
    """Return PufferLib's settings, from those of mappo's Config."""
    ppo = config["ppo"]
    rows = config["env"]["num_envs"] * AGENTS * ppo["rollout_length"]
    return {
        "seed": seed,
        "device": "cpu",
        "torch_deterministic": False,
        "cpu_offload": False,
        "use_rnn": False,
        "compile": False,
        "precision": "float32",
        "optimizer": "adam",
        "learning_rate": ppo["actor_lr"],
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_eps": ppo["adam_eps"],
        "anneal_lr": False,
        "batch_size": rows,
        "bptt_horizon": ppo["rollout_length"],
        "minibatch_size": rows // ppo["minibatches"],
        "max_minibatch_size": rows,
        "update_epochs": ppo["epochs"],
        "total_timesteps": 10**9,
        "gamma": ppo["gamma"],
        "gae_lambda": ppo["gae_lambda"],
        "clip_coef": ppo["clip_ratio"],
        "vf_clip_coef": ppo["value_clip"],
        "vf_coef": ppo["value_weight"],
        "ent_coef": ppo["entropy_weight"],
        "max_grad_norm": ppo["max_grad_norm"],
        "prio_alpha": 0.0,
        "prio_beta0": 1.0,
        "vtrace_rho_clip": 1.0,
        "vtrace_c_clip": 1.0,
        "checkpoint_interval": 10**9,
        "data_dir": folder,
        "env": "spread",
    }


def main() -> None:
    """Train as `run.py` requests it."""
    given = json.loads(sys.argv[1])
    turns = Turns(given["burn_in"], ("pufferlib-core", "torch"))
    torch.set_num_threads(1)
    torch.manual_seed(given["seed"])
    PuffeRL.print_dashboard = lambda *_, **__: None  # pyright: ignore
    config = given["config"]
    games = Games(config["env"]["num_envs"])
    with tempfile.TemporaryDirectory() as folder:
        settings = trainer_config(config, given["seed"], folder)
        trainer = PuffeRL(settings, games, Policy(config["network"]["hidden"]))

        def update() -> float:
            games.total = 0.0
            trainer.evaluate()
            trainer.train()
            return games.total / config["env"]["num_envs"]

        turns.serve(update)


if __name__ == "__main__":
    main()
