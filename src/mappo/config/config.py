"""The settings of a whole run, and what derives from them. Imports no torch."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, cast

from mappo.config.bounds import nearest_divisor
from mappo.config.settings import EnvConfig, NetworkConfig, PPOConfig, RunConfig
from mappo.errors import UserError

__all__ = ["Config", "EnvConfig", "NetworkConfig", "PPOConfig", "RunConfig"]


@dataclass(frozen=True)
class Config:
    """A whole run. Never changed after it is made: `dataclasses.replace` makes another."""

    env: EnvConfig = field(default_factory=EnvConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        chunks = self.ppo.rollout_length // (self.chunk_length or 1)
        rows = chunks * self.env.num_envs
        if rows % self.ppo.minibatches:
            kind = "ppo.rollout-length" if self.chunk_length is None else f"chunks of {self.chunk_length} steps"
            raise UserError(
                f"ppo.minibatches {self.ppo.minibatches} does not divide {kind} x env.num-envs = "
                f"{chunks} x {self.env.num_envs} = {rows}; "
                f"nearest that does: {nearest_divisor(rows, self.ppo.minibatches)}"
            )
        if (
            self.network.memory_size
            and self.chunk_length == 1
            and self.ppo.chunk_length is None
            and self.ppo.rollout_length > 1
        ):
            raise UserError(
                f"ppo.rollout-length {self.ppo.rollout_length} has no divisor up to 10 for the chunks "
                f"that a memory learns through: choose another, or ppo.chunk-length {self.ppo.rollout_length}"
            )
        if self.env.reward == "agent" and self.network.critic_input in ("env", "joint"):
            raise UserError(
                f"env.reward agent needs a critic row for each agent, but network.critic-input "
                f"{self.network.critic_input} has one for the team: use auto, agent or own"
            )

    @property
    def chunk_length(self) -> int | None:
        """Steps that stay together in the minibatches (L); None for single ones."""
        if self.network.memory_size == 0 and self.ppo.minibatch_by == "sample":
            return None
        return self.ppo.chunk_length or nearest_divisor(self.ppo.rollout_length, 10)

    @property
    def allows_graphs(self) -> bool:
        """Whether updates may be recorded: the KL would have to be asked for after each epoch."""
        return self.run.graphs and self.ppo.target_kl is None

    @property
    def steps_per_update(self) -> int:
        return self.ppo.rollout_length * self.env.num_envs

    @property
    def num_updates(self) -> int:
        return -(-self.run.total_steps // self.steps_per_update)

    def schedule(self, updates: int) -> dict[str, float]:
        """The learning rates and the entropy weight of the next update, after so many."""
        ppo, progress = self.ppo, min(updates / self.num_updates, 1.0)
        rate, entropy = (1 + (final - 1) * progress for final in (ppo.lr_final, ppo.entropy_final))
        weight = ppo.entropy_weight * entropy
        return {"actor_lr": ppo.actor_lr * rate, "critic_lr": ppo.critic_lr * rate, "entropy_weight": weight}

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any], base: "Config | None" = None) -> "Config":
        """The inverse of `to_dict`; what is missing stays as in `base`. UserError names what is unknown."""
        config = Config() if base is None else base
        sections: dict[str, Any] = {}
        for section, values in data.items():
            if section not in (f.name for f in dataclasses.fields(config)):
                raise UserError(f"unknown section {section!r}; there are: env, network, ppo, run")
            old = getattr(config, section)
            if not isinstance(values, dict):
                raise UserError(f"section {section!r} must be an object of options, got {values!r}")
            known = [f.name for f in dataclasses.fields(old)]
            for name in cast(dict[str, Any], values):
                if name not in known:
                    raise UserError(f"unknown option {section}.{name}; there are: {', '.join(known)}")
            sections[section] = dataclasses.replace(old, **values)
        return dataclasses.replace(config, **sections)
