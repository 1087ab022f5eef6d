"""MAPPO: advantages, epochs, minibatches, one gradient step. No environment, no files.

Yu et al. 2022, "The Surprising Effectiveness of PPO in Cooperative Multi-Agent Games", arXiv:2103.01955.
"""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from mappo.actor import Actor
from mappo.batch import Batch
from mappo.config import Config
from mappo.critic_input import CriticInput, choose_critic_input, critic_input
from mappo.distributions import log_prob_of_heads, sample_heads
from mappo.losses import ppo_clip_loss, ppo_value_data, ppo_value_error, weighted_mean, weighted_variance
from mappo.networks import build_network, heads_of
from mappo.normalize import ValueNorm
from mappo.returns import gae, gae_data
from mappo.state import flat, part
from mappo.types import Rollout, Spec, TimeStep


class MAPPO:
    """The learner: usable in a user's own loop by `act` and `update`.

    Args:
        spec: of the environment. config: never changed.
        device: of network and rollouts. seed: of the initial weights and of the minibatches.

    Raises:
        UserError: the config does not fit the environment, or a space is not supported yet.
    """

    def __init__(self, spec: Spec, config: Config, device: torch.device | str = "cpu", seed: int | None = None) -> None:
        seed = config.run.seed if seed is None else seed
        self.spec, self.config, self.device = spec, config, torch.device(device)
        self.heads = heads_of(spec)
        self.critic_input: CriticInput = choose_critic_input(spec, config)
        self.team_rows = self.critic_input in ("env", "joint")
        self.network = build_network(spec, config, seed).to(self.device)
        self.value_norm = ValueNorm(config.ppo.value_norm_decay).to(self.device)
        self.optimizer = torch.optim.Adam(
            [
                {"params": self.network.actor_parameters(), "lr": config.ppo.actor_lr},
                {"params": self.network.critic_parameters(), "lr": config.ppo.critic_lr},
            ],
            eps=config.ppo.adam_eps,
            fused=True,
        )
        self.generator = torch.Generator(self.device)
        self.generator.manual_seed(seed)
        self.updates = 0

    @torch.no_grad()
    def act(self, step: TimeStep, memory: Any = None, *, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Any]:
        """Draws the actions of a rollout.

        Args:
            step: E environments of A agents. memory: what the last call gave, None at first.
            noise: uniform in [0, 1), `(E, A, D)`; drawn here if missing.

        Returns:
            Actions `(E, A, D)`, int64, their log-probabilities `(E, A)`, and the memory.
        """
        if noise is None:
            shape = (*step.active.shape, len(self.heads))
            noise = torch.rand(shape, generator=self.generator, device=self.device)
        logit = self.network.logit(self._seen(step.obs, step.active))
        action, log_prob = sample_heads(logit, noise, self.heads, step.mask)
        return action, log_prob, memory

    def actor(self, sampled: bool = False) -> Actor:
        """The policy as it is now, sharing its weights."""
        generator = None
        if sampled:  # its own draws: whoever plays must not change how training goes on
            generator = torch.Generator(self.device)
            generator.manual_seed(self.updates)
        return Actor(self.network.logit, self.network.obs_size, self.heads, sampled, generator)

    def update(self, rollout: Rollout) -> dict[str, Tensor]:
        """Learns from one rollout.

        Returns:
            Scalars without gradient, means over all gradient steps; `docs/metrics.md` explains each.
        """
        ppo, progress = self.config.ppo, min(self.updates / self.config.num_updates, 1.0)
        decay, entropy_weight = _line(1.0, ppo.lr_final, progress), ppo.entropy_weight
        entropy_weight *= _line(1.0, ppo.entropy_final, progress)
        for group, lr in zip(self.optimizer.param_groups, (ppo.actor_lr, ppo.critic_lr), strict=True):
            group["lr"] = lr * decay
        batch, metrics = self.prepare(rollout)
        steps = [
            self._gradient_step(part, entropy_weight) for _ in range(ppo.epochs) for part in self._minibatches(batch)
        ]
        self.updates += 1
        for name in steps[0]:
            metrics[name] = torch.stack([s[name] for s in steps]).mean()
        metrics["skipped_steps"] *= len(steps)
        schedules = {"actor_lr": ppo.actor_lr * decay, "critic_lr": ppo.critic_lr * decay}
        schedules["entropy_weight"] = entropy_weight
        return metrics | {k: torch.full((), v, device=self.device) for k, v in schedules.items()}

    @torch.no_grad()
    def prepare(self, rollout: Rollout) -> tuple[Batch, dict[str, Tensor]]:
        """Values, advantages and targets, in one batch behind the rollout; moves the value statistics once."""
        ppo, r = self.config.ppo, rollout
        critic = self._critic_input(r.obs, r.state, r.active)
        value = self._value(critic)
        reward, done, cut = self._reward_and_flags(r)
        if not self.team_rows and reward.ndim == 2:
            reward = reward.unsqueeze(-1).expand_as(value)
        adv = gae(gae_data(value, self._next_value(r, value), reward, done, cut), ppo.gamma, ppo.gae_lambda)
        returns, active = adv + value, r.active.to(value.dtype)
        if self.team_rows:
            value_weight = active.sum(-1)
        elif self.config.env.reward == "team":  # the team's return outlives an agent, and its row is read for it
            value_weight = torch.ones_like(active)
        else:
            value_weight = active
        unexplained, whole = (weighted_variance(x, value_weight) for x in (adv, returns))
        metrics = {"value": weighted_mean(value, value_weight), "explained_variance": 1 - unexplained / whole}
        if ppo.value_norm:  # after the old statistics made the advantages, before the new make the targets
            self.value_norm.update(returns, value_weight)
            value, returns = self.value_norm.normalize(value), self.value_norm.normalize(returns)
        if ppo.advantage_norm:
            acted = active.sum(-1) if self.team_rows else active
            adv = (adv - weighted_mean(adv, acted)) / (weighted_variance(adv, acted).sqrt() + 1e-8)
        if self.team_rows:
            adv = adv.unsqueeze(-1).expand_as(r.log_prob)
        rows = Batch(
            obs=self._seen(r.obs, r.active),
            mask=r.mask,
            action=r.action,
            log_prob=r.log_prob,
            adv=adv,
            weight=active,
            critic=critic,
            value=value,
            target=returns,
            value_weight=value_weight,
        )
        return rows.map(lambda x: x.flatten(0, 1)), metrics

    def loss(self, batch: Batch, entropy_weight: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one minibatch, and its metrics.

        `policy_loss + value_weight * value_loss - entropy_weight * entropy`, arXiv:2103.01955, appendix A.
        """
        ppo, network = self.config.ppo, self.network
        log_prob, entropy = log_prob_of_heads(network.logit(batch.obs), batch.action, self.heads, batch.mask)
        policy_loss, info = ppo_clip_loss(
            log_prob, batch.log_prob, batch.adv, batch.weight, ppo.clip_ratio, ppo.dual_clip
        )
        value_loss = ppo_value_error(
            ppo_value_data(network.value(batch.critic), batch.value, batch.target, batch.value_weight),
            ppo.value_clip,
            ppo.huber_delta,
        )
        entropy_loss = weighted_mean(entropy, batch.weight)
        total = policy_loss + ppo.value_weight * value_loss - entropy_weight * entropy_loss
        metrics = {
            "total_loss": total,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy_loss,
            "approx_kl": info.approx_kl,
            "clip_fraction": info.clipfrac,
        }
        return total, {name: x.detach() for name, x in metrics.items()}

    def _gradient_step(self, batch: Batch, entropy_weight: float) -> dict[str, Tensor]:
        self.optimizer.zero_grad()
        total, metrics = self.loss(batch, entropy_weight)
        total.backward()
        limit = self.config.ppo.max_grad_norm or math.inf
        for name, group in zip(("actor", "critic"), self.optimizer.param_groups, strict=True):
            metrics[f"grad_norm_{name}"] = torch.nn.utils.clip_grad_norm_(group["params"], limit)
        broken = ~(metrics["grad_norm_actor"] + metrics["grad_norm_critic"]).isfinite()
        # The fused kernel then leaves weights and moments alone, without a word to the host.
        cast(Any, self.optimizer).found_inf = broken.float()
        metrics["skipped_steps"] = broken.float()
        self.optimizer.step()
        return metrics

    def _minibatches(self, batch: Batch) -> Iterator[Batch]:
        count, rows = self.config.ppo.minibatches, batch.obs.shape[0]
        if count == 1:
            yield batch  # the order of the rows does not matter
            return
        order = torch.randperm(rows, generator=self.generator, device=self.device)
        for index in order.chunk(count):
            yield batch.map(partial(torch.index_select, dim=0, index=index))

    def _reward_and_flags(self, r: Rollout) -> tuple[Tensor, Tensor, Tensor]:
        """Reward, `done` (the bootstrap is masked) and `cut` (nothing flows back), of team or agents."""
        if self.config.env.reward == "agent":
            return r.reward, r.terminated, r.terminated | r.ended.unsqueeze(-1)
        # Of the team: the death of one does not end the return of the others.
        return self.spec.team_reward(r.reward), r.ended & r.terminated.all(-1), r.ended

    def _next_value(self, r: Rollout, value: Tensor) -> Tensor:
        """V of what each action reached, before any reset: elsewhere than at a cut, the next row's value."""
        if self.device.type == "cpu":
            needs = r.ended.clone()
            needs[-1] = True
            next_value = value.roll(-1, 0)
        else:  # all rows, so that shapes never change
            needs, next_value = torch.ones_like(r.ended), torch.empty_like(value)
        where = needs.nonzero(as_tuple=True) if self.device.type == "cpu" else (slice(None),)
        state = None if r.next_state is None else r.next_state[where]
        critic = self._critic_input(r.next_obs[where], state, r.next_active[where])
        next_value[where] = self._value(critic)
        return next_value

    def _value(self, critic: Tensor) -> Tensor:
        value = self.network.value(critic)
        return self.value_norm.denormalize(value) if self.config.ppo.value_norm else value

    def _seen(self, obs: Tensor, active: Tensor) -> Tensor:
        """Observations as the actor reads them: whatever an inactive agent sees, NaN included, reads 0."""
        return torch.where(active.unsqueeze(-1), self._number(obs), 0.0)

    def _critic_input(self, obs: Tensor, state: Tensor | None, active: Tensor) -> Tensor:
        state = None if state is None else self._number(state)
        return critic_input(self._number(obs), state, active, self.critic_input)

    def _number(self, x: Tensor) -> Tensor:
        """What an environment gives, in whatever dtype, in that of the network."""
        return x.to(self.network.value_head.weight.dtype)

    def state_dict(self) -> dict[str, Tensor]:
        """All that an exact resume needs, by dotted names: `network.*`, `value_norm.*`, `optimizer.*`, ..."""
        names = self._parameter_names()
        return (
            flat("network", self.network.state_dict())
            | flat("value_norm", self.value_norm.state_dict())
            | flat("optimizer", {names[i]: moments for i, moments in self.optimizer.state_dict()["state"].items()})
            | {"generator": self.generator.get_state(), "updates": torch.tensor(self.updates)}
        )

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Sets what `state_dict` gave."""
        self.network.load_state_dict(part(state, "network"))
        self.value_norm.load_state_dict(part(state, "value_norm"))
        optimizer = self.optimizer.state_dict()
        moments = part(state, "optimizer")
        optimizer["state"] = {i: part(moments, name) for i, name in enumerate(self._parameter_names()) if moments}
        self.optimizer.load_state_dict(optimizer)
        if "generator" in state:
            self.generator.set_state(state["generator"].cpu())
        self.updates = int(state["updates"])

    def _parameter_names(self) -> list[str]:
        """In the order of the optimizer, so that moments are saved by name and never land on another layer."""
        names = {id(p): name for name, p in self.network.named_parameters()}
        return [names[id(p)] for group in self.optimizer.param_groups for p in group["params"]]


def _line(start: float, end: float, progress: float) -> float:
    return start + (end - start) * progress
