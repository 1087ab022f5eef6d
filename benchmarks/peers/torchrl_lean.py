"""TorchRL's own training loop on VMAS, without what the task does not need, for `run.py`.

TorchRL's environment, modules, GAE and loss, on the whole rollout as a single minibatch. Left out: replay buffer,
collector, entropy bonus, and all critic rows of a team but one. Adam is fused.
"""

import json
import sys
from typing import Any

import torch
from protocol import Turns
from tensordict import TensorDictBase
from tensordict.nn import InteractionType, TensorDictModule, TensorDictSequential
from torch import nn
from torchrl.envs import VmasEnv
from torchrl.envs.utils import step_mdp
from torchrl.modules import MLP, NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

AGENTS = "agents"


def make_networks(env: VmasEnv, config: Any) -> tuple[ProbabilisticActor, TensorDictSequential]:
    """Return actor and critic: the actor shared by the agents, the critic of all observations side by side."""
    space = env.full_action_spec_unbatched[AGENTS, "action"].space
    shape = env.observation_spec_unbatched[AGENTS, "observation"].shape
    options = {"num_cells": list(config["network"]["hidden"]), "activation_class": nn.Tanh}
    actions = space.low.shape[-1]
    network = nn.Sequential(MLP(shape[-1], 2 * actions, **options), NormalParamExtractor())
    actor = ProbabilisticActor(
        TensorDictModule(network, [(AGENTS, "observation")], [(AGENTS, "loc"), (AGENTS, "scale")]),
        in_keys=[(AGENTS, "loc"), (AGENTS, "scale")],
        out_keys=[(AGENTS, "action")],
        distribution_class=TanhNormal,
        distribution_kwargs={"low": space.low, "high": space.high},
        default_interaction_type=InteractionType.RANDOM,  # the default is deterministic outside a collector
        return_log_prob=True,
    )
    flat = TensorDictModule(lambda x: x.flatten(-2), [(AGENTS, "observation")], ["joint"])
    critic = ValueOperator(MLP(shape.numel(), 1, **options), in_keys=["joint"])
    return actor, TensorDictSequential(flat, critic)


class Training:
    """Environment, networks, loss and optimiser of a training.

    Args:
        given: settings of mappo's Config, `task`, `options` of the task, and `seed`.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self.config, ppo = given["config"], given["config"]["ppo"]
        torch.manual_seed(given["seed"])
        envs = self.config["env"]["num_envs"]
        self.env = VmasEnv(
            scenario=given["task"], num_envs=envs, continuous_actions=True, seed=given["seed"], **given["options"]
        )
        self.actor, self.critic = make_networks(self.env, self.config)
        self.loss = ClipPPOLoss(
            self.actor,
            self.critic,
            clip_epsilon=ppo["clip_ratio"],
            entropy_bonus=False,
            loss_critic_type="l2",
            normalize_advantage=False,
        )
        self.loss.set_keys(action=(AGENTS, "action"), sample_log_prob=(AGENTS, "action_log_prob"))
        self.gae = GAE(gamma=ppo["gamma"], lmbda=ppo["gae_lambda"], value_network=self.critic, shifted=True)
        self.optimizer = torch.optim.Adam(self.loss.parameters(), ppo["actor_lr"], eps=ppo["adam_eps"], fused=True)
        self.step = self.env.reset()

    @torch.no_grad()
    def collect(self) -> TensorDictBase:
        """Return a rollout `(E, T)` with advantages; episodes go on into the next rollout."""
        steps = self.config["ppo"]["rollout_length"]
        rollout = self.env.rollout(
            steps,
            self.actor,
            auto_reset=False,
            tensordict=self.step,
            break_when_any_done=False,
        )
        self.step = self.env.maybe_reset(
            step_mdp(rollout[:, -1].clone(), keep_other=False, reward_keys=(AGENTS, "reward"))
        )
        rollout["next", "reward"] = rollout["next", AGENTS, "reward"].mean(-2)
        self.gae(rollout)
        advantage = rollout["advantage"].unsqueeze(-2)
        rollout["advantage"] = advantage.expand(*advantage.shape[:2], self.env.n_agents, 1)
        return rollout

    def update(self) -> float:
        """Run a rollout and its gradient steps; return the mean reward of a step, times the length of an episode."""
        rollout = self.collect()
        ppo = self.config["ppo"]
        for _ in range(ppo["epochs"]):
            losses = self.loss(rollout)
            self.optimizer.zero_grad()
            (losses["loss_objective"] + losses["loss_critic"]).backward()
            for network in (self.actor, self.critic):
                nn.utils.clip_grad_norm_(network.parameters(), ppo["max_grad_norm"])
            self.optimizer.step()
        return float(rollout["next", "reward"].mean()) * self.env.max_steps


def main() -> None:
    """Train as `run.py` requests it."""
    given = json.loads(sys.argv[1])
    turns = Turns(given["burn_in"], ("torchrl", "tensordict", "vmas", "torch"))
    torch.set_num_threads(1)
    turns.serve(Training(given).update)


if __name__ == "__main__":
    main()
