"""The settings of a whole run, and the sizes derived from them. Imports no torch."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mappo.config.bounds import coerce, nearest_divisor
from mappo.config.run_settings import RunConfig
from mappo.config.settings import EnvConfig, NetworkConfig, PPOConfig
from mappo.errors import UserError, suggest
from mappo.system.safe_read import quote

__all__ = ["Config", "EnvConfig", "NetworkConfig", "PPOConfig", "RunConfig"]


def is_code(name: str) -> bool:
    """Return True for `module:function`, code of the user to import."""
    return ":" in name


@dataclass(frozen=True)
class Config:
    """All settings of a run. Immutable: `dataclasses.replace` returns a changed copy."""

    env: EnvConfig = field(default_factory=EnvConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        self._check_minibatches()
        has_own_chunks = self.ppo.chunk_length is not None or self.ppo.rollout_length == 1
        if self.network.memory_size and self.chunk_length == 1 and not has_own_chunks:
            raise UserError(
                f"ppo.rollout-length {self.ppo.rollout_length} has no divisor up to 10 for the chunks "
                f"that a memory learns through: choose another, or ppo.chunk-length {self.ppo.rollout_length}"
            )
        if self.env.reward == "agent" and self.network.critic_input in ("env", "joint"):
            raise UserError(
                f"env.reward agent needs a critic row for each agent, but network.critic-input "
                f"{self.network.critic_input} has one for the team: use auto, agent or own"
            )

    def _check_minibatches(self) -> None:
        chunks = self.ppo.rollout_length // (self.chunk_length or 1)
        rows = chunks * self.env.num_envs
        if rows % self.ppo.minibatches:
            kind = "ppo.rollout-length" if self.chunk_length is None else f"chunks of {self.chunk_length} steps"
            raise UserError(
                f"ppo.minibatches {self.ppo.minibatches} does not divide {kind} x env.num-envs = "
                f"{chunks} x {self.env.num_envs} = {rows}; "
                f"nearest that does: {nearest_divisor(rows, self.ppo.minibatches)}"
            )

    def share(self, size: int) -> "Config":
        """Return the settings of each of `size` processes, which share the environments equally.

        Raises:
            UserError: the environments, or the rows of a minibatch, cannot be divided.
        """
        num_envs = self.env.num_envs
        if num_envs % size:
            near = max(num_envs // size, 1) * size
            raise UserError(f"env.num-envs {num_envs} cannot be divided among {size} processes; {near} can")
        try:
            return dataclasses.replace(self, env=dataclasses.replace(self.env, num_envs=num_envs // size))
        except UserError as error:
            raise UserError(f"in each of {size} processes: {error}") from None

    @property
    def named_code(self) -> list[str]:
        """Return the names of code in the settings, to be imported."""
        return list(filter(is_code, (self.network.encoder, self.ppo.learner)))

    @property
    def chunk_length(self) -> int | None:
        """Number of consecutive steps that stay together in a minibatch (L). None: steps are shuffled singly."""
        if self.network.memory_size == 0 and self.ppo.minibatch_by == "sample":
            return None
        return self.ppo.chunk_length or nearest_divisor(self.ppo.rollout_length, 10)

    @property
    def allows_graphs(self) -> bool:
        """True if CUDA graphs may record updates. `target_kl` forbids it: each epoch would wait for the KL."""
        return self.run.graphs and self.ppo.target_kl is None

    @property
    def steps_per_update(self) -> int:
        """Number of environment steps in a rollout (T * E)."""
        return self.ppo.rollout_length * self.env.num_envs

    @property
    def num_updates(self) -> int:
        """Number of updates in the run, rounded up to whole rollouts."""
        return -(-self.run.total_steps // self.steps_per_update)

    @property
    def end_step(self) -> int:
        """Number of environment steps of the complete run: `run.total_steps`, rounded up to whole rollouts."""
        return self.num_updates * self.steps_per_update

    def schedule(self, updates: int) -> dict[str, float]:
        """Return the learning rates and the entropy weight after `updates` updates, annealed linearly."""
        ppo = self.ppo
        progress = min(updates / self.num_updates, 1.0)
        rate = 1 + (ppo.lr_final - 1) * progress
        entropy_weight = ppo.entropy_weight * (1 + (ppo.entropy_final - 1) * progress)
        return {"actor_lr": ppo.actor_lr * rate, "critic_lr": ppo.critic_lr * rate, "entropy_weight": entropy_weight}

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as nested dicts, section by section."""
        return dataclasses.asdict(self)

    def differences(self, other: "Config", ignored: Collection[tuple[str, str]]) -> list[str]:
        """Return a text for each option with another value in `other`, but for the ignored (section, option)."""
        theirs = other.to_dict()
        return [
            f"{section}.{option} {value}" + (f", not {other_value}" if other_value is not None else "")
            for section, options in self.to_dict().items()
            for option, value in options.items()
            if value != (other_value := theirs[section][option]) and (section, option) not in ignored
        ]

    @staticmethod
    def from_dict(data: Mapping[str, Any], base: "Config | None" = None) -> "Config":
        """Return the Config of a dict, the inverse of `to_dict`. Missing options keep their values in `base`.

        Args:
            data: options by section, `{"ppo": {"epochs": 10}}`, or by dotted names, `{"ppo.epochs": 10}`; names are
                spelled with `_`, or with `-` as on the command line.
            base: by default the general defaults.

        Raises:
            UserError: a section or an option is unknown or given twice, or a value is invalid.
        """
        config = Config() if base is None else base
        changes: dict[str, dict[str, Any]] = {}
        for name, value in _dotted(data):
            section, _, field = name.replace("-", "_").partition(".")
            if field not in _SETTINGS.get(section, ()):
                raise _unknown(name)
            if field in changes.setdefault(section, {}):
                raise UserError(f"{section}.{field} is given twice")
            changes[section][field] = value
        sections = {name: dataclasses.replace(getattr(config, name), **changes[name]) for name in changes}
        return dataclasses.replace(config, **sections)


_SECTIONS = {"env": EnvConfig, "network": NetworkConfig, "ppo": PPOConfig, "run": RunConfig}
_SETTINGS = {name: [field.name for field in dataclasses.fields(section)] for name, section in _SECTIONS.items()}


def _dotted(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield dotted name and value of each option in a dict of sections and dotted names."""
    for name, value in data.items():
        if name in _SETTINGS:
            for option, option_value in coerce(f"section {name!r}", value, dict).items():
                yield f"{name}.{option}", option_value
        else:
            yield str(name), value


def _unknown(name: str) -> UserError:
    """Return the error to raise for a name without a setting, with the most similar name or all names."""
    section = name.partition(".")[0]
    settings = [f"{section}.{field}" for section, fields in _SETTINGS.items() for field in fields]
    hint = suggest(name.replace("-", "_"), settings, cutoff=0.65).removesuffix(".")
    subject = f"option {quote(name)}" if section in _SETTINGS else f"section {quote(repr(section))}"
    known = ", ".join(_SETTINGS.get(section, _SETTINGS))
    return UserError(f"unknown {subject}{hint or f'; there are: {known}'}")
