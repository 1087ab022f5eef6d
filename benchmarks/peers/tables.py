"""The tables of the comparison: their systems, and the settings that all systems of a table have."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mappo.config import Config
from mappo.config.settings import EnvConfig, NetworkConfig, PPOConfig
from mappo.experiments.workload import reference

OURS = "mappo"


@dataclass(frozen=True)
class System:
    """A script that trains.

    Args:
        script: a file of this folder.
        place: name of the place with the peer's packages, see `install.py`; "" for mappo's own Python.
        config: settings in mappo's words.
        given: further arguments of the script.
        needs_mappo: the peer steps an environment of mappo; its place needs the packages imported there.
    """

    script: str
    place: str
    config: Config
    given: Mapping[str, Any] = field(default_factory=dict[str, Any])
    needs_mappo: bool = False

    @property
    def steps(self) -> int:
        """Environment steps of an update; in a step all agents act once."""
        return self.config.steps_per_update


@dataclass(frozen=True)
class Table:
    """Systems to compare with the first, which is mappo.

    Args:
        systems: by name.
        updates: of each system in each round.
        rounds: turns of each system.
        burn_in: updates of each system before the first round.
    """

    systems: Mapping[str, System]
    updates: int = 2
    rounds: int = 30
    burn_in: int = 5


def ours(config: Config, env: str = "spread", **given: Any) -> System:
    """Return mappo on an environment."""
    return System("ours.py", "", config, {"env": env, **given})


def changed(config: Config, section: str, **changes: Any) -> Config:
    """Return a Config with other settings in a section."""
    return replace(config, **{section: replace(getattr(config, section), **changes)})


def _reference(recipe: str) -> Table:
    config = reference(recipe)
    return Table(
        {
            OURS: ours(config),
            "mappo, bf16": ours(changed(config, "network", precision="bf16")),
            "JAX, team rows": System("jax_mappo.py", "jax", config, {"agent_rows": False}),
            "JAX, agent rows, shuffled": System("jax_mappo.py", "jax", config, {"agent_rows": True}),
        }
    )


# JaxMARL's settings for its recurrent MAPPO and feed-forward IPPO on spread, in mappo's words.
_SHIPPED = PPOConfig(
    rollout_length=128,
    epochs=4,
    minibatches=4,
    value_clip=0.2,
    value_norm=False,
    value_weight=0.5,
    max_grad_norm=0.5,
)
GRU_SHIPPED = Config(
    EnvConfig(16),
    NetworkConfig((128, 128), memory_size=128),
    replace(_SHIPPED, chunk_length=128, actor_lr=2e-3, critic_lr=2e-3),
)
IPPO_SHIPPED = Config(
    EnvConfig(16, reward="agent"),
    NetworkConfig((64, 64), "tanh", critic_input="own"),
    replace(_SHIPPED, actor_lr=2.5e-4, critic_lr=2.5e-4),
)
_RECURRENT = {"script": "MAPPO/mappo_rnn_mpe.py", "settings": "mappo_homogenous_rnn_mpe.yaml"}
_INDEPENDENT = {"script": "IPPO/ippo_ff_mpe.py", "settings": "ippo_ff_mpe.yaml"}


def _recurrent(config: Config, changes: Mapping[str, Any], rounds: int) -> Table:
    agent_rows = changed(changed(config, "env", reward="agent"), "network", critic_input="agent")
    return Table(
        {
            OURS: ours(config),
            "mappo, agent rows": ours(agent_rows),
            "JaxMARL": System("jaxmarl_shipped.py", "jaxmarl", config, {**_RECURRENT, "changes": changes}),
        },
        updates=1,
        rounds=rounds,
    )


def _gru() -> Table:
    """Return the reference work with a GRU of 64, in the recipe of JaxMARL's script."""
    config = changed(changed(reference("plain"), "network", memory_size=64), "ppo", chunk_length=25, value_clip=0.2)
    changes = {
        "NUM_ENVS": config.env.num_envs,
        "NUM_STEPS": config.ppo.rollout_length,
        "FC_DIM_SIZE": 64,
        "GRU_HIDDEN_DIM": 64,
        "UPDATE_EPOCHS": config.ppo.epochs,
        "NUM_MINIBATCHES": config.ppo.minibatches,
        "LR": config.ppo.actor_lr,
        "MAX_GRAD_NORM": config.ppo.max_grad_norm,
        "TOTAL_TIMESTEPS": 20_000_000,
    }
    return _recurrent(config, changes, rounds=20)


