"""MAPPO: advantages, epochs, minibatches, one gradient step. No environment, no files.

Yu et al. 2022, "The Surprising Effectiveness of PPO in Cooperative Multi-Agent Games", arXiv:2103.01955.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from mappo.algorithms.advantages import advantages
from mappo.algorithms.critic import Critic, final_memory
from mappo.algorithms.critic_input import CriticInputFunction, make_critic_input
from mappo.algorithms.loss import loss
from mappo.algorithms.minibatch import Batch, to_chunks
from mappo.algorithms.optimizer import load_moments, make_optimizer, moments_by_name, set_learning_rates
from mappo.backend.cuda_graphs import GraphedUpdate, supports_cuda_graphs
from mappo.config import Config
from mappo.core.spec import Spec
from mappo.core.state_dict import flatten, subdict
from mappo.core.timestep import Rollout, TimeStep
from mappo.functional.distributions import sum_tensors
from mappo.functional.weighted import weighted_mean, weighted_variance
from mappo.networks.actor_critic import build_network
from mappo.policies.actor import Actor
from mappo.policies.policy import Policy

PIECE_ROWS = (
    20_000  # agents' rows in a piece: the best for layers of 64 (docs/negative-results.md), no worse for wider ones
)


class MAPPO:
    """The learner: usable in a user's own loop by `act` and `update`.

    Args:
        spec: of the environment. config: never changed.
        device: of network and rollouts. seed: of the initial weights and of the minibatches.
        critic_input: makes the critic's rows, in place of the config's choice; see `critic_input.CriticInputFunction`.

    Raises:
        UserError: the config does not fit the environment.
    """

    def __init__(
        self,
        spec: Spec,
        config: Config,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        critic_input: CriticInputFunction | None = None,
    ) -> None:
        seed, ppo = config.run.seed if seed is None else seed, config.ppo
        self.spec, self.config, self.device = spec, config, torch.device(device)
        self.critic_input = make_critic_input(spec, config, critic_input)
        self.team_rows = self.critic_input.team_rows
        self.network = build_network(spec, config, self.critic_input.shape, self.team_rows, seed).to(self.device)
        self.policy = Policy(spec, config.network, self.network.actor, self.device)
        self.critic = Critic(self.network.critic, self.critic_input, ppo)
        self.value_norm = self.critic.value_norm.to(self.device)
        self.optimizer = make_optimizer(self.network, ppo, supports_cuda_graphs(self.device) and config.allows_graphs)
        self.entropy_weight = torch.zeros_like(self.network.critic.head.weight[..., :1].flatten()[0])
        self.generator = torch.Generator(self.device)
        self.generator.manual_seed(seed)
        self.updates = 0
        self.row_axis = 0 if config.chunk_length is None else 1  # of a batch's rows, or of its chunks
        self.graphed_update = GraphedUpdate(self.device)

    def act(
        self, step: TimeStep, memory: Tensor | None = None, *, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Draws the actions of a rollout.

        Args:
            step: E environments of A agents. memory: what the last call gave, `(E, A, H)`; None at first.
            noise: uniform in [0, 1), `(E, A, D)`; drawn here if missing.

        Returns:
            Actions `(E, A, D)`, which the rollout keeps (`env_action` makes what the environment is sent), their
            log-probabilities `(E, A)`, and the memory.
        """
        if noise is None:
            shape = (*step.active.shape, self.spec.action_size)
            noise = torch.rand(shape, generator=self.generator, device=self.device)
        action, log_prob, memory = self.policy(
            step.obs, memory, mask=step.mask, is_first=step.is_first, active=step.active, noise=noise
        )
        return action, cast(Tensor, log_prob), memory

    def new_memory(self, num_envs: int) -> tuple[Tensor | None, Tensor | None]:
        """The memories that episodes begin with: of the actors `(E, A, H)`, and of the critic; None for none."""
        width, agents, like = self.config.network.memory_size, self.spec.num_agents, self.network.critic.head.weight
        if not width:
            return None, None
        rows = (num_envs,) if self.team_rows else (num_envs, agents)
        return like.new_zeros(num_envs, agents, width).detach(), like.new_zeros(*rows, width).detach()

    def env_action(self, action: Tensor) -> Tensor:
        """What the environment is sent: numbers within their bounds; choices as they are."""
        return self.policy.distribution.to_bounds(action)

    def actor(self, sampled: bool = False) -> Actor:
        """The policy as it is now, sharing its weights."""
        generator = None
        if sampled:  # its own draws: whoever plays must not change how training goes on
            generator = torch.Generator(self.device)
            generator.manual_seed(self.updates)
        return Actor(self.policy, sampled, generator)

    def update(self, rollout: Rollout) -> dict[str, Tensor]:
        """Learns from one rollout.

        Returns:
            Scalars without gradient, means over all gradient steps; `docs/metrics.md` explains each.
        """
        now = self.set_schedule()
        orders = self.epoch_orders(rollout)
        # The KL would have to be asked for after each epoch.
        metrics, epochs = self.graphed_update(rollout, self._learn, orders, self.config.allows_graphs)
        self.updates += 1
        metrics = {name: x.clone() for name, x in metrics.items()}  # a recording's next update overwrites its own
        return metrics | {k: torch.full((), float(v), device=self.device) for k, v in {**now, "epochs": epochs}.items()}

    def _learn(self, rollout: Rollout, orders: Tensor | None = None) -> tuple[dict[str, Tensor], int]:
        """All gradient steps on a rollout, each epoch's rows dealt out in its own order; metrics, and epochs done."""
        ppo = self.config.ppo
        batch, metrics, memory = self.prepare(rollout)
        steps: list[dict[str, Tensor]] = []
        epoch = 0
        for epoch in range(ppo.epochs):
            if epoch and ppo.recompute_advantages:
                batch, _, memory = self.prepare(rollout, recompute=True)
            parts = batch.minibatches(orders[epoch], ppo.minibatches, self.row_axis) if orders is not None else [batch]
            done = [self._gradient_step(part, self.entropy_weight) for part in parts]
            steps += done
            if ppo.target_kl is not None and torch.stack([s["approx_kl"] for s in done]).mean() > ppo.target_kl:
                break
        self.finish_update(rollout, memory)
        for name in steps[0]:
            metrics[name] = torch.stack([s[name] for s in steps]).mean()
        metrics["skipped_steps"] *= len(steps)
        return metrics, epoch + 1

    def set_schedule(self) -> dict[str, float]:
        """Sets the learning rates and the entropy weight of the next update; these."""
        now = self.config.schedule(self.updates)
        set_learning_rates(self.optimizer, now["actor_lr"], now["critic_lr"])
        self.entropy_weight.fill_(now["entropy_weight"])
        return now

    def finish_update(self, rollout: Rollout, memory: Tensor | None) -> None:
        """What comes last in an update: the critic's memory goes on, and observations enter their statistics."""
        if memory is not None:
            cast(Tensor, rollout.critic_memory).copy_(memory)
        if self.network.actor.norm is not None:
            self.network.actor.norm.update(rollout.obs, rollout.active)
        self.critic.finish_update(rollout)

    @torch.no_grad()
    def prepare(self, rollout: Rollout, recompute: bool = False) -> tuple[Batch, dict[str, Tensor], Tensor | None]:
        """What the gradient steps read, some metrics, and the critic's memory behind the rollout.

        The value statistics move once, after the old ones made the advantages and before the new ones make the
        targets; not if this is done `recompute`, with the critic as it is by then.
        """
        ppo, r, values = self.config.ppo, rollout, self.critic.evaluate(rollout)
        adv, returns = advantages(r, values, self.spec, self.config, self.team_rows)
        answer, active = values.normalized_value, r.active.to(adv.dtype)
        if self.team_rows:
            value_weight = active.sum(-1)
        elif self.config.env.reward == "team":  # the team's return outlives an agent, and its row is read for it
            value_weight = torch.ones_like(active)
        else:
            value_weight = active
        unexplained, whole = (weighted_variance(x, value_weight) for x in (adv, returns))
        metrics = {"value": weighted_mean(values.value, value_weight), "explained_variance": 1 - unexplained / whole}
        if ppo.value_norm:
            if not recompute:
                answer = self.critic.update_value_norm(returns, value_weight, answer)
            returns = self.value_norm.normalize(returns)
        if ppo.advantage_norm:
            acted = active.sum(-1) if self.team_rows else active
            adv = (adv - weighted_mean(adv, acted)) / (weighted_variance(adv, acted).sqrt() + 1e-8)
        if self.team_rows:
            adv = adv.unsqueeze(-1).expand_as(r.log_prob)
        length = self.config.chunk_length
        batch = Batch(
            obs=self.network.actor.preprocess(r.obs, r.active),
            mask=self.policy.distribution.legal_choices(r.mask) if r.mask is not None else None,
            action=r.action,
            log_prob=r.log_prob,
            adv=adv,
            weight=active,
            critic_obs=values.critic_obs,
            value=answer,
            target=returns,
            value_weight=value_weight,
            is_first=r.is_first if r.memory is not None else None,
            critic_is_first=values.is_first,
        ).map(partial(to_chunks, length=length))
        if values.memory_in is None or values.memory_out is None or r.memory is None:
            return batch, metrics, None
        batch.memory = r.memory.flatten(0, 1).unsqueeze(0)
        batch.critic_memory = values.memory_in[::length].flatten(0, 1).unsqueeze(0)
        return batch, metrics, final_memory(r, values.memory_out)

    def loss(
        self, batch: Batch, entropy_weight: float | Tensor, whole: Batch | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a minibatch, or of a piece of a `whole` one, and its metrics; see `objective.loss`."""
        return loss(self.policy, self.network.critic, self.config.ppo, batch, entropy_weight, whole)

    def backward(self, batch: Batch, entropy_weight: float | Tensor) -> dict[str, Tensor]:
        """Adds the gradient of a minibatch's loss to those that the weights hold; its metrics.

        On a CPU a large one goes by in pieces, whose activations stay near: the same sums, in another order.
        """
        count = -(-batch.weight.numel() // PIECE_ROWS) if self.device.type == "cpu" else 1
        if count <= 1:
            total, metrics = self.loss(batch, entropy_weight)
            total.backward()
            return metrics
        told: list[dict[str, Tensor]] = []
        for piece in batch.pieces(count, self.row_axis):
            total, metrics = self.loss(piece, entropy_weight, batch)
            total.backward()
            told.append(metrics)
        return {name: sum_tensors([metrics[name] for metrics in told]) for name in told[0]}

    def _gradient_step(self, batch: Batch, entropy_weight: float | Tensor) -> dict[str, Tensor]:
        self.optimizer.zero_grad()
        metrics = self.backward(batch, entropy_weight)
        limit = self.config.ppo.max_grad_norm or math.inf
        for name, group in zip(("actor", "critic"), self.optimizer.param_groups, strict=True):
            metrics[f"grad_norm_{name}"] = torch.nn.utils.clip_grad_norm_(group["params"], limit)
        broken = ~(metrics["total_loss"] + metrics["grad_norm_actor"] + metrics["grad_norm_critic"]).isfinite()
        # The fused kernel then leaves weights and moments alone, without a word to the host.
        cast(Any, self.optimizer).found_inf = broken.float()
        metrics["skipped_steps"] = broken.float()
        self.optimizer.step()
        return metrics

    def epoch_orders(self, rollout: Rollout) -> tuple[Tensor, ...]:
        """An order of the rows of a batch for each epoch, `(epochs, rows)`; none where one minibatch holds them all."""
        if self.config.ppo.minibatches == 1:
            return ()
        rows = rollout.ended.numel() // (self.config.chunk_length or 1)
        orders = [
            torch.randperm(rows, generator=self.generator, device=self.device) for _ in range(self.config.ppo.epochs)
        ]
        return (torch.stack(orders),)

    def state_dict(self) -> dict[str, Tensor]:
        """All that an exact resume needs, by dotted names: `network.*`, `value_norm.*`, `optimizer.*`, ..."""
        return (
            flatten("network", self.network.state_dict())
            | flatten("value_norm", self.value_norm.state_dict())
            | flatten("optimizer", moments_by_name(self.optimizer, self.network))
            | {"generator": self.generator.get_state(), "updates": torch.tensor(self.updates)}
        )

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Sets what `state_dict` gave."""
        self.network.load_state_dict(subdict(state, "network"))
        self.value_norm.load_state_dict(subdict(state, "value_norm"))
        load_moments(self.optimizer, self.network, subdict(state, "optimizer"))
        if "generator" in state:
            self.generator.set_state(state["generator"].cpu())
        self.updates = int(state["updates"])