def _ippo() -> Table:
    peer = System("jaxmarl_shipped.py", "jaxmarl", IPPO_SHIPPED, {**_INDEPENDENT, "changes": {}})
    return Table({OURS: ours(IPPO_SHIPPED), "JaxMARL": peer})


# BenchMARL's settings of the VMAS tasks, and of MAPPO.
VMAS_TASKS: dict[str, dict[str, Any]] = {
    "balance": {"n_agents": 4, "random_package_pos_on_line": True, "package_mass": 5, "max_steps": 100},
    "simple_spread": {"n_agents": 3, "obs_agents": True, "max_steps": 100},
}
VMAS_PPO = PPOConfig(
    gae_lambda=0.9,
    entropy_weight=0.0,
    value_norm=False,
    advantage_norm=False,
    actor_lr=5e-5,
    critic_lr=5e-5,
    adam_eps=1e-6,
    max_grad_norm=5.0,
)
BENCHMARL_SHIPPED = replace(VMAS_PPO, rollout_length=600, minibatches=15, epochs=45)


def _vmas(task: str, envs: int = 128, hidden: tuple[int, ...] = (64, 64), ppo: PPOConfig = VMAS_PPO) -> Table:
    options = VMAS_TASKS[task]
    env = EnvConfig(envs, options=tuple(f"{name}={json.dumps(value)}" for name, value in options.items()))
    config = Config(env, NetworkConfig(hidden, "tanh", action_bounds="tanh", action_std="state"), ppo)
    given = {"task": task, "options": options}
    systems = {
        OURS: ours(config, f"vmas/{task}"),
        "TorchRL, lean": System("torchrl_lean.py", "torchrl", config, given),
        "BenchMARL": System("benchmarl_shipped.py", "benchmarl", config, given),
        "VMAS alone": ours(config, f"vmas/{task}", alone=True),
    }
    if ppo.minibatches > 1:
        del systems["TorchRL, lean"]  # its loop has a single minibatch
        return Table(systems, updates=1, rounds=3, burn_in=1)
    return Table(systems, updates=1, rounds=20, burn_in=3)


def _onpolicy(memory: int) -> Table:
    config = changed(reference("full"), "network", memory_size=memory)
    peer = System("onpolicy_shipped.py", "onpolicy", config)
    return Table({OURS: ours(config), "on-policy": peer}, updates=1, rounds=8, burn_in=2)


def _pufferlib() -> Table:
    config = changed(reference("plain"), "ppo", value_clip=0.2)
    config = changed(changed(config, "env", reward="agent"), "network", critic_input="own")
    peer = System("pufferlib_core.py", "pufferlib", config, needs_mappo=True)
    return Table({OURS: ours(config), "PufferLib": peer}, updates=1)


TABLES = {
    "full": lambda: _reference("full"),
    "plain": lambda: _reference("plain"),
    "gru-shipped": lambda: _recurrent(GRU_SHIPPED, {}, rounds=15),
    "gru": _gru,
    "ippo": _ippo,
    "vmas-spread": lambda: _vmas("simple_spread"),
    "vmas-balance": lambda: _vmas("balance"),
    "vmas-shipped": lambda: _vmas("balance", 10, (256, 256), BENCHMARL_SHIPPED),
    "pufferlib": _pufferlib,
    "onpolicy": lambda: _onpolicy(0),
    "onpolicy-gru": lambda: _onpolicy(64),
}
